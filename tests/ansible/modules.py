"""Loads the project's own Ansible modules, which are in no package."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

LIBRARY = Path(__file__).parents[2] / "ansible" / "library"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, LIBRARY / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(name: str, *, check: bool = False, **params: Any) -> dict[str, Any]:
    """The module's answer, from a process of its own as on a machine."""
    arguments = {"ANSIBLE_MODULE_ARGS": {**params, "_ansible_check_mode": check}}
    done = subprocess.run(
        [sys.executable, str(LIBRARY / f"{name}.py")],
        input=json.dumps(arguments),
        capture_output=True,
        text=True,
    )
    assert done.stdout, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


load_module = load

ROOT = LIBRARY.parents[1]
