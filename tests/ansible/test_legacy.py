"""An older installation makes room: saved, stopped, kept aside; what is ours is never touched."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import redis

ROOT = Path(__file__).parents[2]
MODULE = ROOT / "ansible" / "library" / "horizon_legacy.py"
# As Ansible itself does it: the project's module_utils are found beside its own.
START = (
    "import runpy, sys, ansible.module_utils as known; "
    "known.__path__.append(sys.argv.pop(1)); runpy.run_path(sys.argv.pop(1), run_name='__main__')"
)
MARKER = "# Managed by Ansible: horizonai-bots\n"
UNIT = "etc/systemd/system/horizonai-bots.service"
SITE = "etc/nginx/sites-available/horizonai-bots"
LINK = "etc/nginx/sites-enabled/horizonai-bots"
FOLDER = "opt/horizonai-bots"
KEPT = "opt/horizonai-bots.before-horizonai-bots"
ASIDE = "var/backups/horizonai-bots-legacy"

Adopt = Callable[..., dict[str, Any]]


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a stand-in of systemctl writes what it was asked for."""
    program = tmp_path / "bin" / "systemctl"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    return tmp_path / "calls"


@pytest.fixture
def machine(tmp_path: Path, redis_url: str) -> Path:
    """A machine with the older installation and two bots."""
    root = tmp_path / "root"
    files = {
        UNIT: "[Service]\nWorkingDirectory=/opt/horizonai-bots\n",
        SITE: "server { server_name bots.agency.test; }\n",
        f"{FOLDER}/app.py": "from flask import Flask\n",
        f"{FOLDER}/.env": f"REDIS_URL='{redis_url}'\nOPENAI_API_KEY=sk\n",
    }
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    (root / LINK).parent.mkdir(parents=True)
    (root / LINK).symlink_to("../sites-available/horizonai-bots")
    with redis.Redis.from_url(redis_url) as server:
        server.hset("bots:registry", mapping={"one": '{"name": "Ñandú"}', "two": "{}"})
    return root


@pytest.fixture
def adopt(machine: Path, calls: Path) -> Adopt:
    def call(*, check: bool = False, **options: Any) -> dict[str, Any]:
        given = {
            "units": ["horizonai-bots.service"],
            "folder": "/opt/horizonai-bots",
            "sites": ["horizonai-bots", "horizonai-bots.conf"],
            "aside": f"/{ASIDE}",
            "root": str(machine),
        }
        arguments = {"ANSIBLE_MODULE_ARGS": given | options | {"_ansible_check_mode": check}}
        done = subprocess.run(
            [sys.executable, "-c", START, str(ROOT / "ansible" / "module_utils"), str(MODULE)],
            input=json.dumps(arguments),
            capture_output=True,
            text=True,
        )
        assert done.stdout, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    return call


def test_everything_is_kept_and_nothing_is_left_in_the_way(
    adopt: Adopt, machine: Path, calls: Path, foreign: ModuleType
) -> None:
    answer = adopt()

    assert (answer["changed"], answer["bots"]) == (True, 2)
    saved = json.loads((machine / ASIDE / "registry.json").read_text())
    assert saved == {"one": '{"name": "Ñandú"}', "two": "{}"}
    assert "OPENAI_API_KEY=sk" in (machine / ASIDE / "env").read_text()
    assert (machine / KEPT / "app.py").exists()
    for name in ("system.horizonai-bots.service", "sites-available.horizonai-bots"):
        assert (machine / ASIDE / name).is_file()
    assert os.readlink(machine / ASIDE / "sites-enabled.horizonai-bots").startswith("../")
    assert calls.read_text().splitlines() == [
        "disable --now horizonai-bots.service",
        "daemon-reload",
        "is-active --quiet nginx.service",
        "reload nginx.service",
    ]
    assert foreign.findings(machine, "bots.agency.test") == []


def test_secrets_are_for_root_only(adopt: Adopt, machine: Path) -> None:
    adopt()

    modes = [
        stat.S_IMODE((machine / ASIDE / name).stat().st_mode)
        for name in (".", "registry.json", "env")
    ]
    assert modes == [0o700, 0o600, 0o600]


def test_a_second_run_changes_nothing(adopt: Adopt, calls: Path) -> None:
    adopt()
    before = calls.read_text()

    again = adopt()

    assert (again["changed"], again["steps"], again["bots"]) == (False, [], -1)
    assert calls.read_text() == before


def test_a_check_tells_the_steps_and_touches_nothing(
    adopt: Adopt, machine: Path, calls: Path
) -> None:
    def listing() -> list[str]:
        return sorted(str(path) for path in machine.rglob("*"))

    before = listing()

    answer = adopt(check=True)

    assert answer["changed"] is True
    assert len(answer["steps"]) == 8
    assert (listing(), calls.exists()) == (before, False)


def test_what_is_ours_is_never_touched(adopt: Adopt, machine: Path, calls: Path) -> None:
    adopt()
    (machine / UNIT).write_text(MARKER)
    (machine / SITE).with_name("horizonai-bots.conf").write_text(MARKER)
    (machine / FOLDER).mkdir()
    (machine / FOLDER / ".horizonai-bots").touch()
    (machine / FOLDER / "app.py").write_text("from flask import Flask\n")

    answer = adopt()

    assert answer["changed"] is False
    assert (machine / FOLDER / "app.py").exists()


def test_bots_that_cannot_be_read_stop_everything_before_it_begins(
    adopt: Adopt, machine: Path, calls: Path
) -> None:
    (machine / FOLDER / ".env").write_text("REDIS_URL=redis://:hidden@127.0.0.1:9/0\n")

    answer = adopt()

    assert answer["failed"] is True
    assert "Nothing was touched" in answer["msg"]
    assert "hidden" not in json.dumps(answer)
    assert (machine / UNIT).exists()
    assert not calls.exists()


def test_units_of_another_folder_stop_only_once_the_bots_are_saved(
    adopt: Adopt, machine: Path, calls: Path
) -> None:
    (machine / "srv").mkdir()
    (machine / FOLDER).rename(machine / "srv/bots")

    refused = adopt()
    assert "legacy_folder" in refused["msg"]
    assert "Nothing was touched" in refused["msg"]
    assert (machine / UNIT).exists()
    assert not calls.exists()

    done = adopt(env_file="/srv/bots/.env")
    assert done["bots"] == 2
    assert len(json.loads((machine / ASIDE / "registry.json").read_text())) == 2


def test_whoever_wants_no_bots_goes_on_without_them(adopt: Adopt, machine: Path) -> None:
    (machine / FOLDER / ".env").unlink()

    refused = adopt()
    done = adopt(save_registry=False)

    assert "legacy_env_file" in refused["msg"]
    assert done["changed"] is True
    assert not (machine / ASIDE / "registry.json").exists()


def test_a_run_that_was_interrupted_is_finished_by_the_next(adopt: Adopt, machine: Path) -> None:
    program = machine.parent / "bin" / "systemctl"
    works = program.read_text()
    program.write_text('#!/bin/sh\n[ "$1" = disable ] || { echo no >&2; exit 1; }\n')

    failed = adopt()
    program.write_text(works)
    done = adopt()

    assert "run this again" in failed["msg"]
    assert done["changed"] is True
    assert (machine / KEPT / "app.py").exists()
    assert len(json.loads((machine / ASIDE / "registry.json").read_text())) == 2


def test_a_place_that_is_taken_is_told_before_anything_is_touched(
    adopt: Adopt, machine: Path, calls: Path
) -> None:
    (machine / KEPT).mkdir()

    answer = adopt()

    assert "is there already" in answer["msg"]
    assert not calls.exists()


def test_preflight_overlooks_only_what_will_have_made_room(
    machine: Path, foreign: ModuleType
) -> None:
    other = machine / "etc/systemd/system/horizonai-bots-other.service"
    other.write_text("[Service]\n")
    leaving = foreign.leaving_paths(
        ["horizonai-bots.service"], "/opt/horizonai-bots", ["horizonai-bots"]
    )

    found = foreign.findings(machine, "bots.agency.test", leaving)

    assert [finding.problem for finding in found] == [
        "The unit /etc/systemd/system/horizonai-bots-other.service is not ours."
    ]
    assert len(foreign.findings(machine, "bots.agency.test")) > 1
