"""Several files in one round: whole or not at all, refused by their command, only told in check mode."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import pytest

from tests.ansible.conftest import load


class Refused(Exception):
    """The module ended with a failure."""


class Module:
    """What the code uses of AnsibleModule, for files of whoever runs the tests."""

    def __init__(self, tmpdir: Path, check_mode: bool = False) -> None:
        self.tmpdir = str(tmpdir)
        self.check_mode = check_mode

    def run_command(self, command: str) -> tuple[int, str, str]:
        done = subprocess.run(command.split(), capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    def atomic_move(self, source: str, target: str, **_: object) -> None:
        os.replace(source, target)

    def load_file_common_arguments(self, attributes: dict[str, Any]) -> dict[str, Any]:
        return attributes

    def set_fs_attributes_if_different(self, wanted: dict[str, Any], changed: bool) -> bool:
        mode = int(wanted["mode"], 8)
        differs = os.stat(wanted["path"]).st_mode & 0o7777 != mode
        if differs and not self.check_mode:
            os.chmod(wanted["path"], mode)
        return changed or differs

    def fail_json(self, msg: str) -> NoReturn:
        raise Refused(msg)


@pytest.fixture(scope="module")
def files() -> ModuleType:
    """The module."""
    return load("library/horizon_files.py")


def wanted(path: Path, content: str = "new\n", **more: Any) -> dict[str, Any]:
    """One file of the parameter."""
    return {
        "path": str(path),
        "content": content,
        "mode": "0640",
        "group": "root",
        "validate": None,
    } | more


def test_file_and_its_folders_are_made_once(files: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file"
    changed, difference = files.ensure(Module(tmp_path), wanted(path))
    assert changed
    assert (difference["before"], difference["after"]) == ("", "new\n")
    assert path.read_text() == "new\n"
    assert path.stat().st_mode & 0o777 == 0o640
    assert files.ensure(Module(tmp_path), wanted(path)) == (False, None)


def test_check_mode_tells_and_changes_nothing(files: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "a" / "file"
    changed, difference = files.ensure(Module(tmp_path, check_mode=True), wanted(path))
    assert (changed, difference["after"]) == (True, "new\n")
    assert not path.parent.exists()


def test_wrong_mode_is_mended(files: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("new\n")
    path.chmod(0o666)
    assert files.ensure(Module(tmp_path), wanted(path)) == (True, None)
    assert path.stat().st_mode & 0o777 == 0o640


def test_refused_content_leaves_the_old_file(files: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old\n")
    with pytest.raises(Refused, match="is refused by"):
        files.ensure(Module(tmp_path), wanted(path, validate="grep old %s"))
    assert path.read_text() == "old\n"
    files.ensure(Module(tmp_path), wanted(path, validate="grep new %s"))
    assert path.read_text() == "new\n"
