"""What has to change so that bots are as declared, worked out by the rules of the REST interface."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from service.bots.changes import decrypted, merge_assistant, merge_bot
from service.bots.checks import BotChecks, ModelUse
from service.bots.errors import Fault, InvalidBotError
from service.clients.declaration import (
    ClientFault,
    Declaration,
    DeclarationError,
    fault_of,
    taken_id,
)
from service.container import Container
from service.store import bots
from service.store.bots import Row
from service.store.records import SECRET_FIELDS

Action = Literal["create", "update", "none"]
_PAGE = 1_000


_NO_KEY = Fault(
    "openai_api_key",
    "There is no OpenAI key for this bot: its model was not checked, and it cannot answer.",
)


@dataclass(frozen=True, slots=True)
class Change:
    """A field before and after. Of a secret only that it changes."""

    field: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class BotPlan:
    """What becomes of one client's bot. Secrets are in clear here, for Twilio, and nowhere else."""

    declared: Declaration
    action: Action
    bot_id: str | None
    version: int
    changes: Sequence[Change]
    model: str
    account_sid: str | None
    auth_token: str | None = field(repr=False)
    messaging_service_sid: str | None = None
    paused: bool = False
    warnings: tuple[Fault, ...] = ()


@dataclass(frozen=True, slots=True)
class Existing:
    """Every active bot of our own table, with its assistant."""

    rows: Sequence[Row]
    assistants: Mapping[str, Row]


def existing(container: Container) -> Existing:
    """Raises DatabaseDownError."""
    rows: list[Row] = []
    assistants: dict[str, Row] = {}
    with container.database.read() as connection:
        while True:
            after = (rows[-1]["created_at"], rows[-1]["id"]) if rows else None
            page = bots.page(connection, _PAGE, after)
            if page:
                assistants.update(bots.current_assistants(connection, page))
            rows += page
            if len(page) < _PAGE:
                return Existing(rows, assistants)


def plan(container: Container, declared: Sequence[Declaration], held: Existing) -> list[BotPlan]:
    """One plan a client, in order.

    Raises:
        DeclarationError: a number is another client's, or an address or a model cannot be used.
    """
    by_number = {row["twilio_phone_number"]: row for row in held.rows}
    by_client: dict[str, list[Row]] = {}
    for row in held.rows:
        by_client.setdefault(row["client_id"], []).append(row)
    checks = _Checks(container.bot_checks)
    faults: list[ClientFault] = []
    plans: list[BotPlan] = []
    for each in declared:
        held_row, others = by_number.get(each.number), by_client.get(each.client_id, [])
        fault = _ownership(each, held_row, others)
        if fault is not None:
            faults.append(fault)
        if fault is not None and held_row is not None:
            # Another client's key and server are not asked about a model.
            found = checks.addresses(each.creating().bot)
            faults += [fault_of(each.number, fault) for fault in found]
            continue
        try:
            plans.append(_bot_plan(container, each, held_row, held, checks))
        except InvalidBotError as error:
            faults += [fault_of(each.number, fault) for fault in error.faults]
    if faults:
        raise DeclarationError(faults)
    return plans


def _ownership(each: Declaration, row: Row | None, others: Sequence[Row]) -> ClientFault | None:
    if row is None:
        if others and not each.client_id_given:
            other = others[0]["twilio_phone_number"]
            return ClientFault(each.number, "client_id", taken_id(each, other))
        return None
    if row["client_id"] == each.client_id:
        return None
    return ClientFault(
        each.number,
        "twilio_phone_number",
        f"The number belongs to the client {row['client_id']} ({row['name']}), not to "
        f"{each.client_id}. If it is the same client, name it: client_id {row['client_id']}; else "
        "take another number, or remove that client first.",
    )


def _bot_plan(
    container: Container,
    each: Declaration,
    row: Row | None,
    held: Existing,
    checks: _Checks,
) -> BotPlan:
    assistant: Row = {} if row is None else held.assistants[row["id"]]
    changes = each.creating() if row is None else each.updating()
    before: Row = row or {}
    merged = merge_bot(before, changes, container.cipher)
    merged_assistant = merge_assistant(
        assistant, changes, str(merged.get("name", before.get("name")))
    )
    bot = {"openai_base_url": None, "openai_api_key": None, **before, **merged}
    use = checks.use(bot, {"model": None, **assistant, **merged_assistant})
    warnings: Sequence[Fault] = ()
    faults = checks.addresses(merged)
    is_new = row is None or use != checks.use(row, assistant)
    # An address that bots may not have is not asked for its models.
    if is_new and not any(fault.field == "openai_base_url" for fault in faults):
        try:
            warnings = checks.model(use)
        except InvalidBotError as error:
            faults += error.faults
    if faults:
        raise InvalidBotError(faults)
    if not (use.api_key or (use.base_url is None and container.settings.openai_api_key)):
        warnings = [*warnings, _NO_KEY]
    version = 0 if row is None else int(row["assistant_version"])
    found = [
        *(_change(name, before.get(name), value) for name, value in merged.items()),
        *(
            _change(f"assistant.{name}", assistant.get(name), value)
            for name, value in merged_assistant.items()
        ),
    ]
    return BotPlan(
        declared=each,
        action="create" if row is None else "update" if found else "none",
        bot_id=None if row is None else row["id"],
        version=version + 1 if merged_assistant or row is None else version,
        changes=found,
        model=use.model,
        account_sid=bot.get("twilio_account_sid"),
        auth_token=secret_of(container, changes.bot, before, "twilio_auth_token"),
        messaging_service_sid=bot.get("twilio_messaging_service_sid"),
        paused=bot.get("status") == "paused",
        warnings=tuple(warnings),
    )


def secret_of(container: Container, named: Mapping[str, Any], row: Row, name: str) -> str | None:
    """The secret as declared, else as kept; None when there is none."""
    if name in named:
        value: str | None = named[name]
        return value
    return decrypted(row.get(name), container.cipher)


def _change(name: str, before: Any, after: Any) -> Change:
    if name in SECRET_FIELDS:
        return Change(
            name,
            None if before is None else "(set)",
            None if after is None else "(another value)" if before else "(set)",
        )
    return Change(name, before, after)


class _Checks:
    """The use cases' checks; a server is asked once for each model."""

    def __init__(self, checks: BotChecks) -> None:
        self._checks = checks
        self._asked: dict[ModelUse, Sequence[Fault] | InvalidBotError] = {}

    def use(self, bot: Row, assistant: Row) -> ModelUse:
        return self._checks.model_use(bot, assistant)

    def addresses(self, values: Mapping[str, Any]) -> list[Fault]:
        try:
            self._checks.addresses(values)
        except InvalidBotError as error:
            return list(error.faults)
        return []

    def model(self, use: ModelUse) -> Sequence[Fault]:
        """Raises InvalidBotError."""
        if use not in self._asked:
            try:
                self._asked[use] = self._checks.model(use)
            except InvalidBotError as error:
                self._asked[use] = error
        answer = self._asked[use]
        if isinstance(answer, InvalidBotError):
            raise answer
        return answer
