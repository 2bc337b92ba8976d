"""What a release must be able to do before it is let near traffic, apart from answering HTTP."""

from __future__ import annotations

import importlib
import secrets
from pathlib import Path
from tempfile import TemporaryFile

import redis

from service.container import Container
from service.settings import Settings, SettingsError
from service.store import keys
from service.store.redis_client import RedisDownError, RedisStore

_MOST_CHARS = 300

# Every command that the scripts of the store use, on keys of its own; a test compares them.
# ARGV: id
SCRIPT = """
local k = 'hb:probe:'..ARGV[1]
redis.call('TIME')
redis.call('SET', k..':string', '1', 'EX', 60)
redis.call('GET', k..':string')
redis.call('EXISTS', k..':string')
redis.call('HSET', k..':hash', 'a', '1')
redis.call('HSETNX', k..':hash', 'b', '1')
redis.call('HGET', k..':hash', 'a')
redis.call('HMGET', k..':hash', 'a', 'b')
redis.call('HDEL', k..':hash', 'b')
redis.call('RPUSH', k..':list', '1')
redis.call('LRANGE', k..':list', 0, 0)
redis.call('LREM', k..':list', 1, '1')
redis.call('SADD', k..':set', '1')
redis.call('SCARD', k..':set')
redis.call('SREM', k..':set', '1')
redis.call('ZADD', k..':sorted', 1, 'a')
redis.call('ZCARD', k..':sorted')
redis.call('ZRANGE', k..':sorted', 0, 0)
redis.call('ZSCORE', k..':sorted', 'a')
redis.call('ZREM', k..':sorted', 'a')
redis.call('PUBLISH', k, '1')
redis.call('DEL', k..':string', k..':hash', k..':list', k..':set', k..':sorted')
return 1
"""
_TYPES = ("string", "hash", "list", "set", "sorted")


class ProbeError(Exception):
    """The release does not work here; the message is one sentence with the remedy."""


def one_line(error: object) -> str:
    """An error as part of a sentence."""
    text = " ".join(str(error).split())[:_MOST_CHARS].rstrip(".")
    return text or type(error).__name__


def check_redis(store: RedisStore) -> None:
    """Redis answers, takes writes and runs scripts like ours; what was written is removed.

    Raises:
        ProbeError: it does not.
    """
    name = secrets.token_hex(8)
    try:
        with store.outages():
            try:
                # As the directory of bots does it: EVALSHA, SCRIPT LOAD.
                store.client.register_script(SCRIPT)(args=[name])
                store.command("EVAL", SCRIPT, 0, name)
            except redis.ResponseError:
                store.client.delete(*(f"{keys.PREFIX}probe:{name}:{type_}" for type_ in _TYPES))
                raise
            with store.channel(keys.WAKE):
                pass
            list(store.client.scan_iter(keys.worker("*"), count=1_000))
    except RedisDownError as error:
        if isinstance(error.__cause__, redis.ResponseError):
            raise ProbeError(
                f"Redis refuses what the service needs ({one_line(error.__cause__)}): allow its user "
                "all commands on keys and channels that begin with hb:, and leave room for writes."
            ) from error
        raise ProbeError(
            f"Redis cannot be used ({one_line(error)}): check that it runs and that REDIS_URL, or "
            "REDIS_SENTINELS, names it."
        ) from error


def check_metrics(folder: Path) -> None:
    """The folder takes files. Raises ProbeError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ProbeError(
            f"The folder {folder} cannot be used ({error.strerror}): make it writable for this "
            "user, or name another in METRICS_DIR."
        ) from error


def check_worker(container: Container) -> None:
    """Everything that a worker needs is there. Raises ProbeError."""
    try:
        importlib.import_module("service.worker")
        container.runner(lambda _task, after_s=0: None)
    except SettingsError as error:
        raise ProbeError(f"A worker cannot start: {one_line(error)}.") from error
    except Exception as error:
        raise ProbeError(
            f"A worker cannot be built ({type(error).__name__}: {one_line(error)}): install the "
            "packages that the release locks, or deploy another release."
        ) from error


def check_stores_and_worker(settings: Settings, folder: Path) -> None:
    """All of the above; counters go to `folder`, not among the live ones. Raises ProbeError."""
    check_metrics(settings.metrics_folder)
    container = Container(settings.model_copy(update={"metrics_dir": folder}))
    try:
        check_worker(container)
        check_redis(container.redis)
    finally:
        container.close()
