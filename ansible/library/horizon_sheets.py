#!/usr/bin/python
"""Ansible module: the sheets about clients, all in one round."""

from __future__ import annotations

DOCUMENTATION = r"""
module: horizon_sheets
short_description: Sheets have their content
description:
  - Writes any number of small files of the user's own into one folder, for the user only, each as a whole.
  - A number keeps the sheet that it has. A new one gets C(<client>.md), and where that is another
    number's, C(<client>-<number>.md). Which number a sheet is of stands in itself.
  - Supports check mode and diff.
options:
  folder:
    description: Where the sheets are.
    type: path
    required: true
  sheets:
    description: The sheets.
    type: list
    elements: dict
    default: []
    suboptions:
      client:
        description: The client's id.
        type: str
        required: true
      number:
        description: The number that it is about, in E.164.
        type: str
        required: true
      content:
        description: What it holds, with the row that names the number.
        type: str
        required: true
  gone:
    description: The clients and numbers whose sheets are removed.
    type: list
    elements: dict
    default: []
    suboptions:
      client:
        description: The client's id.
        type: str
        required: true
      number:
        description: The number, in E.164.
        type: str
        required: true
author:
  - Horizon
"""

EXAMPLES = r"""
- name: Sheets are written
  horizon_sheets:
    folder: clients
    sheets:
      - client: la-cocina
        number: "+15551234567"
        content: "| Número de WhatsApp | +15551234567 |"
"""

RETURN = r"""
names:
  description: The name of each number's sheet.
  type: dict
  returned: success
removed:
  description: Names of the sheets that were removed (would be removed, in check mode).
  type: list
  elements: str
  returned: success
written:
  description: Names of the sheets whose content changed (would change, in check mode).
  type: list
  elements: str
  returned: success
"""

import os
import re
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

NEW = ".new"
NUMBER = re.compile(r"^\| Número de WhatsApp \| (\S+) \|$", re.MULTILINE)
NAMED = {"client": {"type": "str", "required": True}, "number": {"type": "str", "required": True}}
ARGUMENTS: dict[str, Any] = {
    "folder": {"type": "path", "required": True},
    "sheets": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {**NAMED, "content": {"type": "str", "required": True}},
    },
    "gone": {"type": "list", "elements": "dict", "default": [], "options": NAMED},
}


def write(folder: Path, sheets: list[dict[str, str]], check_mode: bool) -> dict[str, Any]:
    """Raises OSError and ValueError."""
    names: dict[str, str] = {}
    written: list[str] = []
    diffs: list[dict[str, str]] = []
    if not check_mode:
        # A run that was killed has left it.
        (folder / NEW).unlink(missing_ok=True)
    for sheet in sheets:
        name = _name(folder, sheet["client"], sheet["number"], names)
        names[sheet["number"]] = name
        path = folder / name
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        if before == sheet["content"]:
            continue
        written.append(name)
        diffs.append(
            {
                "before_header": str(path),
                "after_header": str(path),
                "before": before,
                "after": sheet["content"],
            }
        )
        if not check_mode:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _replace(path, sheet["content"])
    return {"changed": bool(written), "written": written, "names": names, "diff": diffs}


def remove(folder: Path, gone: list[dict[str, str]], check_mode: bool) -> list[str]:
    """The names of the sheets of these numbers, which are there no longer. Raises as `write`."""
    removed = [
        name
        for each in gone
        for name in _possible(each["client"], each["number"])
        if _number_in(folder / name) == each["number"]
    ]
    if not check_mode:
        for name in removed:
            (folder / name).unlink()
    return removed


def _possible(client: str, number: str) -> tuple[str, str]:
    names = f"{client}.md", f"{client}-{number.lstrip('+')}.md"
    for name in names:
        if Path(name).name != name:
            raise ValueError(f"{name} is no name of a file.")
    return names


def _name(folder: Path, client: str, number: str, given: dict[str, str]) -> str:
    """`given` are the names that numbers of the same run have, whose sheets may not be written."""
    possible = _possible(client, number)
    taken = {name: of for of, name in given.items()}
    numbers = {name: taken.get(name) or _number_in(folder / name) for name in possible}
    for name in reversed(possible):
        if numbers[name] == number:
            return name
    for name in possible:
        if numbers[name] is None:
            return name
    raise ValueError(f"{folder / possible[-1]} is not the sheet of {number}: move it elsewhere.")


def _number_in(path: Path) -> str | None:
    """The number that a sheet is about, empty when it names none; None when there is no file."""
    if not path.exists():
        return None
    found = NUMBER.search(path.read_text(encoding="utf-8", errors="replace"))
    return found[1] if found else ""


def _replace(path: Path, content: str) -> None:
    temporary = path.with_name(NEW)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def main() -> None:
    module = AnsibleModule(ARGUMENTS, supports_check_mode=True)
    try:
        folder = Path(module.params["folder"])
        removed = remove(folder, module.params["gone"], module.check_mode)
        result = write(folder, module.params["sheets"], module.check_mode)
    except (OSError, ValueError) as error:
        module.fail_json(msg=f"The sheets cannot be written: {error}")
    module.exit_json(
        **{**result, "changed": result["changed"] or bool(removed), "removed": removed}
    )


if __name__ == "__main__":
    main()
