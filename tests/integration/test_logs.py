"""Logs are one JSON object a line, those of gunicorn included."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from cryptography.fernet import Fernet

from service.settings import Settings
from tests.server_process import PATIENCE_S, free_port, wait_until

ROOT = Path(__file__).parents[2]
FAILING = """
import logging, threading, warnings
from service.log import configure_logging
configure_logging("INFO")
try:
    {}["missing"]
except KeyError:
    logging.getLogger("gunicorn.error").exception("Exception in worker process of +56912345678")
thread = threading.Thread(target=lambda: 1 / 0, name="replay")
thread.start()
thread.join()
warnings.warn("old", stacklevel=1)
"""


@pytest.fixture
def environment(sqlite_url: str, redis_url: str, tmp_path: Path) -> dict[str, str]:
    names = {name.upper() for name in Settings.model_fields}
    inherited = {name: value for name, value in os.environ.items() if name not in names}
    return inherited | {
        "PYTHONPATH": str(ROOT),
        "SECRET_KEY": Fernet.generate_key().decode(),
        "PUBLIC_BASE_URL": "https://bots.example.test",
        "ADMIN_API_KEY": "a" * 40,
        "DATABASE_URL": sqlite_url,
        "REDIS_URL": redis_url,
        "SPOOL_DIR": str(tmp_path / "spool"),
        "METRICS_DIR": str(tmp_path / "metrics"),
        "WEB_WORKERS": "1",
    }


def test_every_line_of_web_is_a_json_object(environment: dict[str, str], tmp_path: Path) -> None:
    with web([sys.executable, "-m", "service", "web"], environment, tmp_path) as port:
        send_nonsense(port)

    lines = (tmp_path / "out").read_text().splitlines()
    logged = [json.loads(line) for line in lines]
    assert (tmp_path / "err").read_text() == ""
    assert all({"event", "level", "timestamp"} <= line.keys() for line in logged)
    assert events_with(logged, "Listening at")
    assert events_with(logged, "Invalid request")
    assert events_with(logged, "Shutting down")


def test_a_worker_of_plain_gunicorn_logs_json_objects(
    environment: dict[str, str], tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "gunicorn", "service.wsgi:app", "--no-control-socket"]
    with web(command, environment, tmp_path) as port:
        send_nonsense(port)

    logged = [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]
    assert events_with(logged, "Invalid request")


def test_tracebacks_and_warnings_are_inside_an_object() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", FAILING],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )

    logged = [json.loads(line) for line in ended.stdout.splitlines()]
    assert ended.stderr == ""
    assert [line["level"] for line in logged] == ["error", "error", "warning"]
    assert "KeyError: 'missing'" in logged[0]["exception"]
    assert "ZeroDivisionError" in logged[1]["exception"]
    assert "thread=replay" in logged[1]["event"]
    assert "12345" not in ended.stdout


@contextmanager
def web(command: list[str], environment: dict[str, str], folder: Path) -> Iterator[int]:
    """The web process and its port; what it writes is in `out` and `err` when it has ended."""
    port = free_port()
    with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
        process = subprocess.Popen(
            [*command, "--bind", f"127.0.0.1:{port}"], env=environment, stdout=out, stderr=err
        )
        try:
            wait_until(lambda: _answers(port), "answer of the web process")
            yield port
        finally:
            process.terminate()
            code = process.wait(PATIENCE_S)
    assert code == 0


def send_nonsense(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as connection:
        connection.sendall(b"\x16\x03\x01 nonsense\r\n\r\n")
        connection.recv(1000)


def events_with(logged: list[dict[str, Any]], text: str) -> list[dict[str, Any]]:
    return [line for line in logged if text in line["event"]]


def _answers(port: int) -> bool:
    try:
        with requests.Session() as session:
            session.trust_env = False
            return session.get(f"http://127.0.0.1:{port}/health/db", timeout=PATIENCE_S).ok
    except requests.RequestException:
        return False
