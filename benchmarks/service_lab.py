"""The service under measurement: settings, bots in SQL, web and worker processes."""

from __future__ import annotations

import secrets
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import requests
from cryptography.fernet import Fernet

from benchmarks.lab import process, python, wait_until
from service.container import Container
from service.store.models import AssistantRow, BotRow
from tests.server_process import free_port
from tests.servers import RealPostgres, RealRedis
from tests.stack import settings_of

ACCOUNT_SID = "AC" + "1" * 32
AUTH_TOKEN = "token-of-the-benchmarks"  # noqa: S105 - of an emulator
HORIZON_TOKEN = "horizon-of-the-benchmarks"  # noqa: S105 - of an emulator
PUBLIC_URL = "https://bots.example.com"
START_S = 60
"""A process that other work keeps from the CPU needs this long to start."""


def number(n: int) -> str:
    """The number of the nth bot."""
    return f"+5691{n:07d}"


@dataclass
class Lab:
    """A folder, a Redis and the variables of a service on them."""

    folder: Path
    redis: RealRedis
    variables: dict[str, str]

    @property
    def container(self) -> Container:
        """A new container of this process."""
        return Container(settings_of(self.variables))

    def add_bots(self, count: int, **columns: object) -> None:
        container = self.container
        container.migrations.upgrade()
        token = container.cipher.encrypt(AUTH_TOKEN)
        horizon = container.cipher.encrypt(HORIZON_TOKEN)
        bots = [
            {
                "id": f"bot_{n}",
                "client_id": f"client_{n}",
                "name": f"Bot {n}",
                "twilio_phone_number": number(n),
                "assistant_id": f"asst_{n}",
                "twilio_account_sid": ACCOUNT_SID,
                "twilio_auth_token": token,
                "horizon_api_token": horizon,
                **columns,
            }
            for n in range(count)
        ]
        assistants = [
            {"id": f"asst_{n}", "version": 1, "bot_id": f"bot_{n}", "name": "Bench"}
            for n in range(count)
        ]
        with container.database.write() as connection:
            connection.execute(BotRow.__table__.insert(), bots)  # type: ignore[attr-defined]
            connection.execute(AssistantRow.__table__.insert(), assistants)  # type: ignore[attr-defined]
        container.directory.warm()
        container.close()

    @contextmanager
    def web(self, module: str = "service.wsgi:app") -> Iterator[tuple[int, int]]:
        """gunicorn with 2 processes of 8 threads; its pid and port."""
        port = free_port()
        command = python(
            "-m", "gunicorn", module, "--worker-class", "gthread", "--workers", "2",
            "--threads", "8", "--bind", f"127.0.0.1:{port}", "--keep-alive", "75",
            "--no-control-socket",
        )  # fmt: skip
        with process(*command, environment=self.variables, log=self.folder / "web.log") as child:
            # gunicorn listens before its processes have loaded the application.
            wait_until(lambda: _answers(port), START_S, "web process")
            yield child.pid, port

    @contextmanager
    def synchronous_web(self, module: str) -> Iterator[tuple[int, int]]:
        """gunicorn with 2 sync processes, the default of the classic design; its pid and port."""
        port = free_port()
        command = python(
            "-m", "gunicorn", module, "--worker-class", "sync", "--workers", "2",
            "--timeout", "120", "--bind", f"127.0.0.1:{port}", "--no-control-socket",
        )  # fmt: skip
        with process(*command, environment=self.variables, log=self.folder / "web.log") as child:
            wait_until(lambda: _answers(port), START_S, "web process")
            yield child.pid, port

    @contextmanager
    def worker(self) -> Iterator[int]:
        """One worker process; its pid."""
        container = self.container
        command = python("-m", "service", "worker")
        log = self.folder / "worker.log"
        with process(*command, environment=self.variables, log=log) as child:
            pattern = "hb:worker:*"
            wait_until(lambda: container.redis.client.keys(pattern), START_S, "worker's heartbeat")
            yield child.pid
        container.close()

    def forget_messages(self) -> None:
        """The same messages may come again."""
        with self.redis.client() as client:
            for key in client.scan_iter("hb:seen:*", count=5_000):
                client.unlink(key)

    def empty_redis(self) -> None:
        """As after the loss of Redis, with the bots found again."""
        container = self.container
        with self.redis.client() as client:
            client.flushall()
        container.directory.warm()
        container.close()

    def wait_idle(self, timeout_s: float = 120) -> None:
        """Until no conversation is due or leased. Raises TimeoutError."""
        container = self.container

        def idle() -> bool:
            depth = container.mailbox.depth()
            return depth.due == 0 and depth.leased == 0

        wait_until(idle, timeout_s, "an empty queue")
        container.close()

    @contextmanager
    def emulators(self, model_delay_s: float = 0) -> Iterator[Mapping[str, str]]:
        """The vendors in a process of their own; their addresses go into the variables."""
        ports = {name: free_port() for name in ("openai", "twilio", "horizon")}
        arguments = [part for name, port in ports.items() for part in (f"--{name}-port", str(port))]
        command = python(
            "-m", "service.demo.emulators", *arguments, "--model-delay", str(model_delay_s),
            "--account", f"{ACCOUNT_SID}:{AUTH_TOKEN}",
            "--horizon-token", f"{HORIZON_TOKEN}:client",
        )  # fmt: skip
        with process(*command, log=self.folder / "emulators.log"):
            for port in ports.values():
                wait_until(lambda port=port: _listens(port), START_S, "emulator")  # type: ignore[misc]
            urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
            # The service's public address leads nowhere here.
            switch = urls["twilio"] + "/_emulator/callbacks"
            requests.post(switch, json={"enabled": False}, timeout=10).raise_for_status()
            self.variables |= {
                "OPENAI_BASE_URL": urls["openai"] + "/v1",
                "TWILIO_API_BASE_URL": urls["twilio"],
                "HORIZON_BASE_URL": urls["horizon"],
            }
            yield urls


@contextmanager
def postgresql_lab(**overrides: str) -> Iterator[Lab]:
    """The same with a real PostgreSQL that writes through to the disk."""
    with SafePostgres() as server, lab(DATABASE_URL=server.url(), **overrides) as bench:
        yield bench


class SafePostgres(RealPostgres):
    """PostgreSQL as production runs it."""

    settings: ClassVar[Mapping[str, str]] = {
        **RealPostgres.settings,
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "shared_buffers": "256MB",
    }


@contextmanager
def lab(appendfsync: str = "always", **overrides: str) -> Iterator[Lab]:
    """A fresh folder with SQLite and a real Redis (Valkey) with an append-only file."""
    with ExitStack() as opened:
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="horizon-bench-")))
        redis = opened.enter_context(RealRedis())
        redis.config_set("appendfsync", appendfsync)
        variables = {
            "SECRET_KEY": Fernet.generate_key().decode(),
            "PUBLIC_BASE_URL": PUBLIC_URL,
            "ADMIN_API_KEY": secrets.token_urlsafe(36),
            "OPENAI_API_KEY": "sk-bench",
            "HORIZON_API_KEY": HORIZON_TOKEN,
            "DATABASE_URL": f"sqlite:///{folder}/horizon.db",
            "REDIS_URL": redis.url,
            "SPOOL_DIR": f"{folder}/spool",
            "METRICS_DIR": f"{folder}/metrics",
            "DEBOUNCE_MS": "0",
            "LOG_LEVEL": "INFO",
            **overrides,
        }
        yield Lab(folder, redis, variables)


def _answers(port: int) -> bool:
    try:
        requests.get(f"http://127.0.0.1:{port}/webhook/whatsapp", timeout=1)
    except requests.RequestException:
        return False
    return True


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(("127.0.0.1", port)) == 0
