#!/usr/bin/python
"""Several files in one round to the host, where a template task for each would take two apiece."""

from __future__ import annotations

import os
import tempfile

from ansible.module_utils.basic import AnsibleModule

from ansible.module_utils.horizon_surroundings import leave_login

DOCUMENTATION = r"""
module: horizon_files
short_description: Several files have their content
description:
  - Writes files of root's in one round, each as a whole or not at all, and makes the folders that
    they need. Supports check mode and diff (switch it off where content is secret).
options:
  files:
    description: The files, in the order in which they are written.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: Where the file is.
        type: path
        required: true
      content:
        description: What it holds.
        type: str
        required: true
      mode:
        description: Its mode, in octal digits.
        type: str
        default: "0644"
      group:
        description: Its group.
        type: str
        default: root
      validate:
        description: A command that must succeed before the file takes its place; %s is the new file.
        type: str
author:
  - Horizon
"""

EXAMPLES = r"""
- name: Limits are there
  horizon_files:
    files:
      - path: /etc/systemd/journald.conf.d/horizonai-bots.conf
        content: "{{ lookup('ansible.builtin.template', 'journald.conf') }}"
"""

RETURN = r"""
written:
  description: Paths of the files whose content or mode changed (would change, in check mode).
  type: list
  elements: str
  returned: always
"""

FILE = {
    "path": {"type": "path", "required": True},
    "content": {"type": "str", "required": True},
    "mode": {"type": "str", "default": "0644"},
    "group": {"type": "str", "default": "root"},
    "validate": {"type": "str"},
}


def read(path: str) -> str | None:
    """The present content; None when there is no file."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
            return file.read()
    except FileNotFoundError:
        return None


def write(module: AnsibleModule, file: dict) -> None:
    """Puts the new content in the file's place, in one step, after its command has agreed."""
    os.makedirs(os.path.dirname(file["path"]), mode=0o755, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=module.tmpdir)
    with open(descriptor, "w", encoding="utf-8", newline="") as handle:
        handle.write(file["content"])
    if file["validate"]:
        code, out, err = module.run_command(file["validate"].replace("%s", temporary))
        if code != 0:
            module.fail_json(
                msg=f"The new {file['path']} is refused by `{file['validate']}`: {err or out}"
            )
    module.atomic_move(temporary, file["path"], keep_dest_attrs=False)


def ensure(module: AnsibleModule, file: dict) -> tuple[bool, dict | None]:
    """Whether something changed, and the difference of the content."""
    present = read(file["path"])
    differs = present != file["content"]
    if differs and not module.check_mode:
        write(module, file)
    changed = differs
    if os.path.exists(file["path"]):
        attributes = {"path": file["path"], "owner": "root"} | {
            name: file[name] for name in ("mode", "group")
        }
        arguments = module.load_file_common_arguments(attributes)
        changed = module.set_fs_attributes_if_different(arguments, changed)
    if not differs:
        return changed, None
    return True, {
        "before_header": file["path"],
        "after_header": file["path"],
        "before": present or "",
        "after": file["content"],
    }


def main() -> None:
    """Ansible's entry."""
    leave_login()
    module = AnsibleModule(
        argument_spec={
            "files": {"type": "list", "elements": "dict", "required": True, "options": FILE}
        },
        supports_check_mode=True,
    )
    written, differences = [], []
    for file in module.params["files"]:
        changed, difference = ensure(module, file)
        if changed:
            written.append(file["path"])
        if difference:
            differences.append(difference)
    module.exit_json(changed=bool(written), written=written, diff=differences)


if __name__ == "__main__":
    main()
