"""Setup says what is missing, and knows a whole environment from a broken one."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from service import bootstrap

ROOT = Path(__file__).parents[2]


def run_make(folder: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """`make` in a folder, with nothing of this environment but what is given."""
    make = shutil.which("make")
    assert make is not None
    return subprocess.run(
        [make, "--no-print-directory", *arguments],
        cwd=folder,
        env={"PATH": os.environ["PATH"], **env},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """As much of the repository as setup reads."""
    (tmp_path / "service").mkdir()
    for name in ("Makefile", "requirements.txt", "service/bootstrap.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


@pytest.fixture
def whole_venv(checkout: Path) -> Path:
    """An environment that setup finished, as far as it looks at one; it cannot install anything."""
    venv = checkout / ".venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to(bootstrap.base_python())
    (venv / "pyvenv.cfg").write_text(f"home = {Path(bootstrap.base_python()).parent}\n")
    program = (
        f"import sys; sys.path.insert(0, {str(checkout)!r})\n"
        "from service import bootstrap; print(bootstrap.fingerprint(), end='')"
    )
    stamp = subprocess.run(
        [sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True
    ).stdout
    (venv / "setup-stamp").write_text(stamp)
    return venv


def test_an_old_python_is_told_what_to_install_on_the_first_line() -> None:
    remedy = bootstrap.complaint((3, 9, 2))

    assert remedy is not None
    assert remedy.splitlines()[0] == (
        "Install Python 3.11 or newer: apt-get install python3 python3-venv"
    )


def test_a_python_without_ensurepip_is_told_which_package_brings_it(
    checkout: Path, tmp_path: Path
) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "ensurepip.py").write_text("raise ImportError('left out')\n")

    ended = run_make(checkout, "setup", PYTHON=sys.executable, PYTHONPATH=str(bare))

    assert ended.returncode != 0
    assert re.fullmatch(
        r"Install Python's venv: apt-get install python3(\.\d+)?-venv",
        ended.stdout.splitlines()[0],
    )


def test_a_machine_without_python_is_told_what_to_install(checkout: Path, tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    shell = shutil.which("sh")
    assert shell is not None
    (programs / "sh").symlink_to(shell)

    ended = run_make(checkout, "setup", PATH=str(programs))

    assert ended.returncode != 0
    assert ended.stdout.splitlines()[0] == (
        "Install Python 3.11 or newer: apt-get install python3 python3-venv"
    )


def test_the_script_has_no_syntax_that_an_old_python_cannot_parse() -> None:
    source = (ROOT / "service" / "bootstrap.py").read_bytes()
    newer = (ast.JoinedStr, ast.NamedExpr, ast.AnnAssign, ast.AsyncFunctionDef, ast.Nonlocal)

    nodes = list(ast.walk(ast.parse(source)))

    assert source.isascii()
    assert [node for node in nodes if isinstance(node, newer)] == []
    assert [node for node in nodes if isinstance(node, ast.Raise) and node.cause] == []
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef)]
    assert functions
    for function in functions:
        arguments = function.args
        assert function.returns is None
        assert not arguments.kwonlyargs
        assert not arguments.posonlyargs
        assert [argument for argument in arguments.args if argument.annotation] == []


def test_a_whole_environment_is_left_alone_without_a_word(checkout: Path, whole_venv: Path) -> None:
    before = sorted(whole_venv.rglob("*"))

    ended = run_make(checkout, "setup")

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert sorted(whole_venv.rglob("*")) == before


@pytest.mark.parametrize("changed", ["requirements.txt", "service/bootstrap.py"])
def test_the_stamp_no_longer_fits_when_the_lock_or_the_script_changes(
    checkout: Path, whole_venv: Path, changed: str
) -> None:
    # It can be kept and brought up to date: only what is installed in it may have changed.
    (whole_venv / "bin" / "pip").touch()
    with (checkout / changed).open("a") as file:
        file.write("# changed\n")

    ended = run_make(checkout, "setup", PIP_NO_INDEX="1", UV_OFFLINE="1")

    assert ended.stdout.startswith("Installing what requirements.txt locks")
    assert not (whole_venv / "setup-stamp").exists()


def test_an_environment_of_a_removed_python_is_made_anew(
    checkout: Path, whole_venv: Path, tmp_path: Path
) -> None:
    (whole_venv / "bin" / "python").unlink()
    (whole_venv / "bin" / "python").symlink_to(tmp_path / "removed")
    (whole_venv / "leftover").touch()

    run_make(checkout, "setup", PIP_NO_INDEX="1", UV_OFFLINE="1")

    assert (whole_venv / "bin" / "python").exists()
    assert not (whole_venv / "leftover").exists()


def test_an_interrupted_environment_is_made_anew(checkout: Path, whole_venv: Path) -> None:
    (whole_venv / "setup-stamp").unlink()
    (whole_venv / "setup-unfinished").touch()
    (whole_venv / "half-installed").touch()

    run_make(checkout, "setup", PIP_NO_INDEX="1", UV_OFFLINE="1")

    assert not (whole_venv / "half-installed").exists()


def test_a_failed_setup_leaves_the_mark_and_names_the_step(checkout: Path) -> None:
    ended = run_make(checkout, "setup", PIP_NO_INDEX="1", UV_OFFLINE="1")

    assert ended.returncode != 0
    assert "Setup failed: `" in ended.stdout
    assert (checkout / ".venv" / "setup-unfinished").exists()
    assert not (checkout / ".venv" / "setup-stamp").exists()


def test_the_lock_pins_its_installer_with_hashes() -> None:
    block = bootstrap.uv_block((ROOT / "requirements.txt").read_text())

    assert re.match(r"uv==\d+\.\d+\.\d+ \\\n +--hash=sha256:", block)
    assert block.count("==") == 1
    assert not block.rstrip().endswith("\\")


def test_options_of_the_environment_go_before_those_of_the_files() -> None:
    listing = (
        ":env:.cert='/from/environment'\n"
        "global.cert='/from/file'\n"
        "global.index-url='https://mirror.example/global'\n"
        "install.index-url='https://mirror.example/install'\n"
    )

    options = bootstrap.pip_options(listing)

    assert options == {
        "cert": "/from/environment",
        "index-url": "https://mirror.example/install",
    }


def test_uv_is_told_what_pip_knows() -> None:
    options = {"cert": "/ca.pem", "index-url": "https://mirror.example/simple"}

    env = bootstrap.environment({"HOME": str(ROOT)}, options)

    assert env["SSL_CERT_FILE"] == "/ca.pem"
    assert env["UV_DEFAULT_INDEX"] == "https://mirror.example/simple"


def test_what_uv_was_told_by_the_user_stays() -> None:
    given = {"SSL_CERT_FILE": "/own.pem", "UV_INDEX_URL": "https://own.example/simple"}
    options = {"cert": "/ca.pem", "index-url": "https://mirror.example/simple"}

    env = bootstrap.environment(given, options)

    assert env["SSL_CERT_FILE"] == "/own.pem"
    assert env["UV_INDEX_URL"] == "https://own.example/simple"
    assert "UV_DEFAULT_INDEX" not in env


def test_certificates_of_requests_reach_uv() -> None:
    env = bootstrap.environment({"REQUESTS_CA_BUNDLE": "/requests.pem"}, {})

    assert env["SSL_CERT_FILE"] == "/requests.pem"


def test_certificates_of_uv_reach_an_old_pip() -> None:
    env = bootstrap.environment({"SSL_CERT_FILE": "/own.pem"}, {})

    assert env["PIP_CERT"] == "/own.pem"


@pytest.mark.parametrize("home", ["", "/nonexistent"])
def test_uv_needs_no_home_folder(home: str) -> None:
    env = bootstrap.environment({"HOME": home}, {})

    assert env["UV_NO_CACHE"] == "1"


def test_the_launcher_runs_the_checkout_from_any_folder_and_path(tmp_path: Path) -> None:
    root = tmp_path / "a checkout"
    (root / "service" / "cli").mkdir(parents=True)
    (root / "service" / "__init__.py").touch()
    (root / "service" / "cli" / "__init__.py").touch()
    (root / "service" / "cli" / "main.py").write_text(
        "import sys\ndef main():\n    print(sys.argv[1:])\n    return 3\n"
    )
    python = root / "python"
    python.symlink_to(sys.executable)
    launcher = root / "horizonctl"
    launcher.write_text(bootstrap.LAUNCHER.format(python=python, root=str(root)))
    launcher.chmod(0o755)

    ended = subprocess.run(
        [launcher, "bots", "list all"], cwd="/", capture_output=True, text=True, check=False
    )

    assert (ended.returncode, ended.stdout) == (3, "['bots', 'list all']\n")


def test_help_lists_every_public_target() -> None:
    makefile = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)
    assert phony is not None

    ended = run_make(ROOT)

    listed = re.findall(r"^make ([a-z-]+) +\S", ended.stdout, re.MULTILINE)
    assert sorted(listed) == sorted(phony.group(1).split())
