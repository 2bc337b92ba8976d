"""Where bots come from: our own table, then Horizon's table, then Horizon's config endpoint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Protocol

import structlog

from service.conversation.outage import OutageError
from service.conversation.ports import VendorError
from service.store import bots
from service.store.database import Database
from service.store.horizon_table import ID_PREFIX, HorizonTable, is_active, record_of_horizon
from service.store.records import Record, record_of
from service.store.secrets import Cipher

_PAGE = 200

log = structlog.get_logger(__name__)


class ConfigSource(Protocol):
    """Horizon's config endpoint."""

    def fetch_config(self, number: str) -> Mapping[str, Any] | None:
        """The configuration as JSON, None when there is none. Raises VendorError."""


class SourceError(OutageError):
    """A source failed, so whether the bot exists is not known."""


class NumberUnknownError(SourceError):
    """Horizon's endpoint knows bots by their number only, and nobody here knows this bot's."""


class BotSources:
    """The truth about bots. Every look-up raises DatabaseDownError or another OutageError."""

    def __init__(self, database: Database, cipher: Cipher, horizon: ConfigSource | None) -> None:
        self._database = database
        self._cipher = cipher
        self._horizon = horizon
        self._table = HorizonTable(database, cipher)

    def by_number(
        self, number: str, messaging_service_sid: str | None, *, ask_horizon: bool
    ) -> Record | None:
        """None only when every source answered "none".

        Without `ask_horizon` its endpoint is spared, and not finding the bot is a SourceError.
        """
        record = self._own(number, messaging_service_sid) or self._table.by_number(number)
        if record is None and messaging_service_sid:
            record = self._table.by_service(messaging_service_sid)
        if record is None and self._horizon is not None:
            if not ask_horizon:
                raise SourceError("Horizon is not asked for bots while Redis is away")
            record = self._from_endpoint(number)
        return record

    def by_id(self, bot_id: str, number: str | None) -> Record | None:
        """The bot; `number` is where its record was, for Horizon's endpoint knows no ids.

        A bot that only the endpoint can know is a NumberUnknownError when its number is not known.
        """
        with self._database.read() as connection:
            row = bots.active_by_id(connection, bot_id)
            if row is not None:
                return record_of(row, bots.current_assistant(connection, row))
        if not bot_id.startswith(ID_PREFIX):
            return None
        record = self._table.by_id(bot_id)
        if record is None and self._horizon is not None:
            if number is None:
                raise NumberUnknownError(
                    "Horizon cannot be asked for a bot whose number is not known"
                )
            record = self._from_endpoint(number)
        return record if record is not None and record["id"] == bot_id else None

    def all_own(self) -> Iterator[Record]:
        """Every bot of our own table. No connection is held while the caller works."""
        after: tuple[datetime, str] | None = None
        while True:
            with self._database.read() as connection:
                rows = bots.page(connection, _PAGE, after)
                assistants = bots.current_assistants(connection, rows) if rows else {}
            yield from (
                record_of(row, assistants[row["id"]]) for row in rows if row["id"] in assistants
            )
            if len(rows) < _PAGE:
                return
            after = (rows[-1]["created_at"], rows[-1]["id"])

    def _own(self, number: str, messaging_service_sid: str | None) -> Record | None:
        with self._database.read() as connection:
            row = bots.active_by_number(connection, number)
            if row is None and messaging_service_sid:
                row = bots.active_by_service(connection, messaging_service_sid)
            return None if row is None else record_of(row, bots.current_assistant(connection, row))

    def _from_endpoint(self, number: str) -> Record | None:
        if self._horizon is None:
            return None
        try:
            config = self._horizon.fetch_config(number)
        except VendorError as error:
            raise SourceError(f"Horizon did not answer for this number: {error.code}") from None
        if config is None:
            return None
        inner = config.get("data", config)
        if not isinstance(inner, Mapping):
            raise SourceError("Horizon's configuration of this number is no JSON object")
        if not inner or not is_active(inner):
            return None
        return record_of_horizon(inner, "horizon_api", self._cipher, number)
