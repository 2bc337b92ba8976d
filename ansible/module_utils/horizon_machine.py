"""The machine as `horizon_releases` needs it: systemd, the release's own commands, private sockets.

Standard library only: this runs on the hosts.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any

from ansible.module_utils.horizon_migrations import Migration
from ansible.module_utils.horizon_migrations import read as read_migrations
from ansible.module_utils.horizon_redis_client import Redis, RedisError
from ansible.module_utils.horizon_releases import (
    WEB,
    ReleaseError,
    UnitState,
    instance_of,
)
from ansible.module_utils.horizon_sentinels import url_of_primary

WANTS = Path("/etc/systemd/system/horizonai-bots.service.wants")
PATTERNS = ("horizonai-bots@*.service", "horizonai-bots-worker@*.service")
COMMAND_TIMEOUT_S = 600
SAVE_TIMEOUT_S = 4 * 3600
BACKUP_SUFFIXES = (".db", ".dump")
"""Of SQLite's file and PostgreSQL's dump."""
ANSWER_TIMEOUT_S = 5
HORIZONCTL = "/usr/local/bin/horizonctl"
LOG_LINES = 60
MAX_WORDS = 400


class Machine:
    """Implements `horizon_releases.Host`."""

    def __init__(
        self,
        root: Path,
        run_folder: Path,
        env_file: Path,
        backup_folder: Path | None,
        *,
        is_postgresql: bool = False,
    ) -> None:
        self._root = root
        self._env_file = env_file
        self._run_folder = run_folder
        self._backup_folder = backup_folder
        self._backup_suffix = ".dump" if is_postgresql else ".db"

    def units(self) -> list[str]:
        lines = self._systemctl("list-units", "--all", "--plain", "--no-legend", *PATTERNS)
        found = []
        for line in lines.splitlines():
            name, _load, active = line.split()[:3]
            if active not in ("inactive", "failed") and instance_of(name):
                found.append(name)
        return sorted(found)

    def state(self, unit: str) -> UnitState:
        names = "ActiveState,SubState,NRestarts,MainPID"
        lines = self._systemctl("show", "--property", names, unit).splitlines()
        values = dict(line.split("=", 1) for line in lines if "=" in line)
        waits = values["SubState"] == "auto-restart"
        return UnitState(
            name=unit,
            active="failed" if waits else values["ActiveState"],
            restarts=int(values.get("NRestarts") or 0),
            main_pid=int(values.get("MainPID") or 0),
        )

    def start(self, units: Iterable[str]) -> None:
        names = list(units)
        code, text = _run("systemctl", "start", *names)
        if code:
            failed = next((unit for unit in names if self.state(unit).has_died), names[0])
            raise ReleaseError(f"{failed} does not start: {self.last_words(failed) or text}")

    def stop(self, units: Iterable[str]) -> None:
        names = list(units)
        if not names:
            return
        self._systemctl("stop", *names)
        # What failed before has nothing to be forgotten when systemd has unloaded it meanwhile.
        _run("systemctl", "reset-failed", *names)
        for unit in names:
            match = WEB.match(unit)
            if match:
                self._private_socket(match["instance"]).unlink(missing_ok=True)

    def enable(self, units: Iterable[str]) -> None:
        self._systemctl("enable", "--quiet", *units)

    def enabled(self) -> list[str]:
        if not WANTS.is_dir():
            return []
        return sorted(path.name for path in WANTS.iterdir() if instance_of(path.name))

    def disable(self, units: Iterable[str]) -> None:
        names = list(units)
        if names:
            self._systemctl("disable", "--quiet", *names)

    def reload(self) -> None:
        """Let systemd read the units again."""
        self._systemctl("daemon-reload")

    def schema(self, release: str) -> dict[str, Any]:
        code, output, errors = self._horizonctl(release, "db", "current", "--json")
        try:
            schema = json.loads(output)
        except ValueError:
            reason = _last_line(errors) or _last_line(output) or f"exit code {code}"
            raise ReleaseError(f"it cannot read the database's schema: {reason}") from None
        return dict(schema)

    def migrations(self, release: str) -> list[Migration]:
        try:
            return read_migrations(self._root / "releases" / release)
        except (OSError, ValueError, SyntaxError) as error:
            raise ReleaseError(f"the migrations of {release} cannot be read: {error}") from None

    def migrate(self, release: str, *, is_new: bool) -> None:
        if self._backup_folder is not None and not is_new:
            file = self._backup_folder / f"before-{release}{self._backup_suffix}"
            if not self._backup_folder.exists():
                self._backup_folder.mkdir(mode=0o700)
                home = self._backup_folder.parent.stat()
                os.chown(self._backup_folder, home.st_uid, home.st_gid)
            self._must(
                release,
                "the database cannot be saved before its migration, and is as it was",
                *("db", "backup", "--force", str(file)),
                timeout_s=SAVE_TIMEOUT_S,
            )
            self._drop_old_backups()
        self._must(release, "its migration failed, and the database is as it was", "db", "upgrade")

    def probe(self, release: str) -> None:
        # A play that ended before its handlers may have left changed units.
        self.reload()
        unit = f"horizonai-bots-probe@{release}.service"
        code, text = _run("systemctl", "start", unit)
        if code:
            words = self.last_words(unit) or text
            _run("systemctl", "reset-failed", unit)
            raise ReleaseError(f"its probe failed: {words}")

    def ready(self, instance: str) -> str | None:
        connection = _UnixConnection(self._private_socket(instance))
        try:
            connection.request("GET", "/health/ready", headers={"Host": "localhost"})
            answer = connection.getresponse()
            body = answer.read(10_000).decode(errors="replace")
        except OSError as error:
            return f"no answer ({error.strerror or error})"
        finally:
            connection.close()
        return None if answer.status == 200 else f"HTTP {answer.status} {body.strip()}"

    def beating(self, release: str, main_pids: Iterable[int]) -> set[int]:
        """From the keys of `service/store/heartbeats.py`, read without a process of the release's:
        a small machine has no memory for one more beside two releases.
        """
        found = set()
        try:
            with Redis(self._redis_url()) as redis:
                for pid in main_pids:
                    beat = redis.get(f"hb:worker:{socket.gethostname()}:{pid}")
                    if beat is not None and json.loads(beat)["release"] == release:
                        found.add(pid)
        except RedisError as error:
            raise ReleaseError(f"the workers' heartbeats cannot be read: {error}") from error
        except OSError:
            # Away for a moment; whoever waits asks again.
            return set()
        return found

    def last_words(self, unit: str) -> str:
        _code, text = _run(
            *("journalctl", "--unit", unit, "--lines", str(LOG_LINES), "--output", "json"),
            *("--output-fields", "MESSAGE,SYSLOG_IDENTIFIER", "--no-pager", "--quiet"),
        )
        said = ""
        for line in text.splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            message = entry.get("MESSAGE")
            if isinstance(message, str) and entry.get("SYSLOG_IDENTIFIER") != "systemd":
                said = _words(message) or said
        return said[:MAX_WORDS]

    def link_current(self, release: str) -> None:
        link = self._root / "current"
        new = self._root / "current.new"
        new.unlink(missing_ok=True)
        new.symlink_to(f"releases/{release}")
        new.rename(link)

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def _redis_url(self) -> str:
        command = f'set -a; . "{self._env_file}" && env --null'
        path = {"PATH": os.environ.get("PATH", os.defpath)}
        lines = subprocess.check_output(["sh", "-c", command], env=path, text=True).split("\0")
        return url_of_primary(dict(line.split("=", 1) for line in lines if "=" in line))

    def _private_socket(self, instance: str) -> Path:
        return self._run_folder / f"web-{instance}.sock"

    def _drop_old_backups(self, keep: int = 5) -> None:
        assert self._backup_folder is not None  # noqa: S101 # told to the type checker
        files = (self._backup_folder.glob(f"before-*{suffix}") for suffix in BACKUP_SUFFIXES)
        found = sorted(chain.from_iterable(files), key=lambda file: file.stat().st_mtime)
        for file in found[:-keep]:
            file.unlink()

    def _must(
        self, release: str, sentence: str, *command: str, timeout_s: float = COMMAND_TIMEOUT_S
    ) -> None:
        code, output, errors = self._horizonctl(release, *command, timeout_s=timeout_s)
        if code:
            reason = _last_line(errors) or _last_line(output) or f"exit code {code}"
            raise ReleaseError(f"{sentence}: {reason}")

    def _horizonctl(
        self, release: str, *command: str, timeout_s: float = COMMAND_TIMEOUT_S
    ) -> tuple[int, str, str]:
        try:
            result = subprocess.run(
                [HORIZONCTL, *command],
                env={**os.environ, "HORIZON_RELEASE": release},
                capture_output=True,
                text=True,
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            words = " ".join(command[:2])
            raise ReleaseError(f"`horizonctl {words}` took longer than {timeout_s:.0f} s") from None
        return result.returncode, result.stdout, result.stderr

    def _systemctl(self, *arguments: str) -> str:
        code, text = _run("systemctl", *arguments)
        if code:
            raise ReleaseError(f"systemctl {arguments[0]} failed: {_last_line(text)}")
        return text


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=ANSWER_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(ANSWER_TIMEOUT_S)
        self.sock.connect(str(self._path))


def _run(*command: str) -> tuple[int, str]:
    """Exit code and what was printed, errors included."""
    result = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=COMMAND_TIMEOUT_S,
        check=False,
    )
    return result.returncode, result.stdout


def _words(message: str) -> str:
    """What a person reads of a log line: of the service's objects the event and its exception."""
    line = _last_line(message)
    try:
        entry = json.loads(line)
    except ValueError:
        return line
    if not isinstance(entry, dict):
        return line
    if entry.get("level") not in ("error", "critical"):
        return ""
    return ": ".join(
        filter(None, (str(entry.get("event", "")), _last_line(entry.get("exception", ""))))
    )


def _last_line(text: str) -> str:
    lines = [line.strip() for line in re.split(r"[\r\n]+", text) if line.strip()]
    return lines[-1] if lines else ""
