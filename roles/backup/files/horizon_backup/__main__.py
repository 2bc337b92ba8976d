"""The commands: run, init, snapshots, restore, drill. They print JSON; an error is one sentence."""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from horizon_backup.drill import drill
from horizon_backup.host import Config, ToolError
from horizon_backup.restic import LATEST, Restic
from horizon_backup.restore import restore
from horizon_backup.take import take


def main() -> int:
    parser = argparse.ArgumentParser(prog="horizonai-backup")
    parser.add_argument("command", choices=["run", "init", "snapshots", "restore", "drill"])
    parser.add_argument("--snapshot", default=LATEST)
    parser.add_argument("--answer-max-age", type=int, help="seconds, instead of the settings'")
    parser.add_argument("--config", type=Path, default=Path("/etc/horizonai-bots/backup.json"))
    given = parser.parse_args()
    os.umask(0o077)
    try:
        config = Config.read(given.config)
        if given.answer_max_age is not None:
            config = replace(config, answer_max_age_s=given.answer_max_age)
        told = _do(given.command, given.snapshot, config)
    except ToolError as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(told, indent=2))
    left = _left(told)
    for sentence in left:
        print(sentence, file=sys.stderr)
    return 1 if left else 0


def _left(told: dict[str, Any]) -> list[str]:
    """What a restore could not ask Twilio."""
    found = told.get("reconciled") or {}
    left = []
    if unsettled := found.get("unsettled"):
        names = ", ".join(f"{name} ({code})" for name, code in unsettled[:10])
        left.append(
            f"The data are restored. {len(unsettled)} conversations could not be compared with what "
            "Twilio has sent, and the workers stay held: run `horizonctl restore reconcile` on the "
            f"host when the cause is gone. They are: {names}{', …' * (len(unsettled) > 10)}."
        )
    if unlisted := found.get("unlisted"):
        names = ", ".join(f"{name} ({code})" for name, code in unlisted)
        again = (
            "run `horizonctl restore reconcile` on the host"
            if unsettled
            else f"run `horizonctl restore hold --backup-at {told['taken_at']}` and "
            "`horizonctl restore reconcile` on the host"
        )
        left.append(
            "What Twilio delivered after the backup could not be listed for every bot: mend the "
            f"cause, then {again}, or look into Twilio's console. The bots: {names}."
        )
    return left


def _do(command: str, snapshot: str, config: Config) -> dict[str, Any]:
    if command == "snapshots":
        found = Restic(config).snapshots()
        return {
            "snapshots": [{"id": s.short_id, "at": s.at.isoformat(), "bots": s.bots} for s in found]
        }
    with _alone(config.folder):
        if command == "init":
            restic = Restic(config)
            is_there = restic.exists()
            if not is_there:
                restic.init()
            return {"changed": not is_there}
        if command == "run":
            return take(config)
        if command == "restore":
            with _no_release_moves(config.releases_lock):
                return restore(config, snapshot)
        return drill(config, snapshot)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    with open(folder / ".lock", "w") as file:
        os.set_inheritable(file.fileno(), True)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ToolError(
                "A backup, restore or drill runs on this host already: wait for it."
            ) from None
        yield


@contextmanager
def _no_release_moves(lock: Path | None) -> Iterator[None]:
    """Nothing is deployed, rolled back or cleaned up meanwhile; and not this while one of them works.

    The lock of `horizon_lock.py`, with what that one reads. It ends with this process; what a killed
    restore leaves is known by `Config.restoring`.
    """
    if lock is None:
        yield
        return
    with open(lock, "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise ToolError(_holder(file.read())) from None
        file.truncate(0)
        since = datetime.now(UTC).strftime("%H:%M UTC")
        file.write(json.dumps({"what": "A restore", "since": since, "pid": os.getpid()}))
        file.flush()
        yield


def _holder(text: str) -> str:
    try:
        told = json.loads(text)
        who = f"{told['what']} runs on this host since {told['since']} (process {told['pid']})"
    except (ValueError, TypeError, KeyError):
        who = "A deploy runs on this host"
    return f"Nothing was restored. {who}. Remedy: wait until it has ended, then run this again."


if __name__ == "__main__":
    sys.exit(main())
