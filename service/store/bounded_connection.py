"""Calls to PostgreSQL that end although the server hangs.

libpq waits for an answer without limit. psycopg2 hands every wait of the process, connecting
included, to one function (https://www.psycopg.org/docs/advanced.html#support-for-coroutine-libraries):
here it waits until a deadline. That function replaces libpq's own wait, and with it
`connect_timeout`, COPY and large objects.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any

import psycopg2
from psycopg2 import extensions


class BoundedConnection(extensions.connection):
    """A connection whose operations end after `answer_within_s` seconds; None is without limit.

    An operation that takes longer raises OperationalError and leaves the connection closed.
    """

    def __init__(self, *arguments: Any, answer_within_s: float) -> None:
        self.answer_within_s: float | None = answer_within_s
        super().__init__(*arguments)


def bounded_connections(answer_within_s: float) -> Callable[..., BoundedConnection]:
    """The `connection_factory` of connections that begin with this limit; it covers connecting."""
    extensions.set_wait_callback(_wait)
    return partial(BoundedConnection, answer_within_s=answer_within_s)


def _wait(connection: extensions.connection) -> None:
    """Return when the operation has ended. psycopg2 closes the connection when this raises."""
    limit_s = getattr(connection, "answer_within_s", None)
    deadline = None if limit_s is None else monotonic() + limit_s
    while True:
        state = connection.poll()
        if state == extensions.POLL_OK:
            return
        left_ms = None if deadline is None else max(0.0, (deadline - monotonic()) * 1000)
        # A new one each time: while it connects, libpq may go on to another socket. Not select(),
        # which knows no descriptor above 1023.
        poll = select.poll()
        poll.register(
            connection.fileno(),
            select.POLLIN if state == extensions.POLL_READ else select.POLLOUT,
        )
        if not poll.poll(left_ms) and deadline is not None and monotonic() >= deadline:
            raise psycopg2.OperationalError(f"the database did not answer within {limit_s:g} s")
