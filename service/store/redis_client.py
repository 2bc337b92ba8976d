"""The Redis client: bounded waits, no retries of its own, one typed error for an outage."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from service.conversation.outage import OutageError

CONNECT_TIMEOUT_S = 0.5
SOCKET_TIMEOUT_S = 1.0
POOL_WAIT_S = 1.0
_SUSPECT_S = 1.0
_SLOW_S = 0.5
"""An answer that took longer makes Redis suspect too: several of them would exceed the webhook's 3 s."""


class RedisDownError(OutageError):
    """Redis refused, did not answer in time, or cannot write; the command may have run."""


class RedisStore:
    """One pool. After a failure Redis is *suspect* for a second: callers with another way take it."""

    def __init__(self, url: str, max_connections: int) -> None:
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
        )
        self.client = redis.Redis(connection_pool=pool)
        self._suspect_until = 0.0

    @property
    def suspect(self) -> bool:
        return time.monotonic() < self._suspect_until

    @contextmanager
    def outages(self) -> Iterator[None]:
        """Turns every failure of Redis in the block into RedisDownError."""
        started = time.monotonic()
        try:
            yield
            if time.monotonic() - started > _SLOW_S:
                self._suspect_until = time.monotonic() + _SUSPECT_S
        except redis.RedisError as error:
            self._suspect_until = time.monotonic() + _SUSPECT_S
            raise RedisDownError(f"{type(error).__name__}: {error}") from error

    def command(self, *words: str | bytes | int) -> Any:
        """Send one command, once. Raises what redis-py raises: use it inside `outages`."""
        send: Callable[..., Any] = self.client.execute_command
        return send(*words)

    def subscription(self) -> redis.client.PubSub:
        """A connection of its own that only listens. Raises what redis-py raises."""
        make: Callable[..., redis.client.PubSub] = self.client.pubsub
        return make(ignore_subscribe_messages=True)

    def ping(self) -> None:
        """Raises RedisDownError."""
        with self.outages():
            self.client.ping()

    def close(self) -> None:
        self.client.close()
