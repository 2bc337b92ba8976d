"""Each tag works alone, on a server that was installed with all of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.ansible.conftest import REPOSITORY

ROLES = sorted(path.name for path in REPOSITORY.glob("roles/*"))
INCLUDES = ("ansible.builtin.include_role", "ansible.builtin.include_tasks")


def opened(entries: list[dict[str, Any]] | None) -> Iterator[dict[str, Any]]:
    """Tasks, those of blocks too."""
    for entry in entries or ():
        yield entry
        for part in ("block", "rescue", "always"):
            yield from opened(entry.get(part))


def words(value: Any) -> set[str]:
    return {value} if isinstance(value, str) else set(value or ())


def parts(role: str) -> dict[str, set[str]]:
    """Files that main.yml imports, with their tags."""
    main = yaml.safe_load((REPOSITORY / "roles" / role / "tasks/main.yml").read_text())
    return {
        task["ansible.builtin.import_tasks"]: words(task.get("tags"))
        for task in main
        if "ansible.builtin.import_tasks" in task
    }


def tasks_of(role: str, file: str) -> list[dict[str, Any]]:
    return list(opened(yaml.safe_load((REPOSITORY / "roles" / role / "tasks" / file).read_text())))


def given(task: dict[str, Any]) -> set[str]:
    """Variables that a task leaves for later ones."""
    facts = task.get("ansible.builtin.set_fact", {})
    return words(task.get("register")) | set(facts)


def broken(role: str) -> list[str]:
    """Uses of a variable under a tag without the task that makes it."""
    found = []
    made: dict[str, set[str]] = {}
    for file, tags in parts(role).items():
        for task in tasks_of(role, file):
            for name in given(task):
                made[name] = made.get(name, set()) | tags | words(task.get("tags"))
    for file, tags in parts(role).items():
        for task in tasks_of(role, file):
            text = yaml.safe_dump(
                {key: value for key, value in task.items() if key not in ("register", "tags")},
                width=10**6,
            )
            for name, where in made.items():
                missing = (tags | words(task.get("tags"))) - where
                if (
                    missing
                    and name not in given(task)
                    and re.search(rf"\b{name}\b(?!.*\| *default\()", text)
                ):
                    found.append(f"{file}: {task.get('name')}: {name} with {sorted(missing)}")
    return found


SITE = yaml.safe_load((REPOSITORY / "ansible/site.yml").read_text())
ALWAYS = {entry["role"] for entry in SITE[1]["roles"] if "always" in entry["tags"]}


@pytest.mark.parametrize("role", [role for role in ROLES if parts(role) and role not in ALWAYS])
def test_what_a_part_of_a_role_needs_is_made_under_the_same_tag(role: str) -> None:
    assert broken(role) == []


def test_tasks_that_are_included_have_the_tags_of_the_task_that_includes_them() -> None:
    """Ansible gives them none: with --tags they would be passed over without a word."""
    bare = []
    for path in [*REPOSITORY.glob("ansible/**/*.yml"), *REPOSITORY.glob("roles/*/tasks/*.yml")]:
        for task in opened(_tasks(path)):
            for action in INCLUDES:
                options = task.get(action)
                if options and "tags" in task:
                    applied = options.get("apply", {}) if isinstance(options, dict) else {}
                    if not words(task["tags"]) <= words(applied.get("tags")):
                        bare.append(f"{path.relative_to(REPOSITORY)}: {task['name']}")

    assert bare == []


def _tasks(path: Path) -> list[dict[str, Any]]:
    document = yaml.safe_load(path.read_text())
    if not isinstance(document, list):
        return []
    plays = [entry for entry in document if "hosts" in entry]
    if not plays:
        return document
    return [
        task
        for play in plays
        for key in ("pre_tasks", "tasks", "post_tasks")
        for task in play.get(key, ())
    ]
