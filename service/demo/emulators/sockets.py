"""Sockets of the emulators: a listener that a stopped emulator gets back, and a hard end."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import struct

BACKLOG = 2048
# Below the range of outgoing connections, so that none takes the port of a stopped emulator.
FREE_PORTS = range(20_000, 32_000)
PORT_TRIES = 20


def listen(host: str, port: int) -> socket.socket:
    """Listen with a long queue; port 0 takes a free one. Raises OSError when the port is taken."""
    if port:
        return socket.create_server((host, port), backlog=BACKLOG)
    for candidate in random.sample(FREE_PORTS, PORT_TRIES):
        with contextlib.suppress(OSError):
            return socket.create_server((host, candidate), backlog=BACKLOG)
    return socket.create_server((host, 0), backlog=BACKLOG)


def reset(connection: socket.socket) -> None:
    """Close with a RST: linger 0, and the descriptor itself, which the reader would keep open."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    os.close(connection.detach())
