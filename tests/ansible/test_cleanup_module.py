"""What the cleanup of a host removes, counts and leaves alone."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from tests.ansible.modules import load_module

cleanup = load_module("horizon_cleanup")
OLD = time.time() - 90 * 86_400
NAMES = ["20260101000000_a", "20260102000000_b", "20260103000000_c", "20260104000000_d"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Four releases, of which the last runs; the first has an environment of its own."""
    folder = tmp_path / "opt"
    for number, name in enumerate(NAMES):
        venv = folder / "venvs" / ("first" if number == 0 else "shared")
        venv.mkdir(parents=True, exist_ok=True)
        (venv / "python").write_bytes(b"x" * 5_000)
        release = folder / "releases" / name
        release.mkdir(parents=True)
        (release / "release.json").write_text("{}")
        (release / "venv").symlink_to(venv)
    (folder / "current").symlink_to(folder / "releases" / NAMES[-1])
    (folder / "state").mkdir()
    tried = [{"release": name, "how": "deploy", "result": "ok", "at": "x"} for name in NAMES]
    (folder / "state" / "activations.json").write_text(
        json.dumps({"current": {"release": NAMES[-1]}, "activations": tried, "bad": {}})
    )
    return folder


@pytest.fixture
def params(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(cleanup, "JOURNAL", tmp_path / "journal")
    monkeypatch.setattr(cleanup, "PACKAGES", tmp_path / "packages")
    monkeypatch.setattr(cleanup, "MODULES", str(tmp_path / "tmp"))
    spool = tmp_path / "spool"
    spool.mkdir()
    defaults = {
        name: option["default"] for name, option in cleanup.ARGUMENTS.items() if "default" in option
    }
    return {**defaults, "root": str(root), "spool": str(spool), "keep_releases": 2, "turn_days": 0}


def old(path: Path, content: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (OLD, OLD))
    return path


def found(steps: list[Any], name: str) -> Any:
    return next(step for step in steps if step.name == name)


def left(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "releases").iterdir())


def test_old_releases_go_with_the_environment_that_only_they_used(
    root: Path, params: dict[str, Any]
) -> None:
    steps = cleanup.clean(params, dry_run=False)

    assert left(root) == NAMES[2:]
    assert [venv.name for venv in (root / "venvs").iterdir()] == ["shared"]
    assert found(steps, "old releases").count == 2
    assert found(steps, "environments of no release").freed >= 5_000


def test_a_dry_run_counts_the_same_and_removes_nothing(root: Path, params: dict[str, Any]) -> None:
    told = cleanup.clean(params, dry_run=True)
    assert left(root) == NAMES

    assert cleanup.clean(params, dry_run=False) == told


def test_the_running_release_stays_whatever_is_kept(root: Path, params: dict[str, Any]) -> None:
    cleanup.clean({**params, "keep_releases": 0}, dry_run=False)

    assert NAMES[-1] in left(root)


def test_messages_of_the_spool_are_never_touched(params: dict[str, Any]) -> None:
    spool = Path(params["spool"])
    for name in (
        "00000000000000000001.msg",
        "00000000000000000002.msg.corrupt",
        ".tmp-1",
        ".waiting",
    ):
        old(spool / name)
    (spool / ".tmp-2").write_bytes(b"a moment ago")

    cleanup.clean(params, dry_run=False)

    assert sorted(path.name for path in spool.iterdir()) == [
        ".tmp-2", ".waiting", "00000000000000000001.msg", "00000000000000000002.msg.corrupt",
    ]  # fmt: skip


def test_what_killed_modules_were_unpacked_into_goes_after_a_day(
    tmp_path: Path, params: dict[str, Any]
) -> None:
    folder = tmp_path / "tmp"
    for name in ("ansible_command_payload_old", "ansible_command_payload_new", "another"):
        old(folder / name / "payload.zip")
        os.utime(folder / name, (OLD, OLD))
    os.utime(folder / "ansible_command_payload_new")

    steps = cleanup.clean(params, dry_run=False)

    assert found(steps, "leftovers of killed playbooks").count == 1
    assert {path.name for path in folder.iterdir()} == {"ansible_command_payload_new", "another"}


def test_rotated_logs_go_and_live_ones_stay(tmp_path: Path, params: dict[str, Any]) -> None:
    logs = tmp_path / "log"
    for name in ("access.log", "access.log.2.gz", "letsencrypt.log.17", "notes.txt"):
        old(logs / name)
    (logs / "access.log.1").write_bytes(b"of today")

    steps = cleanup.clean({**params, "log_folders": [str(logs)]}, dry_run=False)

    assert found(steps, "rotated logs").count == 2
    assert sorted(path.name for path in logs.iterdir()) == [
        "access.log",
        "access.log.1",
        "notes.txt",
    ]


def test_the_journal_is_asked_to_vacuum_only_when_something_is_old(
    tmp_path: Path, params: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[tuple[str, ...]] = []

    def run(*words: str) -> str:
        commands.append(words)
        return ""

    monkeypatch.setattr(cleanup, "run_command", run)
    cleanup.clean(params, dry_run=False)
    assert commands == []
    old(tmp_path / "journal" / "id" / "system@1-2.journal")

    cleanup.clean(params, dry_run=True)
    assert commands == []
    steps = cleanup.clean(params, dry_run=False)

    assert commands == [("journalctl", "--quiet", "--vacuum-time=30d")]
    assert found(steps, "files of the system journal").count == 1


def test_the_service_is_asked_for_its_own(
    params: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, ...]] = []

    def run(*words: str) -> str:
        asked.append(words)
        return json.dumps({"dry_run": True, "turns": 7})

    monkeypatch.setattr(cleanup, "run_command", run)

    steps = cleanup.clean({**params, "turn_days": 30}, dry_run=True)

    assert asked == [(cleanup.HORIZONCTL, "cleanup", "--json", "--days", "30", "--dry-run")]
    assert found(steps, "turns").count == 7


def test_a_deploy_at_work_is_not_disturbed(root: Path, params: dict[str, Any]) -> None:
    with open(root / "state" / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(cleanup.BusyError, match="wait until it has ended"):
            cleanup.clean(params, dry_run=False)
    assert left(root) == NAMES


def test_a_bare_host_is_told_what_to_do(tmp_path: Path, params: dict[str, Any]) -> None:
    with pytest.raises(cleanup.CleanupError, match=r"ansible-playbook site\.yml"):
        cleanup.clean({**params, "root": str(tmp_path)}, dry_run=False)


@pytest.mark.parametrize("what", ["releases", "venvs"])
def test_what_a_cleanup_was_killed_at_is_never_half_in_its_place(
    root: Path, params: dict[str, Any], monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    class Killed(BaseException):
        pass

    whole = shutil.rmtree
    marker = {"releases": "release.json", "venvs": "python"}[what]

    def half(path: Path) -> None:
        if not (path / marker).exists():
            whole(path)
            return
        (path / marker).unlink()
        raise Killed

    (root / "releases" / NAMES[0] / "code.py").write_text("")
    (root / "venvs" / "first" / "pip").write_text("")
    with monkeypatch.context() as patched:
        patched.setattr(cleanup.shutil, "rmtree", half)
        with pytest.raises(Killed):
            cleanup.clean(params, dry_run=False)

    assert all((release / "release.json").exists() for release in (root / "releases").iterdir())
    assert all((venv / "python").exists() for venv in (root / "venvs").iterdir())
    cleanup.clean(params, dry_run=False)

    assert left(root) == NAMES[2:]
    assert [venv.name for venv in (root / "venvs").iterdir()] == ["shared"]
    assert list((root / "incoming").iterdir()) == []


def test_a_host_without_releases_is_cleaned_of_the_rest(
    tmp_path: Path, params: dict[str, Any]
) -> None:
    params |= {"root": str(tmp_path / "none"), "release": False, "turn_days": 30}

    names = [step.name for step in cleanup.clean(params, dry_run=False)]

    assert "rotated logs" in names
    assert "old releases" not in names


def test_a_second_cleanup_has_nothing_to_do(params: dict[str, Any]) -> None:
    cleanup.clean(params, dry_run=False)

    assert {step.count for step in cleanup.clean(params, dry_run=False)} == {0}


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"turn_days": 3}, "app_cleanup_turn_days"),
        ({"turn_days": -1}, "app_cleanup_turn_days"),
        ({"keep_releases": -1}, "app_keep_releases"),
        ({"log_days": -1}, "app_cleanup_log_days"),
    ],
)
def test_numbers_that_are_too_small_are_told_before_anything_goes(
    params: dict[str, Any], root: Path, wrong: dict[str, int], name: str
) -> None:
    with pytest.raises(cleanup.CleanupError, match=f"Nothing was removed: too small is {name}"):
        cleanup.clean({**params, **wrong}, False)

    assert len(list((root / "releases").iterdir())) == len(NAMES)
