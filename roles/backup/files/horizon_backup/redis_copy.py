"""Redis's data: a snapshot while it runs, and putting one in the place of what is there.

An RDB is ignored when an append-only folder is there, and with `appendonly yes` Redis starts empty
beside it. So it is loaded with the append-only file off, which is then switched on while it runs, and
the keys are counted before and after. Source: https://redis.io/docs/latest/operate/oss_and_stack/management/persistence/
"""

from __future__ import annotations

import re
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path

from horizon_backup.host import Redis, ToolError, run

LOADED_WITHIN_S = 900
ANSWER_WITHIN_S = 5
_FILES = ("appendonlydir", "dump.rdb", "appendonly.aof")


@dataclass(frozen=True)
class Keys:
    """How many keys there are; `lasting` are those that never expire."""

    all: int
    lasting: int


def primary(redis: Redis) -> Redis:
    """The one of several that the others follow. Raises ToolError.

    One that was cut off goes on saying that it is the primary, and so does one that comes back; nobody
    follows them. At least half have to answer, or this host itself may be cut off with the wrong one.
    """
    if not redis.nodes:
        return redis
    answers = {node: told for node in redis.nodes if "role:" in (told := _replication(redis, node))}
    followed = {
        node: int(re.findall(r"^connected_slaves:(\d+)", told, re.MULTILINE)[0])
        for node, told in answers.items()
        if re.search(r"^role:master", told, re.MULTILINE)
    }
    most = [node for node, count in followed.items() if count == max(followed.values())]
    if len(most) == 1 and 2 * len(answers) >= len(redis.nodes):
        return replace(redis, host=most[0])
    raise ToolError(
        f"None of {', '.join(redis.nodes)} is Redis's primary now for certain: a fail-over runs, or they do "
        f"not answer ({len(answers)} of {len(redis.nodes)} do). Run this again, and look with "
        "`horizonctl check`."
    )


def _replication(redis: Redis, node: str) -> str:
    # One that is cut off would hold this for minutes.
    command = [
        *("timeout", str(ANSWER_WITHIN_S)),
        *_command(replace(redis, host=node), "backup"),
        *("INFO", "replication"),
    ]
    return run(command, "", {"REDISCLI_AUTH": redis.password}, may_fail=True).stdout


def dump(redis: Redis, target: Path) -> None:
    """Write what Redis holds at this moment. Raises ToolError."""
    told = _cli(
        redis, "backup", redis.password, "--rdb", str(target), what="Redis cannot be copied"
    )
    if not target.is_file() or target.stat().st_size == 0:
        raise ToolError(f"Redis cannot be copied: {told.strip()[-300:] or 'no file was written'}.")
    target.chmod(0o600)


def count(rdb: Path) -> Keys:
    """What an RDB file holds that has not expired. Raises ToolError: it is damaged."""
    told = run(["redis-check-rdb", str(rdb)], "The copy of Redis is damaged").stdout
    # A value's own text is never printed; "keys read" counts those with an expiry too.
    found = {
        name: int(number)
        for number, name in re.findall(r"(\d+) (keys read|expires|already expired)", told)
    }
    if "keys read" not in found:
        raise ToolError("The copy of Redis is damaged: redis-check-rdb does not count its keys.")
    expires, expired = found.get("expires", 0), found.get("already expired", 0)
    return Keys(found["keys read"] - expired, found["keys read"] - expires)


def load(redis: Redis, rdb: Path, kept: Path) -> Keys:
    """Stop Redis, put its files into `kept`, and start it with the RDB's keys. Raises ToolError."""
    expected = count(rdb)
    run(["systemctl", "stop", redis.unit], "Redis cannot be stopped")
    for name in _FILES:
        old = redis.folder / name
        if old.exists():
            shutil.move(old, kept / name)
    place = redis.folder / "dump.rdb"
    shutil.copyfile(rdb, place)
    place.chmod(0o660)
    shutil.chown(place, redis.owner, redis.owner)
    drop_in = redis.drop_in
    drop_in.parent.mkdir(parents=True, exist_ok=True)
    start = " ".join([*redis.command, "--appendonly", "no"])
    drop_in.write_text(f"[Service]\nExecStart=\nExecStart={start}\n")
    try:
        run(["systemctl", "daemon-reload"], "systemd cannot be told")
        run(["systemctl", "start", redis.unit], "Redis cannot be started")
        loaded = _counted(redis)
        _compare("Redis has loaded", expected, loaded)
        admin(redis, "CONFIG", "SET", "appendonly", "yes")
        _await_rewrite(redis)
    finally:
        drop_in.unlink(missing_ok=True)
        run(["systemctl", "daemon-reload"], "systemd cannot be told")
    run(["systemctl", "restart", redis.unit], "Redis cannot be started")
    again = _counted(redis)
    _compare("Redis has after its restart", expected, again)
    return again


def admin(redis: Redis, *words: str) -> str:
    """A command as the user admin. Raises ToolError."""
    try:
        password = redis.admin_file.read_text().strip()
    except OSError as error:
        raise ToolError(f"{redis.admin_file} cannot be read: {error.strerror}.") from None
    told = _cli(redis, "admin", password, *words, what=f"Redis refuses {words[0]}")
    if told.startswith(("ERR", "NOPERM", "NOAUTH", "WRONGPASS", "LOADING")):
        raise ToolError(f"Redis refuses {words[0]}: {told.strip()}.")
    return told


def _compare(what: str, expected: Keys, found: Keys) -> None:
    # Keys with an expiry may end between the two counts.
    if found.lasting != expected.lasting or found.all > expected.all:
        raise ToolError(
            f"{what} {found.lasting} lasting keys of {found.all}, the backup {expected.lasting} of "
            f"{expected.all}: nothing was started. Look at Redis's log, then run the restore again."
        )


def _counted(redis: Redis) -> Keys:
    """Once everything is loaded."""
    deadline = time.monotonic() + LOADED_WITHIN_S
    while True:
        try:
            if re.search(r"^loading:0", admin(redis, "INFO", "persistence"), re.MULTILINE):
                break
        except ToolError:
            if time.monotonic() > deadline:
                raise
        if time.monotonic() > deadline:
            raise ToolError(f"Redis has not loaded its data within {LOADED_WITHIN_S} s.")
        time.sleep(0.2)
    told = admin(redis, "INFO", "keyspace")
    keys = sum(int(n) for n in re.findall(r"keys=(\d+)", told))
    expires = sum(int(n) for n in re.findall(r"expires=(\d+)", told))
    return Keys(keys, keys - expires)


def _await_rewrite(redis: Redis) -> None:
    deadline = time.monotonic() + LOADED_WITHIN_S
    while True:
        told = admin(redis, "INFO", "persistence")
        if not re.search(r"aof_rewrite_(in_progress|scheduled):1", told):
            break
        if time.monotonic() > deadline:
            raise ToolError(f"Redis wrote no append-only file within {LOADED_WITHIN_S} s.")
        time.sleep(0.1)
    if "aof_enabled:1" not in told or "aof_last_bgrewrite_status:ok" not in told:
        raise ToolError(
            "Redis cannot write its append-only file: look at its log, and run this again."
        )


def _cli(redis: Redis, user: str, password: str, *words: str, what: str) -> str:
    # The password goes through the environment: arguments are seen by everybody.
    return run([*_command(redis, user), *words], what, {"REDISCLI_AUTH": password}).stdout


def _command(redis: Redis, user: str) -> list[str]:
    return ["redis-cli", "-h", redis.host, "-p", str(redis.port), "--user", user]
