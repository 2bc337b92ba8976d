"""Putting a backup in the place of what is there: checked first, nothing lost, nobody answered twice."""

from __future__ import annotations

import shutil
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from horizon_backup import redis_copy
from horizon_backup.host import Config, ToolError, fresh_folder, give, horizonctl, run
from horizon_backup.restic import LATEST, Restic, Snapshot

SERVICE = ("horizonai-bots.socket", "horizonai-bots.service")
"""The socket too: a connection to it would start the rest."""
_READY_WITHIN_S = 120


def restore(config: Config, wanted: str) -> dict[str, Any]:
    """Restore a snapshot. It may be run again after it was interrupted anywhere. Raises ToolError."""
    began = time.monotonic()
    if wanted == LATEST and (found := Restic(config).before_loss()):
        newest, full = found
        raise ToolError(
            f"The newest backup, {newest}, has no bot; {full} has {full.bots}. Name the one that you "
            f"want: -e snapshot={full.short_id} or -e snapshot={newest.short_id}."
        )
    snapshot, bundle = fetch(config, wanted, config.folder / "restore")
    checked = horizonctl(
        config, "restore", "check", str(bundle), what="The backup cannot be used here"
    )
    rdb = bundle / "redis.rdb"
    if config.redis.local != rdb.exists():
        raise ToolError(
            "The backup has no copy of Redis, and this host runs one: take another snapshot."
            if config.redis.local
            else "Redis runs on another host: load redis.rdb there (docs/backup.md says how)."
        )
    if config.redis.local:
        redis_copy.count(rdb)

    kept = config.folder / "kept" / datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    fresh_folder(kept)
    config.restoring.write_text(f"{snapshot.id}\n")
    run(["systemctl", "stop", *SERVICE], "The service cannot be stopped")
    _keep_database(config, kept)
    keys = None
    if config.redis.local:
        keys = redis_copy.load(config.redis, rdb, kept)
    horizonctl(
        config,
        *("restore", "hold", "--backup-at", checked["taken_at"]),
        what="The workers cannot be held",
    )
    horizonctl(config, "restore", "load", str(bundle), what="The database cannot be loaded")
    _restore_spool(config, bundle / "spool")
    differ = differing_settings((bundle / "env").read_text(), config.env_file.read_text())
    certificates = _restore_certificates(config, config.folder / "restore")

    config.restoring.unlink()
    run(["systemctl", "start", *SERVICE], "The service cannot be started")
    _await_service(config)
    found = horizonctl(
        config,
        *("restore", "reconcile", "--max-age", str(config.answer_max_age_s)),
        what="What is pending cannot be compared with Twilio; the workers stay held. Run "
        "`horizonctl restore reconcile` when the cause is gone",
        may_fail=True,
    )
    shutil.rmtree(config.folder / "restore", ignore_errors=True)
    return {
        "snapshot": snapshot.short_id,
        "taken_at": checked["taken_at"],
        "kept": str(kept),
        "redis_keys": keys.all if keys else None,
        "settings_that_differ": differ,
        "certificates": certificates,
        "seconds": round(time.monotonic() - began, 1),
        "reconciled": found,
    }


def fetch(config: Config, wanted: str, target: Path) -> tuple[Snapshot, Path]:
    """Read a snapshot from the repository; the folder of its bundle. Raises ToolError."""
    restic = Restic(config)
    restic.clear()
    snapshot = restic.snapshot(wanted)
    fresh_folder(target)
    # The service's user looks into the bundle, and into nothing else of it.
    target.chmod(0o711)
    restic.restore(snapshot, target)
    found = sorted(target.rglob("manifest.json"))
    if len(found) != 1:
        raise ToolError(
            f"Snapshot {snapshot.short_id} holds no backup of this service: take another."
        )
    bundle = target / "bundle"
    found[0].parent.rename(bundle)
    give(bundle, config.app_user)
    return snapshot, bundle


def differing_settings(backup: str, present: str) -> list[str]:
    """Names of settings that are not as they were, never their values."""
    before, after = _settings(backup), _settings(present)
    names = (before.keys() | after.keys()) - {"SECRET_KEY"}
    return sorted(name for name in names if before.get(name) != after.get(name))


def _settings(text: str) -> dict[str, str]:
    lines = [line for line in text.splitlines() if "=" in line and not line.startswith("#")]
    return {name.strip(): value for name, _, value in (line.partition("=") for line in lines)}


def _keep_database(config: Config, kept: Path) -> None:
    if config.sqlite is not None:
        for suffix in ("", "-wal", "-shm"):
            old = config.sqlite.with_name(config.sqlite.name + suffix)
            if old.exists():
                shutil.move(old, kept / old.name)
        return
    what = "The present database cannot be looked at, so it is not replaced"
    if horizonctl(config, "db", "current", what=what, may_fail=True)["state"] == "empty":
        return
    folder = fresh_folder(kept / "database", config.app_user)
    # The service's user has to reach it.
    for above in (config.folder / "kept", kept):
        above.chmod(0o711)
    horizonctl(
        config,
        *("backup", "bundle", str(folder)),
        what="The present database cannot be kept, so it is not replaced",
    )


def _restore_spool(config: Config, spool: Path) -> None:
    config.spool.mkdir(parents=True, exist_ok=True)
    for path in sorted(spool.glob("*.msg")) if spool.is_dir() else []:
        target = config.spool / path.name
        if not target.exists():
            # Whole under its name or not at all.
            temporary = target.with_name(f".restored-{path.name}")
            shutil.copy2(path, temporary)
            shutil.chown(temporary, config.app_user, config.app_user)
            temporary.rename(target)


def _restore_certificates(config: Config, restored: Path) -> list[str]:
    """Those of folders that this host does not have; present ones may be newer than the backup's."""
    brought = []
    for name in config.paths:
        source, target = restored / name.lstrip("/"), Path(name)
        if source.is_dir() and not (target.is_dir() and any(target.iterdir())):
            shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
            brought.append(name)
    return brought


def _await_service(config: Config) -> None:
    deadline = time.monotonic() + _READY_WITHIN_S
    while True:
        try:
            # Degraded is what it has to be: the workers are held.
            horizonctl(config, "health", what="The service does not answer", may_fail=True)
        except ToolError:
            if time.monotonic() > deadline:
                raise
            time.sleep(1)
        else:
            return
