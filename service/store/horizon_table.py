"""Bots that Horizon keeps: its table `gestion_whatsappbot`, and the same fields as JSON.

The columns are those of existing installations. Nothing here writes to Horizon's table.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

import structlog
from sqlalchemy import inspect, text
from sqlalchemy.exc import SQLAlchemyError

from service.conversation.outage import OutageError
from service.conversation.storable import storable, storable_json
from service.store.api_keys import CLIENT_ID
from service.store.database import Database
from service.store.records import (
    FORMAT,
    SECRET_FIELDS,
    AssistantRecord,
    Record,
    is_timezone,
    without_secrets,
)
from service.store.secrets import Cipher

TABLE = "gestion_whatsappbot"
ID_PREFIX = "hz_"

_RECHECK_S = 60.0
_TIMEZONE = "America/Santiago"
_INACTIVE = frozenset({"inactive", "inactivo", "deleted", "eliminado", "disabled", "deshabilitado"})
_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})

log = structlog.get_logger(__name__)


class HorizonTableError(OutageError):
    """Horizon's table exists and cannot be read."""


class HorizonTable:
    """Looks bots up in Horizon's table, when the database has it."""

    def __init__(self, database: Database, cipher: Cipher) -> None:
        self._database = database
        self._cipher = cipher
        self._exists = False
        self._check_again_at = 0.0

    def by_number(self, number: str) -> Record | None:
        """The bot of an E.164 number. Raises DatabaseDownError, HorizonTableError."""
        spellings = {
            "plain": number,
            "address": f"whatsapp:{number}",
            "digits": number.removeprefix("+"),
        }
        rows = self._rows("twilio_phone_number IN (:plain, :address, :digits)", spellings)
        return record_of_horizon(rows[0], "horizon_database", self._cipher) if rows else None

    def by_service(self, messaging_service_sid: str) -> Record | None:
        """The bot of a messaging service; None when several use it. Raises as `by_number`."""
        rows = self._rows("twilio_messaging_service_sid = :sid", {"sid": messaging_service_sid})
        if len({str(row["id"]) for row in rows}) != 1:
            return None
        return record_of_horizon(rows[0], "horizon_database", self._cipher)

    def by_id(self, bot_id: str) -> Record | None:
        """The bot of our id `hz_<id>` or Horizon's own id. Raises as `by_number`."""
        own_id = bot_id.removeprefix(ID_PREFIX)
        rows = self._rows("CAST(id AS VARCHAR(80)) = :id", {"id": own_id})
        return record_of_horizon(rows[0], "horizon_database", self._cipher) if rows else None

    def active(self) -> list[dict[str, Any]]:
        """Every active row that has a number, the newest first. Raises as `by_number`."""
        return self._rows("1 = 1", {})

    def _rows(self, condition: str, values: Mapping[str, str]) -> list[dict[str, Any]]:
        """Active rows, the newest first."""
        try:
            with self._database.read() as connection:
                if not self._exists:
                    if time.monotonic() < self._check_again_at:
                        return []
                    self._exists = inspect(connection).has_table(TABLE)
                    self._check_again_at = time.monotonic() + _RECHECK_S
                    if not self._exists:
                        return []
                query = text(f"SELECT * FROM {TABLE} WHERE {condition}")  # noqa: S608 - constants
                rows = [dict(row) for row in connection.execute(query, values).mappings()]
        except SQLAlchemyError as error:
            # Its text carries the statement's parameters, so only its kind is told.
            self._exists = False
            raise HorizonTableError(f"{TABLE} cannot be read: {type(error).__name__}") from None
        active = [row for row in rows if is_active(row) and _number(row)]
        return sorted(active, key=_age, reverse=True)


def is_active(row: Mapping[str, Any]) -> bool:
    """Whether a row's status lets its bot answer; no status does."""
    return str(row.get("status") or "active").strip().lower() not in _INACTIVE


def record_of_horizon(
    row: Mapping[str, Any],
    source: Literal["horizon_database", "horizon_api"],
    cipher: Cipher,
    number: str | None = None,
) -> Record:
    """The record of a row of Horizon's table, or of its config endpoint's JSON.

    Unknown keys are ignored, secrets are encrypted, `number` replaces the row's own.

    Raises:
        ValueError: the number is missing.
    """
    metadata = _json(row.get("metadata"), dict) or {}
    number = number or _number(row)
    if not number:
        raise ValueError("Horizon's configuration has no twilio_phone_number")
    if not number.startswith("+"):
        number = f"+{number}"
    own_id = _text(row, "id") or hashlib.sha256(number.encode()).hexdigest()[:20]
    bot_id = f"{ID_PREFIX}{own_id}"[:40]
    timezone = _text(row, "timezone") or _text(metadata, "timezone") or _TIMEZONE
    name = _text(row, "name") or _text(row, "external_ref") or bot_id

    def secret(field: str) -> str | None:
        value = _text(row, field) or _text(metadata, field)
        return cipher.encrypt(value) if value else None

    secrets = {field: secret(field) for field in SECRET_FIELDS}
    return Record(
        format=FORMAT,
        source=source,
        revision=int(_age(row)),
        id=bot_id,
        client_id=_client_id(row) or bot_id,
        name=name[:200],
        number=number,
        status="active",
        assistant=AssistantRecord(
            id=f"asst_{bot_id}"[:40],
            version=1,
            name=name[:200],
            model=_text(row, "assistant_model") or _text(row, "openai_model"),
            instructions=_text(row, "assistant_instructions") or _text(row, "instructions"),
            tools=[],
            temperature=None,
            max_output_tokens=None,
            reasoning_effort=None,
            metadata={},
            created_at=_iso(row.get("created_at")),
        ),
        actions=_actions(row.get("horizon_actions"), bot_id),
        functions=flat_functions(_json(row.get("assistant_functions"), list) or []),
        # These bots are Horizon's own, so Horizon says whether a person has taken over.
        handoff={"source": "horizon", "on_failure": "answer"},
        report_turns=metadata.get("report_turns") is True,
        metadata=without_secrets(metadata),
        texts=texts if isinstance(texts := metadata.get("texts"), dict) else {},
        language="en" if "en" in (row.get("language"), metadata.get("language")) else "es",
        timezone=timezone if is_timezone(timezone) else _TIMEZONE,
        twilio_account_sid=_text(row, "twilio_account_sid"),
        twilio_auth_token=secrets["twilio_auth_token"],
        twilio_messaging_service_sid=_text(row, "twilio_messaging_service_sid")
        or _text(metadata, "twilio_messaging_service_sid"),
        openai_api_key=secrets["openai_api_key"],
        openai_base_url=_text(row, "openai_base_url") or _text(metadata, "openai_base_url"),
        horizon_api_token=secrets["horizon_api_token"],
        horizon_base_url=_text(row, "horizon_base_url") or _text(metadata, "horizon_base_url"),
        created_at=_iso(row.get("created_at")),
        updated_at=_iso(row.get("updated_at")),
    )


def flat_functions(functions: list[Any]) -> list[dict[str, Any]]:
    """Function definitions in the Responses API's flat form; also takes the older nested one."""
    flat = []
    for function in functions:
        if not isinstance(function, dict):
            continue
        inner = function.get("function")
        definition = inner if isinstance(inner, dict) else function
        if isinstance(definition.get("name"), str) and definition["name"]:
            flat.append({**definition, "type": "function"})
    return flat


def _actions(value: object, bot_id: str) -> list[dict[str, Any]]:
    kept = []
    for action in _json(value, list) or []:
        if not isinstance(action, dict):
            continue
        name, path = action.get("name"), action.get("path")
        method = str(action.get("method") or "GET").upper()
        is_usable = isinstance(name, str) and name and isinstance(path, str)
        if not (is_usable and str(path).startswith("/") and method in _METHODS):
            log.warning("horizon_action_ignored", bot_id=bot_id, reason="name, method or path")
            continue
        query, parameters = action.get("query"), action.get("parameters")
        description = action.get("description")
        kept.append(
            {
                "name": name,
                "method": method,
                "path": path,
                "description": description if isinstance(description, str) else "",
                "query": query if isinstance(query, dict) else {},
                "body": action.get("body"),
                "parameters": parameters if isinstance(parameters, dict) else None,
                "idempotency": "key" if action.get("idempotency") == "key" else "none",
            }
        )
    return kept


def _client_id(row: Mapping[str, Any]) -> str | None:
    client_id = _text(row, "client_id")
    return client_id if client_id and CLIENT_ID.fullmatch(client_id) else None


def _number(row: Mapping[str, Any]) -> str | None:
    """The row's own number, as it is written but without `whatsapp:`."""
    text = _text(row, "twilio_phone_number")
    return text.removeprefix("whatsapp:").strip() or None if text else None


def _json(value: object, kind: type) -> Any:
    """A JSON column: parsed by the driver or still text; None when it is not of this kind."""
    if isinstance(value, (str, bytes)):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    return storable_json(value) if isinstance(value, kind) else None


def _text(row: Mapping[str, Any], key: str) -> str | None:
    value = row.get(key)
    if value is None or isinstance(value, (dict, list, bool)):
        return None
    return storable(str(value)).strip() or None


def _age(row: Mapping[str, Any]) -> float:
    """When the row was changed last, in seconds; 0 when it does not say."""
    changed_at = _time(row.get("updated_at"))
    try:
        return 0.0 if changed_at is None else changed_at.timestamp()
    except (ValueError, OverflowError, OSError):
        return 0.0


def _iso(value: object) -> str | None:
    time = _time(value)
    return None if time is None else time.isoformat()


def _time(value: object) -> datetime | None:
    """A time column: parsed by the driver or still text; None for what is no ISO 8601."""
    if isinstance(value, str):
        try:
            return datetime.fromisoformat(value)
        except ValueError:
            return None
    return value if isinstance(value, datetime) else None
