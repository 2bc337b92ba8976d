"""A backup put to use beside the running service: its data compared, one test message answered.

Nothing of it reaches anybody: the stores are servers of this moment, the vendors are the emulators, and
the bot that answers is the backup's own with the emulators' credentials.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from time import monotonic, time
from typing import TYPE_CHECKING, Any

import redis
from sqlalchemy import Connection, insert, select, update

from service.bundle import Bundle, BundleError, load_database
from service.conversation.event import Event, encode
from service.conversation.mailbox import Inbound
from service.demo.emulators.brains import echo_brain
from service.demo.emulators.openai import OpenAIEmulator
from service.demo.emulators.phone import inbound_form
from service.demo.emulators.twilio import ACCOUNT_SID, AUTH_TOKEN, TwilioEmulator
from service.scratch import scratch_postgresql, scratch_redis
from service.store import keys
from service.store.census import census, differences
from service.store.models import AssistantRow, BotRow

if TYPE_CHECKING:
    from service.container import Container

CONTACT = "+15005550006"
"""A number of Twilio's own for tests; no phone has it (https://www.twilio.com/docs/iam/test-credentials)."""
NUMBER = "+15005550001"
_QUESTION = "Prueba de la copia de seguridad"


@dataclass(frozen=True, slots=True)
class Drilled:
    """What the restored copy holds and how long its answer took."""

    taken_at: datetime
    rows: int
    redis_keys: int
    redis_lasting_keys: int
    conversations_pending: int
    bot_id: str
    answered_in_s: float


def drill(container: Container, bundle: Bundle) -> Drilled:
    """Raises BundleError, ScratchError, BackupError: the backup could not be put to use."""
    with ExitStack() as opened:
        # Sockets have short names: not in the folder of the backup.
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="hb-drill-")))
        rdb = bundle.folder / "redis.rdb"
        redis_url = opened.enter_context(scratch_redis(folder, rdb if rdb.exists() else None))
        if bundle.manifest["database"]["kind"] == "sqlite":
            database_url = f"sqlite:///{folder / 'horizon.db'}"
        else:
            database_url = opened.enter_context(scratch_postgresql(folder))
        openai = opened.enter_context(OpenAIEmulator(echo_brain))
        twilio = opened.enter_context(TwilioEmulator())
        twilio.callbacks.enabled = False
        settings = container.settings.model_copy(
            update={
                "redis_url": redis_url,
                "redis_sentinels": (),
                "redis_acknowledge_on_replica": False,
                "database_url": database_url,
                "spool_dir": folder / "spool",
                "metrics_dir": folder / "metrics",
                "openai_base_url": openai.url + "/v1",
                "openai_api_key": "sk-drill",
                "twilio_api_base_url": twilio.url,
                "horizon_base_url": None,
                "debounce_ms": 0,
                "lease_s": 60.0,
            }
        )
        restored = type(container)(settings)
        opened.callback(restored.close)
        load_database(restored, bundle)
        if bundle.schema.state == "at head":
            _compare(restored, bundle)
        restored.migrations.upgrade()
        redis_keys, lasting = _keys(restored.redis.client)
        pending = len(restored.mailbox.conversations())
        restored.hold.place("drill")
        bot_id, number = _prepare_bot(restored)
        answered_in_s = _answer(restored, bot_id, number, twilio)
    return Drilled(
        taken_at=bundle.taken_at,
        rows=sum(table["rows"] for table in bundle.manifest["database"]["census"].values()),
        redis_keys=redis_keys,
        redis_lasting_keys=lasting,
        conversations_pending=pending,
        bot_id=bot_id,
        answered_in_s=answered_in_s,
    )


def _compare(restored: Container, bundle: Bundle) -> None:
    """Row by row; an older schema than this release's has other columns."""
    with restored.database.read() as connection:
        found = census(connection)
    told = differences(bundle.manifest["database"]["census"], found)
    if told:
        raise BundleError(f"The restored copy is not what was backed up: {'; '.join(told)}.")


def _keys(client: redis.Redis) -> tuple[int, int]:
    """How many there are, and how many of them never expire."""
    told = client.info("keyspace").get("db0", {})
    return told.get("keys", 0), told.get("keys", 0) - told.get("expires", 0)


def _prepare_bot(restored: Container) -> tuple[str, str]:
    """The backup's first bot with the emulators' credentials, or a new one where there is none."""
    cipher = restored.cipher
    harmless: dict[str, Any] = {
        "status": "active",
        "twilio_account_sid": ACCOUNT_SID,
        "twilio_auth_token": cipher.encrypt(AUTH_TOKEN),
        "twilio_messaging_service_sid": None,
        "openai_base_url": None,
        "openai_api_key": None,
        "horizon_base_url": None,
        "horizon_api_token": None,
        "horizon_actions": [],
        "handoff": {},
        "report_turns": False,
    }
    with restored.database.write() as connection:
        row = connection.execute(
            select(BotRow.id, BotRow.twilio_phone_number)
            .where(BotRow.deleted_at.is_(None))
            .order_by(BotRow.created_at, BotRow.id)
            .limit(1)
        ).one_or_none()
        if row is None:
            _add_bot(connection, harmless)
            bot_id, number = "bot_drill", NUMBER
        else:
            bot_id, number = row.id, row.twilio_phone_number
            connection.execute(
                update(BotRow)
                .where(BotRow.id == bot_id)
                .values(revision=BotRow.revision + 1, **harmless)
            )
    # Redis has the record with the real credentials.
    with restored.redis.outages():
        restored.redis.client.delete(keys.bot(number), keys.bot_number(bot_id))
    return bot_id, number


def _add_bot(connection: Connection, harmless: Mapping[str, Any]) -> None:
    connection.execute(
        insert(BotRow).values(
            id="bot_drill",
            client_id="drill",
            name="Drill",
            twilio_phone_number=NUMBER,
            assistant_id="asst_drill",
            **harmless,
        )
    )
    connection.execute(
        insert(AssistantRow).values(id="asst_drill", version=1, bot_id="bot_drill", name="Drill")
    )


def _answer(restored: Container, bot_id: str, number: str, twilio: TwilioEmulator) -> float:
    """Seconds from the message to its answer. Raises BundleError: there was none."""
    # The vendors' SDKs take seconds to load: not while a lease runs.
    runner = restored.runner(_nobody_waits)
    began = monotonic()
    form = inbound_form(ACCOUNT_SID, number, CONTACT, _QUESTION)
    event = Event(form["MessageSid"], "message", bot_id, int(time() * 1000), form)
    event = replace(event, raw=encode(event))
    bot = restored.directory.by_id(bot_id, number)
    if bot is None:
        raise BundleError(f"The restored copy does not find its bot {bot_id}.")
    accepted = restored.mailbox.accept(Inbound(event, bot.client_id, number, form["From"]))
    # Only this conversation: the others belong to people.
    claim = restored.mailbox.take(accepted.conversation_id)
    if claim is not None:
        runner.run(claim)
    held = restored.turns.conversation(accepted.conversation_id, 1) or {"turns": []}
    turn = next(iter(held["turns"]), None)
    if turn is None or turn["status"] != "replied" or not twilio.messages_to(CONTACT):
        told = f"{turn['status']}, {turn['error']}" if turn else "no turn"
        raise BundleError(f"The restored copy did not answer a test message: {told}.")
    return round(monotonic() - began, 3)


def _nobody_waits(task: Callable[[], None], after_s: float = 0) -> None:
    """What runs beside a turn is left out."""
