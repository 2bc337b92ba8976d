"""`horizonctl` of a server: who it runs as, what it may read, and the backup that the screen asks for."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import jinja2
import pytest

from tests.ansible.conftest import REPOSITORY

PROGRAMS = {
    "id": 'case "$1" in -u) echo 0 ;; -G) echo 999 998 ;; esac',
    "getent": "exit 0",
    "setpriv": 'echo "setpriv $1 $3" >>"$CALLS"\nshift 3\nexec "$@"',
    "systemctl": 'echo "systemctl $*" >>"$CALLS"\nexit "${SYSTEMCTL:-0}"',
}


@pytest.fixture
def server(tmp_path: Path) -> Path:
    """A folder with the wrapper, a release whose Python ends as the file `codes` says, and programs."""
    template = (REPOSITORY / "roles/app/templates/horizonctl.j2").read_text()
    text = (
        jinja2.Environment(autoescape=False)  # noqa: S701  # a shell script
        .from_string(template)
        .render(
            app_user="horizonai-bots",
            app_root=tmp_path,
            app_env_file=tmp_path / "env",
            app_socket="/run/x.sock",
            app_home=tmp_path,
        )
    )
    (tmp_path / "horizonctl").write_text(text)
    (tmp_path / "env").write_text('A_SETTING="1"\n')
    release = tmp_path / "releases" / "one"
    python = release / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(
        """#!/bin/sh
echo "python $* ${HORIZONCTL_BACKUP_CODE:-}" >>"$CALLS"
code=$(head -n 1 "$CODES")
sed -i 1d "$CODES"
exit "${code:-0}"
"""
    )
    (tmp_path / "current").symlink_to(release)
    (tmp_path / "bin").mkdir()
    for name, body in PROGRAMS.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{body}\n")
    for file in (python, *(tmp_path / "bin").iterdir()):
        file.chmod(0o755)
    return tmp_path


def run(
    server: Path, *words: str, codes: str = "0", systemctl: str = "0"
) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """What came of it, and the programs that it called."""
    (server / "codes").write_text(codes)
    environment = {
        "PATH": f"{server / 'bin'}:{os.environ['PATH']}",
        "CALLS": str(server / "calls"),
        "CODES": str(server / "codes"),
        "SYSTEMCTL": systemctl,
    }
    done = subprocess.run(
        ["/bin/sh", server / "horizonctl", *words],
        env=environment,
        input="\n",
        capture_output=True,
        text=True,
    )
    return done, (server / "calls").read_text().splitlines()


def test_it_runs_as_the_services_user_who_may_then_read_the_journal(server: Path) -> None:
    done, calls = run(server, "logs", "-n", "5", codes="3")

    assert done.returncode == 3
    assert calls == [
        "setpriv --reuid=horizonai-bots --groups=999,998,systemd-journal",
        "python -P -m service logs -n 5 ",
    ]


def test_a_backup_that_the_screen_asks_for_is_made_and_the_screen_comes_back(server: Path) -> None:
    done, calls = run(server, "monitor", codes="75\n0\n")

    assert done.returncode == 0
    assert [call.split()[0] for call in calls] == [
        *("setpriv", "python", "systemctl", "systemctl", "setpriv", "python")
    ]
    assert "python -P -m service monitor 75" in calls
    assert "systemctl start horizonai-bots-backup.service" in calls
    assert "The backup is made" in done.stdout


def test_where_there_is_no_backup_unit_it_says_what_to_do(server: Path) -> None:
    done, calls = run(server, "monitor", codes="75\n0\n", systemctl="1")

    assert "ansible-playbook backup.yml" in done.stdout
    assert "systemctl start horizonai-bots-backup.service" not in calls


def test_the_code_of_the_screen_is_passed_on(server: Path) -> None:
    assert run(server, "monitor", "--once", codes="1")[0].returncode == 1
