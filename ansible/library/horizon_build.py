#!/usr/bin/python
"""Ansible module: a version of the service as an archive, built on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: horizon_build
short_description: Packs a version of the service from the controller's Git repository
description:
  - Names the release after the commit's time and hash, so the same version has the same name everywhere.
  - A working tree with changes is refused, because what would run could not be found again.
options:
  repository: {description: The checkout., type: path, required: true}
  version: {description: Tag or commit., type: str, default: HEAD}
  folder: {description: Where the archive is kept., type: path, required: true}
  allow_dirty:
    description: Take the working tree as it is, when it has changes and O(version) is HEAD.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Version is packed
  horizon_build:
    repository: "{{ playbook_dir }}/.."
    version: v1.2.0
    folder: "{{ playbook_dir }}/../var/builds"
"""

RETURN = r"""
name: {description: The release's name., type: str, returned: always}
commit: {description: The commit., type: str, returned: always}
archive: {description: The archive., type: str, returned: always}
lock_hash: {description: SHA-256 of service/requirements.txt., type: str, returned: always}
"""

import gzip
import hashlib
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

LOCK = "service/requirements.txt"
KEEP_ARCHIVES = 10
ARGUMENTS: dict[str, Any] = {
    "repository": {"type": "path", "required": True},
    "version": {"type": "str", "default": "HEAD"},
    "folder": {"type": "path", "required": True},
    "allow_dirty": {"type": "bool", "default": False},
}


class BuildError(Exception):
    """The version cannot be packed; the text says what to do."""


class Repository:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def git(self, *arguments: str, env: dict[str, str] | None = None) -> bytes:
        """Raises BuildError with git's own words."""
        try:
            result = subprocess.run(
                ["git", "-C", str(self._folder), *arguments],
                env={**os.environ, **(env or {})},
                capture_output=True,
                check=False,
            )
        except FileNotFoundError:
            raise BuildError("git is missing here. Remedy: apt-get install git.") from None
        if result.returncode:
            raise BuildError(result.stderr.decode(errors="replace").strip())
        return result.stdout

    def text(self, *arguments: str, env: dict[str, str] | None = None) -> str:
        return self.git(*arguments, env=env).decode().strip()

    def working_tree(self) -> str:
        """A Git tree of the files as they are now; the index is not touched."""
        with tempfile.TemporaryDirectory() as folder:
            env = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
            self.git("read-tree", "HEAD", env=env)
            self.git("add", "--all", "--", "service", env=env)
            return self.text("write-tree", env=env)


def build(parameters: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Raises BuildError."""
    repository = Repository(Path(parameters["repository"]))
    version = parameters["version"]
    if version.startswith("-"):
        raise BuildError(f"{version} is no tag or commit.")
    try:
        commit = repository.text("rev-parse", "--verify", "--quiet", f"{version}^{{commit}}")
    except BuildError as error:
        raise BuildError(
            str(error)
            or f"There is no version {version} in this repository. Remedy: `git fetch --tags`, then "
            "`git tag` and `git log --oneline` show what there is."
        ) from None
    tree = commit
    stamp = repository.text(
        *("show", "--no-patch", "--format=%cd", "--date=format-local:%Y%m%d%H%M%S", commit),
        env={"TZ": "UTC"},
    )
    name = f"{stamp}_{commit[:12]}"
    if version == "HEAD":
        changes = repository.text("status", "--porcelain", "--", "service")
        if changes and not parameters["allow_dirty"]:
            raise BuildError(
                "The working tree has changes in service/ that no commit holds:\n"
                f"{changes}\nRemedy: commit them, name a version (-e version=<tag or commit>), or say "
                "-e app_allow_dirty=true to ship them as they are."
            )
        if changes:
            tree = repository.working_tree()
            name = f"{stamp}_dirty_{tree[:12]}"
    try:
        lock = repository.git("show", f"{tree}:{LOCK}")
    except BuildError:
        raise BuildError(
            f"Version {version} has no {LOCK}: it is older than these playbooks."
        ) from None
    folder = Path(parameters["folder"])
    archive = folder / f"{name}.tar.gz"
    changed = not archive.exists()
    if changed and not check_mode:
        folder.mkdir(parents=True, exist_ok=True)
        _write(archive, repository.git("archive", "--format=tar", tree, "service"))
        _drop_old(folder)
    return {
        "changed": changed,
        "name": name,
        "commit": commit,
        "archive": str(archive),
        "lock_hash": hashlib.sha256(lock).hexdigest(),
    }


def _write(archive: Path, tar: bytes) -> None:
    temporary = archive.with_suffix(".new")
    with open(temporary, "wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as file:
        file.write(tar)
    temporary.rename(archive)


def _drop_old(folder: Path) -> None:
    found = sorted(folder.glob("*.tar.gz"), key=lambda file: file.stat().st_mtime, reverse=True)
    for archive in found[KEEP_ARCHIVES:]:
        archive.unlink()


def main() -> None:
    module = AnsibleModule(ARGUMENTS, supports_check_mode=True)
    try:
        result = build(module.params, module.check_mode)
    except BuildError as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
