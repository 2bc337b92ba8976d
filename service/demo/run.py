"""The demonstration from its start to its end."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import structlog
from rich.console import Console
from rich.text import Text

from service.demo.chat import chat
from service.demo.errors import DemoError
from service.demo.folder import DemoFolder
from service.demo.once import converse
from service.demo.ports import DEFAULT_WEB_PORT
from service.demo.stack import DEBOUNCE_MS, DEMO_OPENAI_KEY, running

_ENDED_BY_SIGNAL = 128


def run_once(port: int | None, console: Console) -> None:
    """The fixed conversation, on new data and always with the emulated model.

    Raises:
        DemoError: something is missing; the logs are then kept, and it says where.
    """
    begun = time.monotonic()
    path = Path(tempfile.mkdtemp(prefix="horizon-demo-"))
    try:
        with (
            _ended_by_signals(),
            running(DemoFolder(path), port, real_model=False, keep_data=False) as stack,
        ):
            started_s = time.monotonic() - begun
            converse(stack, console)
    except DemoError as error:
        raise DemoError(f"{error}\nThe logs are in {path}.") from error
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise
    shutil.rmtree(path, ignore_errors=True)
    total_s = time.monotonic() - begun
    console.print(
        Text(
            f"The first {DEBOUNCE_MS} ms of each reply are the wait for further messages of the "
            f"contact (DEBOUNCE_MS). Started in {started_s:.1f} s, done in {total_s:.1f} s."
        )
    )


def run_chat(port: int | None, folder: Path, console: Console) -> None:
    """The chat, on data that stay in the folder.

    Raises:
        DemoError: something does not start or does not answer.
    """
    real_model = os.environ.get("OPENAI_API_KEY", "") not in ("", DEMO_OPENAI_KEY)
    console.print(Text("Iniciando la demostración…", style="dim"))
    with (
        _ended_by_signals(),
        running(
            DemoFolder(folder), port or DEFAULT_WEB_PORT, real_model=real_model, keep_data=True
        ) as stack,
        contextlib.suppress(KeyboardInterrupt),
    ):
        chat(stack, console)
    console.print(Text("Hasta luego.", style="dim"))


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end the block in good order, children and all."""
    # Standard output is the conversation's.
    structlog.configure(
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL),
    )

    def end(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(_ENDED_BY_SIGNAL + number)

    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, end) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
