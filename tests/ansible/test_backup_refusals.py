"""What the tool of backups refuses is what the playbooks say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ansible.conftest import REPOSITORY

SENTENCE = "the password does not open /srv/backup: put the one it was made with into the vault."


@pytest.mark.parametrize("tasks", ["run", "take", "drill", "restore"])
def test_a_refusal_is_told_in_its_own_words(tmp_path: Path, tasks: str) -> None:
    tool = tmp_path / "horizonai-backup"
    tool.write_text(f"#!/bin/sh\necho '{SENTENCE}' >&2\nexit 1\n")
    tool.chmod(0o755)
    role = {"name": "backup", "tasks_from": tasks}
    play = {
        "hosts": "bots1",
        "gather_facts": False,
        "tasks": [{"ansible.builtin.import_role": role}],
    }
    (tmp_path / "play.yml").write_text(json.dumps([play]))
    variables = {
        "ansible_python_interpreter": sys.executable,
        "backup_tool": str(tool),
        "confirmar": "bots1",
    }

    done = subprocess.run(
        [
            *(str(Path(sys.executable).parent / "ansible-playbook"), str(tmp_path / "play.yml")),
            *("-i", "bots1,", "-c", "local", "-e", json.dumps(variables)),
        ],
        cwd=REPOSITORY,
        env={**os.environ, "ANSIBLE_HOME": str(tmp_path / "home"), "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode != 0
    assert SENTENCE in " ".join((done.stdout + done.stderr).split())
