#!/usr/bin/python
"""Ansible module: a release and its virtual environment are on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: horizon_release
short_description: Installs a release of Horizon WhatsApp Bots, without running it
description:
  - Unpacks an archive that O(archive) names on the host, and makes the virtual environment of its lock
    with uv, every package checked against its hash.
  - Environments are kept by the lock's hash and the exact interpreter, so releases share them.
  - What was interrupted is made anew; a release is there in whole or not at all.
options:
  name: {description: Name of the release., type: str, required: true}
  archive: {description: The release as a tar.gz on the host., type: path, required: true}
  lock_hash: {description: SHA-256 of the release's service/requirements.txt., type: str, required: true}
  build: {description: What is written into release.json., type: dict, default: {}}
  root: {description: Folder of the installation., type: path, default: /opt/horizonai-bots}
  python: {description: Interpreter of the environments., type: path, default: /usr/bin/python3}
  uv: {description: The uv that makes them., type: path, default: /opt/horizonai-bots/bin/uv}
  environment: {description: Variables for uv., type: dict, default: {}}
"""

EXAMPLES = r"""
- name: Release is installed
  horizon_release:
    name: 20261123085445_1d15697a1b2c
    archive: /opt/horizonai-bots/incoming/20261123085445_1d15697a1b2c.tar.gz
    lock_hash: 5e8f2c
"""

RETURN = r"""
path: {description: Folder of the release., type: str, returned: always}
venv: {description: Its virtual environment., type: str, returned: always}
venv_changed: {description: Whether the environment had to be made., type: bool, returned: always}
"""

import errno
import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible.module_utils.horizon_lock import BusyError, alone
from ansible.module_utils.horizon_surroundings import leave_login

LOCK = "service/requirements.txt"
TIMEOUT_S = 900
ARGUMENTS: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "archive": {"type": "path", "required": True},
    "lock_hash": {"type": "str", "required": True},
    "build": {"type": "dict", "default": {}},
    "root": {"type": "path", "default": "/opt/horizonai-bots"},
    "python": {"type": "path", "default": "/usr/bin/python3"},
    "uv": {"type": "path", "default": "/opt/horizonai-bots/bin/uv"},
    "environment": {"type": "dict", "default": {}},
}


class InstallError(Exception):
    """The release is not installed; what runs was not touched."""


def interpreter_tag(python: str) -> str:
    """Like cp311-3.11.2-x86_64: an environment fits exactly one interpreter."""
    question = (
        "import platform, sys; "
        "print('cp%d%d-%s-%s' % (*sys.version_info[:2], platform.python_version(), platform.machine()))"
    )
    return subprocess.check_output([python, "-I", "-c", question], text=True).strip()


def unpack(archive: Path, folder: Path, lock_hash: str) -> None:
    """Raises InstallError."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(mode=0o755, parents=True)
    # Debian 12's tarfile knows no extraction filters yet.
    tar = [
        "tar",
        "--extract",
        "--gzip",
        "--no-same-owner",
        "--file",
        str(archive),
        "--directory",
        str(folder),
    ]
    result = subprocess.run(tar, capture_output=True, text=True, check=False)
    if result.returncode:
        words = result.stderr.strip()
        if "No space left" in words:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
        raise InstallError(f"the archive {archive} is damaged ({words}): remove it and run again")
    _open_to_readers(folder)
    found = hashlib.sha256((folder / LOCK).read_bytes()).hexdigest()
    if found != lock_hash:
        raise InstallError(
            f"the archive {archive} holds another lock than it should: remove it and run again"
        )


def make_venv(parameters: dict[str, Any], lock: Path, venv: Path) -> None:
    """The environment of a lock, moved to its place when it is whole. Raises InstallError."""
    uv = parameters["uv"]
    if not os.access(uv, os.X_OK):
        raise InstallError(
            f"there is no {uv}: run ansible-playbook site.yml -i <inventory> --tags python first"
        )
    temporary = venv.with_name(f".incoming-{venv.name}")
    if temporary.exists():
        shutil.rmtree(temporary)
    env = {**os.environ, "UV_PYTHON_DOWNLOADS": "never", **parameters["environment"]}
    python = str(temporary / "bin/python")
    for command in (
        [uv, "venv", "--quiet", "--relocatable", "--python", parameters["python"], str(temporary)],
        [uv, "pip", "sync", "--quiet", "--require-hashes", "--python", python, str(lock)],
        # The processes may not write there.
        [python, "-I", "-m", "compileall", "-q", "-j", "0", str(temporary / "lib")],
    ):
        result = subprocess.run(
            command, env=env, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
        # Packages carry a few files for other Pythons, which do not compile: that is no fault.
        if result.returncode and "compileall" not in command:
            shutil.rmtree(temporary, ignore_errors=True)
            words = result.stderr.strip()[-1500:]
            raise InstallError(
                f"the virtual environment cannot be made: `{' '.join(command[:3])}` said:\n{words}"
            )
    _open_to_readers(temporary)
    temporary.rename(venv)


def _open_to_readers(folder: Path) -> None:
    """The archive and uv's cache have the modes of the umask under which they were once made."""
    subprocess.run(["chmod", "-R", "u=rwX,go=rX", str(folder)], check=True)


def install(parameters: dict[str, Any]) -> dict[str, Any]:
    # Whoever is being answered meanwhile goes first.
    os.nice(10)
    root = Path(parameters["root"])
    release = root / "releases" / parameters["name"]
    key = f"{parameters['lock_hash'][:16]}-{interpreter_tag(parameters['python'])}"
    venv = root / "venvs" / key
    link = release / "venv"
    venv_changed = not venv.exists()
    for folder in (release, venv):
        # A run under a strict umask, or one that was killed, may have left it so.
        if folder.exists() and folder.stat().st_mode & 0o055 != 0o055:
            _open_to_readers(folder)
    if (release / "release.json").exists() and not venv_changed and link.resolve() == venv:
        return {"changed": False, "path": str(release), "venv": str(venv), "venv_changed": False}
    incoming = root / "incoming" / parameters["name"]
    unpack(Path(parameters["archive"]), incoming, parameters["lock_hash"])
    if venv_changed:
        venv.parent.mkdir(mode=0o755, exist_ok=True)
        make_venv(parameters, incoming / LOCK, venv)
    (incoming / "venv").symlink_to(venv)
    subprocess.run(
        [str(venv / "bin/python"), "-I", "-m", "compileall", "-q", str(incoming / "service")],
        check=False,
    )
    content = {**parameters["build"], "lock_hash": parameters["lock_hash"], "venv": key}
    (incoming / "release.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    if release.exists():
        # It was there for another interpreter, or was not finished.
        shutil.rmtree(release)
    release.parent.mkdir(mode=0o755, exist_ok=True)
    incoming.rename(release)
    return {"changed": True, "path": str(release), "venv": str(venv), "venv_changed": venv_changed}


def main() -> None:
    leave_login()
    module = AnsibleModule(ARGUMENTS, supports_check_mode=True)
    root = Path(module.params["root"])
    installed = (root / "releases" / module.params["name"] / "venv").is_dir()
    if module.check_mode:
        module.exit_json(changed=not installed, path="", venv="", venv_changed=False)
    try:
        (root / "state").mkdir(mode=0o755, exist_ok=True)
        with alone(root / "state", "A deploy"):
            result = install(module.params)
    except BusyError as error:
        module.fail_json(msg=str(error))
    except FileNotFoundError as error:
        module.fail_json(
            msg=f"{error.filename} is missing. Remedy: ansible-playbook site.yml -i <inventory>."
        )
    except OSError as error:
        remedy = "free some space (cleanup of old releases, logs), then run this again"
        sentence = f"{error.strerror}: {error.filename or root}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            sentence = f"The disk of {root} is full. Remedy: {remedy}"
        module.fail_json(msg=f"Release {module.params['name']} is not installed. {sentence}.")
    except (InstallError, subprocess.SubprocessError) as error:
        module.fail_json(msg=f"Release {module.params['name']} is not installed: {error}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
