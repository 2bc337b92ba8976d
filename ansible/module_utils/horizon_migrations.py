"""Whether the releases that run can work on the schema that a new one brings.

Standard library only: this runs on the hosts.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

FOLDER = "service/store/migrations/versions"


@dataclass(frozen=True)
class Migration:
    """One of a release's migrations: the schema that it makes, and the oldest code that works there."""

    revision: int
    oldest_code: int
    file: str


def read(release: Path) -> list[Migration]:
    """The migrations of an installed release, in their order. Raises ValueError and OSError."""
    return sorted(
        (_read_one(file) for file in (release / FOLDER).glob("[0-9]*.py")),
        key=lambda migration: migration.revision,
    )


def _read_one(file: Path) -> Migration:
    names = {}
    for line in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Name):
            names[line.targets[0].id] = line.value
    try:
        revision, oldest = (
            int(ast.literal_eval(names[name])) for name in ("revision", "oldest_code")
        )
    except KeyError as error:
        raise ValueError(f"{file} says no {error}") from None
    return Migration(revision, oldest, file.name)


def newest(migrations: Sequence[Migration]) -> int:
    """The schema that a release with these was made for; 0 when it has none."""
    return max((migration.revision for migration in migrations), default=0)


def left_behind(migrations: Sequence[Migration], running: Mapping[str, int]) -> str | None:
    """Why a release with these migrations must not migrate while others run; None when it may.

    Args:
        migrations: Those of the new release.
        running: The releases that run on the same database, each with the newest schema it knows.
    """
    oldest = max((migration.oldest_code for migration in migrations), default=0)
    behind = {name: knows for name, knows in running.items() if knows < oldest}
    if not behind:
        return None
    knows = min(behind.values())
    told = (
        f"it brings the database to schema {newest(migrations):04}, on which code older than "
        f"{oldest:04} does not work: {', '.join(sorted(behind))} (schema {knows:04}) would stop "
        "answering before the new release is proven, and could not be gone back to. Nothing was "
        "migrated. Remedy: "
    )
    if oldest >= newest(migrations):
        return told + (
            "none in between can bear it either, for its newest migration allows no code but its "
            "own; split the change into two releases, as docs/decisions/0016-schema-compatibility.md "
            "says"
        )
    next_one = next(migration for migration in migrations if migration.oldest_code > knows)
    return told + (
        f"deploy a version in between first, the last one without {next_one.file}. In the checkout: "
        "ansible-playbook deploy.yml -i <inventory> "
        "-e version=$(git log -1 --format=%h --diff-filter=A -- "
        f"{FOLDER}/{next_one.file})^"
    )
