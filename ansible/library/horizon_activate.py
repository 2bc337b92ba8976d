#!/usr/bin/python
"""Ansible module: which release runs on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: horizon_activate
short_description: Lets a release of Horizon WhatsApp Bots replace the running one by overlap
description:
  - Brings the database to the release's schema, probes the release, starts its web and workers beside
    the running ones on the same socket, waits until they are ready, and stops the others.
  - When that does not work out the new ones are stopped; the others never stopped serving.
  - Changes nothing when the release runs already with the same configuration.
options:
  release:
    description: Name of an installed release.
    type: str
  rollback:
    description: Go back, and mark the release that ran as bad.
    type: bool
    default: false
  reason:
    description:
      - Why a playbook goes back by itself. The release that ran may then be tried again; without it an
        operator decided, and the mark stays until O(allow_bad).
    type: str
    default: ""
  keep_current:
    description: Take the release that runs, whatever O(release) says; O(release) only when none does.
    type: bool
    default: false
  allow_bad:
    description: Take a release although it was marked bad.
    type: bool
    default: false
  web:
    description: Whether this host runs web.
    type: bool
    default: true
  workers:
    description: Worker processes.
    type: int
    required: true
  workers_in_turn:
    description: Start new workers when the old ones have ended, where memory holds no more than one set.
    type: bool
    default: false
  config_files:
    description: Files that the processes are made of; a change of one starts them anew.
    type: list
    elements: path
    default: []
  root:
    description: Folder of the installation.
    type: path
    default: /opt/horizonai-bots
  run_folder:
    description: Folder of the private sockets.
    type: path
    default: /run/horizonai-bots
  env_file:
    description: The settings of the service; where Redis is stands there.
    type: path
    default: /etc/horizonai-bots/env
  backup_folder:
    description: Where the database is saved before a migration. Unset, it is not saved.
    type: path
  postgresql:
    description: Whether the database is PostgreSQL, which is saved with pg_dump, and not SQLite.
    type: bool
    default: false
  elsewhere:
    description: Releases that other hosts run on the same database, each with the newest schema it knows.
    type: dict
    default: {}
  keep:
    description: Releases that stay installed; the running one and the one before it always do.
    type: int
    default: 5
  ready_s:
    description: Longest wait for web, in seconds.
    type: float
    default: 60
  heartbeat_s:
    description: Longest wait for the workers' heartbeats, in seconds.
    type: float
    default: 60
  settle_s:
    description: Time that everything must stay alive before the others are stopped, in seconds.
    type: float
    default: 3
"""

EXAMPLES = r"""
- name: Release runs
  horizon_activate:
    release: 20261123085445_1d15697a1b2c
    workers: 2
"""

RETURN = r"""
release: {description: The release that runs., type: str, returned: always}
previous: {description: The release that ran before., type: str, returned: always}
steps: {description: What was done., type: list, elements: str, returned: always}
removed: {description: Releases that were removed., type: list, elements: str, returned: always}
"""

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible.module_utils.horizon_lock import BusyError, alone
from ansible.module_utils.horizon_machine import Machine
from ansible.module_utils.horizon_releases import (
    RELEASE,
    Journal,
    Limits,
    ReleaseError,
    Wanted,
    activate,
    is_current,
    to_remove,
)
from ansible.module_utils.horizon_surroundings import leave_login

ARGUMENTS: dict[str, Any] = {
    "release": {"type": "str"},
    "rollback": {"type": "bool", "default": False},
    "reason": {"type": "str", "default": ""},
    "keep_current": {"type": "bool", "default": False},
    "allow_bad": {"type": "bool", "default": False},
    "web": {"type": "bool", "default": True},
    "workers": {"type": "int", "required": True},
    "workers_in_turn": {"type": "bool", "default": False},
    "config_files": {"type": "list", "elements": "path", "default": []},
    "root": {"type": "path", "default": "/opt/horizonai-bots"},
    "run_folder": {"type": "path", "default": "/run/horizonai-bots"},
    "env_file": {"type": "path", "default": "/etc/horizonai-bots/env"},
    "backup_folder": {"type": "path"},
    "postgresql": {"type": "bool", "default": False},
    "elsewhere": {"type": "dict", "default": {}},
    "keep": {"type": "int", "default": 5},
    "ready_s": {"type": "float", "default": 60},
    "heartbeat_s": {"type": "float", "default": 60},
    "settle_s": {"type": "float", "default": 3},
}
RESTORING = Path("/var/lib/horizonai-bots-backup/restoring")
"""There while a restore replaces the data, and after one that was interrupted."""


def fingerprint(files: list[str], workers: int, *, web: bool) -> str:
    """Of everything but the release that the processes are made of."""
    digest = hashlib.sha256(str(workers).encode() + (b"" if web else b" without web"))
    for name in sorted(files):
        path = Path(name)
        digest.update(name.encode() + b"\0" + (path.read_bytes() if path.exists() else b"") + b"\0")
    return digest.hexdigest()


class SavedConfig:
    """Copies of the files that the running processes were started with."""

    def __init__(self, folder: Path, files: list[str]) -> None:
        self._folder = folder
        self._files = [Path(name) for name in files]

    def save(self) -> None:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        for file in self._files:
            if file.exists():
                _copy(file, self._copy_of(file))

    def restore(self) -> None:
        for file in self._files:
            if self._copy_of(file).exists():
                _copy(self._copy_of(file), file)

    def _copy_of(self, file: Path) -> Path:
        return self._folder / str(file).strip("/").replace("/", "+")


def _copy(source: Path, target: Path) -> None:
    """With owner and mode, replaced in one step, never readable by more than the source was."""
    temporary = target.with_name(f"{target.name}.new")
    status = source.stat()
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(source.read_bytes())
        os.fchown(descriptor, status.st_uid, status.st_gid)
        os.fchmod(descriptor, status.st_mode & 0o7777)
    temporary.rename(target)


def choose(journal: Journal, parameters: dict[str, Any], releases: Path) -> str:
    """The release to run. Raises ReleaseError."""

    def is_installed(name: str) -> bool:
        return (releases / name / "release.json").exists()

    release = parameters["release"]
    if parameters["keep_current"] and journal.running and is_installed(journal.running):
        return journal.running
    if not release:
        raise ReleaseError("No release is named.")
    if not RELEASE.match(release) or not is_installed(release):
        there = sorted(path.parent.name for path in releases.glob("*/release.json"))
        raise ReleaseError(
            f"Release {release} is not installed on this host. Installed: {', '.join(there) or 'none'}. "
            "Remedy: name one of these, or ansible-playbook deploy.yml -i <inventory> "
            "-e version=<tag or commit>."
        )
    mark = journal.bad.get(release)
    if mark and mark["by"] == "rollback" and not parameters["allow_bad"]:
        raise ReleaseError(
            f"Release {release} was marked bad at {mark['at']}: {mark['reason']} Remedy: take another "
            "version, or say -e app_allow_bad=true."
        )
    return str(release)


def run(module: AnsibleModule) -> dict[str, Any]:
    parameters = module.params
    root = Path(parameters["root"])
    releases = root / "releases"
    state = root / "state"
    journal = Journal.read(state / "activations.json")
    before = journal.running
    if module.check_mode and not (releases / str(parameters["release"])).exists():
        if parameters["rollback"] or (parameters["keep_current"] and before):
            choose(journal, parameters, releases)
        else:
            return {"changed": True, "release": parameters["release"], "previous": before}
    release = choose(journal, parameters, releases)
    backups = parameters["backup_folder"]
    host = Machine(
        root,
        Path(parameters["run_folder"]),
        Path(parameters["env_file"]),
        Path(backups) if backups else None,
        is_postgresql=parameters["postgresql"],
    )
    wanted = Wanted(
        release=release,
        config=fingerprint(
            parameters["config_files"], parameters["workers"], web=parameters["web"]
        ),
        workers=parameters["workers"],
        web=parameters["web"],
        workers_in_turn=parameters["workers_in_turn"],
        how="rollback" if parameters["rollback"] else "deploy",
        elsewhere={name: int(schema) for name, schema in parameters["elsewhere"].items()},
    )
    if module.check_mode:
        return {
            "changed": not is_current(journal, host, wanted),
            "release": release,
            "previous": before,
        }
    limits = Limits(parameters["ready_s"], parameters["heartbeat_s"], parameters["settle_s"])
    saved = SavedConfig(state / "config", parameters["config_files"])
    try:
        outcome = activate(journal, host, wanted, limits)
    except ReleaseError as error:
        if journal.current is None or journal.current["config"] == wanted.config:
            raise
        # A process that restarts by itself has to find the settings that it ran with.
        saved.restore()
        host.reload()
        raise ReleaseError(f"{error} The settings before were put back.") from error
    saved.save()
    if parameters["rollback"] and before and before != release:
        by = "take-back" if parameters["reason"] else "rollback"
        said = parameters["reason"] or f"Rolled back to {release} by an operator."
        journal.condemn(before, by, said)
        journal.write()
    names = [path.name for path in releases.iterdir() if (path / "release.json").exists()]
    removed = to_remove(journal, names, parameters["keep"])
    for name in removed:
        shutil.rmtree(releases / name)
    _remove_unused_venvs(root)
    return {
        "changed": outcome.changed or bool(removed),
        "release": release,
        "previous": before,
        "steps": outcome.steps,
        "removed": removed,
    }


def _remove_unused_venvs(root: Path) -> None:
    used = {link.resolve() for link in (root / "releases").glob("*/venv")}
    for venv in (root / "venvs").iterdir():
        if venv.resolve() not in used:
            shutil.rmtree(venv)


def main() -> None:
    leave_login()
    module = AnsibleModule(ARGUMENTS, supports_check_mode=True)
    state = Path(module.params["root"]) / "state"
    defaults: dict[str, Any] = {"steps": [], "removed": []}
    try:
        if not state.is_dir():
            if module.check_mode:
                module.exit_json(
                    **defaults, changed=True, release=module.params["release"], previous=None
                )
            raise ReleaseError(
                "This host is not installed. Remedy: ansible-playbook site.yml -i <inventory>."
            )
        if RESTORING.exists():
            raise ReleaseError(
                "A restore on this host has not come to its end: its data are half replaced, and no "
                "release may run on them. Remedy: ansible-playbook restore.yml -i <inventory> again, "
                "then this."
            )
        with alone(state, "A rollback" if module.params["rollback"] else "A deploy"):
            result = run(module)
    except (ReleaseError, BusyError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(**(defaults | result))


if __name__ == "__main__":
    main()
