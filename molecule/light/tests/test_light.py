"""The light profile answers on a machine of 512 MB, its swap included."""

from __future__ import annotations

import subprocess
from pathlib import Path

from installed import add_bot
from machine import EPHEMERAL, ROOT, address_of, container, made, playbook, typed, vendors
from message import send, wait_for_reply
from versions import Versions

MACHINE = "light-bookworm"
NUMBER = "+56226660001"
LIMIT_MB = 512


def memory() -> dict[str, int]:
    """Bytes in use without the page cache, and processes that the kernel has killed for want of memory."""
    name = subprocess.check_output(
        ["docker", "inspect", "--format", "{{.Id}}", container(MACHINE)], text=True
    ).strip()
    (folder,) = [
        *Path("/sys/fs/cgroup/memory/docker").glob(name),
        *Path("/sys/fs/cgroup").glob(f"system.slice/docker-{name}.scope"),
    ]
    names = {
        "memory.stat": ("total_rss", "anon"),
        "memory.oom_control": ("oom_kill",),
        "memory.events": ("oom_kill",),
    }
    found: dict[str, int] = {}
    for file, wanted in names.items():
        if (folder / file).exists():
            for line in (folder / file).read_text().splitlines():
                key, _, value = line.partition(" ")
                if key in wanted:
                    found["killed" if key == "oom_kill" else "used"] = int(value)
    assert set(found) == {"used", "killed"}, found
    return found


def test_message_is_answered() -> None:
    add_bot(MACHINE, NUMBER)
    secrets = made()

    status, contact = send(
        "light.horizon.test",
        address_of(MACHINE),
        NUMBER,
        "Hola",
        secrets["vault_twilio_auth_token"],
        secrets["vault_twilio_account_sid"],
        None,
    )

    assert status == 200
    assert wait_for_reply(vendors()["twilio"], contact)


def test_a_version_is_deployed_beside_the_running_one() -> None:
    version = Versions(ROOT, EPHEMERAL / "repository").next_good("second")

    run = playbook(
        "deploy.yml",
        version=version,
        app_repository=str(EPHEMERAL / "repository"),
        app_build_folder=str(EPHEMERAL / "builds"),
    )

    assert run.code == 0, run.output


def test_a_copy_of_the_database_belongs_to_who_asks_for_it() -> None:
    typed(MACHINE, "sudo horizonctl db backup copia.db")

    assert typed(MACHINE, "stat --format '%U %a' copia.db").split() == ["agency", "600"]
    assert typed(MACHINE, "head --bytes 15 copia.db") == "SQLite format 3"


def test_memory_was_enough() -> None:
    found = memory()

    print(f"in use without the page cache: {found['used'] / 2**20:.0f} of {LIMIT_MB} MB")
    assert found["killed"] == 0
    assert found["used"] < LIMIT_MB * 2**20
