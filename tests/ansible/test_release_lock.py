"""Deploys, rollbacks, cleanups and restores of a host exclude each other, and say who is there."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.ansible.conftest import REPOSITORY

lock = importlib.import_module("ansible.module_utils.horizon_lock")

HOLD = f"""
import sys
sys.path.insert(0, {str(REPOSITORY / "ansible/module_utils")!r})
from pathlib import Path
from horizon_lock import alone
with alone(Path(sys.argv[1]), "A rollback"):
    print("taken", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    folder.mkdir()
    return folder


def hold(state: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(state)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "taken\n"
    return process


def test_the_second_is_told_who_is_there(state: Path) -> None:
    with hold(state) as process:
        for take in (lock.alone(state, "A deploy"), Checked(state)):
            with pytest.raises(lock.BusyError) as error, take:
                pass
            assert str(error.value).startswith("A rollback runs on this host since ")
            assert f"(process {process.pid})" in str(error.value)
            assert "wait until it has ended" in str(error.value)
        process.communicate("")
    with lock.alone(state, "A deploy"):
        pass


class Checked(AbstractContextManager[None]):
    """The question alone."""

    def __init__(self, state: Path) -> None:
        self._state = state

    def __enter__(self) -> None:
        lock.check_free(self._state)

    def __exit__(self, *_: object) -> None:
        pass


def test_the_lock_of_a_killed_one_is_gone(state: Path) -> None:
    with hold(state) as process:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()

    lock.check_free(state)
    with lock.alone(state, "A deploy"):
        assert '"A deploy"' in (state / "lock").read_text()


def test_a_lock_that_says_nothing_is_one_all_the_same(state: Path) -> None:
    """Older releases wrote nothing into it."""
    with lock.alone(state, "A deploy"):
        (state / "lock").write_text("")
        with pytest.raises(lock.BusyError, match="A deploy or a restore runs on this host"):
            lock.check_free(state)


def test_a_host_without_a_lock_is_free(tmp_path: Path) -> None:
    lock.check_free(tmp_path / "nowhere")
