"""The use cases of bots: create, read, change, delete, refresh."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from service.bots.changes import BotChanges, merge_assistant, merge_bot
from service.bots.checks import BotChecks, ModelUse
from service.bots.errors import (
    BotNotFoundError,
    Fault,
    ForbiddenError,
    ReadOnlyBotError,
)
from service.conversation.clock import utc_now
from service.store import bots
from service.store.api_keys import Caller
from service.store.audit import record_change
from service.store.database import Database
from service.store.directory import BotDirectory, DirectoryUnavailableError, UnknownIdError
from service.store.horizon_table import ID_PREFIX
from service.store.records import AssistantRecord, Record, assistant_record_of, record_of
from service.store.secrets import Cipher

_ROUNDS = 20
_EMPTY_BOT: Mapping[str, Any] = {
    "assistant_functions": [],
    "horizon_actions": [],
    "handoff": {},
    "report_turns": False,
    "status": "active",
    "metadata": {},
    "texts": {},
    "language": "es",
    "timezone": "America/Santiago",
    "twilio_account_sid": None,
    "twilio_auth_token": None,
    "twilio_messaging_service_sid": None,
    "openai_api_key": None,
    "openai_base_url": None,
    "horizon_api_token": None,
    "horizon_base_url": None,
}
_EMPTY_ASSISTANT: Mapping[str, Any] = {
    "model": None,
    "instructions": None,
    "tools": [],
    "temperature": None,
    "max_output_tokens": None,
    "reasoning_effort": None,
    "metadata": {},
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """A bot as it stands now, and what the caller should know about it."""

    record: Record
    warnings: Sequence[Fault] = ()


class BotService:
    """Every method raises OutageError, and BotNotFoundError where it takes a `bot_id`."""

    def __init__(
        self, database: Database, directory: BotDirectory, cipher: Cipher, checks: BotChecks
    ) -> None:
        self._database = database
        self._directory = directory
        self._cipher = cipher
        self._checks = checks

    def create(self, caller: Caller, changes: BotChanges, request_id: str | None) -> Outcome:
        """A new bot with version 1 of its assistant.

        Raises:
            ForbiddenError: a client's key names another client.
            InvalidBotError: an address or the model is not usable.
            NumberTakenError: another bot has the number.
        """
        bot_id = f"bot_{secrets.token_hex(10)}"
        client_id = changes.bot.get("client_id") or caller.client_id or bot_id
        if not caller.may_see(client_id):
            raise ForbiddenError(f"This key creates bots of the client {caller.client_id} only.")
        now = utc_now()
        merged = merge_bot({}, changes, self._cipher)
        bot = {
            **_EMPTY_BOT,
            **merged,
            "id": bot_id,
            "client_id": client_id,
            "assistant_id": f"asst_{secrets.token_hex(10)}",
            "assistant_version": 1,
            "revision": 1,
            "created_at": now,
            "updated_at": now,
        }
        assistant = {
            **_EMPTY_ASSISTANT,
            **merge_assistant({"name": bot["name"]}, changes, bot["name"]),
            "id": bot["assistant_id"],
            "version": 1,
            "bot_id": bot_id,
            "created_at": now,
        }
        assistant.setdefault("name", bot["name"])
        self._checks.addresses(merged)
        warnings = self._checks.model(self._checks.model_use(bot, assistant))
        with self._database.write() as connection:
            bots.insert_bot(connection, bot)
            bots.insert_assistant(connection, assistant)
            record_change(
                connection,
                actor=caller.actor,
                action="bot.create",
                object_id=bot_id,
                client_id=client_id,
                request_id=request_id,
                detail={"fields": sorted(merged)},
            )
        return self._published(record_of(bot, assistant), warnings)

    def get(self, caller: Caller, bot_id: str) -> Record:
        """The bot as its source has it."""
        with self._database.read() as connection:
            row = bots.active_by_id(connection, bot_id)
            if row is not None:
                record = record_of(row, bots.current_assistant(connection, row))
                return _seen(caller, record)
        if not bot_id.startswith(ID_PREFIX):
            raise BotNotFoundError
        return _seen(caller, self._load(bot_id))

    def page(
        self,
        caller: Caller,
        limit: int,
        after: tuple[datetime, str] | None,
        client_id: str | None,
        number: str | None,
    ) -> tuple[list[Record], tuple[datetime, str] | None]:
        """At most `limit` bots of our own table, the oldest first, and where the next page starts."""
        if client_id is not None and not caller.may_see(client_id):
            return [], None
        with self._database.read() as connection:
            rows = bots.page(connection, limit + 1, after, client_id or caller.client_id, number)
            has_more, rows = len(rows) > limit, rows[:limit]
            assistants = bots.current_assistants(connection, rows) if rows else {}
        records = [record_of(row, assistants[row["id"]]) for row in rows]
        return records, (rows[-1]["created_at"], rows[-1]["id"]) if has_more else None

    def assistants(self, caller: Caller, bot_id: str) -> list[AssistantRecord]:
        """Every version of the bot's assistant, the newest first."""
        record = self.get(caller, bot_id)
        if record["source"] != "database":
            return [record["assistant"]]
        with self._database.read() as connection:
            return [assistant_record_of(row) for row in bots.assistants_of(connection, bot_id)]

    def update(
        self, caller: Caller, bot_id: str, changes: BotChanges, request_id: str | None
    ) -> Outcome:
        """Change what is named; a changed assistant becomes the next version.

        Raises:
            ForbiddenError: a client's key moves the bot to another client.
            ReadOnlyBotError: Horizon keeps this bot.
            InvalidBotError, NumberTakenError: as `create`.
        """
        self._refuse_horizons(caller, bot_id)
        warned: dict[ModelUse, Sequence[Fault]] = {}
        for _ in range(_ROUNDS):
            with self._database.write() as connection:
                row, assistant = self._locked(connection, caller, bot_id)
                merged = merge_bot(row, changes, self._cipher)
                if "client_id" in merged and not caller.may_see(merged["client_id"]):
                    raise ForbiddenError("This key cannot move a bot to another client.")
                self._checks.addresses(merged)
                bot = {**row, **merged}
                new_assistant = merge_assistant(assistant, changes, bot["name"])
                use = self._checks.model_use(bot, {**assistant, **new_assistant})
                if use == self._checks.model_use(row, assistant):
                    warned[use] = ()
                if use in warned:
                    record = self._save(
                        connection, caller, row, merged, assistant, new_assistant, request_id
                    )
                    break
            # OpenAI is asked while no transaction is open, then everything is read again.
            warned[use] = self._checks.model(use)
        else:
            raise DirectoryUnavailableError("the bot is being changed by others all the time")
        return self._published(record, warned[use])

    def delete(self, caller: Caller, bot_id: str, request_id: str | None) -> Sequence[Fault]:
        """End the bot; its history stays, its secrets go, its number is free.

        Raises:
            ReadOnlyBotError: Horizon keeps this bot.
        """
        self._refuse_horizons(caller, bot_id)
        with self._database.write() as connection:
            row, _ = self._locked(connection, caller, bot_id)
            now = utc_now()
            ended = {
                "status": "deleted",
                "deleted_at": now,
                "updated_at": now,
                "revision": row["revision"] + 1,
                "twilio_auth_token": None,
                "openai_api_key": None,
                "horizon_api_token": None,
            }
            bots.update_bot(connection, bot_id, ended)
            record_change(
                connection,
                actor=caller.actor,
                action="bot.delete",
                object_id=bot_id,
                client_id=row["client_id"],
                request_id=request_id,
            )
        if self._directory.forget(row["twilio_phone_number"], bot_id):
            return ()
        message = "It is deleted, but Redis is away: it may take messages until Redis is back."
        return (Fault(None, message),)

    def refresh(self, caller: Caller, bot_id: str) -> Record:
        """Read the bot from its source into Redis and tell every process. Takes Horizon's ids too."""
        record = self._load(bot_id)
        if record is None and not bot_id.startswith(("bot_", ID_PREFIX)):
            record = self._load(ID_PREFIX + bot_id)
        return _seen(caller, record)

    def _load(self, bot_id: str) -> Record | None:
        try:
            return self._directory.load(bot_id)
        except UnknownIdError:
            # Trying again would not help: this is no outage.
            raise BotNotFoundError(
                "There is no bot with this id, or it is one of Horizon's whose number is not known "
                "here: send a message to its number, then try again."
            ) from None

    def _refuse_horizons(self, caller: Caller, bot_id: str) -> None:
        if bot_id.startswith(ID_PREFIX):
            self.get(caller, bot_id)
            raise ReadOnlyBotError

    def _locked(
        self, connection: Connection, caller: Caller, bot_id: str
    ) -> tuple[bots.Row, bots.Row]:
        row = bots.active_by_id(connection, bot_id, lock=True)
        if row is None or not caller.may_see(row["client_id"]):
            raise BotNotFoundError
        return row, bots.current_assistant(connection, row)

    def _save(
        self,
        connection: Connection,
        caller: Caller,
        row: bots.Row,
        merged: Mapping[str, Any],
        assistant: bots.Row,
        new_assistant: Mapping[str, Any],
        request_id: str | None,
    ) -> Record:
        if not merged and not new_assistant:
            return record_of(row, assistant)
        now = utc_now()
        values = {**merged, "revision": row["revision"] + 1, "updated_at": now}
        if new_assistant:
            version = row["assistant_version"] + 1
            assistant = {**assistant, **new_assistant, "version": version, "created_at": now}
            values["assistant_version"] = version
            bots.insert_assistant(connection, assistant)
        bots.update_bot(connection, row["id"], values)
        changed = [*merged, *(f"assistant.{name}" for name in new_assistant)]
        record_change(
            connection,
            actor=caller.actor,
            action="bot.update",
            object_id=row["id"],
            client_id=row["client_id"],
            request_id=request_id,
            detail={"fields": sorted(changed), "revision": values["revision"]},
        )
        return record_of({**row, **values}, assistant)

    def _published(self, record: Record, warnings: Sequence[Fault]) -> Outcome:
        found = [*warnings, *self._checks.advice(record)]
        try:
            if not self._directory.publish(record):
                found.append(
                    Fault(None, "It is saved, but Redis is away: it takes effect when it is back.")
                )
        except DirectoryUnavailableError as error:
            found.append(Fault(None, f"It is saved, but it cannot answer: {error}."))
        return Outcome(record, found)


def _seen(caller: Caller, record: Record | None) -> Record:
    if record is None or not caller.may_see(record["client_id"]):
        raise BotNotFoundError
    return record
