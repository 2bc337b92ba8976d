"""Our Ansible modules, loaded from where Ansible finds them."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]


def load_module(name: str) -> ModuleType:
    """The module `ansible/library/<name>.py`."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "ansible/library" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
