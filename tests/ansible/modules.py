"""Loads the project's own Ansible modules, which are in no package."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

LIBRARY = Path(__file__).parents[2] / "ansible" / "library"
# Ansible sends the module's own libraries along; here they are put beside Ansible's.
RUN = (
    "import runpy, sys, ansible.module_utils; "
    f"ansible.module_utils.__path__.append({str(LIBRARY.parent / 'module_utils')!r}); "
    "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
)


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, LIBRARY / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(
    name: str, /, *, check: bool = False, login: Login | None = None, **params: Any
) -> dict[str, Any]:
    """The module's answer, from a process of its own as on a machine."""
    login = login or Login()
    arguments = {"ANSIBLE_MODULE_ARGS": {**params, "_ansible_check_mode": check}}
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(LIBRARY / f"{name}.py")],
        input=json.dumps(arguments),
        capture_output=True,
        text=True,
        umask=login.umask,
        cwd=login.folder,
        env={**os.environ, **login.environment},
    )
    assert done.stdout, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


load_module = load


@dataclass(frozen=True)
class Login:
    """What a module finds where somebody has logged in."""

    umask: int = -1
    folder: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


ROOT = LIBRARY.parents[1]
