"""Makes `.venv` from the lock: `python3 service/bootstrap.py`, or `make setup`.

`bootstrap.py uv ARGUMENTS` runs the virtual environment's uv with pip's network settings.

Standard library only, and every line parses on Python 2.7 and 3.6 too: the oldest Python on the
machine has to be able to say what to install. That is why types are comments here.

The environment is whole when its stamp matches this Python, this folder and the lock. The stamp is
written last; a marker stands from the first change to the last, so an interrupted run is seen and
the environment made anew.
"""

from __future__ import print_function

import ast
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile

OLDEST = (3, 11)
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LOCK = os.path.join(ROOT, "requirements.txt")
VENV = os.path.join(ROOT, ".venv")
VENV_PYTHON = os.path.join(VENV, "bin", "python")
UV = os.path.join(VENV, "bin", "uv")
STAMP = os.path.join(VENV, "setup-stamp")
UNFINISHED = os.path.join(VENV, "setup-unfinished")

LAUNCHER = """#!/bin/sh
'''exec' "{python}" "$0" "$@"
'''
import sys

sys.path.insert(0, {root!r})
from service.cli.main import main

sys.exit(main())
"""


class SetupError(Exception):
    """The environment cannot be made; the first line says what to do about it."""


def complaint(version, modules=("venv", "ensurepip")):
    # type: (tuple[int, ...], tuple[str, ...]) -> str | None
    """What to install when this Python, of that version, cannot make the environment."""
    found = "this is Python {0} at {1}".format(".".join(map(str, version[:3])), sys.executable)
    if tuple(version[:2]) < OLDEST:
        return (
            "Install Python 3.11 or newer: apt-get install python3 python3-venv\n"
            "({0}; Debian 12, Ubuntu 24.04 and later bring one that is new enough.\n"
            "Another one is named with: make setup PYTHON=/path/to/python3.12)".format(found)
        )
    for module in modules:
        try:
            __import__(module)
        except ImportError:
            own = os.path.realpath("/usr/bin/python3") == os.path.realpath(base_python())
            package = "python3-venv" if own else "python{0}.{1}-venv".format(*version[:2])
            return (
                "Install Python's venv: apt-get install {0}\n({1} and has no module {2}.)".format(
                    package, found, module
                )
            )
    return None


def base_python():
    # type: () -> str
    """This Python outside of any virtual environment."""
    name = "python{0}.{1}".format(*sys.version_info[:2])
    path = os.path.join(getattr(sys, "base_prefix", sys.prefix), "bin", name)
    return path if os.path.exists(path) else sys.executable


def read(path):
    # type: (str) -> str
    """The file's text, empty when there is none."""
    if not os.path.exists(path):
        return ""
    with io.open(path, encoding="utf-8") as file:
        return file.read()


def write(path, text):
    # type: (str, str) -> None
    """Replaces the file in one step."""
    with io.open(path + ".new", "w", encoding="utf-8") as file:
        file.write(text)
    os.rename(path + ".new", path)


def fingerprint():
    # type: () -> str
    """What the environment is made of: Python, folder, lock and this script."""
    contents = (read(LOCK) + read(__file__)).encode("utf-8")
    lines = (sys.version, os.path.realpath(sys.base_prefix), ROOT)
    return "\n".join(lines + (hashlib.sha256(contents).hexdigest(), ""))


def pip_options(listing):
    # type: (str) -> dict[str, str]
    """Options of `pip config list`, a command's over the global ones, the environment's over both.

    A line reads `global.index-url='https://host/simple'`; before the dot stands `global`, a
    command or `:env:`.
    """
    options = {}
    for section in ("global", "install", ":env:"):
        for name, value in re.findall(
            "^" + section + r"\.([a-z-]+)=(['\"].*['\"])$", listing, re.MULTILINE
        ):
            options[name] = str(ast.literal_eval(value))
    return options


def environment(environ, options):
    # type: (dict[str, str], dict[str, str]) -> dict[str, str]
    """Variables for pip and uv, from the caller's and from pip's own options.

    uv reads neither pip's configuration nor its variables, old pips do not read SSL_CERT_FILE:
    each is told what the other knows. What the caller set himself stays.
    """
    env = dict(environ)
    for name in ("PYTHONHOME", "PYTHONPATH", "PIP_TARGET", "PIP_PREFIX", "PIP_USER", "VIRTUAL_ENV"):
        env.pop(name, None)
    env["PIP_USER"] = "0"
    env["UV_PYTHON_DOWNLOADS"] = "never"
    certificates = options.get("cert") or env.get("REQUESTS_CA_BUNDLE") or env.get("CURL_CA_BUNDLE")
    if certificates and not env.get("SSL_CERT_FILE"):
        env["SSL_CERT_FILE"] = certificates
    if env.get("SSL_CERT_FILE") and not certificates:
        env["PIP_CERT"] = env["SSL_CERT_FILE"]
    if options.get("index-url") and not (env.get("UV_DEFAULT_INDEX") or env.get("UV_INDEX_URL")):
        env["UV_DEFAULT_INDEX"] = options["index-url"]
    home = env.get("HOME", "")
    if not (env.get("UV_CACHE_DIR") or (os.path.isdir(home) and os.access(home, os.W_OK))):
        env["UV_NO_CACHE"] = "1"
    return env


def tool_environment():
    # type: () -> dict[str, str]
    """`environment` with the options of the virtual environment's pip, when it has one."""
    try:
        listing = subprocess.check_output(
            [VENV_PYTHON, "-I", "-m", "pip", "config", "list"], stderr=subprocess.DEVNULL
        ).decode()
    except (OSError, subprocess.CalledProcessError):
        listing = "\n".join(
            ":env:.{0}={1!r}".format(name[4:].lower().replace("_", "-"), value)
            for name, value in os.environ.items()
            if name.startswith("PIP_")
        )
    return environment(dict(os.environ), pip_options(listing))


def run(*command):
    # type: (str) -> None
    """Runs a step; raises SetupError when it fails. Its own output says why."""
    code = subprocess.call(command, cwd=ROOT, env=tool_environment())
    if code:
        raise SetupError(
            "Setup failed: `{0}` ended with {1}; its reason is above, run `make setup` again.\n"
            "Behind a proxy or an own certificate set HTTPS_PROXY, PIP_CERT, PIP_INDEX_URL.".format(
                " ".join(command), code
            )
        )


def uv_block(lock):
    # type: (str) -> str
    """uv's own entry of the lock: its version and hashes."""
    found = re.search(r"^uv==(?:[^\n]*\\\n)+[^\n]*\n?", lock, re.MULTILINE)
    if found is None:
        raise SetupError("requirements.txt does not pin uv with hashes: run `git checkout` on it")
    return found.group()


def reusable():
    # type: () -> bool
    """Whether `.venv` was finished once, by this Python and for this folder."""
    if os.path.exists(UNFINISHED) or (read(STAMP) and ROOT not in read(STAMP).splitlines()):
        return False
    if not (os.path.exists(UV) or os.path.exists(os.path.join(VENV, "bin", "pip"))):
        return False
    question = "import os, sys; print(sys.version); print(os.path.realpath(sys.base_prefix))"
    try:
        answer = subprocess.check_output([VENV_PYTHON, "-I", "-c", question]).decode()
    except (OSError, subprocess.CalledProcessError):
        return False
    return answer.strip() == sys.version + "\n" + os.path.realpath(sys.base_prefix)


def make_empty():
    # type: () -> None
    """Puts a new virtual environment with pip in the place of `.venv`."""
    if os.path.islink(VENV):
        os.unlink(VENV)
    elif os.path.isdir(VENV):
        shutil.rmtree(VENV)
    os.mkdir(VENV)
    write(UNFINISHED, "")
    run(base_python(), "-I", "-m", "venv", VENV)


def install_uv():
    # type: () -> None
    """Brings the uv that the lock pins into `.venv`, with pip and its hashes."""
    block = uv_block(read(LOCK))
    try:
        installed = subprocess.check_output([UV, "--version"]).decode().split()[:2]
    except (OSError, subprocess.CalledProcessError):
        installed = []
    if "==".join(installed) == block.split()[0]:
        return
    folder = tempfile.mkdtemp()
    try:
        requirement = os.path.join(folder, "uv.txt")
        write(requirement, block)
        pip = (VENV_PYTHON, "-I", "-m", "pip", "install", "-qq", "--disable-pip-version-check")
        run(*(pip + ("--require-hashes", "--no-deps", "-r", requirement)))
    finally:
        shutil.rmtree(folder)


def write_launcher():
    # type: () -> None
    """`.venv/bin/horizonctl`, which runs the commands of this checkout from any folder."""
    path = os.path.join(VENV, "bin", "horizonctl")
    write(path, LAUNCHER.format(python=VENV_PYTHON, root=ROOT))
    os.chmod(path, 0o755)  # noqa: S103 a command that everyone may run


def setup():
    # type: () -> None
    """Makes or repairs `.venv`; returns at once when it is whole."""
    import fcntl

    wanted = fingerprint()
    if read(STAMP) == wanted and os.path.exists(VENV_PYTHON):
        return
    with open(os.path.abspath(__file__)) as own:
        fcntl.flock(own, fcntl.LOCK_EX)
        if read(STAMP) == wanted and os.path.exists(VENV_PYTHON):
            return
        print("Installing what requirements.txt locks into .venv")
        sys.stdout.flush()
        keep = reusable()
        if os.path.exists(STAMP):
            os.unlink(STAMP)
        if not keep:
            make_empty()
        write(UNFINISHED, "")
        install_uv()
        run(UV, "pip", "sync", "--quiet", "--python", VENV_PYTHON, "--require-hashes", LOCK)
        write_launcher()
        os.unlink(UNFINISHED)
        write(STAMP, wanted)


def main(arguments):
    # type: (list[str]) -> int
    """Exit code: 0 when `.venv` is whole, 1 with the remedy on the first line when it is not."""
    remedy = complaint(tuple(sys.version_info[:3]))
    if remedy is not None:
        print(remedy)
        return 1
    try:
        if arguments[:1] == ["uv"]:
            os.execve(UV, ["uv"] + arguments[1:], tool_environment())  # noqa: S606 our own uv
        setup()
    except SetupError as error:
        print(error)
        return 1
    except OSError as error:
        print("Setup failed: {0}".format(error))
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
