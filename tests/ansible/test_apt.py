"""Packages: every task waits while another program installs some."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.ansible.conftest import REPOSITORY

PLAYBOOKS = sorted(REPOSITORY.glob("ansible/*.yml"))
WITH_APT = {
    path.parents[1].name
    for path in REPOSITORY.glob("roles/*/tasks/*.yml")
    if "ansible.builtin.apt:" in path.read_text()
}


def uses_apt(playbook: Path, play: dict[str, Any]) -> bool:
    """Whether a task of the play may install a package."""
    roles = {entry["role"] for entry in play.get("roles", ())}
    included = yaml.safe_dump(play.get("tasks", []))
    return bool(roles & WITH_APT) or "remove.yml" in included or "ansible.builtin.apt:" in included


@pytest.mark.parametrize("playbook", PLAYBOOKS, ids=lambda path: path.stem)
def test_every_play_that_installs_packages_waits_for_others(playbook: Path) -> None:
    for play in yaml.safe_load(playbook.read_text()):
        if uses_apt(playbook, play):
            waits = play["module_defaults"]["ansible.builtin.apt"]["lock_timeout"]
            assert "common_apt_lock_timeout_s" in waits, play["name"]


def test_the_plays_that_install_packages_are_known() -> None:
    known = [
        f"{playbook.stem}: {play['name']}"
        for playbook in PLAYBOOKS
        for play in yaml.safe_load(playbook.read_text())
        if uses_apt(playbook, play)
    ]

    assert known == [
        "site: Servers answer WhatsApp",
        "site: A host is taken away",
        "upgrade: A host has Debian's updates",
    ]


def test_no_other_task_or_module_calls_the_package_manager_to_install() -> None:
    calling = [
        str(path.relative_to(REPOSITORY))
        for folder in (
            "roles/*/tasks",
            "roles/*/templates",
            "ansible/library",
            "ansible/module_utils",
        )
        for path in REPOSITORY.glob(f"{folder}/*")
        if path.is_file()
        for line in path.read_text().splitlines()
        if ("apt-get" in line or '"dpkg"' in line)
        and "install" in line
        # What a person is told to type.
        and "Remedy" not in line
        and "Finding(" not in line
    ]

    assert calling == []
