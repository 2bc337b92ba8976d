"""An entry of the older installation as a request of ours, and what has no equivalent here."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from service.adopting.entries import Entry
from service.store.api_keys import CLIENT_ID
from service.store.horizon_table import is_active
from service.store.records import is_timezone, secrets_in, without_secrets

_JSON_FIELDS = (
    *("metadata", "horizon_actions", "assistant_functions", "assistant_config", "tools"),
    *("texts", "handoff"),
)
_FUNCTION_KEYS = frozenset({"type", "name", "description", "parameters", "strict"})
_ACTION_KEYS = frozenset(
    {"name", "method", "path", "description", "query", "body", "parameters", "idempotency"}
)
_ASSISTANT_KEYS = ("temperature", "max_output_tokens", "reasoning_effort")
_SWITCHES = ("is_active", "active", "activo", "enabled", "habilitado")
_ON = frozenset({"active", "activo", "enabled", "habilitado", "on", "live", "1", "true"})
_OFF = frozenset({"paused", "pausado", "suspended", "suspendido", "stopped", "detenido"}) | {
    *("off", "no", "0", "false")
}
_KEPT_BY_US = ("status", *_SWITCHES, "source", "revision", "created_at", "updated_at")
_SECRETS: Mapping[str, tuple[str, ...]] = {
    "twilio_auth_token": ("twilio_auth_token",),
    "openai_api_key": ("openai_api_key",),
    "horizon_api_token": ("horizon_api_token", "horizon_api_key", "horizon_token"),
}
_TEXTS = ("twilio_account_sid", "twilio_messaging_service_sid")
_ADDRESSES = ("openai_base_url", "horizon_base_url")


class EntryError(Exception):
    """The entry cannot be taken; the message is a sentence without secrets."""


class InactiveError(Exception):
    """The older service did not answer with this bot either."""


@dataclass(slots=True)
class Draft:
    """A bot to make: `request` as the REST interface takes it, secrets in clear; `notes` are
    sentences for the operator."""

    entry: Entry
    number: str
    request: dict[str, Any] = field(repr=False)
    notes: list[str] = field(default_factory=list)


def draft_of(entry: Entry) -> Draft:
    """What an entry asks for, with what it lacks left out. Raises EntryError, InactiveError."""
    if entry.fields is None:
        raise EntryError(f"{entry.fault} Correct it in the older Redis, or leave it.")
    fields = dict(entry.fields)
    for name in _JSON_FIELDS:
        fields[name] = _parsed(name, fields.get(name))
    status = str(fields.get("status") or "active").strip().lower()
    if not is_active(fields) or status in _OFF or any(map(_is_off, map(fields.get, _SWITCHES))):
        raise InactiveError
    metadata = _object("metadata", fields.pop("metadata"))
    number = _number(fields, entry.key)
    draft = Draft(entry, number, {"twilio_phone_number": number})
    request = draft.request
    if status not in _ON:
        draft.notes.append(
            f"Its status {status[:40]!r} is unknown here, and the bot will answer: if it must not, "
            f"""`echo '{{"status": "paused"}}' | horizonctl bots set {number} --file -`."""
        )
    request["name"] = _text(fields, "name", "nombre", "external_ref") or f"Bot {number}"
    _take_client(draft, fields)
    for name, names in _SECRETS.items():
        _put(request, name, _text(fields, *names) or _text(metadata, *names))
    for name in (*_TEXTS, *_ADDRESSES):
        _put(request, name, _text(fields, name) or _text(metadata, name))
    _take_assistant(draft, fields)
    _take_functions(draft, fields.pop("assistant_functions"), fields.pop("tools"))
    _take_actions(draft, fields.pop("horizon_actions"))
    for name in ("handoff", "texts"):
        _put(request, name, _object(name, fields.pop(name)))
    _take_language(draft, fields, metadata)
    if metadata.pop("report_turns", False) is True or fields.pop("report_turns", False) is True:
        request["report_turns"] = True
    _take_metadata(draft, fields, metadata)
    _name_leftovers(draft, fields)
    return draft


def _take_client(draft: Draft, fields: dict[str, Any]) -> None:
    client = _text(fields, "client_id")
    if client and CLIENT_ID.fullmatch(client):
        draft.request["client_id"] = client
    elif client:
        draft.notes.append(
            "Its client_id cannot be kept (letters, digits, dot, dash and underscore only): the bot "
            "is its own client. Change it with `horizonctl bots set --client`."
        )


def _take_assistant(draft: Draft, fields: dict[str, Any]) -> None:
    """Model, instructions and parameters, from wherever the entry had them."""
    request = draft.request
    config: dict[str, Any] = {}
    assistant = fields.pop("assistant", None)
    if isinstance(assistant, str):
        fields.setdefault("assistant_id", assistant)
    else:
        config |= _object("assistant", assistant)
    config |= _object("assistant_config", fields.pop("assistant_config"))
    model = _text(fields, "openai_model", "assistant_model", "model") or _text(config, "model")
    instructions = _text(fields, "assistant_instructions", "instructions", "prompt")
    _put(request, "openai_model", model)
    _put(request, "instructions", instructions or _text(config, "instructions"))
    parameters = {
        name: value
        for name in _ASSISTANT_KEYS
        if (value := config.pop(name, fields.pop(name, None))) is not None
    }
    if parameters:
        request["assistant_config"] = parameters
    if config.get("tools") and not fields.get("tools"):
        fields["tools"] = config["tools"]
    old_id = _text(fields, "assistant_id") or _text(config, "id")
    if old_id:
        draft.notes.append(
            f"assistant_id {old_id} has no equivalent: OpenAI's Assistants API is gone. It is kept "
            "as metadata.legacy_assistant_id, for reference only."
        )
        fields["legacy_assistant_id"] = old_id
    if "instructions" not in request:
        draft.notes.append(
            "Its instructions are not in the entry"
            + (" (they were kept at OpenAI)" if old_id else "")
            + f": write them with `horizonctl bots set {draft.number} --instructions-file FILE`; "
            "until then the service's default holds."
        )


def _take_functions(draft: Draft, functions: Any, tools: Any) -> None:
    taken: list[dict[str, Any]] = []
    for place, value in (("assistant_functions", functions), ("tools", tools)):
        for position, one in enumerate(_list(place, value)):
            inner = one.get("function") if isinstance(one, dict) else None
            definition = inner if isinstance(inner, dict) else one
            if not isinstance(definition, dict) or not isinstance(definition.get("name"), str):
                kind = one.get("type") if isinstance(one, dict) else None
                draft.notes.append(
                    f"{place}.{position} is left out: "
                    + (
                        f"the tool {kind} of the Assistants API has no equivalent."
                        if isinstance(kind, str) and kind != "function"
                        else "it is no function with a name."
                    )
                )
                continue
            if definition["name"] in [known["name"] for known in taken]:
                continue
            taken.append(_known(draft, f"{place}.{position}", definition, _FUNCTION_KEYS))
            taken[-1]["type"] = "function"
    if taken:
        draft.request["assistant_functions"] = taken


def _take_actions(draft: Draft, actions: Any) -> None:
    taken = []
    for position, one in enumerate(_list("horizon_actions", actions)):
        if not isinstance(one, dict):
            raise EntryError(f"horizon_actions.{position} is no object with name, method and path.")
        action = _known(draft, f"horizon_actions.{position}", one, _ACTION_KEYS)
        action.setdefault("method", "GET")
        taken.append({name: value for name, value in action.items() if value is not None})
    if taken:
        draft.request["horizon_actions"] = taken


def _known(
    draft: Draft, place: str, value: Mapping[str, Any], names: frozenset[str]
) -> dict[str, Any]:
    unknown = sorted(set(value) - names)
    if unknown:
        draft.notes.append(f"{place}: {', '.join(unknown)} has no equivalent and is left out.")
    return {name: inner for name, inner in value.items() if name in names}


def _take_language(draft: Draft, fields: dict[str, Any], metadata: dict[str, Any]) -> None:
    language = _text(fields, "language") or _text(metadata, "language")
    if language in ("es", "en"):
        draft.request["language"] = language
    timezone = _text(fields, "timezone") or _text(metadata, "timezone")
    if timezone and is_timezone(timezone):
        draft.request["timezone"] = timezone
    elif timezone:
        draft.notes.append(f"There is no time zone {timezone[:60]!r}: America/Santiago holds.")


def _take_metadata(draft: Draft, fields: dict[str, Any], metadata: dict[str, Any]) -> None:
    secret = sorted(secrets_in(metadata))
    if secret:
        draft.notes.append(
            f"metadata: {', '.join(secret[:5])} looks like a secret and is left out, because "
            "metadata is kept in clear."
        )
    kept = without_secrets(metadata)
    for name, old in (("legacy_id", "id"), ("legacy_assistant_id", "legacy_assistant_id")):
        value = _text(fields, old)
        if value:
            kept[name] = value
    if kept:
        draft.request["metadata"] = kept


def _name_leftovers(draft: Draft, fields: dict[str, Any]) -> None:
    for name in _KEPT_BY_US:
        fields.pop(name, None)
    left = sorted(name for name, value in fields.items() if value not in (None, "", [], {}))
    if left:
        draft.notes.append(f"{', '.join(left[:20])} has no equivalent and is left out.")


def _is_off(switch: Any) -> bool:
    """Of a switch that is there; what was written as a text counts as the word says."""
    return switch is not None and str(switch).strip().lower() in {"false", "no", "off", "0", "0.0"}


def _number(fields: dict[str, Any], key: str) -> str:
    """In E.164 as far as that can be told; BotCreate says what is wrong with it."""
    written = _text(fields, "twilio_phone_number", "phone_number", "phone", "number", "numero")
    written = written or (key if re.fullmatch(r"(whatsapp:)?\+[0-9 ()-]{7,20}", key) else None)
    if not written:
        raise EntryError("It has no number (twilio_phone_number): add it there, or leave it.")
    bare = re.sub(r"[\s().-]", "", written.removeprefix("whatsapp:"))
    return f"+{bare}" if bare.isdigit() else bare


def _text(fields: dict[str, Any], *names: str) -> str | None:
    """The first of these that says something; all of them are taken out."""
    found: str | None = None
    for name in names:
        value = fields.pop(name, None)
        if value is None or found:
            continue
        if isinstance(value, bool | dict | list):
            raise EntryError(f"{name} is no text: correct it there.")
        found = str(value).strip() or None
    return found


def _put(request: dict[str, Any], name: str, value: Any) -> None:
    if value:
        request[name] = value


def _parsed(name: str, value: Any) -> Any:
    if not isinstance(value, str | bytes):
        return value
    if not value.strip():
        return None
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise EntryError(f"{name} is not JSON: correct it there.") from None


def _object(name: str, value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise EntryError(f"{name} is no JSON object: correct it there.")
    return dict(value)


def _list(name: str, value: Any) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise EntryError(f"{name} is no JSON list: correct it there.")
    return value
