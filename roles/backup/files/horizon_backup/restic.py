"""restic, with the few commands that are needed. Source: https://restic.readthedocs.io/"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from horizon_backup import sftp
from horizon_backup.host import Config, ToolError, run

TAG = "horizonai-bots"
LATEST = "latest"
_BOTS = "bots="
_DAY_S = 86_400
# A folder, SFTP and S3, by restic 0.14 and by newer ones. A store that cannot be asked is something else.
_NO_REPOSITORY = re.compile(
    r"config file[^\n]*(no such file or directory|does not exist)|repository does not exist",
    re.IGNORECASE,
)
_WRONG_PASSWORD = re.compile(r"wrong password or no key found", re.IGNORECASE)
_LOCKED = re.compile(r"repository is already locked", re.IGNORECASE)


@dataclass(frozen=True)
class Snapshot:
    """One backup in the repository."""

    id: str
    short_id: str
    at: datetime
    host: str
    bots: int | None
    """How many bots it holds; None when its tags do not say."""

    def __str__(self) -> str:
        return f"{self.short_id} ({self.at:%Y-%m-%d %H:%M})"


class Restic:
    """Raises ToolError with a remedy."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def exists(self) -> bool:
        """Whether the repository is there and the password opens it."""
        ended = self._run("cat", "config", "--no-lock", may_fail=True)
        if ended.returncode == 0:
            return True
        if _NO_REPOSITORY.search(ended.stderr) and not _WRONG_PASSWORD.search(ended.stderr):
            return False
        raise self._error("The repository cannot be opened", ended)

    def init(self) -> None:
        self._do("The repository cannot be made", "init")

    def clear(self) -> None:
        """Remove what killed runs have left: their locks, checks' caches, packs that were begun.

        Locks of processes that run stay, and another host's for half an hour.
        """
        self._do("The repository's locks cannot be looked at", "unlock")
        for cache in (self._config.folder / "cache").glob("restic-check-cache-*"):
            shutil.rmtree(cache, ignore_errors=True)
        # In a folder, no command of restic looks at them; another host may be writing younger ones.
        if self._config.repository.startswith("/"):
            for pack in Path(self._config.repository).glob("data/*/*-tmp-*"):
                if pack.stat().st_mtime < time.time() - _DAY_S:
                    pack.unlink(missing_ok=True)

    def backup(self, paths: Sequence[str], bots: int) -> dict[str, Any]:
        """Take a snapshot, marked with how many bots it holds; restic's own summary."""
        ended = self._do(
            "The snapshot cannot be written",
            *("backup", "--json", "--host", self._config.host, "--tag", TAG),
            *("--tag", f"{_BOTS}{bots}"),
            *paths,
        )
        for line in reversed(ended.stdout.splitlines()):
            told: dict[str, Any] = json.loads(line)
            if told.get("message_type") == "summary":
                return told
        raise ToolError("The snapshot cannot be written: restic gave no summary.")

    def forget(self) -> None:
        """Keep what the retention says, and give the room of the rest back."""
        keep = [
            word for name, n in self._config.keep.items() for word in (f"--keep-{name}", str(n))
        ]
        if keep:
            self._do(
                "Old snapshots cannot be removed",
                *("forget", "--host", self._config.host, "--tag", TAG, "--group-by", "host"),
                *("--prune", *keep),
            )

    def check(self) -> None:
        """See that the repository is whole, and read a part of its data."""
        subset = self._config.check_subset
        words = [f"--read-data-subset={subset}"] if subset else []
        self._do("The repository is damaged or cannot be checked", "check", *words)

    def snapshots(self) -> list[Snapshot]:
        """This host's backups, oldest first."""
        ended = self._do(
            "The snapshots cannot be listed",
            *("snapshots", "--no-lock", "--json", "--host", self._config.host, "--tag", TAG),
        )
        found = [
            Snapshot(
                *(told["id"], told["short_id"], _moment(told["time"]), told["hostname"]),
                _bots_in(told.get("tags") or []),
            )
            for told in json.loads(ended.stdout) or []
        ]
        return sorted(found, key=lambda snapshot: snapshot.at)

    def snapshot(self, wanted: str) -> Snapshot:
        """The newest, or the one whose id begins like this."""
        found = self.snapshots()
        if not found:
            raise ToolError(
                f"There is no backup of {self._config.host} in {self._config.repository}: take one "
                "with `ansible-playbook backup.yml -i <inventory>`, or set backup_host to the name "
                "that it was made under."
            )
        if wanted == LATEST:
            return found[-1]
        same = [snapshot for snapshot in found if wanted and snapshot.id.startswith(wanted)]
        if len(same) != 1:
            known = ", ".join(map(str, found[-10:]))
            raise ToolError(f"There is no snapshot {wanted}. The last ones: {known}.")
        return same[0]

    def before_loss(self) -> tuple[Snapshot, Snapshot] | None:
        """The newest, without bots, and the newest with bots; None when there are no such two.

        A host that was installed anew after a loss takes its own empty backup every night.
        """
        found = self.snapshots()
        full = [snapshot for snapshot in found if snapshot.bots]
        return (found[-1], full[-1]) if full and found[-1].bots == 0 else None

    def restore(self, snapshot: Snapshot, target: Path) -> None:
        self._do(
            f"Snapshot {snapshot.short_id} cannot be read",
            *("restore", snapshot.id, "--target", str(target)),
        )

    def _do(self, what: str, *words: str) -> subprocess.CompletedProcess[str]:
        ended = self._run(*words, may_fail=True)
        if ended.returncode:
            raise self._error(what, ended)
        return ended

    def _run(self, *words: str, may_fail: bool) -> subprocess.CompletedProcess[str]:
        environment = {
            **self._config.environment,
            "RESTIC_REPOSITORY": self._config.repository,
            "RESTIC_PASSWORD_FILE": str(self._config.password_file),
            "RESTIC_CACHE_DIR": str(self._config.folder / "cache"),
        }
        given = [*sftp.restic_options(self._config), *self._config.options]
        options = [word for option in given for word in ("-o", option)]
        return run(["restic", *options, *words], "restic", environment, may_fail=may_fail)

    def _error(self, what: str, ended: subprocess.CompletedProcess[str]) -> ToolError:
        told = ended.stderr.strip()
        where = self._config.repository
        if _WRONG_PASSWORD.search(told):
            remedy = (
                f"the password does not open {where}: put the one it was made with into "
                "vault_backup_password and run `ansible-playbook site.yml -i <inventory> --tags backup`"
            )
        elif _NO_REPOSITORY.search(told):
            remedy = (
                f"there is no repository at {where}: check backup_repository; "
                "`ansible-playbook site.yml -i <inventory> --tags backup` makes a new one"
            )
        elif _LOCKED.search(told):
            remedy = (
                "another host works in it, or was killed: wait half an hour, then run this again"
            )
        elif "no space left" in told.lower():
            remedy = f"the disk of {where} is full: make room there"
        elif not_let_in := sftp.why_not(self._config):
            remedy = not_let_in
        else:
            fatal = [line for line in told.splitlines() if line.startswith("Fatal: ")]
            lines = [line.removeprefix("Fatal: ") for line in fatal] or told.splitlines()
            remedy = lines[-1].rstrip(".") if lines else f"exit code {ended.returncode}"
        return ToolError(f"{what}: {remedy}.")


def _bots_in(tags: Sequence[str]) -> int | None:
    told = [tag.removeprefix(_BOTS) for tag in tags if tag.startswith(_BOTS)]
    return int(told[0]) if told and told[0].isdigit() else None


def _moment(text: str) -> datetime:
    # restic tells nanoseconds, Python reads microseconds.
    return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text))
