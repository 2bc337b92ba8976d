"""Where an accepted message is kept before the 200, so that it is never lost after it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

import structlog

from service.conversation.mailbox import Inbound, Mailbox
from service.conversation.outage import OutageError
from service.store.spool import Spool

_log = structlog.get_logger(__name__)

WAIT_S = 8.0
"""How long a request waits for a primary with a replica: most fail-overs take less."""
_LAST_TRY_S = 1.0
"""A try takes as long when Redis hangs, so none begins later than this before the end."""
_PAUSE_S = 0.1


class Keeper(Protocol):
    def keep(self, inbound: Inbound, since: float) -> str:
        """How the message was kept: `accepted`, `duplicate` or `spooled`.

        `since` is the `time.monotonic()` at which the request came. Raises OutageError.
        """


class RedisOrSpool:
    """Redis, and the disk of this host while Redis is away."""

    def __init__(
        self, mailbox: Mailbox, spool: Spool, redis_is_suspect: Callable[[], bool]
    ) -> None:
        self._mailbox = mailbox
        self._spool = spool
        self._redis_is_suspect = redis_is_suspect

    def keep(self, inbound: Inbound, since: float) -> str:
        if not self._redis_is_suspect() and not self._spool:
            try:
                return _accept(self._mailbox, inbound)
            except OutageError as error:
                _log.warning("accept_failed", reason=str(error), bot_id=inbound.event.bot_id)
        self._spool.put(inbound)
        return "spooled"


class TwoHosts:
    """A primary and its replicas; what no two hosts have is not acknowledged, so the disk is not used.

    The mailbox waits for the replicas by itself.
    """

    def __init__(
        self,
        mailbox: Mailbox,
        spool: Spool,
        redis_is_suspect: Callable[[], bool],
        wait_s: float = WAIT_S,
    ) -> None:
        self._mailbox = mailbox
        self._spool = spool
        self._redis_is_suspect = redis_is_suspect
        self._wait_s = wait_s

    def keep(self, inbound: Inbound, since: float) -> str:
        last_try_at = since + self._wait_s - min(_LAST_TRY_S, self._wait_s / 2)
        failure = OutageError("Redis has failed a moment ago")
        while True:
            # Messages that were spooled before this mode was chosen go first.
            if self._spool:
                failure = OutageError("the spool is not empty yet")
            elif not self._redis_is_suspect():
                try:
                    return _accept(self._mailbox, inbound)
                except OutageError as error:
                    _log.debug("accept_waits", reason=str(error), bot_id=inbound.event.bot_id)
                    failure = error
            if time.monotonic() + _PAUSE_S > last_try_at:
                raise failure
            time.sleep(_PAUSE_S)


def _accept(mailbox: Mailbox, inbound: Inbound) -> str:
    accepted = mailbox.accept(inbound)
    _log.debug(
        "accepted",
        bot_id=inbound.event.bot_id,
        conversation_id=accepted.conversation_id,
        message_sid=inbound.event.id,
        duplicate=accepted.duplicate,
    )
    return "duplicate" if accepted.duplicate else "accepted"
