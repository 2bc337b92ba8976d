"""What was seen at an earlier check, for looks that cost too much to be repeated each time.

Only Python's own library: hosts without the service run this too. Nothing is lost with the file:
what it held is looked at again.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


class Kept:
    """Values of JSON by name, in one small file for its owner only."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @classmethod
    def beside(cls, state_file: Path) -> Kept:
        """The file that goes with the memory of the alerts."""
        return cls(state_file.with_name(f"{state_file.stem}-looks.json"))

    def get(self, name: str) -> dict[str, Any] | None:
        """None when nothing is kept by this name."""
        value = self._read().get(name)
        return value if isinstance(value, dict) else None

    def put(self, name: str, value: dict[str, Any]) -> None:
        """Keep a value. Raises OSError."""
        values = self._read() | {name: value}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        new = self._path.with_name(f".{self._path.name}.new")
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(values, file)
        new.replace(self._path)

    def _read(self) -> dict[str, Any]:
        try:
            values = json.loads(self._path.read_bytes())
        except (OSError, ValueError):
            return {}
        return values if isinstance(values, dict) else {}
