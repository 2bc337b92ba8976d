"""A whole service with emulated vendors for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from service.container import Container
from tests.stack import Stack, emulators, environment, settings_of

MakeStack = Callable[..., Stack]


@pytest.fixture
def make_stack(database_url: str, redis_url: str, tmp_path: Path) -> Iterator[MakeStack]:
    """Builds a stack; keywords are settings. Runs on SQLite and on PostgreSQL."""
    with ExitStack() as opened:

        def make(**overrides: str) -> Stack:
            openai, twilio, horizon = opened.enter_context(emulators())
            variables = environment(
                database_url, redis_url, openai, twilio, horizon, tmp_path, **overrides
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
