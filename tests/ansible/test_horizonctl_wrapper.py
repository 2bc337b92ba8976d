"""`horizonctl` of a server: who it runs as, what it may read, and the backup that the screen asks for."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import jinja2
import pytest

from tests.ansible.conftest import REPOSITORY

PROGRAMS = {
    "id": 'case "$1" in -u) echo 0 ;; -un) echo root ;; -G) echo 999 998 ;; esac',
    "getent": "exit 0",
    "run_as_service": 'echo "run_as_service $1 $2" >>CALLS\nshift 2\nexec "$@"',
    "systemctl": 'echo "systemctl $*" >>CALLS\nexit "$(cat SYSTEMCTL)"',
}
"""Capitals name files of the test."""
PYTHON = """#!/bin/sh
echo "python $* ${HORIZONCTL_BACKUP_CODE:-}" >>CALLS
env >ENVIRONMENT
umask >UMASK
code=$(head -n 1 CODES)
sed -i 1d CODES
exit "${code:-0}"
"""


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
    (tmp_path / "horizonctl").write_text(text.replace("\nPATH=", f"\nPATH={tmp_path / 'bin'}:", 1))
    (tmp_path / "env").write_text('A_SETTING="1"\n')
    release = tmp_path / "releases" / "one"
    python = release / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(in_folder(PYTHON, tmp_path))
    (tmp_path / "current").symlink_to(release)
    (tmp_path / "bin").mkdir()
    for name, body in PROGRAMS.items():
        (tmp_path / "bin" / name).write_text(in_folder(f"#!/bin/sh\n{body}\n", tmp_path))
    for file in (python, *(tmp_path / "bin").iterdir()):
        file.chmod(0o755)
    return tmp_path


def in_folder(script: str, folder: Path) -> str:
    return re.sub(r"\b(CALLS|CODES|SYSTEMCTL|ENVIRONMENT|UMASK)\b", rf"{folder}/\1", script)


def run(
    server: Path, *words: str, codes: str = "0", systemctl: str = "0", **environment: str
) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """What came of it, and the programs that it called."""
    (server / "CODES").write_text(codes)
    (server / "SYSTEMCTL").write_text(systemctl)
    (server / "CALLS").touch()
    done = subprocess.run(
        ["/bin/sh", server / "horizonctl", *words],
        env=environment,
        input="\n",
        capture_output=True,
        text=True,
    )
    return done, (server / "CALLS").read_text().splitlines()


def test_it_runs_as_the_services_user_who_may_then_read_the_journal(server: Path) -> None:
    done, calls = run(server, "logs", "-n", "5", codes="3")

    assert done.returncode == 3
    assert calls == [
        "run_as_service horizonai-bots 999,998,systemd-journal",
        "python -P -m service logs -n 5 ",
    ]


def test_a_backup_that_the_screen_asks_for_is_made_and_the_screen_comes_back(server: Path) -> None:
    done, calls = run(server, "monitor", codes="75\n0\n")

    assert done.returncode == 0
    assert [call.split()[0] for call in calls] == [
        *("run_as_service", "python", "systemctl", "systemctl", "run_as_service", "python")
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


def test_the_callers_environment_is_not_the_services(server: Path) -> None:
    given = {
        "DATABASE_URL": "sqlite:////tmp/other.db",
        "HORIZON_ENV_FILE": "/root/.env",
        "LC_ALL": "es_CL.UTF-8",
        "LANGUAGE": "es",
        "TMPDIR": "/root/tmp",
        "HTTPS_PROXY": "http://127.0.0.1:1",
        "PYTHONPATH": "/root",
        "TWO_LINES": "a\nTERM=b\n$(touch /tmp/x)",
        "TERM": "xterm",
        "COLUMNS": "77",
        "BOT_OPENAI_API_KEY": "sk",
        "SUDO_USER": "ana",
        "PATH": "/nowhere",
    }

    done, _calls = run(server, "health", **given)

    lines = (server / "ENVIRONMENT").read_text().splitlines()
    found = dict(line.split("=", 1) for line in lines)
    assert done.returncode == 0
    assert {name: found.get(name) for name in given} == {
        "DATABASE_URL": None,
        "HORIZON_ENV_FILE": "",
        "LC_ALL": "C.UTF-8",
        "LANGUAGE": None,
        "TMPDIR": None,
        "HTTPS_PROXY": None,
        "PYTHONPATH": str(server / "releases" / "one"),
        "TWO_LINES": None,
        "TERM": "xterm",
        "COLUMNS": "77",
        "BOT_OPENAI_API_KEY": "sk",
        "SUDO_USER": "ana",
        "PATH": f"{server / 'bin'}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    }
    assert (found["LOGNAME"], found["A_SETTING"]) == ("ana", "1")
    assert (server / "UMASK").read_text() == "0077\n"


@pytest.mark.parametrize("release", ["../../tmp", ".", "missing"])
def test_a_release_that_is_not_there_is_refused(server: Path, release: str) -> None:
    done, calls = run(server, "health", HORIZON_RELEASE=release)

    assert (done.returncode, calls) == (2, [])
    assert f"There is no release {release} here" in done.stderr
