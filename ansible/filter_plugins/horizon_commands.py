"""Filters: commands that a person copies name the inventory of the run that printed them.

Where that run asked for the vault's password, they ask too.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ansible import context

PLACEHOLDER = "-i <inventory>"
"""What texts carry that are written without knowing the inventory."""


def inventory_option(sources: Sequence[str]) -> str:
    """`-i` for each of `ansible_inventory_sources`, with short paths."""
    options = [f"-i {shlex.quote(_short(source))}" for source in sources]
    if context.CLIARGS.get("ask_vault_pass"):
        options.append("--ask-vault-pass")
    return " ".join(options)


def with_inventory(text: Any, sources: Sequence[str]) -> Any:
    """The same text, or list of texts, with the inventory in its commands."""
    if isinstance(text, str):
        return text.replace(PLACEHOLDER, inventory_option(sources))
    return [with_inventory(line, sources) for line in text]


def _short(source: str) -> str:
    """A path below the caller's folder as seen from there; others, and lists of hosts, as they are."""
    folder = Path(os.environ.get("PWD") or Path.cwd())
    path = Path(source)
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else source


class FilterModule:
    """Ansible's entry."""

    def filters(self) -> dict[str, Any]:
        """Names of the filters in templates."""
        return {
            "horizon_inventory_option": inventory_option,
            "horizon_with_inventory": with_inventory,
        }
