"""Two bare machines have become servers: what anybody outside, and what their operator, can see."""

from __future__ import annotations

import json
import re
import time
from datetime import datetime

from conftest import MACHINES, domain_of, on_both
from cryptography import x509
from installed import (
    MOST_EXPOSED,
    add_bot,
    exposures,
    listeners_beyond_loopback,
    readable_secrets,
    secrets_of,
    secrets_on_command_lines,
)
from machine import EPHEMERAL, address_of, made, on, playbook, reached, typed, vendors, wait_for
from message import authority, send, served_certificate, wait_for_reply

NUMBER = "+56226660001"


@on_both
def test_signed_message_over_https_is_answered(machine: str) -> None:
    started = time.monotonic()
    add_bot(machine, NUMBER)
    secrets = made()

    status, contact = send(
        domain_of(machine),
        address_of(machine),
        NUMBER,
        "Hola, ¿a qué hora abren?",
        secrets["vault_twilio_auth_token"],
        secrets["vault_twilio_account_sid"],
        authority(),
    )

    assert status == 200
    assert wait_for_reply(vendors()["twilio"], contact)
    seconds = installation_s() + time.monotonic() - started
    print(f"two bare machines at once to an answered message: {seconds:.1f} s")


def installation_s() -> float:
    """How long the longest run of site.yml took, by the log of all."""
    took, begun = [0.0], None
    for line in (EPHEMERAL / "ansible.log").read_text(encoding="utf-8").splitlines():
        if "PLAY [Servers answer WhatsApp]" in line:
            begun = logged_at(line)
        elif "PLAY RECAP" in line and begun is not None:
            took.append((logged_at(line) - begun).total_seconds())
    return max(took)


def logged_at(line: str) -> datetime:
    return datetime.strptime(line[:23], "%Y-%m-%d %H:%M:%S,%f")


@on_both
def test_message_with_a_wrong_signature_is_refused(machine: str) -> None:
    status, _ = send(
        domain_of(machine),
        address_of(machine),
        NUMBER,
        "Hola",
        "another-token",
        "AC" + "e" * 32,
        authority(),
    )

    assert status == 403


@on_both
def test_forced_renewal_is_served_at_once(machine: str) -> None:
    domain, address = domain_of(machine), address_of(machine)
    before = x509.load_pem_x509_certificate(served_certificate(domain, address).encode())
    master = on(machine, "cat /run/nginx.pid")

    renew = "certbot renew --force-renewal --quiet --no-random-sleep-on-renew"
    on(machine, f"set -a; . /etc/horizonai-bots/certbot.env; {renew}")

    def is_new() -> bool:
        served = x509.load_pem_x509_certificate(served_certificate(domain, address).encode())
        return served.serial_number != before.serial_number

    # nginx takes a moment to change its processes.
    wait_for(is_new, 120, "the new certificate is served")
    assert on(machine, "cat /run/nginx.pid") == master


@on_both
def test_nothing_but_ssh_and_web_listens_beyond_loopback(machine: str) -> None:
    found = listeners_beyond_loopback(machine)

    ssh = reached(machine)["ansible_port"]
    assert found == {ssh, 80, 443}
    assert str(ssh) in on(machine, "nft list table inet horizonai_bots | grep SSH")
    assert typed(machine, "whoami").strip() == reached(machine)["ansible_user"]


@on_both
def test_units_are_sandboxed(machine: str) -> None:
    found = exposures(machine)

    print(found)
    assert {re.sub(r"@.*", "", unit) for unit in found} == {
        "horizonai-bots",
        "horizonai-bots-worker",
    }
    assert max(found.values()) <= MOST_EXPOSED


@on_both
def test_secrets_are_in_nobodys_reach(machine: str) -> None:
    assert readable_secrets(machine) == []
    assert secrets_on_command_lines(machine) == []


@on_both
def test_release_starts_with_the_machine(machine: str) -> None:
    wanted = on(machine, "ls /etc/systemd/system/horizonai-bots.service.wants").split()
    running = on(
        machine, "systemctl list-units --plain --no-legend 'horizonai-bots*@*' | cut -d' ' -f1"
    ).split()

    assert sorted(wanted) == sorted(running) != []
    assert (
        on(machine, "systemctl is-enabled horizonai-bots.service horizonai-bots.socket").split()
        == ["enabled"] * 2
    )


@on_both
def test_health_is_good_and_says_the_release(machine: str) -> None:
    health = json.loads(typed(machine, "sudo horizonctl health --json"))

    assert health["status"] == "ok"
    assert (
        health["release"] == on(machine, "basename $(readlink /opt/horizonai-bots/current)").strip()
    )


def test_check_on_converged_machines_finds_nothing_to_do() -> None:
    run = playbook("site.yml", "--check", "--diff")

    assert run.code == 0, run.output
    assert run.changed == 0, run.output
    assert [s for s in secrets_of(made().items()) if s in run.output] == []


def test_second_run_changes_nothing() -> None:
    run = playbook("site.yml", "--diff", "--limit", MACHINES[0])

    print(f"second run of site.yml: {run.seconds:.1f} s")
    assert run.code == 0, run.output
    assert run.changed == 0, run.output
    assert "/webhook/whatsapp#rc=3&rp=ct,rt,5xx&rt=4000&tt=15000" in run.output


def test_no_secret_was_printed_by_any_run() -> None:
    log = (EPHEMERAL / "ansible.log").read_text(encoding="utf-8")

    assert "--- before" in log, "no run printed its differences"
    assert [s for s in secrets_of(made().items()) if s in log] == []
