"""What `horizonctl` starts on a server: the command as the service's user, its files as the person's."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.ansible.conftest import REPOSITORY

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root can become other users")

PROGRAM = REPOSITORY / "roles/app/files/run_as_service"
SERVICE, PERSON, OTHER = "nobody", 54_321, 54_322
COMMAND = """
import os, sys
sys.path.insert(0, {folder!r})
from pathlib import Path
from named_files import open_named, writing_named
{body}
"""


@pytest.fixture
def world() -> Iterator[Path]:
    """A folder that every user reaches, with homes of 0700 and the service's side of the files."""
    with TemporaryDirectory(prefix="horizon-", dir="/var/tmp") as name:  # open to all
        folder = Path(name)
        folder.chmod(0o755)
        for user, home in ((PERSON, "home"), (OTHER, "other"), (0, "root")):
            (folder / home).mkdir(mode=0o700)
            os.chown(folder / home, user, user)
        client = (REPOSITORY / "service/cli/named_files.py").read_text()
        (folder / "lib").mkdir(mode=0o755)
        (folder / "lib" / "named_files.py").write_text(client)
        (folder / "lib" / "named_files.py").chmod(0o644)
        yield folder


def put(file: Path, text: str, owner: int) -> Path:
    file.write_text(text)
    file.chmod(0o600)
    os.chown(file, owner, owner)
    return file


def run(
    world: Path, body: str, *words: str, sudo: int | None = PERSON, folder: str = "home"
) -> subprocess.CompletedProcess[str]:
    caller = {} if sudo is None else {"SUDO_UID": str(sudo), "SUDO_GID": str(sudo)}
    script = COMMAND.format(folder=str(world / "lib"), body=textwrap.dedent(body))
    return subprocess.run(
        [
            *("/usr/bin/python3", "-I", PROGRAM, SERVICE, "65534"),
            *("/usr/bin/python3", "-P", "-c", script, *words),
        ],
        cwd=world / folder,
        env={"PATH": os.defpath, **caller},
        capture_output=True,
        text=True,
        timeout=60,
    )


READ = "print(open_named(Path(sys.argv[1])).read().decode())"
WRITE = """
with writing_named(Path(sys.argv[1]), replace="--force" in sys.argv) as file:
    file.write(b"data")
"""


def test_the_command_is_the_services_in_the_root_folder(world: Path) -> None:
    done = run(world, "print(os.getresuid(), os.getresgid(), os.getgroups(), os.getcwd())")

    user = (65534, 65534, 65534)
    assert done.stdout == f"{user} {user} [65534] /\n"


@pytest.mark.parametrize("word", ["prompt.txt", "./prompt.txt", "../home/prompt.txt"])
def test_a_file_of_a_closed_home_is_read_from_where_the_person_is(world: Path, word: str) -> None:
    put(world / "home" / "prompt.txt", "¡Hola!", PERSON)

    assert run(world, READ, word).stdout == "¡Hola!\n"


def test_an_option_may_have_its_file_behind_an_equals_sign(world: Path) -> None:
    put(world / "home" / "prompt.txt", "¡Hola!", PERSON)

    done = run(world, READ.replace("sys.argv[1]", "'prompt.txt'"), "--file=./prompt.txt")

    assert done.stdout == "¡Hola!\n"


@pytest.mark.parametrize(("place", "owner"), [("root", 0), ("other", OTHER)])
def test_who_may_use_sudo_for_this_alone_reads_nobody_elses_file(
    world: Path, place: str, owner: int
) -> None:
    file = put(world / place / "secret", "hidden", owner)

    done = run(world, READ, str(file))

    assert done.returncode != 0
    assert "Permission denied" in done.stderr
    assert "hidden" not in done.stdout + done.stderr


def test_a_file_that_the_service_alone_may_read_is_not_read_for_a_person(world: Path) -> None:
    (world / "service").mkdir(mode=0o750)
    os.chown(world / "service", 65534, 65534)
    file = put(world / "service" / "env", "hidden", 65534)

    done = run(world, READ, str(file))

    assert "Permission denied" in done.stderr


def test_a_file_that_no_word_names_is_not_opened(world: Path) -> None:
    file = put(world / "root" / "secret", "hidden", 0)

    done = run(world, f"open_named(Path({str(file)!r}))", "another", sudo=None)

    assert "no word of the command names it" in done.stderr


@pytest.mark.parametrize(("sudo", "place", "owner"), [(PERSON, "home", PERSON), (None, "root", 0)])
def test_what_is_written_is_the_persons_alone(
    world: Path, sudo: int | None, place: str, owner: int
) -> None:
    done = run(world, WRITE, "new/data.gz", sudo=sudo, folder=place)

    file = world / place / "new" / "data.gz"
    found = file.stat()
    assert (done.returncode, done.stderr) == (0, "")
    assert file.read_text() == "data"
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (owner, owner, 0o600)
    assert [each.name for each in file.parent.iterdir()] == ["data.gz"]


def test_a_file_that_exists_is_replaced_only_by_force(world: Path) -> None:
    file = put(world / "home" / "data.gz", "before", PERSON)

    refused = run(world, WRITE, "data.gz")
    kept = file.read_text()
    forced = run(world, WRITE, "data.gz", "--force")

    assert "FileExistsError" in refused.stderr
    assert (kept, forced.returncode, file.read_text()) == ("before", 0, "data")


def test_nobody_writes_where_they_may_not(world: Path) -> None:
    done = run(world, WRITE, str(world / "root" / "data.gz"), "--force")

    assert "Permission denied" in done.stderr
    assert list((world / "root").iterdir()) == []


def test_what_was_not_finished_leaves_nothing(world: Path) -> None:
    body = WRITE + "    file.flush()\n    raise SystemExit(3)\n"

    done = run(world, body, "data.gz")

    assert done.returncode == 3
    assert list((world / "home").iterdir()) == []


def test_the_code_of_the_command_is_passed_on(world: Path) -> None:
    assert run(world, "sys.exit(7)").returncode == 7
    assert run(world, "os.kill(os.getpid(), 9)").returncode == 137


def test_a_signal_reaches_the_command(world: Path) -> None:
    body = "import signal, time; print('ready', flush=True); signal.pause()"
    running = subprocess.Popen(
        ["/usr/bin/python3", "-I", PROGRAM, SERVICE, "65534", "/usr/bin/python3", "-c", body],
        env={"PATH": os.defpath},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert running.stdout is not None
    assert running.stdout.readline() == "ready\n"

    running.send_signal(signal.SIGTERM)

    assert running.wait(timeout=60) == 143
    running.stdout.close()
