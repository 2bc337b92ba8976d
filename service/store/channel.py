"""Hearing a channel of Redis, and noticing when there is nobody left to hear."""

from __future__ import annotations

from time import monotonic
from types import TracebackType
from typing import Any, Self

import redis

PING_S = 1.0
SILENT_S = 3.0


class Channel:
    """One channel on a connection of its own. Every method raises what redis-py raises.

    A server that vanished sends nothing, as one that has nothing to say: so it is asked.
    """

    def __init__(self, client: redis.Redis, name: str) -> None:
        self._subscription: Any = client.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
        self._name = name
        self._pinged_at = 0.0
        self._is_asked = False
        self.complete_until = 0.0
        """Everything that was said before has been heard; `time.monotonic()`."""

    def __enter__(self) -> Self:
        try:
            self._subscription.subscribe(self._name)
        except BaseException:
            self._subscription.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._subscription.close()

    def hear(self, timeout_s: float) -> bytes | None:
        """The next message; None when there was none in time."""
        now = monotonic()
        if self._is_asked and now - self._pinged_at > SILENT_S:
            raise redis.TimeoutError(f"nothing was heard for {SILENT_S:g} s")
        # A subscription that is taken up again elsewhere has missed what was said meanwhile.
        if getattr(self._subscription.connection, "is_stale", False):
            raise redis.ConnectionError("the primary is another one now")
        if not self._is_asked and now - self._pinged_at > PING_S:
            self._subscription.ping()
            self._pinged_at, self._is_asked = now, True
        message = self._subscription.get_message(timeout=timeout_s)
        if message is None:
            return None
        if message["type"] == "pong":
            self._is_asked = False
            self.complete_until = self._pinged_at
            return None
        data: bytes = message["data"]
        return data
