"""What goes wrong at an installation and after it: what is said, and that the next run mends it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from installed import add_bot, listeners_beyond_loopback
from machine import (
    EPHEMERAL,
    ROOT,
    Run,
    address_of,
    code_on,
    made,
    on,
    playbook,
    restart,
    type_in,
    typed,
    vendors,
    wait_for,
)
from message import send, wait_for_reply
from versions import Versions

MACHINE = "recovery-bookworm"
DOMAIN = "recovery.horizon.test"
NUMBER = "+56226660001"
NOBODY = "127.0.0.1:9"


def assert_says(run: Run, *reasons: str) -> None:
    """The play has failed, with all of these in what it says."""
    assert run.code != 0, run.output
    print(run.output.rpartition("FAILED! =>")[2].partition("PLAY RECAP")[0])
    words = " ".join(run.output.split())
    for reason in reasons:
        assert re.search(reason, words), f"{reason}\n{run.output}"


def answers() -> bool:
    """A message gets its reply."""
    secrets = made()
    status, contact = send(
        *(DOMAIN, address_of(MACHINE), NUMBER, "Hola", secrets["vault_twilio_auth_token"]),
        *(secrets["vault_twilio_account_sid"], None),
    )
    return status == 200 and bool(wait_for_reply(vendors()["twilio"], contact))


@contextmanager
def small_disk(folder: str, size_mb: int) -> Iterator[None]:
    """What is written below the folder goes to a disk of this size, and is gone afterwards."""
    on(
        MACHINE,
        f"mkdir -p /run/small {folder} && mount -t tmpfs -o size={size_mb}m tmpfs /run/small && "
        "mkdir /run/small/upper /run/small/work && mount -t overlay overlay "
        f"-o lowerdir={folder},upperdir=/run/small/upper,workdir=/run/small/work {folder}",
    )
    try:
        yield
    finally:
        on(MACHINE, f"umount {folder} && umount /run/small")


def test_wrong_values_are_told_before_anything_is_touched() -> None:
    run = playbook("site.yml", app_domain="https://bots.example.com/", vault_admin_api_key="")

    assert_says(run, "app_domain", "vault_admin_api_key is empty", "Remedy: ")
    assert code_on(MACHINE, "test -e /etc/horizonai-bots || test -e /opt/horizonai-bots") != 0
    assert code_on(MACHINE, "id horizonai-bots") != 0


def test_disk_that_fills_up_during_the_installation_is_told() -> None:
    with small_disk("/opt", 60):
        run = playbook("site.yml", preflight_disk_opt_mb=10)

        assert_says(run, "[Nn]o space|disk of /opt/horizonai-bots is full")


def test_redis_that_cannot_be_reached_is_told() -> None:
    run = playbook("site.yml", redis_enabled=False, app_redis_host="192.0.2.1")

    assert_says(run, "was taken back: its probe failed: .*Redis", "Now: nothing runs")


def test_authority_that_cannot_be_reached_leaves_a_server_that_answers() -> None:
    run = playbook("site.yml", certbot_server=f"https://{NOBODY}/dir")

    assert_says(run, "everything else is configured and serving", DOMAIN, "certbot_force=true")
    add_bot(MACHINE, NUMBER)
    assert answers()


def test_mended_installation_converges() -> None:
    run = playbook("site.yml", certbot_force=True)
    assert run.code == 0, run.output

    again = playbook("site.yml")

    assert (again.code, again.changed) == (0, 0), again.output
    assert answers()


@pytest.fixture(scope="module")
def versions() -> Versions:
    return Versions(ROOT, EPHEMERAL / "repository")


def deploy(version: str) -> Run:
    return playbook(
        "deploy.yml",
        version=version,
        app_repository=str(EPHEMERAL / "repository"),
        app_build_folder=str(EPHEMERAL / "builds"),
    )


def release() -> str:
    return str(json.loads(typed(MACHINE, "sudo horizonctl health --json"))["release"])


@pytest.mark.parametrize("left_kb", [8, 400])
def test_disk_that_fills_up_during_a_deploy_is_told(versions: Versions, left_kb: int) -> None:
    """Once the upload does not fit, once what is unpacked."""
    before = release()
    version = versions.next_good(f"full-disk-{left_kb}")
    with small_disk("/opt/horizonai-bots", 4):
        on(MACHINE, "dd if=/dev/zero of=/run/small/filler bs=4k || true")
        on(MACHINE, f"truncate --size=-{left_kb}K /run/small/filler")

        run = deploy(version)

        assert_says(run, "[Nn]o space|disk of /opt/horizonai-bots is full", "Remedy: (make|free)")
        assert release() == before
        assert answers()

    assert deploy(version).code == 0
    assert release().endswith(version[:12])


def test_restarted_machine_answers_by_itself() -> None:
    before = release()
    restart(MACHINE)
    wait_for(
        lambda: type_in(MACHINE, "sudo horizonctl health").returncode == 0,
        90,
        "the service is healthy",
    )

    assert answers()
    assert release() == before
    run = playbook("site.yml")
    assert (run.code, run.changed) == (0, 0), run.output


def test_killed_processes_come_back() -> None:
    on(MACHINE, "systemctl kill --signal=KILL 'horizonai-bots@*' 'horizonai-bots-worker@*'")

    wait_for(
        lambda: type_in(MACHINE, "sudo horizonctl health").returncode == 0,
        60,
        "the service is healthy",
    )
    assert answers()


def test_removal_leaves_data_and_nothing_that_runs() -> None:
    bots = typed(MACHINE, "sudo horizonctl bots list --json")

    run = playbook("molecule/recovery/remove.yml")

    assert run.code == 0, run.output
    assert listeners_beyond_loopback(MACHINE) <= {22}
    assert code_on(MACHINE, "systemctl list-units --plain --no-legend 'horizonai*' | grep .") != 0
    assert code_on(MACHINE, "nft list table inet horizonai_bots") != 0
    assert code_on(MACHINE, "test -e /opt/horizonai-bots") != 0
    timers = "/etc/systemd/system/horizonai-bots-*.timer"
    assert code_on(MACHINE, f"ls {timers} /usr/local/sbin/horizonai-backup | grep .") != 0
    again = playbook("molecule/recovery/remove.yml")
    assert again.code == 0, again.output

    back = playbook("site.yml")

    assert back.code == 0, back.output
    assert typed(MACHINE, "sudo horizonctl bots list --json") == bots
    assert answers()


def test_removal_with_data_leaves_nothing() -> None:
    run = playbook("molecule/recovery/remove.yml", data=True)

    assert run.code == 0, run.output
    for path in ("/opt/horizonai-bots", "/var/lib/horizonai-bots", "/etc/horizonai-bots/env"):
        assert code_on(MACHINE, f"test -e {path}") != 0, path
