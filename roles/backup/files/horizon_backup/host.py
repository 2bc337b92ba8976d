"""What the tool knows of its host, and how it runs commands there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_TOLD_CHARS = 600


class ToolError(Exception):
    """It cannot be done; the message says why and what to do."""


@dataclass(frozen=True)
class Redis:
    """The host's Redis; `local` is false when it is another host's: then it is not restored here."""

    local: bool = True
    nodes: Sequence[str] = ()
    """Addresses of a cluster's, one of which is the primary; only that one is copied."""
    host: str = "127.0.0.1"
    port: int = 6379
    password: str = ""
    """Of the user `backup`."""
    folder: Path = Path("/var/lib/redis")
    admin_file: Path = Path("/etc/redis/horizonai-bots.admin")
    unit: str = "redis-server.service"
    owner: str = "redis"
    command: Sequence[str] = ()
    """How the unit starts the server."""
    drop_in: Path = Path(
        "/run/systemd/system/redis-server.service.d/zz-horizonai-bots-restore.conf"
    )
    """Makes the unit start it otherwise, until the next restart of the machine at the latest."""


@dataclass(frozen=True)
class Config:
    """`/etc/horizonai-bots/backup.json`, written by the role backup."""

    repository: str
    password_file: Path
    folder: Path
    app_user: str
    env_file: Path
    spool: Path
    host: str
    redis: Redis
    sqlite: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    options: Sequence[str] = ()
    ssh_key_file: Path | None = None
    known_hosts_file: Path | None = None
    keep: Mapping[str, int] = field(default_factory=dict)
    paths: Sequence[str] = ()
    check_subset: str = ""
    max_age_s: int = 93_600
    answer_max_age_s: int = 3_600
    horizonctl: str = "/usr/local/bin/horizonctl"
    releases_lock: Path | None = None
    """What a deploy, a rollback and a cleanup hold while they work (`horizon_lock.py`)."""

    @classmethod
    def read(cls, path: Path) -> Config:
        """Raises ToolError."""
        try:
            given: dict[str, Any] = json.loads(path.read_text())
        except OSError as error:
            raise ToolError(
                f"{path} cannot be read ({error.strerror}): run this as root, and "
                "`ansible-playbook site.yml -i <inventory> --tags backup` before."
            ) from None
        redis = given.pop("redis")
        for name in ("folder", "admin_file", "drop_in"):
            if name in redis:
                redis[name] = Path(redis[name])
        for name in ("password_file", "folder", "env_file", "spool"):
            given[name] = Path(given[name])
        for name in ("sqlite", "releases_lock", "ssh_key_file", "known_hosts_file"):
            given[name] = Path(given[name]) if given.get(name) else None
        return cls(redis=Redis(**redis), **given)

    @property
    def restoring(self) -> Path:
        """While it is there, neither web nor workers start: what they would use is half replaced."""
        return self.folder / "restoring"


def run(
    command: Sequence[str],
    what: str,
    environment: Mapping[str, str] | None = None,
    *,
    may_fail: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run a command without input. Raises ToolError, which begins with `what`."""
    try:
        ended = subprocess.run(
            list(command),
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            # The lock goes along: whatever outlives a killed tool still keeps the next one out.
            close_fds=False,
        )
    except FileNotFoundError:
        raise ToolError(f"{what}: {command[0]} is not installed.") from None
    if ended.returncode and not may_fail:
        told = (ended.stderr.strip() or ended.stdout.strip())[-_TOLD_CHARS:]
        raise ToolError(f"{what}: {told or f'exit code {ended.returncode}'}")
    return ended


def horizonctl(config: Config, *words: str, what: str, may_fail: bool = False) -> Any:
    """The JSON that a command of the running release prints. Raises ToolError."""
    ended = run([config.horizonctl, *words, "--json"], what, may_fail=may_fail)
    try:
        return json.loads(ended.stdout)
    except ValueError:
        told = (ended.stderr.strip() or ended.stdout.strip())[-_TOLD_CHARS:]
        raise ToolError(f"{what}: {told or 'it printed nothing'}") from None


def fresh_folder(path: Path, owner: str | None = None) -> Path:
    """An empty folder for its owner alone."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True, mode=0o700)
    if owner is not None:
        shutil.chown(path, owner, owner)
    return path


def give(folder: Path, owner: str) -> None:
    """Let a folder and all that is in it belong to this user."""
    for path in [folder, *folder.rglob("*")]:
        # Links lead out of the folder.
        if not path.is_symlink():
            shutil.chown(path, owner, owner)
