"""Secrets are in no log, no answer, no metric, no command line and no environment that others may read.

Whole processes run here, as in production. See also tests/integration/test_keys_in_errors.py (keys
that a vendor repeats), test_webhook.py (texts and numbers in logs) and test_logs.py.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from sqlalchemy import make_url
from twilio.request_validator import RequestValidator

from service.cli.http import UnixConnection
from service.demo.emulators.faults import Fault
from service.demo.emulators.phone import inbound_form
from tests.server_process import PATIENCE_S
from tests.stack import (
    ACCOUNT_SID,
    AUTH_TOKEN,
    CONTACT,
    HORIZON_TOKEN,
    NUMBER,
    MakeStack,
    Stack,
    wait_until,
)
from tests.web_process import ROOT, WebProcess

TEXT = "mi clave del banco es cuatro cinco seis"
OWN_KEYS = {
    "twilio_auth_token": AUTH_TOKEN,
    "openai_api_key": "sk-own-key-of-the-bot",
    "horizon_api_token": "horizon-token-of-the-bot",
}
OPERATORS = {
    "OPENAI_API_KEY": "sk-key-of-the-operator",
    "TWILIO_AUTH_TOKEN": "twilio-token-of-the-operator",
}


@dataclass
class Running:
    """A web process and a worker process, and what they have printed."""

    stack: Stack
    web: WebProcess
    worker: subprocess.Popen[str]
    printed: list[str]

    @property
    def secrets(self) -> list[str]:
        settings = self.stack.settings
        return [
            *OWN_KEYS.values(),
            *OPERATORS.values(),
            HORIZON_TOKEN,
            settings.admin_api_key,
            *settings.secret_key,
        ]

    def logs(self) -> str:
        return "".join(self.web.output) + "".join(self.printed)

    def pids(self) -> list[int]:
        return [
            each
            for process in (self.web.process, self.worker)
            for each in (process.pid, *children(process.pid))
        ]

    def ask(
        self, method: str, target: str, body: Any = None, key: str | None = None
    ) -> tuple[int, str]:
        headers = {"Content-Type": "application/json"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        sent = None if body is None else json.dumps(body).encode()
        return self._send(method, target, headers, sent)

    def write(self, body: str, token: str = AUTH_TOKEN) -> int:
        form = inbound_form(ACCOUNT_SID, NUMBER, CONTACT, body)
        url = f"{self.stack.settings.public_base_url}/webhook/whatsapp"
        headers = {
            "Content-Type": "application/x-www-form-urlencoded",
            "X-Twilio-Signature": RequestValidator(token).compute_signature(url, form),
        }
        return self._send("POST", "/webhook/whatsapp", headers, urlencode(form).encode())[0]

    def _send(
        self, method: str, target: str, headers: dict[str, str], body: bytes | None
    ) -> tuple[int, str]:
        connection = UnixConnection(str(self.web.private), 10)
        with closing(connection):
            connection.request(method, target, body, {"Connection": "close", **headers})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()


@contextmanager
def worker_process(
    variables: Mapping[str, str], printed: list[str]
) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "service", "worker"],
        env={**os.environ, **variables, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    reader = threading.Thread(target=printed.extend, args=(process.stdout,), daemon=True)
    reader.start()
    try:
        yield process
    finally:
        process.terminate()
        process.wait(PATIENCE_S)
        reader.join(PATIENCE_S)
        process.stdout.close()


@pytest.fixture
def running(make_stack: MakeStack, tmp_path: Path) -> Iterator[Running]:
    stack = make_stack(SPOOL_DIR=str(tmp_path / "web-spool"), **OPERATORS)
    stack.add_bot(**OWN_KEYS)
    printed: list[str] = []
    with (
        WebProcess(stack.variables, private=tmp_path / "private.sock") as web,
        worker_process(stack.variables, printed) as worker,
    ):
        web.wait_until_ready()
        yield Running(stack, web, worker, printed)


def test_no_secret_and_no_text_is_logged_answered_or_counted_whatever_fails(
    running: Running,
) -> None:
    stack, admin = running.stack, running.stack.settings.admin_api_key
    _, scoped = stack.container.api_keys.create("test", "bot_test", "test")
    echo = {
        "error": {"message": f"bad key {OWN_KEYS['openai_api_key']}", "code": "invalid_api_key"}
    }
    stack.openai.fail(Fault.status(401, echo), times=1)
    stack.twilio.fail(Fault.status(500), times=1)

    answers = [
        running.ask("GET", "/bots", key=admin),
        running.ask("GET", "/bots/bot_test", key=scoped),
        running.ask("GET", "/bots/bot_test/assistants", key=scoped),
        running.ask("PUT", "/bots/bot_test", {"twilio_auth_token": 5, "x": AUTH_TOKEN}, admin),
        running.ask("POST", "/bots", {"name": "A", "openai_api_key": "sk-new\nkey"}, admin),
        running.ask("POST", "/bots/bot_test/refresh", key=admin),
        running.ask("GET", "/bots", key="hk_unknown"),
        running.ask("GET", "/metrics"),
        running.ask("GET", "/health"),
        running.ask("GET", "/openapi.json"),
    ]
    assert running.write(TEXT) == 200
    assert running.write(TEXT, token=OWN_KEYS["openai_api_key"]) == 403
    stack.wait_for_turns(1)
    answers.append(running.ask("GET", "/metrics"))
    wait_until(lambda: "turn_" in running.logs(), "line of the turn")

    shown = "\n".join(body for _, body in answers)
    logged = running.logs()
    assert [status for status, _ in answers] == [200, 200, 200, 422, 422, 200, 401, *[200] * 4]
    assert 'horizon_webhook_messages_total{result="accepted"}' in shown
    assert "webhook_refused" in logged
    for secret in [*running.secrets, scoped]:
        assert secret not in shown
        assert secret not in logged
    for word in (TEXT, CONTACT, CONTACT[1:], NUMBER):
        assert word not in logged
    assert TEXT not in shown
    assert CONTACT[1:] not in shown


def test_no_secret_is_on_a_command_line_or_in_a_title(running: Running) -> None:
    pids = running.pids()
    assert len(pids) >= 3

    listed = "".join(
        Path(f"/proc/{pid}/{name}").read_text(errors="replace")
        for pid in pids
        for name in ("cmdline", "comm", "status")
    )

    assert "service" in listed
    for secret in running.secrets:
        assert secret not in listed


def test_only_the_processes_own_user_may_read_its_environment(running: Running) -> None:
    """Settings come in the environment, which the kernel shows to the same user and root only."""
    for pid in running.pids():
        mode = Path(f"/proc/{pid}/environ").stat().st_mode
        assert mode & 0o077 == 0


def test_settings_that_are_wrong_are_named_without_their_values(tmp_path: Path) -> None:
    wrong = {
        "SECRET_KEY": "not-a-fernet-key-but-secret",
        "ADMIN_API_KEY": "short-secret",
        "PUBLIC_BASE_URL": "https://bots.example.test",
        "DATABASE_URL": "postgresql://user:secret-of-sql@127.0.0.1:notaport/x",
        "REDIS_URL": "redis://:secret-of-redis@127.0.0.1:notaport",
        "OPENAI_BASE_URL": "https://me:secret-of-url@api.example.test",
    }
    ended = subprocess.run(
        [sys.executable, "-m", "service", "web"],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **wrong},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    told = ended.stdout + ended.stderr
    assert ended.returncode != 0
    assert set(re.findall(r"^([A-Z_]+): ", told, re.MULTILINE)) >= {"SECRET_KEY", "ADMIN_API_KEY"}
    for word in ("but-secret", "short-secret", "secret-of-sql", "secret-of-redis", "secret-of-url"):
        assert word not in told


@pytest.mark.parametrize("database_is", ["refusing", "of another password"])
def test_a_database_that_cannot_be_opened_is_reported_without_its_password(
    tmp_path: Path, postgres_url: str, database_is: str
) -> None:
    known = make_url(postgres_url)
    port = 1 if database_is == "refusing" else known.port
    url = f"postgresql://nobody_here:secret-of-sql@{known.host}:{port}/none"
    variables = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "SECRET_KEY": "A" * 43 + "=",
        "ADMIN_API_KEY": "k" * 40,
        "PUBLIC_BASE_URL": "https://bots.example.test",
        "DATABASE_URL": url,
    }

    ended = subprocess.run(
        [sys.executable, "-m", "service", "db", "upgrade"],
        env=variables,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    assert ended.returncode != 0
    assert ended.stdout + ended.stderr
    assert "secret-of-sql" not in ended.stdout + ended.stderr


def test_secrets_are_not_readable_in_the_stores(stack: Stack) -> None:
    with stack.worker():
        stack.send("hola")
        stack.wait_for_turns(1)
    client = stack.container.redis.client
    redis_words = "".join(str(client.dump(key)) for key in client.scan_iter("*"))
    sqlite = Path(str(stack.container.database.engine.url.database))
    sql_words = b"".join(path.read_bytes() for path in sqlite.parent.iterdir()).decode("latin-1")
    _, key = stack.container.api_keys.create("test", None, "test")

    assert redis_words
    for secret in (AUTH_TOKEN, HORIZON_TOKEN, stack.settings.admin_api_key, key):
        assert secret not in redis_words
        assert secret not in sql_words


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
