"""What `horizonctl` says and how it exits when something is not right."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from service.bots.errors import Fault, InvalidBotError
from service.cli.failures import explain
from service.cli.main import main
from service.demo.folder import DemoFolder
from service.settings import Settings
from service.store.database import DatabaseDownError
from service.store.redis_client import RedisDownError
from tests.server_process import PATIENCE_S

ROOT = Path(__file__).parents[2]
PRINT_JSON = "from service.cli.output import print_json; print_json({'name': 'Ñuñoa'})"


@pytest.fixture(autouse=True)
def no_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("command", ["web", "worker"])
def test_a_process_without_settings_names_each_and_exits_with_2(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main([command])

    said = capsys.readouterr().err
    assert code == 2
    assert said.startswith("The service cannot start:\n")
    for name in ("SECRET_KEY", "PUBLIC_BASE_URL", "ADMIN_API_KEY"):
        assert f"\n{name}: is required" in said
    assert "Traceback" not in said


def test_an_unknown_command_is_one_line_and_exits_with_2(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = main(["nonsense"])

    assert code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_no_command_shows_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    main([])

    captured = capsys.readouterr()
    assert "send-test" in captured.out + captured.err


def test_a_new_secret_key_needs_no_settings_and_works(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = main(["key", "secret"])

    key = capsys.readouterr().out.strip()
    assert code == 0
    assert Fernet(key).decrypt(Fernet(key).encrypt(b"text")) == b"text"


def test_a_new_secret_key_can_be_json(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["key", "secret", "--json"])

    key = json.loads(capsys.readouterr().out)["key"]
    assert code == 0
    assert Fernet(key).decrypt(Fernet(key).encrypt(b"text")) == b"text"


def test_an_argument_that_is_no_text_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["bots", "show", "bot_\udcff"])

    assert code == 2
    assert capsys.readouterr().err == "An argument is not UTF-8 text.\n"


@pytest.mark.parametrize(
    ("redirect", "code", "said"),
    [
        (">/dev/full", 1, "The output cannot be written: No space left on device.\n"),
        (">&-", 0, ""),
        ("<&- >&- 2>&-", 0, ""),
    ],
)
def test_streams_that_a_shell_closed_or_filled_are_no_fault_of_the_program(
    redirect: str, code: int, said: str
) -> None:
    ended = subprocess.run(
        [
            *("/bin/sh", "-c", f'exec "$@" {redirect}', "sh"),
            *(sys.executable, "-m", "service", "settings", "--json"),
        ],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )

    assert (ended.returncode, ended.stderr) == (code, said)


def test_json_on_an_output_of_ascii_is_whole() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PRINT_JSON],
        env={"PYTHONPATH": str(ROOT), "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        timeout=PATIENCE_S,
        check=True,
    )

    assert json.loads(ended.stdout) == {"name": "Ñuñoa"}


def test_an_outage_of_the_database_says_what_to_check() -> None:
    failure = explain(DatabaseDownError("could not connect to server"))

    assert failure is not None
    assert failure.code == 1
    assert "could not connect to server" in failure.sentence
    assert "DATABASE_URL" in failure.sentence


def test_missing_tables_name_the_command_that_makes_them() -> None:
    failure = explain(DatabaseDownError("no such table: bots"))

    assert failure is not None
    assert "horizonctl db upgrade" in failure.sentence


def test_an_outage_of_redis_says_what_to_check() -> None:
    failure = explain(RedisDownError("ConnectionError: refused"))

    assert failure is not None
    assert "REDIS_URL" in failure.sentence


def test_every_fault_of_a_bot_is_a_line() -> None:
    failure = explain(InvalidBotError([Fault("name", "Too long."), Fault(None, "Odd.")]))

    assert failure is not None
    assert failure.sentence == "name: Too long.\nOdd."


def test_a_fault_of_the_program_is_not_explained_away() -> None:
    assert explain(KeyError("x")) is None


def test_health_of_a_service_that_is_not_there_exits_with_2(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = main(["health", "--url", "http://127.0.0.1:9"])

    captured = capsys.readouterr()
    assert code == 2
    assert captured.out == ""
    assert "cannot be reached" in captured.err


def test_the_demo_on_a_taken_port_says_how_to_choose_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        code = main(["demo", "--data-dir", str(tmp_path / "demo"), "--port", str(port)])

    assert code == 1
    assert f"Port {port} is taken" in capsys.readouterr().err


def test_a_second_demo_in_a_folder_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = DemoFolder(tmp_path / "demo")
    with folder.locked():
        code = main(["demo", "--data-dir", str(folder.path)])

    assert code == 1
    assert "already" in capsys.readouterr().err
