"""Two servers, and a copy of the repository with more versions."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "shared"))

from machine import EPHEMERAL, ROOT
from versions import Versions

MACHINES = ["default-bookworm", "default-trixie"]

on_both = pytest.mark.parametrize("machine", MACHINES)


def domain_of(machine: str) -> str:
    return f"{machine.removeprefix('default-')}.horizon.test"


@pytest.fixture(scope="session")
def versions() -> Versions:
    return Versions(ROOT, EPHEMERAL / "repository")
