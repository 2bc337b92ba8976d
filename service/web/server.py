"""The web process: gunicorn with threads, configured from the settings alone.

Source of the options: https://docs.gunicorn.org/en/stable/settings.html
"""

from __future__ import annotations

import selectors
import signal
from functools import partial
from pathlib import Path
from typing import Any

from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger
from gunicorn.workers.gthread import _DEFER, ThreadWorker

from service.log import configure_logging, take_over_gunicorn
from service.settings import Settings
from service.web.sockets import PrivateSocket, listen

GRACEFUL_TIMEOUT_S = 20
"""A stopping worker's time for open requests: longer than the 15 s that Twilio waits."""
KEEP_ALIVE_S = 75
"""Longer than a proxy keeps its idle connections (nginx 60 s), so that it is the one to close."""
BACKLOG = 2048


class JsonLogger(Logger):  # type: ignore[misc] # its base has no types
    """gunicorn's logger, whose lines are objects like all others, in the master process too."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        take_over_gunicorn()


class WebServer(BaseApplication):  # type: ignore[misc] # its base has no types
    """gunicorn without a command line and without a configuration file."""

    def __init__(self, options: dict[str, Any], release: str = "", *, probe: bool = False) -> None:
        self._options = options
        self._release = release
        self._probe = probe
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._options.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        # Imported in each worker process: pools and threads do not survive a fork.
        from service.web.application import load_application

        return load_application(self._release, probe=self._probe)


class PatientWorker(ThreadWorker):  # type: ignore[misc] # its base has no types
    """Loses nothing when it is told to stop: what gunicorn's own would, see decision 0017."""

    arbiter: Any = None

    def init_signals(self) -> None:
        super().init_signals()
        # Until here signals went into the queue of the master, whose copy this process is.
        while not self.arbiter.SIG_QUEUE.empty():
            if self.arbiter.SIG_QUEUE.get() == signal.SIGTERM:
                self.alive = False

    def finish_request(self, connection: Any, future: Any) -> None:
        is_silent = not future.cancelled() and not future.exception() and future.result() is _DEFER
        if self.alive or not is_silent:
            super().finish_request(connection, future)
            return
        # Accepted, and nothing has come for 5 s: wait on, as before the stop.
        connection.sock.setblocking(False)
        connection.set_timeout()
        self.pending_conns.append(connection)
        arrived = partial(self.on_pending_socket_readable, connection)
        self.poller.register(connection.sock, selectors.EVENT_READ, arrived)


def options(settings: Settings, bind: str | None = None) -> dict[str, Any]:
    """gunicorn's options. `fd://N` is passed on as it is; the limit of bodies is the app's."""
    return {
        "bind": bind or settings.web_bind,
        "workers": settings.web_workers,
        "worker_class": PatientWorker,
        "threads": settings.web_threads,
        "backlog": BACKLOG,
        "graceful_timeout": GRACEFUL_TIMEOUT_S,
        "keepalive": KEEP_ALIVE_S,
        "limit_request_line": 8190,
        "limit_request_fields": 100,
        "limit_request_field_size": 16_380,
        "accesslog": None,
        "errorlog": "-",
        "logger_class": JsonLogger,
        "loglevel": settings.log_level.lower(),
        # Its control socket lies in the home folder, which a service need not have.
        "control_socket_disable": True,
        "proc_name": "horizonctl-web",
        "post_fork": _introduce,
    }


def _introduce(arbiter: Any, worker: PatientWorker) -> None:
    worker.arbiter = arbiter


def run_web(
    settings: Settings,
    bind: str | None = None,
    *,
    release: str = "",
    private_socket: Path | None = None,
    probe: bool = False,
) -> None:
    """Serve until SIGTERM; does not return. Raises SocketError."""
    configure_logging(settings.log_level)
    private = None if private_socket is None else PrivateSocket(private_socket)
    hooks: dict[str, Any] = {"on_starting": lambda arbiter: listen(arbiter, private, alone=probe)}
    if private is not None:
        # Only the master comes here.
        hooks["on_exit"] = lambda _arbiter: private.remove()
    WebServer(options(settings, bind) | hooks, release, probe=probe).run()
