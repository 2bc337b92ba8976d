"""Two balancers and one address, in one stream of messages to that address."""

from __future__ import annotations

import http.client
import socket
import ssl
import time

import pytest
from conftest import (
    BALANCERS,
    BASE,
    DOMAIN,
    FLOATING,
    deafen,
    holder,
    holders,
    is_holding,
    other,
    start_again,
    undeafen,
)
from evidence import broken, settled
from installed import left_to_do
from machine import EPHEMERAL, address_of, code_on, on, playbook, stop, wait_for
from message import authority, served_certificate
from steady_load import Load, event
from versions import Versions

CHALLENGES = "/.well-known/acme-challenge"
WEBROOT = f"/var/lib/horizonai-bots-acme{CHALLENGES}"
RENEW = """
set -e
d=/run/systemd/system/certbot.service.d
mkdir -p $d
cat >$d/zz-force.conf <<END
[Service]
ExecStart=
ExecStart=/usr/bin/certbot -q renew --no-random-sleep-on-renew --force-renewal
END
systemctl daemon-reload
trap "rm $d/zz-force.conf; systemctl daemon-reload" EXIT
systemctl start certbot.service
"""
"""Certbot's own unit, which renews everything, by force."""
UPSTREAM = "/etc/nginx/horizonai-bots-upstream.conf"

on_both = pytest.mark.parametrize("machine", BALANCERS)


def get(address: str, path: str) -> tuple[int, bytes]:
    """What port 80 of an address answers for the public name."""
    connection = http.client.HTTPConnection(address, 80, timeout=10)
    try:
        connection.request("GET", path, headers={"Host": DOMAIN})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def is_trusted(address: str, root: str) -> bool:
    """Whether the authority vouches for what is served there."""
    context = ssl.create_default_context(cadata=root)
    with (
        socket.create_connection((address, 443), timeout=10) as raw,
        context.wrap_socket(raw, server_hostname=DOMAIN),
    ):
        return True


def certificate_of(machine: str) -> str:
    return served_certificate(DOMAIN, address_of(machine))


def test_one_balancer_has_the_address() -> None:
    assert len(holders()) == 1


@on_both
def test_only_the_other_balancer_is_heard(machine: str) -> None:
    rules = on(machine, "nft list table inet horizonai_bots")
    heard = [line.split()[2] for line in rules.splitlines() if "l4proto" in line]

    assert heard == [address_of(other(machine))]
    assert "script_user nobody" in on(machine, "cat /etc/keepalived/keepalived.conf")


@on_both
def test_each_balancer_serves_a_certificate_of_its_own(machine: str) -> None:
    assert is_trusted(address_of(machine), authority())
    assert certificate_of(machine) != certificate_of(other(machine))


def test_the_address_serves_a_certificate() -> None:
    assert is_trusted(FLOATING, authority())


@on_both
def test_a_challenge_of_one_balancer_is_answered_by_both(machine: str) -> None:
    on(machine, f"mkdir -p {WEBROOT} && echo of-{machine} >{WEBROOT}/of-{machine}")
    try:
        answers = {
            address: get(address, f"{CHALLENGES}/of-{machine}")
            for address in (FLOATING, *map(address_of, BALANCERS))
        }
    finally:
        on(machine, f"rm {WEBROOT}/of-{machine}")

    assert set(answers.values()) == {(200, f"of-{machine}\n".encode())}, answers
    assert get(FLOATING, f"{CHALLENGES}/of-{machine}")[0] == 404


def test_the_balancer_without_the_address_renews_its_certificate() -> None:
    without = other(holder())
    before = certificate_of(without)

    on(without, RENEW)

    wait_for(lambda: certificate_of(without) != before, 120, "the new certificate is served")
    assert is_trusted(address_of(without), authority())


def test_a_killed_balancer_is_replaced(load: Load) -> None:
    time.sleep(5)
    first = holder()
    with event(load, "balancer with the address killed, and with it web, workers and a Redis"):
        stop(first)
        wait_for(lambda: is_holding(other(first)), 120, "the other balancer has the address")
        time.sleep(15)
    with event(load, "it is back"):
        start_again(first)
        time.sleep(10)
    assert holder() == other(first)


def test_a_balancer_without_nginx_gives_the_address_up(load: Load) -> None:
    first = holder()
    with event(load, "nginx of the balancer with the address stopped"):
        on(first, "systemctl stop nginx.service")
        wait_for(lambda: is_holding(other(first)), 120, "the other balancer has the address")
        time.sleep(5)
    with event(load, "it runs again"):
        on(first, "systemctl start nginx.service")
        time.sleep(5)
    assert holder() == other(first)


def test_a_killed_keepalived_leaves_one_address(load: Load) -> None:
    with event(load, "keepalived of the balancer with the address killed"):
        on(holder(), "systemctl kill --signal=KILL keepalived.service")
        time.sleep(10)
        assert len(holders()) == 1


def test_balancers_that_do_not_hear_each_other_agree_again(load: Load) -> None:
    first = holder()
    with event(load, "balancers that do not hear each other"):
        deafen(first)
        wait_for(lambda: len(holders()) == 2, 120, "both have the address")
        time.sleep(5)
        found = playbook("repair.yml", mend=False, app_repair_from_outside=False)
        assert f"both have {FLOATING}" in found.output
    with event(load, "they hear each other again"):
        undeafen(first)
        wait_for(lambda: len(holders()) == 1, 120, "one has the address")


def test_one_balancer_goes_on_alone(load: Load) -> None:
    """It renews, and web hosts are taken out of it and put back."""
    first = holder()
    left = other(first)
    with event(load, "balancer with the address killed again"):
        stop(first)
        wait_for(lambda: is_holding(left), 120, "the other balancer has the address")

    before = certificate_of(left)
    on(left, RENEW)
    wait_for(lambda: certificate_of(left) != before, 120, "the new certificate is served")
    assert is_trusted(FLOATING, authority())
    assert get(FLOATING, f"{CHALLENGES}/nobodys")[0] in (404, 502, 504)

    backends = EPHEMERAL / "backends.yml"
    backends.write_text(
        f"- hosts: {left}\n"
        "  gather_facts: false\n"
        "  tasks:\n"
        "    - ansible.builtin.include_role: {name: nginx, tasks_from: backends}\n"
    )
    out = playbook(str(backends), nginx_backends_down=[first])
    assert out.code == 0, out.output
    assert " down;" in on(left, f"cat {UPSTREAM}")
    back = playbook(str(backends))
    assert back.code == 0, back.output
    assert " down;" not in on(left, f"cat {UPSTREAM}")

    with event(load, "it is back"):
        start_again(first)
        time.sleep(10)


def test_a_run_after_all_this_changes_nothing(load: Load) -> None:
    before = holder()
    with event(load, "site.yml"):
        run = playbook("site.yml")
    assert (run.code, run.changed) == (0, 0), run.output
    assert holder() == before
    print(f"site.yml: {run.seconds:.0f} s")


def test_a_version_is_deployed_past_both_balancers(load: Load, versions: Versions) -> None:
    version = versions.next_good("second")
    with event(load, "deploy"):
        run = playbook(
            "deploy.yml",
            version=version,
            app_repository=str(EPHEMERAL / "repository"),
            app_build_folder=str(EPHEMERAL / "builds"),
        )
    assert run.code == 0, run.output
    for machine in BALANCERS:
        assert on(machine, "readlink /opt/horizonai-bots/current").strip().endswith(version[:12])
        assert " down;" not in on(machine, f"cat {UPSTREAM}")


def test_a_host_that_is_no_balancer_any_more_gives_the_address_up(load: Load) -> None:
    first = holder()
    left = other(first)
    inventory = "only-one.yml" if left.endswith("one") else "only-two.yml"
    with event(load, "one balancer is left in the inventory"):
        run = playbook("site.yml", "--tags", "keepalived", inventory=inventory)
    assert run.code == 0, run.output
    assert holder() == left
    assert code_on(first, "systemctl is-active keepalived.service") != 0

    with event(load, "two again"):
        run = playbook("site.yml", "--tags", "keepalived")
        assert run.code == 0, run.output
        time.sleep(10)
    assert holder() == left


def test_nothing_is_lost_and_nothing_is_answered_twice(load: Load) -> None:
    record = settled(BALANCERS[0], load)

    assert broken(record) == {}
    assert all(message.acked_at is not None for message in load.sent)


def test_every_host_is_well_at_the_end() -> None:
    run = playbook("repair.yml", mend=False, app_repair_from_outside=False)

    # A machine of the tests may see nothing of the internet.
    assert left_to_do(run, "names outside", "time synchronization", "memory") == [], run.output
    assert BASE in run.output
