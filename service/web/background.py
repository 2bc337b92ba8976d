"""What a web process does besides answering: empty the spool, hear of changes, watch the primary."""

from __future__ import annotations

import threading
from functools import partial

from service.container import Container
from service.replay import replay_forever


def start_background(container: Container) -> threading.Event:
    """Start the threads; setting the event that is returned ends them."""
    stopping = threading.Event()
    for task in (
        partial(replay_forever, container.spool, container.mailbox),
        container.directory.listen_forever,
        container.redis.watch_forever,
    ):
        threading.Thread(target=task, args=(stopping,), daemon=True).start()
    return stopping
