"""The service under fuzz: the whole application in this process, on PostgreSQL and a real Redis."""

from __future__ import annotations

import io
import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import structlog

from service.app import create_app
from service.container import Container
from service.log import configure_logging
from service.store import bot_cache
from tests.conftest import print_fuzz
from tests.fuzz.cases import PARTS, table
from tests.fuzz.service import CLIENT, OTHER_CLIENT, OTHER_NUMBER, FuzzedService
from tests.stack import Stack, emulators, environment, settings_of


@pytest.fixture
def fuzzed(
    postgres_url: str, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FuzzedService]:
    """With the bots of two clients, and everything that it logs in a text.

    The limit on look-ups of unknown numbers is lifted: its 503 would hide what lies behind it.
    """
    monkeypatch.setattr(bot_cache, "LOOKUPS_PER_SECOND", sys.maxsize)
    with emulators() as (openai, twilio, horizon), logged() as log:
        variables = environment(postgres_url, redis_url, openai, twilio, horizon, tmp_path)
        settings = settings_of(variables)
        container = Container(settings)
        stack = Stack(settings, container, openai, twilio, horizon, variables=variables)
        stack.add_bot(client_id=CLIENT)
        stack.add_bot("bot_other", OTHER_NUMBER, client_id=OTHER_CLIENT)
        yield FuzzedService(stack, create_app(container), log)
        container.close()


@pytest.fixture
def service_log() -> Iterator[io.StringIO]:
    """What the service's modules log, for parts without HTTP."""
    with logged() as log:
        yield log


@contextmanager
def logged() -> Iterator[io.StringIO]:
    """Everything that is logged, as the service writes it at its default level.

    Not by its standard output, which pytest replaces between a fixture and its test.
    """
    root, hook = logging.getLogger(), threading.excepthook
    handlers, level = root.handlers[:], root.level
    configure_logging("INFO")
    # Loggers of modules must not keep this configuration beyond the test.
    structlog.configure(cache_logger_on_first_use=False)
    log = io.StringIO()
    writing = logging.StreamHandler(log)
    writing.setFormatter(root.handlers[0].formatter)
    root.handlers[:] = [writing]
    try:
        yield log
    finally:
        structlog.reset_defaults()
        logging.captureWarnings(False)
        threading.excepthook = hook
        root.handlers[:] = handlers
        root.setLevel(level)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The count of the whole run comes after everything that is counted."""
    items.sort(key=lambda item: item.name == "test_a_whole_run_has_as_many_cases_as_it_promises")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker hands its table to the process that prints the summary."""
    if PARTS and hasattr(session.config, "workeroutput"):
        session.config.workeroutput["fuzz"] = table()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if PARTS:
        print_fuzz(terminalreporter, table())
