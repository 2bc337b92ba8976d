"""A whole service with emulated vendors for each test, on SQLite: what is tested here is no SQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stack import MakeStack, Stack, stacks


@pytest.fixture
def make_stack(sqlite_url: str, redis_url: str, tmp_path: Path) -> Iterator[MakeStack]:
    """Builds a stack; keywords are settings."""
    with stacks(sqlite_url, redis_url, tmp_path) as make:
        yield make


@pytest.fixture
def stack(make_stack: MakeStack) -> Stack:
    """The stack with one bot."""
    stack = make_stack()
    stack.add_bot()
    return stack
