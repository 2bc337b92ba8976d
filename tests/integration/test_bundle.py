"""`horizonctl backup bundle` and `restore check|load|drill`: whole, refused with a reason, put to use."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import delete, select

from service.store.models import ContactRow, MessageRow, StepRow, TurnRow, UsageRow
from tests.integration.test_cli import Ctl, Result
from tests.integration.test_cli import ctl as shell
from tests.servers import _redis_binary
from tests.stack import MakeStack, Stack

__all__ = ["shell"]  # a fixture

ROOT = Path(__file__).parents[2]


@pytest.fixture
def stack(make_stack: MakeStack) -> Stack:
    """Two messages were answered."""
    stack = make_stack()
    stack.add_bot(openai_api_key="sk-of-the-client")
    stack.send("hola")
    stack.send("buenas", from_="+56922220001")
    with stack.worker():
        stack.wait_for_turns(2)
        stack.wait_until_idle()
    return stack


@pytest.fixture
def ctl(
    stack: Stack, shell: Ctl, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Ctl]:
    """Runs a command with the stack's settings; keywords replace some."""
    for name, value in stack.variables.items():
        monkeypatch.setenv(name, value)
    if not stack.container.database.is_sqlite:
        binaries = request.getfixturevalue("postgres_server").binaries()
        monkeypatch.setenv("PATH", f"{binaries}:{os.environ['PATH']}")
        monkeypatch.setenv("POSTGRES_BIN", str(binaries))
    monkeypatch.setenv("REDIS_SERVER", str(_redis_binary()))
    mask = os.umask(0o022)

    def run(*words: str, **overrides: str) -> Result:
        with monkeypatch.context() as replaced:
            for name, value in overrides.items():
                replaced.setenv(name, value)
            return shell(*words, "--json")

    yield run
    os.umask(mask)


@pytest.fixture
def bundle(ctl: Ctl, tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    folder.mkdir()
    made(ctl("backup", "bundle", str(folder), "--taken-at", "2026-11-26T03:00:00+00:00"))
    return folder


def made(ended: Result) -> Any:
    assert ended.code == 0, ended.err
    return ended.json


def refused(ended: Result) -> str:
    assert (ended.code, ended.out) == (1, "")
    return ended.err


def change_manifest(bundle: Path, **changes: Any) -> None:
    path = bundle / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_bundle_holds_the_rows_and_no_secret_in_clear(stack: Stack, bundle: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    bots = json.loads((bundle / "bots.json").read_text())

    assert manifest["database"]["census"]["turns"]["rows"] == 2
    assert manifest["taken_at"] == "2026-11-26T03:00:00+00:00"
    assert [bot["id"] for bot in bots["bots"]] == ["bot_test"]
    everything = b"".join(path.read_bytes() for path in bundle.iterdir())
    assert b"sk-of-the-client" not in everything
    assert stack.variables["SECRET_KEY"].encode() not in everything
    assert {path.stat().st_mode & 0o077 for path in bundle.iterdir()} == {0}


def test_a_lost_database_comes_back_row_by_row(stack: Stack, ctl: Ctl, bundle: Path) -> None:
    with stack.container.database.write() as connection:
        for row in (StepRow, MessageRow, UsageRow):
            connection.execute(delete(row))
    stack.container.database.close()

    assert made(ctl("restore", "load", str(bundle)))["taken_at"] == "2026-11-26T03:00:00+00:00"

    again = bundle.with_name("again")
    again.mkdir()
    found = made(ctl("backup", "bundle", str(again)))
    before = json.loads((bundle / "manifest.json").read_text())
    assert found["database"]["census"] == before["database"]["census"]
    with stack.container.database.read() as connection:
        assert len(connection.execute(select(TurnRow.id)).all()) == 2
        assert len(connection.execute(select(ContactRow.id)).all()) == 2


def test_the_key_of_another_time_is_refused(ctl: Ctl, bundle: Path) -> None:
    told = refused(ctl("restore", "check", str(bundle), SECRET_KEY=Fernet.generate_key().decode()))

    assert "SECRET_KEY does not decrypt the secrets of bot_test" in told


def test_a_key_that_was_replaced_but_kept_is_enough(stack: Stack, ctl: Ctl, bundle: Path) -> None:
    both = f"{Fernet.generate_key().decode()},{stack.variables['SECRET_KEY']}"

    assert made(ctl("restore", "check", str(bundle), SECRET_KEY=both))["state"] == "at head"


def test_a_damaged_backup_is_refused_by_name(ctl: Ctl, bundle: Path) -> None:
    with open(bundle / "bots.json", "a") as file:
        file.write(" ")

    assert "Damaged in the backup: bots.json" in refused(ctl("restore", "check", str(bundle)))


def test_a_schema_that_this_release_does_not_know_is_refused(ctl: Ctl, bundle: Path) -> None:
    change_manifest(bundle, schema={"current": "9999", "oldest_code": "9999"})

    assert "deploy the release that made it" in refused(ctl("restore", "load", str(bundle)))


def test_a_backup_of_the_other_database_is_refused(ctl: Ctl, bundle: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    other = {"sqlite": "postgresql", "postgresql": "sqlite"}[manifest["database"]["kind"]]
    change_manifest(bundle, database={**manifest["database"], "kind": other})

    assert "restore it onto a host of the same profile" in refused(
        ctl("restore", "check", str(bundle))
    )


def test_a_folder_without_a_backup_is_refused(ctl: Ctl, tmp_path: Path) -> None:
    assert "cannot be read" in refused(ctl("restore", "check", str(tmp_path)))


def test_the_comparison_is_refused_while_workers_are_not_held(ctl: Ctl) -> None:
    assert "horizonctl restore hold" in refused(ctl("restore", "reconcile"))


def test_workers_are_held_and_released_by_command(stack: Stack, ctl: Ctl) -> None:
    made(ctl("restore", "hold", "--backup-at", "2026-11-26T03:00:00+00:00"))
    held = made(ctl("restore", "status"))
    stack.send("¿hola?")

    found = made(ctl("restore", "reconcile"))

    assert held["hold"]["backup_at"] == "2026-11-26T03:00:00+00:00"
    assert (found["left"], found["released"]) == (1, True)
    assert made(ctl("restore", "status")) == {"held": False, "hold": None}


def test_a_drill_answers_with_the_restored_copy_and_touches_nothing(
    stack: Stack, ctl: Ctl, bundle: Path
) -> None:
    client = stack.container.redis.client
    client.save()
    rdb = Path(str(client.config_get("dir")["dir"])) / str(
        client.config_get("dbfilename")["dbfilename"]
    )
    shutil.copy(rdb, bundle / "redis.rdb")
    sent = len(stack.twilio.requests)

    # A process of its own: it counts its turn in a folder of metrics of its own.
    ended = subprocess.run(
        [sys.executable, "-m", "service", "restore", "drill", str(bundle), "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    told = made(Result(ended.returncode, ended.stdout, ended.stderr))
    assert told["bot_id"] == "bot_test"
    assert told["redis_keys"] == client.dbsize()
    assert told["answered_in_s"] > 0
    assert len(stack.twilio.requests) == sent
    assert len(stack.turns()) == 2


def test_a_copy_with_a_row_less_fails_the_drill(ctl: Ctl, bundle: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["database"]["census"]["messages"]["rows"] += 1
    (bundle / "manifest.json").write_text(json.dumps(manifest))

    told = refused(ctl("restore", "drill", str(bundle)))

    assert "messages has 4 rows, the backup 5" in told
