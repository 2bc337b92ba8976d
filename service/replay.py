"""Emptying the spool: every process of a host tries, the one that holds the lock does it."""

from __future__ import annotations

import threading

import structlog

from service.conversation.mailbox import Mailbox
from service.conversation.outage import OutageError
from service.store.spool import Spool

_log = structlog.get_logger(__name__)

_PAUSE_S = 0.5
_FAULT_PAUSE_S = 5.0


def replay_forever(spool: Spool, mailbox: Mailbox, stopping: threading.Event) -> None:
    """Hand the spool's messages to the mailbox whenever there are any and Redis takes them."""
    while not stopping.wait(_PAUSE_S):
        if not spool:
            continue
        try:
            handed = spool.replay(mailbox.accept)
        except OutageError as error:
            _log.debug("replay_waits", reason=str(error))
        except OSError as error:
            _log.error("replay_failed", reason=error.strerror)
        except Exception:
            # The messages are safe on disk; this thread must live to bring them in.
            _log.exception("replay_failed")
            stopping.wait(_FAULT_PAUSE_S)
        else:
            if handed:
                _log.info("spool_replayed", messages=handed)
