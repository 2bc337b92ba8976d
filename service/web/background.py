"""What a web process does besides answering: empty the spool, hear of changed bots."""

from __future__ import annotations

import threading

from service.container import Container
from service.replay import replay_forever


def start_background(container: Container) -> threading.Event:
    """Start the threads; setting the event that is returned ends them."""
    stopping = threading.Event()
    threading.Thread(
        target=replay_forever, args=(container.spool, container.mailbox, stopping), daemon=True
    ).start()
    threading.Thread(
        target=container.directory.listen_forever, args=(stopping,), daemon=True
    ).start()
    return stopping
