"""Writes docs/variables.md from the argument specs and ansible/vars/inventory.yml: `make variables`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
HEAD = """\
# Variables

Every variable that an inventory can set, with its type, its default and its meaning. `make variables` \
writes this page from `roles/<role>/meta/argument_specs.yml`, `roles/<role>/defaults/main.yml` and \
`ansible/vars/inventory.yml`.

Write a variable in `group_vars/all/main.yml` of the inventory for all hosts, in the file of a group, or \
below a host. Secrets belong into `group_vars/all/vault.yml`. A default in braces is computed from other \
variables. `site.yml` refuses a name that is not on this page and resembles one that is, or begins like \
a role's.

[Settings of the service](settings.md) that have no variable here go into `app_settings`. What playbooks \
take with `-e` is on the pages of [servers](servers.md), [clients](clients.md), \
[operations](operations.md) and [backups](backup.md).
"""
TABLE = "| Variable | Type | Default | Meaning |\n|---|---|---|---|"


def page(root: Path = ROOT) -> str:
    """The text of docs/variables.md."""
    listed = _read(root / "ansible" / "vars" / "inventory.yml")
    parts = [HEAD]
    for title, names in (
        ("Of the inventory", listed["inventory_variables"]),
        ("Of the vault", listed["inventory_secrets"]),
    ):
        rows = [f"| `{name}` | {_cell(meaning)} |" for name, meaning in names.items()]
        parts.append("\n".join([f"## {title}\n", "| Variable | Meaning |\n|---|---|", *rows, ""]))
    for folder in sorted((root / "roles").iterdir()):
        if rows := _rows(folder):
            spec = _read(folder / "meta" / "argument_specs.yml")["argument_specs"]["main"]
            head = [f"## {folder.name}\n", f"{_cell(spec['short_description'])}.\n", TABLE]
            parts.append("\n".join([*head, *rows, ""]))
    return "\n".join(parts)


def _rows(role: Path) -> list[str]:
    defaults = _read(role / "defaults" / "main.yml")
    found: dict[str, Any] = {}
    for entry in _read(role / "meta" / "argument_specs.yml")["argument_specs"].values():
        found = {**(entry.get("options") or {}), **found}
    rows = []
    for name, option in found.items():
        default = "**required**" if option.get("required") else _code(defaults[name])
        rows.append(_row(name, option, default))
        inner = "[]" if option["type"] == "list" else ""
        rows += [
            _row(f"{name}{inner}.{key}", part, _code(part["default"]) if "default" in part else "–")
            for key, part in (option.get("options") or {}).items()
        ]
    return rows


def _row(name: str, option: dict[str, Any], default: str) -> str:
    kind = option["type"] + (f" of {option['elements']}" if "elements" in option else "")
    if "choices" in option:
        kind = ", ".join(f"`{choice}`" for choice in option["choices"])
    return f"| `{name}` | {kind} | {default} | {_cell(option['description'])} |"


def _code(value: Any) -> str:
    if isinstance(value, str):
        text = value
    else:
        text = yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix("...\n")
    text = " ".join(text.split()).replace("|", "\\|")
    return f"`{text}`" if text else '`""`'


def _cell(text: str) -> str:
    return " ".join(str(text).split()).replace("|", "\\|").replace("<", "&lt;")


def _read(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8")) or {}


if __name__ == "__main__":
    (ROOT / "docs" / "variables.md").write_text(page(), encoding="utf-8")
    sys.stdout.write("docs/variables.md is written.\n")
