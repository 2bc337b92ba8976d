"""The service with emulated vendors inside one process, for tests that look at whole turns."""

from __future__ import annotations

import secrets
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, cast

from cryptography.fernet import Fernet
from sqlalchemy import insert, select

from service.container import Container
from service.conversation.event import Event, encode
from service.conversation.mailbox import Accepted, Inbound
from service.demo.emulators.brains import echo_brain
from service.demo.emulators.horizon import HorizonEmulator
from service.demo.emulators.openai import OpenAIEmulator
from service.demo.emulators.phone import inbound_form
from service.demo.emulators.replies import Reply
from service.demo.emulators.twilio import TwilioEmulator
from service.settings import Settings
from service.store import keys
from service.store.models import AssistantRow, BotRow, TurnRow
from service.worker import Worker
from tests.server_process import PATIENCE_S
from tests.server_process import wait_until as wait_until

ACCOUNT_SID = "AC" + "1" * 32
AUTH_TOKEN = "token-of-the-tests"
HORIZON_TOKEN = "horizon-of-the-tests"
NUMBER = "+56911110000"
CONTACT = "+56922220000"

LEAD_ACTIONS: list[dict[str, Any]] = [
    {
        "name": "create_lead",
        "method": "POST",
        "path": "/api/leads/",
        "body": {"nombre": "{nombre}", "interes": "{interes}", "telefono": "{contact_phone}"},
    },
    {"name": "get_lead", "method": "GET", "path": "/api/leads/{lead_id}/"},
]


@dataclass
class Stack:
    """Everything that a turn passes through, with a bot and, while `worker()` runs, a worker."""

    settings: Settings
    container: Container
    openai: OpenAIEmulator
    twilio: TwilioEmulator
    horizon: HorizonEmulator
    variables: Mapping[str, str] = field(default_factory=dict)

    def add_bot(self, bot_id: str = "bot_test", number: str = NUMBER, **columns: Any) -> str:
        """A bot straight into SQL; `instructions` and `model` go to its assistant."""
        assistant = {
            name: columns.pop(name)
            for name in ("instructions", "model", "max_output_tokens")
            if name in columns
        }
        cipher = self.container.cipher
        for name in ("twilio_auth_token", "openai_api_key", "horizon_api_token"):
            if columns.get(name):
                columns[name] = cipher.encrypt(columns[name])
        defaults = {
            "client_id": bot_id,
            "name": f"Bot {bot_id}",
            "twilio_phone_number": number,
            "assistant_id": f"asst_{bot_id}",
            "twilio_account_sid": ACCOUNT_SID,
            "twilio_auth_token": cipher.encrypt(AUTH_TOKEN),
            "horizon_api_token": cipher.encrypt(HORIZON_TOKEN),
        }
        with self.container.database.write() as connection:
            connection.execute(insert(BotRow).values(id=bot_id, **(defaults | columns)))
            connection.execute(
                insert(AssistantRow).values(
                    id=f"asst_{bot_id}", version=1, bot_id=bot_id, name="Test", **assistant
                )
            )
        return bot_id

    def message(
        self,
        body: str,
        from_: str = CONTACT,
        sid: str | None = None,
        number: str = NUMBER,
        bot_id: str = "bot_test",
        **fields: str,
    ) -> Inbound:
        form = inbound_form(ACCOUNT_SID, number, from_, body, message_sid=sid) | fields
        event = Event(form["MessageSid"], "message", bot_id, int(time.time() * 1000), form)
        event = Event(event.id, event.kind, event.bot_id, event.at_ms, form, encode(event))
        return Inbound(event, bot_id, number, form["From"], form.get("ExternalUserId", ""))

    def send(self, body: str, **options: Any) -> Accepted:
        """A contact's message, past the door: into the mailbox."""
        return self.container.mailbox.accept(self.message(body, **options))

    def replies(self, to: str = CONTACT) -> list[str]:
        return [message.body for message in self.twilio.messages_to(to)]

    def wait_for_replies(self, count: int, to: str = CONTACT) -> list[str]:
        self.twilio.wait_for_messages(to, count, PATIENCE_S)
        return self.replies(to)

    def turns(self) -> list[Mapping[str, Any]]:
        with self.container.database.read() as connection:
            rows = connection.execute(select(TurnRow).order_by(TurnRow.ordinal))
            return [dict(row._mapping) for row in rows]

    def wait_for_turns(self, count: int) -> list[Mapping[str, Any]]:
        """All turns once `count` of them have ended."""
        wait_until(lambda: len(self.ended()) >= count, f"{count} ended turns")
        return self.turns()

    def ended(self) -> list[Mapping[str, Any]]:
        return [turn for turn in self.turns() if turn["status"] != "running"]

    def wait_until_idle(self) -> None:
        """Until no conversation is due or leased: the last acknowledgement is in."""

        def idle() -> bool:
            depth = self.container.mailbox.depth()
            return depth.due == 0 and depth.leased == 0

        wait_until(idle, "an empty queue")

    @contextmanager
    def held_model(self) -> Iterator[None]:
        """The model's calls stay in flight until the end of the block."""
        brain, opened = self.openai.brain, threading.Event()

        def answer(request: dict[str, Any]) -> Reply:
            opened.wait(PATIENCE_S)
            return brain(request)

        self.openai.brain = answer
        try:
            yield
        finally:
            self.openai.brain = brain
            opened.set()

    def wait_for_calls(self, count: int = 1) -> None:
        """Until so many calls of the model are in flight."""
        wait_until(lambda: self.openai.in_flight >= count, f"{count} calls of the model")

    def expire_leases(self) -> None:
        """As if every worker had been silent for LEASE_S: its conversations are due again."""
        client = self.container.redis.client
        for conversation in cast("list[bytes]", client.zrange(keys.LEASES, 0, -1)):
            client.zadd(keys.LEASES, {conversation: 1}, xx=True)
        client.publish(keys.WAKE, "1")

    def model_inputs(self) -> list[list[dict[str, Any]]]:
        """The input of each call of the model."""
        return [
            request.body["input"]
            for request in self.openai.requests
            if request.path.endswith("/responses")
        ]

    @contextmanager
    def worker(self) -> Iterator[Worker]:
        """A worker in a thread; at the end it is stopped as SIGTERM would."""
        worker = Worker(self.container)
        thread = threading.Thread(target=worker.run, daemon=True)
        thread.start()
        try:
            yield worker
        finally:
            worker.stop()
            thread.join(timeout=self.settings.worker_drain_s + PATIENCE_S)


def environment(
    database_url: str,
    redis_url: str,
    openai: OpenAIEmulator,
    twilio: TwilioEmulator,
    horizon: HorizonEmulator,
    folder: Path,
    **overrides: str,
) -> dict[str, str]:
    """The environment variables of a service on these servers, also for child processes."""
    return {
        "SECRET_KEY": Fernet.generate_key().decode(),
        "PUBLIC_BASE_URL": "https://bots.example.test",
        "ADMIN_API_KEY": secrets.token_urlsafe(36),
        "OPENAI_API_KEY": "sk-test",
        "OPENAI_BASE_URL": openai.url + "/v1",
        "TWILIO_API_BASE_URL": twilio.url,
        "HORIZON_BASE_URL": horizon.url,
        "HORIZON_API_KEY": HORIZON_TOKEN,
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "SPOOL_DIR": str(folder / "spool"),
        "METRICS_DIR": str(metrics_folder()),
        "DEBOUNCE_MS": "0",
        # A slow machine must not cost a worker its conversations: `expire_leases` takes them away.
        "LEASE_S": "60",
        "SEND_GRACE_S": "0.2",
        "RETRY_BASE_S": "0.01",
        "WORKER_THREADS": "8",
        "WORKER_DRAIN_S": "2",
        **overrides,
    }


@cache
def metrics_folder() -> Path:
    """One for all tests: prometheus_client opens its files once a process."""
    return Path(tempfile.mkdtemp(prefix="horizon-metrics-"))


@contextmanager
def emulators() -> Iterator[tuple[OpenAIEmulator, TwilioEmulator, HorizonEmulator]]:
    with (
        OpenAIEmulator(echo_brain) as openai,
        TwilioEmulator({ACCOUNT_SID: AUTH_TOKEN}) as twilio,
        HorizonEmulator({HORIZON_TOKEN: "client"}) as horizon,
    ):
        twilio.callbacks.enabled = False
        yield openai, twilio, horizon


def settings_of(variables: Mapping[str, str]) -> Settings:
    """Settings from these variables alone."""
    values: dict[str, Any] = {name.lower(): value for name, value in variables.items()}
    return Settings(_env_file=None, **values)


MakeStack = Callable[..., Stack]


@contextmanager
def stacks(database_url: str, redis_url: str, folder: Path) -> Iterator[MakeStack]:
    """Builds any number of stacks, with keywords as settings, and closes them at the end."""
    with ExitStack() as opened:

        def make(**overrides: str) -> Stack:
            openai, twilio, horizon = opened.enter_context(emulators())
            variables = environment(
                database_url, redis_url, openai, twilio, horizon, folder, **overrides
            )
            settings = settings_of(variables)
            container = Container(settings)
            opened.callback(container.close)
            return Stack(settings, container, openai, twilio, horizon, variables=variables)

        yield make
