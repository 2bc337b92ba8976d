"""Ports of loopback for the demonstration's processes."""

from __future__ import annotations

import contextlib
import random
import socket

from service.demo.errors import DemoError

DEFAULT_WEB_PORT = 8000
# Below the range that Linux gives to outgoing connections.
_LOWEST, _HIGHEST = 20_000, 32_000


def is_free(port: int) -> bool:
    """Whether a server can listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port(preferred: int | None = None) -> int:
    """The preferred port when it is free, else any other."""
    if preferred is not None and is_free(preferred):
        return preferred
    while True:
        port = random.randrange(_LOWEST, _HIGHEST)  # noqa: S311 no secret
        if is_free(port):
            return port


def web_port(wanted: int | None) -> int:
    """The port that was asked for, else any free one.

    Raises:
        DemoError: it is taken.
    """
    if wanted is None:
        return free_port()
    with contextlib.suppress(OverflowError):
        if is_free(wanted):
            return wanted
    raise DemoError(
        f"Port {wanted} is taken: choose another with --port, or `make demo PORT={wanted + 1}`."
    )
