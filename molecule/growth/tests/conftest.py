"""A server that answers, and its successors."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "shared"))
sys.path.insert(0, str(Path(__file__).parents[3]))

from machine import address_of, playbook
from steady_load import Load, echoed

OLD, A, B = "growth-old", "growth-a", "growth-b"
DOMAIN = "growth.horizon.test"
RATE = 50


@pytest.fixture(scope="session")
def load() -> Iterator[Load]:
    run = playbook("site.yml", inventory="before.yml", postgresql_enabled=False)
    assert run.code == 0, run.output
    with echoed(OLD, address_of(OLD), DOMAIN, RATE) as running:
        yield running
