#!/usr/bin/python
"""Whether a unit runs with what its files say, also after a run that ended before its handlers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime, timezone

from ansible.module_utils.basic import AnsibleModule

from ansible.module_utils.horizon_surroundings import leave_login

DOCUMENTATION = r"""
module: horizon_unread
short_description: A unit has read its files
description:
  - Makes systemd read the files of units again where they are newer than what it knows.
  - Compares files with the moment at which a running unit was started or reloaded, and is changed when
    one is newer. Notify the handler that starts or reloads the unit. A run that was interrupted between a
    change and its handler is made good that way, by the next one.
  - In check mode it only tells.
options:
  units:
    description: Units, or patterns of them, whose own files systemd must have read.
    type: list
    elements: str
    required: true
  unit:
    description: The unit that must have read O(files); none when it is omitted.
    type: str
  files:
    description: Files, and folders with all that is in them. Those that are not there are left out.
    type: list
    elements: path
    default: []
  since:
    description: Whether the unit reads its files when it starts, or also when it is reloaded.
    type: str
    choices: [start, reload]
    default: start
author:
  - Horizon
"""

EXAMPLES = r"""
- name: Nginx has read its files
  horizon_unread:
    units: [nginx.service]
    unit: nginx.service
    files: [/etc/nginx]
    since: reload
  notify: Nginx reloads
"""

RETURN = r"""
unread:
  description: Files that the unit has not read.
  type: list
  elements: str
  returned: always
reloaded:
  description: Whether systemd had to read units again.
  type: bool
  returned: always
"""

# Reloading a unit changes its state twice and does not let it enter the active state anew.
MOMENTS = {"start": "ActiveEnterTimestamp", "reload": "StateChangeTimestamp"}


def seconds(moment: str) -> float:
    """Since 1970, of a time like `Tue 2026-12-01 04:35:00.123456 UTC`."""
    _, day, time, _ = moment.split()
    read = datetime.strptime(f"{day} {time}", "%Y-%m-%d %H:%M:%S.%f")
    return read.replace(tzinfo=timezone.utc).timestamp()  # noqa: UP017 # the oldest hosts' Python


def all_files(paths: list[str]) -> Iterator[str]:
    """The paths that are there, and what is in folders. Links are not followed."""
    for path in paths:
        if os.path.isdir(path) and not os.path.islink(path):
            for folder, _, names in os.walk(path):
                yield folder
                yield from (os.path.join(folder, name) for name in names)
        elif os.path.lexists(path):
            yield path


def newer(paths: list[str], moment: float) -> list[str]:
    """Those that were written, moved there or given another owner or mode since then."""
    return sorted(path for path in all_files(paths) if os.lstat(path).st_ctime > moment)


def systemctl(module: AnsibleModule, *words: str) -> str:
    code, out, err = module.run_command(["systemctl", *words])
    if code != 0:
        module.fail_json(msg=f"systemctl {' '.join(words)} failed: {(err or out).strip()}")
    return out


def must_reload(module: AnsibleModule, units: list[str]) -> bool:
    """Whether systemd knows an older version of one of the units."""
    return "yes" in systemctl(module, "show", "--property=NeedDaemonReload", "--value", *units)


def unread(module: AnsibleModule, unit: str, files: list[str], since: str) -> list[str]:
    """Files that a running unit has not read; what does not run reads them when it starts."""
    words = ("show", "--timestamp=us+utc", f"--property=ActiveState,{MOMENTS[since]}", unit)
    lines = systemctl(module, *words).splitlines()
    values = dict(line.split("=", 1) for line in lines if "=" in line)
    if values["ActiveState"] != "active" or not values[MOMENTS[since]]:
        return []
    return newer(files, seconds(values[MOMENTS[since]]))


def main() -> None:
    """Ansible's entry."""
    leave_login()
    module = AnsibleModule(
        argument_spec={
            "units": {"type": "list", "elements": "str", "required": True},
            "unit": {"type": "str"},
            "files": {"type": "list", "elements": "path", "default": []},
            "since": {"type": "str", "choices": list(MOMENTS), "default": "start"},
        },
        supports_check_mode=True,
    )
    given = module.params
    reloaded = must_reload(module, given["units"])
    if reloaded and not module.check_mode:
        systemctl(module, "daemon-reload")
    missed = unread(module, given["unit"], given["files"], given["since"]) if given["unit"] else []
    module.exit_json(changed=reloaded or bool(missed), reloaded=reloaded, unread=missed)


if __name__ == "__main__":
    main()
