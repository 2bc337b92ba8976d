"""Makes the bots of an older installation here. A number that is known here is never touched."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from service.adopting.draft import Draft, EntryError, InactiveError, draft_of
from service.adopting.entries import Entry, Origin
from service.adopting.old_settings import OldSettings
from service.bots.checks import ModelUse
from service.bots.errors import Fault, InvalidBotError
from service.conversation.storable import storable_json
from service.store.api_keys import Caller
from service.store.bots import NumberTakenError
from service.store.horizon_table import HorizonTable
from service.web.errors import faults_of
from service.web.field_rules import check_number
from service.web.schemas import BotCreate

if TYPE_CHECKING:
    from service.container import Container

State = Literal["created", "would_create", "present", "kept_by_horizon", "inactive", "refused"]


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of one bot. `reason` says why it was refused; `notes` what the operator has to know."""

    key: str
    origin: Origin
    number: str | None
    name: str | None
    state: State
    bot_id: str | None = None
    reason: str | None = None
    notes: Sequence[str] = ()


@dataclass(slots=True)
class _Group:
    """The drafts of one number, the registry's before Horizon's."""

    registry: list[Draft] = field(default_factory=list)
    horizon: list[Draft] = field(default_factory=list)


class Importer:
    """`model` replaces a model that OpenAI no longer has. `old` are the older service's settings."""

    def __init__(
        self, container: Container, caller: Caller, old: OldSettings | None, model: str | None
    ) -> None:
        self._container = container
        self._caller = caller
        self._old = old
        self._model = model
        self._horizon = HorizonTable(container.database, container.cipher)

    def run(self, entries: Iterable[Entry], *, dry_run: bool) -> list[Imported]:
        """One result an entry, or a number where several belong together; a bad one stops none.

        Raises:
            OutageError: a store of ours is away; what was made before stays and is found next time.
        """
        results: list[Imported] = []
        groups: dict[str, _Group] = {}
        for entry in entries:
            try:
                draft = draft_of(entry)
            except InactiveError:
                results.append(Imported(entry.key, entry.origin, None, None, "inactive"))
            except EntryError as error:
                results.append(
                    Imported(entry.key, entry.origin, None, None, "refused", reason=str(error))
                )
            else:
                group = groups.setdefault(draft.number, _Group())
                is_own = entry.origin == "registry"
                (group.registry if is_own else group.horizon).append(draft)
        return results + [self._one(group, dry_run) for group in groups.values()]

    def _one(self, group: _Group, dry_run: bool) -> Imported:
        draft = merged(group.registry, group.horizon)
        if draft is None:
            first = group.registry[0]
            keys = ", ".join(one.entry.key for one in group.registry)
            return _result(
                first,
                "refused",
                reason=f"These entries have the same number and differ: {keys}. Delete the wrong "
                "one there (HDEL), then run this again.",
            )
        try:
            check_number(draft.number)
        except ValueError as error:
            return _result(draft, "refused", reason=f"Its number cannot be used: {error}.")
        known, _ = self._container.bots.page(self._caller, 1, None, None, draft.number)
        if known:
            return _result(draft, "present", bot_id=known[0]["id"], notes=())
        horizons = self._horizon.by_number(draft.number)
        if horizons is not None:
            note = (
                "The service reads this bot from Horizon's table itself: there is nothing to make."
            )
            return _result(draft, "kept_by_horizon", bot_id=horizons["id"], notes=(note,))
        self._fall_back(draft)
        try:
            return self._make(draft, dry_run)
        except InvalidBotError as error:
            return _result(draft, "refused", reason=_sentence(error.faults, draft))
        except ValidationError as error:
            return _result(draft, "refused", reason=_sentence(faults_of(error), draft))
        except NumberTakenError:
            # Somebody made it between the look and the write.
            return _result(draft, "present")

    def _make(self, draft: Draft, dry_run: bool) -> Imported:
        if storable_json(draft.request) != draft.request:
            return _result(
                draft,
                "refused",
                reason="It holds a NUL character, half a surrogate pair, or is nested too deep.",
            )
        self._choose_model(draft)
        changes = BotCreate.model_validate(draft.request).changes()
        if dry_run:
            self._container.bot_checks.addresses(changes.bot)
            warnings = self._container.bot_checks.model(self._use(draft.request))
            notes = [*draft.notes, *(_note(warning) for warning in warnings)]
            return _result(draft, "would_create", notes=notes)
        outcome = self._container.bots.create(self._caller, changes, None)
        known = "metadata.legacy_assistant_id"
        notes = [
            *draft.notes,
            *(_note(warning) for warning in outcome.warnings if warning.field != known),
        ]
        return _result(draft, "created", bot_id=outcome.record["id"], notes=notes)

    def _choose_model(self, draft: Draft) -> None:
        """Put the operator's choice in the place of a model that is gone."""
        model = draft.request.get("openai_model")
        if self._model is None:
            return
        if not isinstance(model, str):
            draft.request["openai_model"] = self._model
            return
        try:
            self._container.bot_checks.model(self._use(draft.request))
        except InvalidBotError:
            draft.request["openai_model"] = self._model
            draft.notes.append(f"Its model {model} is gone: it takes {self._model}.")

    def _use(self, request: Mapping[str, Any]) -> ModelUse:
        settings = self._container.settings
        return ModelUse(
            model=request.get("openai_model") or settings.openai_default_model,
            base_url=request.get("openai_base_url"),
            api_key=request.get("openai_api_key"),
        )

    def _fall_back(self, draft: Draft) -> None:
        """What the older service took from its `.env` for this bot, where this one has it not."""
        request, settings = draft.request, self._container.settings
        account, token = self._default("twilio_account_sid"), self._default("twilio_auth_token")
        if "twilio_auth_token" not in request:
            is_same = request.get("twilio_account_sid") in (None, account)
            if token and account and is_same:
                if (account, token) != (settings.twilio_account_sid, settings.twilio_auth_token):
                    request |= {"twilio_account_sid": account, "twilio_auth_token": token}
            elif settings.twilio_auth_token is None or not is_same:
                draft.notes.append(
                    "It has no Twilio auth token, so its messages are refused: "
                    f"`horizonctl bots set {draft.number} --twilio-auth-token-file FILE`."
                )
        self._fall_back_on(draft, "openai_api_key", "openai_api_key", settings.openai_api_key)
        self._fall_back_on(draft, "horizon_api_token", "horizon_api_key", settings.horizon_api_key)
        base_url = (self._default("openai_base_url") or settings.openai_base_url).rstrip("/")
        if base_url != settings.openai_base_url and "openai_api_key" in request:
            request.setdefault("openai_base_url", base_url)
        crm = self._default("horizon_base_url")
        if crm and crm.rstrip("/") != settings.horizon_base_url:
            request.setdefault("horizon_base_url", crm)
        if "handoff" not in request and (
            "horizon_api_token" in request or (crm and settings.horizon_api_key)
        ):
            # The older service asked Horizon before each reply whether a person had taken over.
            request["handoff"] = {"source": "horizon", "on_failure": "answer"}

    def _fall_back_on(self, draft: Draft, name: str, old_name: str, ours: str | None) -> None:
        value = self._default(old_name)
        if name not in draft.request and value and value != ours:
            draft.request[name] = value
        if name == "openai_api_key" and name not in draft.request and ours is None:
            draft.notes.append(
                "It has no OpenAI key, so it cannot answer: "
                f"`horizonctl bots set {draft.number} --openai-api-key-file FILE`."
            )

    def _default(self, name: str) -> str | None:
        return self._old.default(name) if self._old is not None else None


def _result(
    draft: Draft,
    state: State,
    *,
    bot_id: str | None = None,
    reason: str | None = None,
    notes: Sequence[str] | None = None,
) -> Imported:
    return Imported(
        draft.entry.key,
        draft.entry.origin,
        _printable(draft.number),
        _printable(draft.request["name"]),
        state,
        bot_id,
        None if reason is None else _printable(reason),
        tuple(_printable(note) for note in (draft.notes if notes is None else notes)),
    )


def _printable(text: str) -> str:
    """What comes from outside moves no cursor of a terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)


def merged(registry: Sequence[Draft], horizon: Sequence[Draft]) -> Draft | None:
    """One draft of a number's entries; None when two of the registry differ.

    What the registry does not say comes from Horizon's newest row. The registry may hold a bot under
    its id and under its number: that is one.
    """
    if any(_compared(one) != _compared(registry[0]) for one in registry[1:]):
        return None
    if not registry:
        return horizon[0]
    draft = registry[0]
    if horizon:
        added = sorted(set(horizon[0].request) - set(draft.request))
        draft.request = {**horizon[0].request, **draft.request}
        if added:
            draft.notes.append(f"From Horizon's table: {', '.join(added)}.")
        if "instructions" in added:
            draft.notes = [note for note in draft.notes if not note.startswith("Its instructions")]
    return draft


def _compared(draft: Draft) -> dict[str, Any]:
    return {name: value for name, value in draft.request.items() if name != "metadata"}


def _sentence(faults: Sequence[Fault], draft: Draft) -> str:
    told = " ".join(_note(fault) for fault in faults)
    if any(fault.field == "openai_model" for fault in faults):
        told += " Name one that takes its place: --model gpt-6-luna."
    return told


def _note(fault: Fault) -> str:
    return f"{fault.field}: {fault.message}" if fault.field else fault.message
