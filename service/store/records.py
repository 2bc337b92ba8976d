"""A bot's record: the JSON that Redis keeps of it, whatever source it came from.

It holds everything that a `Bot` needs, with the secrets still encrypted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Literal, TypedDict, cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import orjson

from service.conversation.bot import Action, Assistant, Bot, Handoff
from service.conversation.texts import texts_for
from service.settings import Settings
from service.store.secrets import Cipher

Source = Literal["database", "horizon_database", "horizon_api"]

FORMAT = 1
"""Raised when the shape changes: a record of another format is looked up again."""

SECRET_FIELDS = ("twilio_auth_token", "openai_api_key", "horizon_api_token")

_SECRET_WORD = re.compile(
    r".*(token|secret|password|passwd|passphrase|apikey|credential|contraseña|contrasena)s?"
    r"|auth|authorization|bearer"
)
_SECRET_KEY = re.compile(r"(api|private|secret|access|auth|encryption|signing)keys?")


class AssistantRecord(TypedDict):
    """One version; `model` and `instructions` are None where the settings' default holds."""

    id: str
    version: int
    name: str
    model: str | None
    instructions: str | None
    tools: list[dict[str, Any]]
    temperature: float | None
    max_output_tokens: int | None
    reasoning_effort: str | None
    metadata: dict[str, Any]
    created_at: str | None


class Record(TypedDict):
    """A bot as it is cached. The three secrets are Fernet tokens or None; times are ISO 8601."""

    format: int
    source: Source
    revision: int
    id: str
    client_id: str
    name: str
    number: str
    status: str
    assistant: AssistantRecord
    actions: list[dict[str, Any]]
    functions: list[dict[str, Any]]
    handoff: dict[str, Any]
    report_turns: bool
    metadata: dict[str, Any]
    texts: dict[str, Any]
    language: str
    timezone: str
    twilio_account_sid: str | None
    twilio_auth_token: str | None
    twilio_messaging_service_sid: str | None
    openai_api_key: str | None
    openai_base_url: str | None
    horizon_api_token: str | None
    horizon_base_url: str | None
    created_at: str | None
    updated_at: str | None


def record_of(bot: Mapping[str, Any], assistant: Mapping[str, Any]) -> Record:
    """The record of a row of `bots` and a row of `assistants`, both keyed by column name."""
    return Record(
        format=FORMAT,
        source="database",
        revision=bot["revision"],
        id=bot["id"],
        client_id=bot["client_id"],
        name=bot["name"],
        number=bot["twilio_phone_number"],
        status=bot["status"],
        assistant=assistant_record_of(assistant),
        actions=bot["horizon_actions"],
        functions=bot["assistant_functions"],
        handoff=bot["handoff"],
        report_turns=bot["report_turns"],
        metadata=bot["metadata"],
        texts=bot["texts"],
        language=bot["language"],
        timezone=bot["timezone"],
        twilio_account_sid=bot["twilio_account_sid"],
        twilio_auth_token=bot["twilio_auth_token"],
        twilio_messaging_service_sid=bot["twilio_messaging_service_sid"],
        openai_api_key=bot["openai_api_key"],
        openai_base_url=bot["openai_base_url"],
        horizon_api_token=bot["horizon_api_token"],
        horizon_base_url=bot["horizon_base_url"],
        created_at=_iso(bot["created_at"]),
        updated_at=_iso(bot["updated_at"]),
    )


def assistant_record_of(row: Mapping[str, Any]) -> AssistantRecord:
    """The record of a row of `assistants`, keyed by column name."""
    return AssistantRecord(
        id=row["id"],
        version=row["version"],
        name=row["name"],
        model=row["model"],
        instructions=row["instructions"],
        tools=row["tools"],
        temperature=row["temperature"],
        max_output_tokens=row["max_output_tokens"],
        reasoning_effort=row["reasoning_effort"],
        metadata=row["metadata"],
        created_at=_iso(row["created_at"]),
    )


def bot_of(record: Record, cipher: Cipher, settings: Settings) -> Bot:
    """The bot, with secrets decrypted and defaults resolved.

    Raises:
        UnreadableSecretError: SECRET_KEY no longer holds the key that encrypted a secret.
    """

    def secret(token: str | None) -> str | None:
        return None if token is None else cipher.decrypt(token)

    assistant = record["assistant"]
    return Bot(
        id=record["id"],
        client_id=record["client_id"],
        name=record["name"],
        number=record["number"],
        assistant=Assistant(
            id=assistant["id"],
            version=assistant["version"],
            name=assistant["name"],
            model=effective_model(assistant, settings),
            instructions=effective_instructions(assistant, settings),
            tools=tuple(assistant["tools"]),
            temperature=assistant["temperature"],
            max_output_tokens=assistant["max_output_tokens"],
            reasoning_effort=assistant["reasoning_effort"],
        ),
        texts=texts_for(record["language"], record["texts"]),
        language=record["language"],
        timezone=record["timezone"],
        actions=tuple(_action(action) for action in record["actions"]),
        functions=tuple(record["functions"]),
        handoff=Handoff(
            source=record["handoff"].get("source") or "none",
            on_failure=record["handoff"].get("on_failure") or "answer",
        ),
        report_turns=record["report_turns"],
        paused=record["status"] == "paused",
        metadata=record["metadata"],
        twilio_account_sid=record["twilio_account_sid"],
        twilio_auth_token=secret(record["twilio_auth_token"]),
        twilio_messaging_service_sid=record["twilio_messaging_service_sid"],
        openai_api_key=secret(record["openai_api_key"]),
        openai_base_url=record["openai_base_url"],
        horizon_api_token=secret(record["horizon_api_token"]),
        horizon_base_url=record["horizon_base_url"],
    )


def is_secret_name(name: str) -> bool:
    """Whether a value of this name is a secret by the looks: `authToken`, `X-Api-Key`, `db_password`."""
    spaced = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name)
    words = re.sub(r"[\W\d_]+", " ", spaced).lower().split()
    if any(_SECRET_WORD.fullmatch(word) for word in words):
        return True
    return _SECRET_KEY.search("".join(words)) is not None


def secrets_in(value: Any, path: str = "") -> Iterator[str]:
    """The paths of what looks like a secret in a JSON value, at any depth. Numbers are none."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            inner_path = f"{path}.{name}" if path else name
            if is_secret_name(name) and isinstance(inner, (str, Mapping, list)) and inner:
                yield inner_path
            else:
                yield from secrets_in(inner, inner_path)
    elif isinstance(value, list):
        for position, inner in enumerate(value):
            yield from secrets_in(inner, f"{path}.{position}")


def without_secrets(value: Any) -> Any:
    """A JSON value without what `is_secret_name` says, at any depth."""
    if isinstance(value, Mapping):
        return {
            name: without_secrets(inner)
            for name, inner in value.items()
            if not is_secret_name(name)
        }
    return [without_secrets(inner) for inner in value] if isinstance(value, list) else value


def effective_model(assistant: AssistantRecord, settings: Settings) -> str:
    """The model that a turn will use."""
    return assistant["model"] or settings.openai_default_model


def effective_instructions(assistant: AssistantRecord, settings: Settings) -> str:
    """The instructions that a turn will use."""
    return assistant["instructions"] or settings.openai_default_instructions


def is_timezone(name: str) -> bool:
    """Whether a name like `America/Santiago` is in this host's time zone database."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def dump(record: Record) -> bytes:
    """The record as Redis keeps it."""
    return orjson.dumps(record)


def parse(raw: bytes) -> Record | None:
    """A record that Redis kept; None for another format, a deleted bot, or what is no record."""
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(value, dict) or value.get("format") != FORMAT or value.get("deleted"):
        return None
    return cast(Record, value) if Record.__required_keys__ <= value.keys() else None


def _action(action: Mapping[str, Any]) -> Action:
    return Action(
        name=action["name"],
        method=action["method"],
        path=action["path"],
        description=action.get("description") or "",
        query=action.get("query") or {},
        body=action.get("body"),
        parameters=action.get("parameters"),
        idempotency=action.get("idempotency") or "none",
    )


def _iso(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat()
