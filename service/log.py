"""JSON logs on standard output: one object a line, with the ids that are bound to the context.

Secrets and message texts never reach a log call above DEBUG; numbers are masked here as a last line.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
from collections.abc import MutableMapping
from typing import Any

import structlog

_NUMBER = re.compile(r"\+\d{5,15}")
_GUNICORN = "gunicorn.error"


def configure_logging(level: str) -> None:
    """Set up structlog and send the standard library's loggers through it."""
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _mask_numbers,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.add_logger_name,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level)),
        cache_logger_on_first_use=True,
    )
    handler = _StandardOutput()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    take_over_gunicorn()
    logging.captureWarnings(True)
    threading.excepthook = _log_end_of_thread
    # The clients' own request logs hold addresses with numbers in them.
    for name in ("httpx2", "httpcore2", "openai", "urllib3", "twilio", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)


class _StandardOutput(logging.Handler):
    """Writes to what standard output is now, not to what it was when logging was set up."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            print(self.format(record), file=sys.stdout, flush=True)
        except Exception:
            self.handleError(record)


def take_over_gunicorn() -> None:
    """Send gunicorn's own lines the way of all others; where it is not used nothing changes.

    Started by its own command, its master process knows nothing of this and writes plain text.
    """
    logger = logging.getLogger(_GUNICORN)
    logger.handlers.clear()
    logger.propagate = True


def _log_end_of_thread(ending: threading.ExceptHookArgs) -> None:
    if ending.exc_type is SystemExit or ending.exc_value is None:
        return
    name = ending.thread.name if ending.thread is not None else "unknown"
    trace = (ending.exc_type, ending.exc_value, ending.exc_traceback)
    logging.getLogger(__name__).error("thread_ended thread=%s", name, exc_info=trace)


def _mask_numbers(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    for key, value in event.items():
        if isinstance(value, str) and "+" in value:
            event[key] = _NUMBER.sub(_mask, value)
    return event


def _mask(match: re.Match[str]) -> str:
    number = match.group()
    return f"{number[:3]}…{number[-2:]}"
