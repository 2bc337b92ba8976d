"""Modules and filters of ansible/, loaded by path: they are no package of ours."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

import ansible.module_utils

REPOSITORY = Path(__file__).parents[2]
MODULE_UTILS = REPOSITORY / "ansible" / "module_utils"

if str(MODULE_UTILS) not in ansible.module_utils.__path__:
    ansible.module_utils.__path__.append(str(MODULE_UTILS))


def load(path: str) -> ModuleType:
    """A Python file below ansible/."""
    file = REPOSITORY / "ansible" / path
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def settings() -> ModuleType:
    """The checks of the inventory's values."""
    return load("filter_plugins/horizon_settings.py")


@pytest.fixture(scope="session")
def python_filters() -> ModuleType:
    """What the lock pins for servers."""
    return load("filter_plugins/horizon_python.py")


@pytest.fixture(scope="session")
def host() -> ModuleType:
    """What a machine is."""
    return load("module_utils/horizon_host.py")


@pytest.fixture(scope="session")
def ports() -> ModuleType:
    """Who listens."""
    return load("module_utils/horizon_ports.py")


@pytest.fixture(scope="session")
def foreign() -> ModuleType:
    """What is not ours."""
    return load("module_utils/horizon_foreign.py")


@pytest.fixture(scope="session")
def ssh_ports() -> ModuleType:
    """Where SSH comes in."""
    return load("library/horizon_ssh_ports.py")
