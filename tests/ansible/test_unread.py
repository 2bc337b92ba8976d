"""What a run that ended before its handlers has left undone is found, and done, by the next one."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.ansible.conftest import REPOSITORY
from tests.ansible.modules import Login, run

SYSTEMCTL = """#!/bin/sh
echo "$@" >>{folder}/asked
case "$*" in
*NeedDaemonReload*) cat {folder}/need ;;
*daemon-reload*) echo no >{folder}/need ;;
*) cat {folder}/state ;;
esac
"""


class Unit:
    """A unit with one file, and a systemctl that answers for it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        program = folder / "bin" / "systemctl"
        program.parent.mkdir()
        program.write_text(SYSTEMCTL.format(folder=folder))
        program.chmod(0o755)
        self.file = folder / "etc" / "unit.conf"
        self.file.parent.mkdir()
        self.file.write_text("new\n")
        self.is_(active="active", started_after=60, reloaded_after=60)

    def is_(
        self, *, active: str, started_after: float, reloaded_after: float, need: str = "no"
    ) -> None:
        """Its state, with times as seconds after its file was written."""

        def moment(after: float) -> str:
            time = datetime.fromtimestamp(self.file.stat().st_ctime + after, UTC)
            return time.strftime("%a %Y-%m-%d %H:%M:%S.%f UTC")

        (self.folder / "need").write_text(f"{need}\n")
        (self.folder / "state").write_text(
            f"ActiveState={active}\nActiveEnterTimestamp={moment(started_after)}\n"
            f"StateChangeTimestamp={moment(reloaded_after)}\n"
        )

    def look(self, since: str, *, check: bool = False) -> dict[str, Any]:
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        return run(
            "horizon_unread",
            check=check,
            login=Login(environment={"PATH": path}),
            units=["u"],
            unit="u",
            files=[str(self.file.parent), "/none"],
            since=since,
        )

    @property
    def reloads(self) -> int:
        return (self.folder / "asked").read_text().count("daemon-reload")


@pytest.fixture
def unit(tmp_path: Path) -> Unit:
    return Unit(tmp_path)


@pytest.mark.parametrize("since", ["start", "reload"])
def test_a_unit_that_has_read_its_files_is_left_alone(unit: Unit, since: str) -> None:
    assert unit.look(since)["changed"] is False
    assert unit.reloads == 0


@pytest.mark.parametrize("since", ["start", "reload"])
def test_a_file_that_is_newer_than_its_process_is_found(unit: Unit, since: str) -> None:
    unit.is_(active="active", started_after=-60, reloaded_after=-1)

    answer = unit.look(since)

    assert answer["changed"] is True
    assert str(unit.file) in answer["unread"]


def test_a_reload_counts_only_for_units_that_read_their_files_then(unit: Unit) -> None:
    unit.is_(active="active", started_after=-60, reloaded_after=60)

    assert unit.look("reload")["changed"] is False
    assert unit.look("start")["changed"] is True


def test_what_does_not_run_reads_its_files_when_it_starts(unit: Unit) -> None:
    unit.is_(active="inactive", started_after=-60, reloaded_after=-60)

    assert unit.look("reload")["changed"] is False


def test_a_link_that_leads_elsewhere_is_newer(unit: Unit) -> None:
    link = unit.file.with_name("link")
    unit.is_(active="active", started_after=-60, reloaded_after=-60)
    unit.file.unlink()
    link.symlink_to("/none/such")

    assert str(link) in unit.look("reload")["unread"]


def test_systemd_reads_changed_units_again(unit: Unit) -> None:
    unit.is_(active="active", started_after=60, reloaded_after=60, need="no\n\nyes")

    assert unit.look("start", check=True)["reloaded"] is True
    assert unit.reloads == 0
    assert unit.look("start")["reloaded"] is True
    assert unit.reloads == 1
    assert unit.look("start")["reloaded"] is False


HANDLED = sorted(path.parents[1].name for path in REPOSITORY.glob("roles/*/handlers/main.yml"))


@pytest.mark.parametrize("role", HANDLED)
def test_every_handler_is_also_notified_by_what_is_found(role: str) -> None:
    """PostgreSQL's and Redis's settings are compared with those of the running server."""
    folder = REPOSITORY / "roles" / role
    handlers = {
        entry["name"]: entry for entry in yaml.safe_load((folder / "handlers/main.yml").read_text())
    }
    found: set[str] = set()
    looks = 0
    for path in folder.glob("tasks/*.yml"):
        for text in re.split(r"(?m)^ *- name: ", path.read_text()):
            if "horizon_unread:" in text or "restart | length > 0" in text:
                looks += "horizon_unread:" in text
                found |= {name for name in handlers if name in text}

    assert looks > 0
    only_reload = {
        name
        for name, entry in handlers.items()
        if entry["ansible.builtin.systemd_service"] == {"daemon_reload": True}
    }
    assert set(handlers) - only_reload - found == set()


def test_no_task_reads_units_again_only_for_a_change_of_its_own_run() -> None:
    conditional = [
        str(path.relative_to(REPOSITORY))
        for path in REPOSITORY.glob("roles/*/*/*.yml")
        if re.search(r'daemon_reload: "\{\{', path.read_text())
    ]

    assert conditional == []
