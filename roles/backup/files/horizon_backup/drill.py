"""A restore for practice: beside the running service, with emulated vendors, removed at the end."""

from __future__ import annotations

import shutil
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from horizon_backup import redis_copy
from horizon_backup.host import Config, ToolError, horizonctl
from horizon_backup.restic import LATEST
from horizon_backup.restore import fetch
from horizon_backup.state import State


def drill(config: Config, wanted: str = LATEST) -> dict[str, Any]:
    """Restore a snapshot into a folder, compare it, answer a test message with it. Raises ToolError."""
    state = State(config.folder, config.max_age_s)
    _clear(config)
    try:
        told = _drill(config, wanted)
    except (ToolError, OSError) as error:
        state.failed("drill", str(error))
        raise error if isinstance(error, ToolError) else ToolError(str(error)) from None
    finally:
        _clear(config)
    state.succeeded("drill", **told)
    return told


def _clear(config: Config) -> None:
    """What a drill works with, and what one that was killed has left."""
    for folder in (config.folder / "drill", *Path(tempfile.gettempdir()).glob("hb-drill-*")):
        shutil.rmtree(folder, ignore_errors=True)


def _drill(config: Config, wanted: str) -> dict[str, Any]:
    began = time.monotonic()
    snapshot, bundle = fetch(config, wanted, config.folder / "drill")
    fetched_s = time.monotonic() - began
    rdb = bundle / "redis.rdb"
    # Counted before it is loaded: keys may end between the two, and none begins.
    expected = redis_copy.count(rdb) if rdb.exists() else None
    found = horizonctl(
        config, "restore", "drill", str(bundle), what="The newest backup cannot be restored"
    )
    if expected is not None and (
        found["redis_lasting_keys"] != expected.lasting or found["redis_keys"] > expected.all
    ):
        raise ToolError(
            f"Redis has loaded {found['redis_lasting_keys']} lasting keys of {found['redis_keys']}, "
            f"the backup holds {expected.lasting} of {expected.all}."
        )
    taken_at = datetime.fromisoformat(found["taken_at"])
    age_s = (datetime.now(UTC) - taken_at).total_seconds()
    if age_s > config.max_age_s and wanted == LATEST:
        raise ToolError(
            f"The newest backup is {age_s / 3600:.0f} hours old: "
            "`journalctl -u horizonai-bots-backup` tells why none was taken since."
        )
    return {
        "snapshot": snapshot.short_id,
        "taken_at": found["taken_at"],
        "age_s": round(age_s),
        "fetch_s": round(fetched_s, 1),
        "seconds": round(time.monotonic() - began, 1),
        "rows": found["rows"],
        "redis_keys": found["redis_keys"],
        "answered_in_s": found["answered_in_s"],
    }
