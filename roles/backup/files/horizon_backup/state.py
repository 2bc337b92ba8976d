"""What is known of the last backup and the last drill: `/health` and the monitor read it."""

from __future__ import annotations

import json
import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


class State:
    """`state.json` in the tool's folder; readable by all, without secrets."""

    def __init__(self, folder: Path, max_age_s: int) -> None:
        self.path = folder / "state.json"
        self._max_age_s = max_age_s

    def read(self) -> dict[str, Any]:
        try:
            held = json.loads(self.path.read_text())
        except (OSError, ValueError):
            return {}
        return held if isinstance(held, dict) else {}

    def succeeded(self, what: str, **told: Any) -> None:
        """`what` is backup or drill."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self._write(what, {"status": "ok", "at": now, "last_success": now, "error": None, **told})

    def failed(self, what: str, error: str) -> None:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        before = self.read().get(what) or {}
        self._write(what, {**before, "status": "failed", "at": now, "error": error})

    def _write(self, what: str, told: dict[str, Any]) -> None:
        state = {**self.read(), "max_age_s": self._max_age_s, what: told}
        handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=".state.")
        with open(handle, "w") as file:
            json.dump(state, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, self.path)
