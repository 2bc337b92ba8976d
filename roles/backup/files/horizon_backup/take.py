"""Taking a backup: the spool, Redis, then SQL, so that what moves on meanwhile is in both, not in neither."""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from horizon_backup import redis_copy
from horizon_backup.host import Config, ToolError, fresh_folder, give, horizonctl
from horizon_backup.restic import Restic
from horizon_backup.state import State

KEPT_OUTSIDE = ("SECRET_KEY",)
"""Settings that are not in the backup: with it, whoever has the backup would have everything."""


def take(config: Config) -> dict[str, Any]:
    """Take a backup, thin out the old ones and check the repository. Raises ToolError."""
    state = State(config.folder, config.max_age_s)
    stage = config.folder / "stage"
    try:
        told = _take(config, stage)
    except (ToolError, OSError) as error:
        state.failed("backup", str(error))
        if isinstance(error, OSError):
            raise ToolError(f"{error.filename}: {error.strerror}.") from None
        raise
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    state.succeeded("backup", **told)
    return told


def _take(config: Config, stage: Path) -> dict[str, Any]:
    if config.restoring.exists():
        raise ToolError("A restore has not come to its end: run it again first.")
    began = datetime.now(UTC)
    fresh_folder(stage)
    _copy_spool(config.spool, stage / "spool")
    if config.redis.local or config.redis.nodes:
        redis_copy.dump(redis_copy.primary(config.redis), stage / "redis.rdb")
        redis_copy.count(stage / "redis.rdb")
    env = stage / "env"
    env.touch(mode=0o600)
    env.write_text(without_secret_key(config.env_file.read_text()))
    give(stage, config.app_user)
    manifest = horizonctl(
        config,
        *("backup", "bundle", str(stage), "--taken-at", began.isoformat()),
        what="The database cannot be copied",
    )
    restic = Restic(config)
    restic.clear()
    paths = [path for path in config.paths if Path(path).exists()]
    census = manifest["database"]["census"]
    summary = restic.backup([str(stage), *paths], census["bots"]["rows"])
    # An empty one does not stand for those of the same day or week that have the lost data.
    if restic.before_loss() is None:
        restic.forget()
    restic.check()
    return {
        "snapshot": summary["snapshot_id"][:8],
        "taken_at": manifest["taken_at"],
        "seconds": round((datetime.now(UTC) - began).total_seconds(), 1),
        "bytes": summary["total_bytes_processed"],
        "added_bytes": summary["data_added"],
        "rows": sum(table["rows"] for table in census.values()),
    }


def without_secret_key(env: str) -> str:
    """The settings, but for those that must not lie beside what they open."""
    kept = [line for line in env.splitlines() if line.partition("=")[0].strip() not in KEPT_OUTSIDE]
    return "\n".join([*kept, "# SECRET_KEY is kept outside the backup.", ""])


def _copy_spool(source: Path, target: Path) -> None:
    target.mkdir(mode=0o700)
    names = sorted(os.listdir(source)) if source.is_dir() else []
    for name in names:
        if name.endswith(".msg"):
            try:
                shutil.copy2(source / name, target / name)
            except FileNotFoundError:
                # Replayed meanwhile: it is in Redis, which is copied after this.
                continue
