"""A module does the same whoever logged in: whatever their umask, folder and environment."""

from __future__ import annotations

import hashlib
import os
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.ansible.modules import LIBRARY, Login, load, run

ON_THE_CONTROLLER = {"horizon_acme_probe", "horizon_build", "horizon_sheets"}
MODULES = sorted({file.stem for file in LIBRARY.glob("*.py")} - ON_THE_CONTROLLER)


@pytest.fixture
def hardened(tmp_path: Path) -> Login:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    return Login(
        umask=0o077,
        folder=home,
        environment={
            "LC_ALL": "es_CL.UTF-8",
            "TMPDIR": str(home / "missing"),
            "PATH": str(Path(sys.executable).parent),
        },
    )


def closed(folder: Path) -> list[str]:
    """What another user could not read."""
    paths = [path for path in (folder, *folder.rglob("*")) if not path.is_symlink()]
    needed = {True: 0o005, False: 0o004}
    return [
        str(path)
        for path in paths
        if path.stat().st_mode & needed[path.is_dir()] != needed[path.is_dir()]
    ]


@pytest.mark.parametrize("name", MODULES)
def test_a_module_of_the_hosts_leaves_the_login_before_anything_else(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class LeftError(Exception):
        pass

    def leave() -> None:
        raise LeftError

    def too_early(*_: Any, **__: Any) -> None:
        pytest.fail("the module reads its arguments before")

    module = load(name)
    monkeypatch.setattr(module, "leave_login", leave)
    monkeypatch.setattr(module, "AnsibleModule", too_early)

    with pytest.raises(LeftError):
        module.main()


def test_files_and_their_folders_can_be_read_under_a_strict_umask(
    tmp_path: Path, hardened: Login
) -> None:
    place = tmp_path / "etc"

    answer = run(
        "horizon_files",
        login=hardened,
        files=[{"path": str(place / "below" / "file"), "content": "á\n"}],
    )

    assert answer["changed"]
    assert closed(place) == []


def test_a_release_can_be_read_whatever_umask_made_it(tmp_path: Path, hardened: Login) -> None:
    before = os.umask(0o077)
    try:
        parameters = archive_of_a_release(tmp_path)
    finally:
        os.umask(before)

    answer = run("horizon_release", login=hardened, **parameters)

    assert answer["changed"], answer
    root = Path(parameters["root"])
    assert closed(root / "releases") == []
    assert closed(root / "venvs") == []


def test_a_release_that_others_cannot_read_is_mended(tmp_path: Path, hardened: Login) -> None:
    parameters = archive_of_a_release(tmp_path)
    installed = run("horizon_release", **parameters)
    Path(installed["path"]).chmod(0o700)
    (Path(installed["path"]) / "service").chmod(0o700)
    Path(installed["venv"]).chmod(0o700)

    run("horizon_release", login=hardened, **parameters)

    assert closed(Path(parameters["root"]) / "releases") == []
    assert closed(Path(parameters["root"]) / "venvs") == []


def archive_of_a_release(folder: Path) -> dict[str, Any]:
    """Parameters of the module; its uv makes an environment of one file."""
    source = folder / "source" / "service"
    source.mkdir(parents=True)
    (source / "__init__.py").touch()
    (source / "requirements.txt").write_text("# nothing\n")
    archive = folder / "release.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(source, "service")
    root = folder / "root"
    for each in ("releases", "venvs", "incoming"):
        (root / each).mkdir(parents=True)
        (root / each).chmod(0o755)
    uv = folder / "uv"
    uv.write_text(
        "#!/bin/sh\n"
        'case $1 in venv) shift 5; mkdir -p "$1/bin" "$1/lib"; echo x >"$1/lib/x.py"\n'
        f'ln -s {sys.executable} "$1/bin/python" ;; esac\n'
    )
    uv.chmod(0o755)
    return {
        "name": "one",
        "archive": str(archive),
        "lock_hash": hashlib.sha256((source / "requirements.txt").read_bytes()).hexdigest(),
        "root": str(root),
        "python": sys.executable,
        "uv": str(uv),
    }
