"""The nightly retention: what its units say, and that the systemd of this machine takes them."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml

from tests.ansible.conftest import REPOSITORY

ROLE = REPOSITORY / "roles" / "app"


def unit(kind: str, **variables: Any) -> str:
    """A unit's text, with the role's own variables."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ROLE / "templates"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        autoescape=False,  # noqa: S701 no HTML
    )
    known = {
        name: value
        for kind in ("defaults", "vars")
        for name, value in yaml.safe_load((ROLE / kind / "main.yml").read_text()).items()
    }
    template = environment.get_template(f"horizonai-bots-retention.{kind}.j2")
    return template.render({**known, **variables})


def commands(text: str) -> list[list[str]]:
    return [
        shlex.split(line.partition("=")[2])
        for line in text.splitlines()
        if line.startswith("ExecStart=")
    ]


def test_old_turns_go_as_the_services_user() -> None:
    text = unit("service", app_cleanup_turn_days=90)

    assert commands(text)[-1] == ["/usr/local/bin/horizonctl", "cleanup", "--days", "90"]
    assert "User=horizonai-bots\n" in text
    assert "ConditionPathExists=!/var/lib/horizonai-bots-backup/restoring\n" in text


def test_zero_days_keep_every_turn() -> None:
    assert "horizonctl" not in unit("service", app_cleanup_turn_days=0)


def test_of_the_spool_only_old_half_written_files_go(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    hours_ago = time.time() - 2 * 3_600
    for name in (".tmp-old", ".tmp-new", "1.msg"):
        (spool / name).write_text("x")
        if name != ".tmp-new":
            os.utime(spool / name, (hours_ago, hours_ago))

    subprocess.run(commands(unit("service", app_home=str(tmp_path)))[0], check=True)

    assert sorted(path.name for path in spool.iterdir()) == [".tmp-new", "1.msg"]


def test_the_timer_comes_every_night_and_makes_up_for_one() -> None:
    text = unit("timer", app_retention_schedule="*-*-* 01:00:00")

    assert "OnCalendar=*-*-* 01:00:00\n" in text
    assert "Persistent=true\n" in text


ANALYZE = shutil.which("systemd-analyze")


@pytest.mark.skipif(ANALYZE is None, reason="there is no systemd")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    program = tmp_path / "horizonctl"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for kind in ("service", "timer"):
        text = unit(kind).replace("/usr/local/bin/horizonctl", str(program))
        (tmp_path / f"horizonai-bots-retention.{kind}").write_text(text)

    done = subprocess.run(
        [str(ANALYZE), "verify", "--man=no", str(tmp_path / "horizonai-bots-retention.timer")],
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert "horizonai-bots-retention" not in done.stderr, done.stderr
    assert done.returncode == 0, done.stderr
