"""The Redis client: bounded waits, no retries of its own, one typed error for an outage."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis
import structlog
from redis.backoff import NoBackoff
from redis.retry import Retry

from service.conversation.outage import OutageError
from service.store.channel import Channel
from service.store.primary import LOOK_S, Following, FollowingTls, Primary

_log = structlog.get_logger(__name__)

CONNECT_TIMEOUT_S = 0.5
SOCKET_TIMEOUT_S = 1.0
POOL_WAIT_S = 1.0
SUSPECT_S = 1.0
_FRESH_S = 1.0
"""A connection that was idle for longer is looked at before it is used: Redis may have been restarted."""
_SLOW_S = 0.5
"""An answer that took longer makes Redis suspect too: several of them would exceed the webhook's 3 s."""


class RedisDownError(OutageError):
    """Redis refused, did not answer in time, or cannot write; the command may have run."""


class NoReplicaError(redis.RedisError):
    """The command has run, and not every replica that it needs said in time that it has it too."""


class RedisStore:
    """One pool. After a failure Redis is *suspect* for a while: callers with another way take it."""

    def __init__(
        self,
        url: str,
        max_connections: int,
        primary: Primary | None = None,
        suspect_s: float = SUSPECT_S,
    ) -> None:
        """With `primary`, host and port of the URL count for nothing: its Sentinels tell them."""
        self.primary = primary
        self._suspect_s = suspect_s
        options: dict[str, Any] = {}
        if primary is not None:
            is_tls = url.startswith("rediss:")
            options["connection_class"] = FollowingTls if is_tls else Following
            options["primary"] = primary
        pool = redis.BlockingConnectionPool.from_url(
            url,
            max_connections=max_connections,
            timeout=POOL_WAIT_S,
            socket_connect_timeout=CONNECT_TIMEOUT_S,
            socket_timeout=SOCKET_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            # No handshake: a first command costs one round trip, not three.
            driver_info=None,
            **options,
        )
        self.client = redis.Redis(connection_pool=pool)
        self._suspect_until = 0.0
        self._idle: deque[tuple[Any, float]] = deque()
        self._pid = os.getpid()

    @property
    def suspect(self) -> bool:
        return time.monotonic() < self._suspect_until

    @contextmanager
    def outages(self) -> Iterator[None]:
        """Turns every failure of Redis in the block into RedisDownError."""
        started = time.monotonic()
        era = None if self.primary is None else self.primary.era
        try:
            yield
            if time.monotonic() - started > _SLOW_S:
                self._suspect_until = time.monotonic() + self._suspect_s
        except redis.RedisError as error:
            self._suspect_until = time.monotonic() + self._suspect_s
            if self.primary is not None and era is not None and not _is_of_a_primary(error):
                self.primary.lost(era)
            raise RedisDownError(f"{type(error).__name__}: {error}") from error

    def command(self, *words: str | bytes | int) -> Any:
        """Send one command, once. Raises what redis-py raises: use it inside `outages`.

        It takes half of the CPU that the client's layers need, and is on the way of every message.
        """
        return self._exchange(words)[0]

    def on_replicas(self, wait_ms: int, *words: str | bytes | int) -> Any:
        """As `command`; every replica that could take over has what it wrote when this returns.

        At least one does. The command must write, or Redis waits for nothing
        (https://valkey.io/commands/wait/).

        Raises:
            NoReplicaError: one had it not after `wait_ms`, which must be less than the timeout.
        """
        wanted = self._replicas_needed()
        # WAIT is about the writes of its own connection.
        answer, had = self._exchange(words, ("WAIT", wanted, wait_ms))
        if had < wanted:
            raise NoReplicaError(f"{had} of {wanted} replicas confirmed it within {wait_ms} ms")
        return answer

    def _replicas_needed(self) -> int:
        if self.primary is None:
            return 1
        needed = self.primary.replicas_needed()
        if needed is None:
            self._count_followers()
            needed = self.primary.replicas_needed()
        if needed is None:
            raise NoReplicaError("the primary changed while its replicas were counted")
        return needed

    def _count_followers(self) -> int:
        era = 0 if self.primary is None else self.primary.era
        told: dict[str, Any] = self.client.info("replication")
        online = frozenset(
            (str(each["ip"]), int(each["port"]))
            for each in told.values()
            if isinstance(each, dict) and each.get("state") == "online"
        )
        if self.primary is not None:
            self.primary.saw_followers(online, era)
        return len(online)

    def _exchange(self, *commands: tuple[str | bytes | int, ...]) -> list[Any]:
        connection = self._take()
        refusal: redis.ResponseError | None = None
        answers = []
        try:
            for words in commands:
                connection.send_command(*words)
            for _ in commands:
                try:
                    answers.append(connection.read_response())
                except redis.ResponseError as error:
                    # An answer too: the connection is as good as before.
                    refusal = refusal or error
        except BaseException:
            connection.disconnect()
            # What broke this one has broken those.
            self._disconnect()
            raise
        self._idle.append((connection, time.monotonic()))
        if refusal is not None:
            raise refusal
        return answers

    def _take(self) -> Any:
        """A connected one that no other thread uses: there are never more than threads."""
        if self._pid != os.getpid():
            # They are the parent's.
            self._idle.clear()
            self._pid = os.getpid()
        connection: Any
        try:
            connection, used_at = self._idle.pop()
        except IndexError:
            # Not the pool's own: it would keep each one that could not connect.
            pool = self.client.connection_pool
            connection = pool.connection_class(**pool.connection_kwargs)
        else:
            is_stale = self.primary is not None and connection.is_stale
            is_fresh = time.monotonic() - used_at < _FRESH_S
            if not is_stale and (is_fresh or not _is_over(connection)):
                return connection
            connection.disconnect()
        connection.connect()
        return connection

    def _disconnect(self) -> None:
        while True:
            try:
                connection, _ = self._idle.pop()
            except IndexError:
                return
            connection.disconnect()

    def replicas(self) -> int:
        """How many replicas follow now. Raises RedisDownError."""
        with self.outages():
            return self._count_followers()

    def channel(self, name: str) -> Channel:
        """A connection of its own that only listens. Raises what redis-py raises."""
        return Channel(self.client, name)

    def watch_forever(self, stopping: threading.Event) -> None:
        """See whether the primary is still the same one, and who follows it; where Sentinels are."""
        while self.primary is not None and not stopping.wait(LOOK_S):
            self.primary.look()
            try:
                self.replicas()
            except RedisDownError as error:
                _log.debug("followers_unknown", reason=str(error))

    def ping(self) -> None:
        """Raises RedisDownError."""
        with self.outages():
            self.client.ping()

    def close(self) -> None:
        self._disconnect()
        self.client.close()


def _is_of_a_primary(error: redis.RedisError) -> bool:
    """Whether it is a refusal that any primary would give, and no sign of having lost it."""
    return (
        isinstance(error, redis.ResponseError)
        and not isinstance(error, redis.ReadOnlyError | redis.exceptions.MasterDownError)
        and not str(error).startswith(("NOREPLICAS", "UNBLOCKED"))
    )


def _is_over(connection: Any) -> bool:
    """Whether Redis has closed it, or said something that nobody asked for."""
    try:
        return bool(connection.can_read(timeout=0))
    except (redis.RedisError, OSError):
        return True
