"""What the tool of backups refuses is what the playbooks say."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ansible.conftest import REPOSITORY

SENTENCE = "the password does not open /srv/backup: put the one it was made with into the vault."


@pytest.mark.parametrize("hosts", ["run,take,drill", "restore"])
def test_a_refusal_is_told_in_its_own_words(tmp_path: Path, hosts: str) -> None:
    """Each host is named after the tasks that it runs; only one host is restored at a time."""
    tool = tmp_path / "horizonai-backup"
    tool.write_text(f"#!/bin/sh\necho '{SENTENCE}' >&2\nexit 1\n")
    tool.chmod(0o755)
    role = {"name": "backup", "tasks_from": "{{ inventory_hostname }}"}
    play = {
        "hosts": "all",
        "gather_facts": False,
        "tasks": [{"ansible.builtin.include_role": role}],
    }
    (tmp_path / "play.yml").write_text(json.dumps([play]))
    variables = {
        "ansible_python_interpreter": sys.executable,
        "backup_tool": str(tool),
        "confirmar": "{{ inventory_hostname }}",
    }

    done = subprocess.run(
        [
            *(str(Path(sys.executable).parent / "ansible-playbook"), str(tmp_path / "play.yml")),
            *("-i", f"{hosts},", "-c", "local", "-e", json.dumps(variables)),
        ],
        cwd=REPOSITORY,
        env={**os.environ, "ANSIBLE_HOME": str(tmp_path / "home"), "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode != 0
    text = " ".join((done.stdout + done.stderr).split())
    for host in hosts.split(","):
        assert re.search(rf"{host}: (no backup was taken\. )?{SENTENCE}", text), text
