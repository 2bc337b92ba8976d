"""The commands: run, init, snapshots, restore, drill. They print JSON; an error is one sentence."""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
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
    parser.add_argument("--config", type=Path, default=Path("/etc/horizonai-bots/backup.json"))
    given = parser.parse_args()
    os.umask(0o077)
    try:
        told = _do(given.command, given.snapshot, given.config)
    except ToolError as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(told, indent=2))
    unsettled = (told.get("reconciled") or {}).get("unsettled")
    if not unsettled:
        return 0
    print(
        f"The data are restored. {len(unsettled)} conversations could not be compared with what "
        "Twilio has sent, and the workers stay held: run `horizonctl restore reconcile` on the host "
        "when the cause is gone. The first: " + " ".join(map(str, unsettled[0])),
        file=sys.stderr,
    )
    return 1


def _do(command: str, snapshot: str, path: Path) -> dict[str, Any]:
    config = Config.read(path)
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


if __name__ == "__main__":
    sys.exit(main())
