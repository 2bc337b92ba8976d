"""What the role backup has told of the host's last backup, for `/health`."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from service.conversation.clock import utc_now

_MAX_AGE_S = 26 * 3_600


class BackupState:
    """Reads the file anew each time: another program writes it."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def read(self) -> dict[str, Any]:
        """`status` is ok, failed, late or none yet; `last_success` ISO 8601 or None, `error` a sentence."""
        try:
            state = orjson.loads(self._file.read_bytes())
            told = state.get("backup") or {}
            last, error = told.get("last_success"), told.get("error")
            failed = told.get("status") == "failed"
            age_s = None
            if last is not None:
                age_s = (utc_now() - datetime.fromisoformat(last)).total_seconds()
            is_late = age_s is None or age_s > state.get("max_age_s", _MAX_AGE_S)
        except FileNotFoundError:
            return {"status": "none yet", "last_success": None, "error": None}
        except (OSError, ValueError, TypeError, AttributeError):
            return {"status": "failed", "last_success": None, "error": "its state is unreadable"}
        status = "failed" if failed else "late" if is_late else "ok"
        return {"status": status, "last_success": last, "error": error}
