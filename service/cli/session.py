"""What a command that uses the stores begins with: settings, quiet logs, the parts of the service."""

from __future__ import annotations

import getpass
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog

from service.settings import load_settings

if TYPE_CHECKING:
    from service.container import Container


@contextmanager
def session() -> Iterator[Container]:
    """The parts of the service, closed at the end. Raises SettingsError."""
    settings = load_settings()
    # Standard output belongs to the result; what the parts warn of, the command says itself.
    structlog.configure(
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL),
    )
    from service.container import Container

    container = Container(settings)
    try:
        yield container
    finally:
        container.close()


def actor() -> str:
    """Who works at this terminal, for the audit log."""
    try:
        return f"horizonctl:{getpass.getuser()}"
    except (KeyError, OSError):
        return "horizonctl"
