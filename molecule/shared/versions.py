"""Versions of the service, good and bad, as commits in a copy of this repository."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

MIGRATION = '''"""A change for the tests"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = "{before}"
oldest_code = "{oldest}"


def upgrade() -> None:
    op.create_table("of_revision_{revision}", sa.Column("id", sa.Integer, primary_key=True))
{ending}
'''


class Versions:
    """A repository of its own; each version is a change on top of the one that was good last."""

    def __init__(self, source: Path, folder: Path) -> None:
        self.folder = folder
        if folder.exists():
            shutil.rmtree(folder)
        self._git("clone", "--quiet", "--no-hardlinks", str(source), str(folder), cwd=source)
        # What is not committed yet is tested too.
        shutil.rmtree(folder / "service")
        shutil.copytree(
            source / "service", folder / "service", ignore=shutil.ignore_patterns("__pycache__")
        )
        self._number = 0
        self._commit("first")
        self.good = self._head()

    def change(self, name: str, path: str, old: str, new: str) -> str:
        """A version in which a file has `new` for `old`; it is not built upon."""
        self._git("checkout", "--quiet", self.good)
        file = self.folder / path
        text = file.read_text(encoding="utf-8")
        assert text.count(old) >= 1, f"{path} holds no {old!r}"
        file.write_text(text.replace(old, new, 1), encoding="utf-8")
        return self._commit(name)

    def next_good(self, name: str) -> str:
        """A version that only says another number, and that the next ones build upon."""
        self._git("checkout", "--quiet", self.good)
        file = self.folder / "service/__init__.py"
        file.write_text(file.read_text(encoding="utf-8") + f"\n# {name}\n", encoding="utf-8")
        self.good = self._commit(name)
        return self.good

    def migration(self, name: str, *, fails: bool = False, forbids_older: bool = False) -> str:
        """A version with one more migration; one that can be deployed is built upon.

        It bears the release before it, and none with `forbids_older`.
        """
        self._git("checkout", "--quiet", self.good)
        folder = self.folder / "service/store/migrations/versions"
        before = max(re.findall(r"(\d{4})_", " ".join(file.name for file in folder.iterdir())))
        revision = f"{int(before) + 1:04}"
        (folder / f"{revision}_test.py").write_text(
            MIGRATION.format(
                revision=revision,
                before=before,
                oldest=revision if forbids_older else before,
                ending='    op.execute("INSERT INTO nowhere VALUES (1)")' if fails else "",
            ),
            encoding="utf-8",
        )
        version = self._commit(name)
        if not (fails or forbids_older):
            self.good = version
        return version

    def _commit(self, name: str) -> str:
        self._number += 1
        self._git("add", "--all")
        self._git("commit", "--quiet", "--allow-empty", "--message", name)
        self._git("tag", name)
        return self._head()

    def _head(self) -> str:
        return self._git("rev-parse", "HEAD")

    def _git(self, *arguments: str, cwd: Path | None = None) -> str:
        identity = ("-c", "user.name=Test", "-c", "user.email=test@example.com")
        return subprocess.check_output(
            ["git", *identity, *arguments], cwd=cwd or self.folder, text=True
        ).strip()
