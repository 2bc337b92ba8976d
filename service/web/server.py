"""The web process: gunicorn with threads, configured from the settings alone.

Source of the options: https://docs.gunicorn.org/en/stable/settings.html
"""

from __future__ import annotations

from typing import Any

from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger

from service.log import configure_logging, take_over_gunicorn
from service.settings import Settings

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

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._options.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        # Imported in each worker process: pools and threads do not survive a fork.
        from service.wsgi import app

        return app


def options(settings: Settings, bind: str | None = None) -> dict[str, Any]:
    """gunicorn's options. `fd://N` is passed on as it is; the limit of bodies is the app's."""
    return {
        "bind": bind or settings.web_bind,
        "workers": settings.web_workers,
        "worker_class": "gthread",
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
    }


def run_web(settings: Settings, bind: str | None = None) -> None:
    """Serve until SIGTERM; does not return."""
    configure_logging(settings.log_level)
    WebServer(options(settings, bind)).run()
