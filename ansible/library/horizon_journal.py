#!/usr/bin/python
"""Ansible module: which releases a host has, and which of them ran well."""

from __future__ import annotations

DOCUMENTATION = r"""
module: horizon_journal
short_description: Tells which release of Horizon WhatsApp Bots runs, and which ones ran well before
description:
  - Changes nothing. Playbooks ask all hosts before they change one of them.
options:
  root: {description: Folder of the installation., type: path, default: /opt/horizonai-bots}
  free:
    description: Fail when a deploy, restore or cleanup works on the host now.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: What runs here is known
  horizon_journal:
    free: true
  register: journal
"""

RETURN = r"""
running: {description: The release that runs; empty when none does., type: str, returned: always}
commit: {description: The commit it was made of; empty when it is not known., type: str, returned: always}
schema: {description: The newest schema of the database that it knows., type: int, returned: always}
good:
  description: When each installed release that may run began to run well last, the running one included.
  type: dict
  returned: always
installed: {description: The installed releases., type: list, elements: str, returned: always}
marked:
  description: Releases that an operator rolled back from.
  type: list
  elements: str
  returned: always
"""

import json
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible.module_utils.horizon_lock import BusyError, check_free
from ansible.module_utils.horizon_migrations import newest
from ansible.module_utils.horizon_migrations import read as read_migrations
from ansible.module_utils.horizon_releases import Journal, ReleaseError
from ansible.module_utils.horizon_surroundings import leave_login

ARGUMENTS: dict[str, Any] = {
    "root": {"type": "path", "default": "/opt/horizonai-bots"},
    "free": {"type": "bool", "default": False},
}


def report(root: Path) -> dict[str, Any]:
    """Raises ReleaseError."""
    journal = Journal.read(root / "state" / "activations.json")
    releases = root / "releases"
    installed = sorted(path.parent.name for path in releases.glob("*/release.json"))
    running = journal.running if journal.running in installed else None
    commit = ""
    schema = 0
    if running is not None:
        try:
            told = json.loads((releases / running / "release.json").read_text(encoding="utf-8"))
            commit = str(told.get("commit") or "")
            schema = newest(read_migrations(releases / running))
        except (OSError, ValueError, SyntaxError) as error:
            raise ReleaseError(
                f"The release that runs, {running}, cannot be read: {error}. Remedy: "
                "ansible-playbook repair.yml -i <inventory>."
            ) from None
    return {
        "changed": False,
        "running": running or "",
        "commit": commit,
        "schema": schema,
        "good": journal.good(lambda name: name in installed),
        "installed": installed,
        "marked": sorted(name for name, mark in journal.bad.items() if mark["by"] == "rollback"),
    }


def main() -> None:
    leave_login()
    module = AnsibleModule(ARGUMENTS, supports_check_mode=True)
    root = Path(module.params["root"])
    try:
        if module.params["free"]:
            check_free(root / "state")
        result = report(root)
    except (ReleaseError, BusyError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
