"""What a web process does besides answering: replay the spool, hear of changed bots."""

from __future__ import annotations

import threading

import structlog

from service.container import Container
from service.conversation.outage import OutageError

_log = structlog.get_logger(__name__)

_REPLAY_S = 0.5


def start_background(container: Container) -> threading.Event:
    """Start the threads; setting the event that is returned ends them."""
    stopping = threading.Event()
    for task in (_replay, _listen):
        threading.Thread(target=task, args=(container, stopping), daemon=True).start()
    return stopping


def _replay(container: Container, stopping: threading.Event) -> None:
    while not stopping.wait(_REPLAY_S):
        if not container.spool:
            continue
        try:
            handed = container.spool.replay(container.mailbox.accept)
        except OutageError as error:
            _log.debug("replay_waits", reason=str(error))
        except OSError as error:
            _log.error("replay_failed", reason=error.strerror)
        else:
            if handed:
                _log.info("spool_replayed", messages=handed)


def _listen(container: Container, stopping: threading.Event) -> None:
    container.directory.listen_forever(stopping)
