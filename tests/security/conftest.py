"""A whole service with emulated vendors for each test, on SQLite: what is tested here is no SQL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from service.container import Container
from tests.integration.conftest import MakeStack
from tests.stack import Stack, emulators, environment, settings_of


@pytest.fixture
def make_stack(sqlite_url: str, redis_url: str, tmp_path: Path) -> Iterator[MakeStack]:
    """Builds a stack; keywords are settings."""
    with ExitStack() as opened:

        def make(**overrides: str) -> Stack:
            openai, twilio, horizon = opened.enter_context(emulators())
            variables = environment(
                sqlite_url, redis_url, openai, twilio, horizon, tmp_path, **overrides
            )
            settings = settings_of(variables)
            container = Container(settings)
            opened.callback(container.close)
            return Stack(settings, container, openai, twilio, horizon, variables=variables)

        yield make


@pytest.fixture
def stack(make_stack: MakeStack) -> Stack:
    """The stack with one bot."""
    stack = make_stack()
    stack.add_bot()
    return stack
