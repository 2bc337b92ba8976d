#!/usr/bin/python
"""Ansible module: a version of the service as an archive, built on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: horizon_build
short_description: Packs a version of the service from the controller's Git repository
description:
  - Names the release after the commit's time and hash, so the same version has the same name everywhere.
  - A working tree with changes is refused, because what would run could not be found again.
  - So is a version without the commit that runs, which an old checkout would ship.
options:
  repository: {description: The checkout., type: path, required: true}
  version: {description: Tag or commit., type: str, default: HEAD}
  folder: {description: Where the archive is kept., type: path, required: true}
  allow_dirty:
    description: Take the working tree as it is, when it has changes and O(version) is HEAD.
    type: bool
    default: false
  running:
    description: The commit that runs on the host; empty when none does.
    type: str
    default: ""
  allow_older:
    description: Take a version although it does not hold the commit that runs.
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
    "running": {"type": "str", "default": ""},
    "allow_older": {"type": "bool", "default": False},
}


class BuildError(Exception):
    """The version cannot be packed; the text says what to do."""


class Repository:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def git(self, *arguments: str, env: dict[str, str] | None = None) -> bytes:
        """Raises BuildError with git's own words."""
        result = self._run(*arguments, env=env)
        if result.returncode:
            raise BuildError(result.stderr.decode(errors="replace").strip())
        return result.stdout

    def _run(
        self, *arguments: str, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        try:
            return subprocess.run(
                ["git", "-C", str(self._folder), *arguments],
                # Its words are compared with English ones.
                env={**os.environ, "LC_ALL": "C", "LANGUAGE": "", **(env or {})},
                capture_output=True,
                check=False,
            )
        except FileNotFoundError:
            raise BuildError(
                "git is not installed on the machine that runs Ansible. Remedy: apt-get install git."
            ) from None

    def check(self) -> None:
        """Raises BuildError when the folder is no checkout that git reads."""
        try:
            top = Path(self.text("rev-parse", "--show-toplevel"))
        except BuildError as error:
            if "dubious ownership" in str(error):
                raise BuildError(
                    f"The checkout {self._folder} belongs to another user, so git does not read it. "
                    "Remedy: run Ansible as that user, or, when you trust the folder: "
                    f"git config --global --add safe.directory {self._folder}"
                ) from None
            if "not a git repository" not in str(error):
                raise
            raise self._no_checkout() from None
        if not top.samefile(self._folder):
            raise self._no_checkout(f" (it lies inside another one, {top})")
        if self._run("rev-parse", "--verify", "--quiet", "HEAD").returncode:
            raise BuildError(
                f"The checkout {self._folder} has no commit yet. Remedy: git -C {self._folder} add "
                f"--all && git -C {self._folder} commit --message 'First version'"
            )

    def _no_checkout(self, where: str = "") -> BuildError:
        return BuildError(
            f"{self._folder} is not a Git checkout{where}, so no version can be taken from it: a "
            "downloaded archive has no history. Remedy: git clone the project's address, copy "
            "your folder of inventories/ into the clone, and run the playbook there."
        )

    def is_shallow(self) -> bool:
        return self.text("rev-parse", "--is-shallow-repository") == "true"

    def knows(self, commit: str) -> bool:
        return self._run("cat-file", "-e", f"{commit}^{{commit}}").returncode == 0

    def holds(self, commit: str, ancestor: str) -> bool:
        """Whether a commit is built upon another one, or is that one."""
        result = self._run("merge-base", "--is-ancestor", ancestor, commit)
        if result.returncode > 1:
            raise BuildError(result.stderr.decode(errors="replace").strip())
        return result.returncode == 0

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
    repository.check()
    try:
        commit = repository.text("rev-parse", "--verify", "--quiet", f"{version}^{{commit}}")
    except BuildError as error:
        fetch = "git fetch --unshallow --tags" if repository.is_shallow() else "git fetch --tags"
        raise BuildError(
            str(error)
            or f"There is no version {version} in this checkout. Remedy: `{fetch}`, then "
            "`git tag` and `git log --oneline` show what there is."
        ) from None
    if parameters["running"] and not parameters["allow_older"]:
        _refuse_older(repository, version, commit, parameters["running"])
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


def _refuse_older(repository: Repository, version: str, commit: str, running: str) -> None:
    """Raises BuildError when what runs would be lost."""
    anyway = "to ship it all the same: -e app_allow_older=true"
    name = f"{version} ({commit[:12]})"
    if repository.knows(running) and repository.holds(commit, running):
        return
    if repository.is_shallow():
        raise BuildError(
            f"Whether {name} is older than {running[:12]}, which runs, cannot be seen in this "
            f"checkout: it lacks the older commits. Remedy: git fetch --unshallow; or, {anyway}."
        )
    if not repository.knows(running):
        raise BuildError(
            f"{running[:12]}, which runs, is not in this checkout, so {name} is older, or another "
            f"branch's. Remedy: git fetch --all, then git pull; or, {anyway}."
        )
    if repository.holds(running, commit):
        raise BuildError(
            f"{name} is older than {running[:12]}, which runs. Remedy: git pull, to ship the newest; "
            f"ansible-playbook rollback.yml -i <inventory>, to go back; or, {anyway}."
        )
    raise BuildError(
        f"{name} does not hold {running[:12]}, which runs: they are on different branches. Remedy: "
        f"merge it, or name a version that holds it; or, {anyway}."
    )


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
