"""Several balancers and the one address that they share."""

from __future__ import annotations

import re
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from tests.ansible.cluster import ADDRESSES, GROUPS, Rendered, render
from tests.ansible.conftest import load
from tests.security.nginx import BINARY, DOMAIN, nginx_before

floating = load("filter_plugins/horizon_floating.py")

ADDRESS = "203.0.113.10/24"
TWO: Mapping[str, list[str]] = {**GROUPS, "balancer": ["bal1", "web1"]}
HOSTS: Mapping[str, Mapping[str, Any]] = {
    "bal1": {"cluster_address": "10.0.0.1", "ansible_host": "203.0.113.11"},
    "web1": {"cluster_address": "10.0.0.2", "ansible_host": "203.0.113.12"},
    "web2": {"cluster_address": "10.0.0.3", "ansible_host": "203.0.113.13"},
}
FACTS: Mapping[str, Any] = {
    "interfaces": ["lo", "eth0", "ens-1"],
    "default_ipv4": {"interface": "eth0", "address": "203.0.113.11", "device": "eth0"},
    "eth0": {
        "device": "eth0",
        "ipv4": {"address": "203.0.113.11", "netmask": "255.255.255.0"},
        "ipv6": [{"address": "2001:db8::11", "prefix": "64", "scope": "global"}],
    },
    "ens_1": {
        "device": "ens-1",
        "ipv4": {"address": "10.0.0.1", "netmask": "255.255.255.0"},
        "ipv4_secondaries": [{"address": "10.1.0.1", "netmask": "255.255.0.0"}],
    },
}


def problems(
    groups: Mapping[str, list[str]] = TWO,
    hosts: Mapping[str, Mapping[str, Any]] = HOSTS,
    **values: Any,
) -> list[str]:
    given = {"keepalived_address": ADDRESS, **values}
    found = floating.problems(groups, hosts, given)
    assert all(finding["remedy"] for finding in found)
    return [finding["problem"] for finding in found]


def test_two_balancers_with_an_address_have_no_problem() -> None:
    assert problems() == []


def test_one_balancer_needs_no_address() -> None:
    assert problems(GROUPS, keepalived_address=None) == []
    assert problems({}, keepalived_address=None) == []


def test_something_else_may_stand_before_two_balancers() -> None:
    assert problems(keepalived_address=None, keepalived_enabled=False) == []


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"keepalived_address": None}, "has 2 hosts, and no keepalived_address"),
        ({"keepalived_address": "bots.example.test"}, "is bots.example.test, and no address"),
        ({"keepalived_address": "203.0.113.10"}, "no address with the length of its network"),
        ({"keepalived_address": "127.0.0.1/8"}, "is 127.0.0.1/8, and no address"),
        ({"keepalived_address": "203.0.113.12/24"}, "is the ansible_host of web1"),
        ({"keepalived_address": "10.0.0.3/24"}, "is the cluster_address of web2"),
        ({"keepalived_address": "2001:db8::10/64"}, "cluster_address of bal1, web1 is not"),
        ({"keepalived_router_id": 256}, "keepalived_router_id is 256"),
        ({"keepalived_router_id": "first"}, "keepalived_router_id is first"),
        ({"keepalived_address": "203.0.113.0/24"}, "is 203.0.113.0/24, and no address"),
        ({"keepalived_address": "203.0.113.255/24"}, "is 203.0.113.255/24, and no address"),
        ({"keepalived_address": "203.0.113.10/0"}, "is 203.0.113.10/0, whose length of 0 is that"),
        ({"keepalived_address": "2001:db8::10/0"}, "is 2001:db8::10/0, whose length of 0 is that"),
        ({"keepalived_address": "169.254.1.10/16"}, "is 169.254.1.10/16, a link-local address"),
        ({"keepalived_address": "fe80::10/64"}, "is fe80::10/64, a link-local address"),
        ({"keepalived_address": "2001:db8::10%eth0/64"}, "and no address with the length"),
        (
            {"keepalived_address": "203.0.113.10/255.255.255.0"},
            "with a mask in place of the length",
        ),
        ({"keepalived_address": "203.0.113.10/0.0.0.255"}, "with a mask in place of the length"),
    ],
)
def test_a_wrong_address_is_told_with_what_to_change(
    changes: dict[str, Any], sentence: str
) -> None:
    found = problems(**changes)

    assert len(found) == 1
    assert sentence in found[0]


@pytest.mark.parametrize("mask", ["255.255.255.0", "0.0.0.255"])
def test_a_mask_comes_with_the_right_line(mask: str) -> None:
    (found,) = floating.problems(TWO, HOSTS, {"keepalived_address": f"203.0.113.10/{mask}"})

    assert found["remedy"].endswith("keepalived_address: 203.0.113.10/24")


@pytest.mark.parametrize(
    ("name", "variables", "sentence"),
    [
        ("203.0.113.10", {}, "is the inventory_hostname of 203.0.113.10,"),
        ("203.0.113.10", {"ansible_host": "203.0.113.10"}, "is the ansible_host of 203.0.113.10,"),
        ("2001:db8::10", {}, "is the inventory_hostname of 2001:db8::10,"),
        ("web2", {"ansible_host": "2001:0DB8:0::10"}, "is the ansible_host of web2,"),
        ("web2", {"cluster_address": "2001:db8:0::10"}, "is the cluster_address of web2,"),
    ],
)
def test_an_address_that_a_host_is_known_by_is_told_once(
    name: str, variables: dict[str, str], sentence: str
) -> None:
    four = "." in name or "." in str(variables)
    address = "203.0.113.10/24" if four else "2001:db8::10/64"
    own = {} if four else {"cluster_address": "fd00::1"}
    hosts = {host: {**HOSTS[host], **own} for host in ("bal1", "web1")} | {name: variables}

    (problem,) = problems(hosts=hosts, keepalived_address=address)

    assert sentence in problem


def with_facts(**facts: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The hosts, some of them with what Ansible has gathered there."""
    return {
        host: {**variables, "ansible_facts": facts.get(host, {})}
        for host, variables in HOSTS.items()
    }


@pytest.mark.parametrize("address", [ADDRESS, "203.0.113.10/32", "10.1.2.3/16"])
def test_an_address_of_the_balancers_networks_has_no_problem(address: str) -> None:
    hosts = with_facts(bal1=FACTS, web1=FACTS)

    assert problems(hosts=hosts, keepalived_address=address) == []


def test_the_balancer_that_holds_the_address_has_no_problem() -> None:
    own = {"address": "203.0.113.10", "netmask": "255.255.255.0"}
    holding = {**FACTS, "eth0": {**FACTS["eth0"], "ipv4_secondaries": [own]}}

    assert problems(hosts=with_facts(bal1=holding, web1=FACTS)) == []


@pytest.mark.parametrize("netmask", ["255.255.255.0", "255.255.255.255"])
def test_an_address_of_no_network_is_told_although_a_balancer_holds_it(netmask: str) -> None:
    own = {"address": "198.51.100.1", "netmask": netmask}
    holding = {**FACTS, "eth0": {**FACTS["eth0"], "ipv4_secondaries": [own]}}
    hosts = with_facts(bal1=holding, web1=FACTS)

    (found,) = floating.problems(TWO, hosts, {"keepalived_address": "198.51.100.1/24"})

    assert found["problem"] == (
        "No interface of bal1, web1 has an address in the network of keepalived_address "
        "198.51.100.1/24."
    )
    assert "keepalived_interface: eth0" in found["remedy"]


def test_only_the_balancer_without_the_network_is_named() -> None:
    other = {**FACTS, "eth0": {"device": "eth0", "ipv4": {}}}

    (problem,) = problems(hosts=with_facts(bal1=FACTS, web1=other, web2=other))

    assert "No interface of web1 has" in problem


def test_a_named_interface_needs_no_network() -> None:
    hosts = with_facts(bal1=FACTS, web1=FACTS)
    for host in TWO["balancer"]:
        hosts[host]["keepalived_interface"] = "eth0"

    assert problems(hosts=hosts, keepalived_address="198.51.100.1/32") == []


@pytest.mark.parametrize("facts", [{}, {"os_family": "Debian"}])
def test_nothing_is_said_of_networks_that_were_not_looked_at(facts: dict[str, Any]) -> None:
    hosts = with_facts(bal1=facts, web1=facts)

    assert problems(hosts=hosts, keepalived_address="198.51.100.1/24") == []


def test_the_interfaces_are_found() -> None:
    assert floating.interface_with(FACTS, "10.0.0.1") == "ens-1"
    assert floating.interface_with(FACTS, "2001:db8::11") == "eth0"
    assert floating.interface_towards(FACTS, ADDRESS) == "eth0"
    assert floating.interface_towards(FACTS, "10.1.2.3/16") == "ens-1"


def test_the_interface_is_the_same_for_the_balancer_that_holds_the_address() -> None:
    own = {"address": "10.1.2.3", "netmask": "255.255.0.0"}
    holding = {**FACTS, "eth0": {**FACTS["eth0"], "ipv4_secondaries": [own]}}

    assert floating.interface_towards(holding, "10.1.2.3/16") == "ens-1"


def test_an_address_of_no_network_takes_no_interface_unasked() -> None:
    with pytest.raises(AnsibleFilterError, match="keepalived_interface: eth0"):
        floating.interface_towards(FACTS, "198.51.100.1/32")


@pytest.mark.parametrize(
    ("looks", "state", "words"),
    [
        ({"a": {"holds": True}, "b": {"holds": False}}, "ok", ""),
        ({"a": {"holds": True}, "b": {}}, "ok", ""),
        ({"a": {"holds": True}, "b": {"holds": True}}, "wrong", "a and b both have 203.0.113.10"),
        ({"a": {"holds": False}, "b": {"holds": False}}, "wrong", "no balancer has 203.0.113.10"),
        ({"a": {"holds": False}, "b": {}}, "unchecked", "b could not be looked at"),
    ],
)
def test_one_balancer_has_the_address(
    looks: dict[str, dict[str, bool]], state: str, words: str
) -> None:
    found = floating.held("203.0.113.10", looks)

    assert (found["state"], found["found"]) == (state, words)
    assert bool(found["remedy"]) == (state != "ok")


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Rendered:
    hosts = {name: {"cluster_address": address} for name, address in ADDRESSES.items()}
    folder = tmp_path_factory.mktemp("floating")
    return render(folder, TWO, hosts, keepalived_address=ADDRESS)


class TestRendered:
    """What the roles write on the hosts."""

    def test_the_balancers_have_it_and_nobody_else(self, rendered: Rendered) -> None:
        assert [h for h in ADDRESSES if rendered.value(h, "keepalived_is_here")] == TWO["balancer"]
        assert [h for h in ADDRESSES if rendered.value(h, "preflight_floating")] == TWO["balancer"]
        assert "keepalived.service" in rendered.value("bal1", "app_repair_boot_units")
        assert "floating" in rendered.value("web1", "app_repair_parts")
        assert "floating" not in rendered.value("web2", "app_repair_parts")

    def test_all_balancers_are_alike(self, rendered: Rendered) -> None:
        texts = {
            host: rendered.text(host, "keepalived", "keepalived.conf.j2")
            for host in TWO["balancer"]
        }
        own = {host: re.findall(r"unicast_src_ip (\S+)", text) for host, text in texts.items()}
        peers = {
            host: re.findall(r"unicast_peer \{\s+(\S+)\s+\}", text) for host, text in texts.items()
        }

        assert own == {"bal1": [ADDRESSES["bal1"]], "web1": [ADDRESSES["web1"]]}
        assert peers == {"bal1": [ADDRESSES["web1"]], "web1": [ADDRESSES["bal1"]]}
        for text in texts.values():
            assert "state BACKUP\n    priority 100\n" in text
            assert f"{ADDRESS} dev eth0" in text
            assert "interface eth1\n" in text
            assert "track_interface {\n        eth0\n" in text

    def test_the_firewall_lets_the_other_balancer_in(self, rendered: Rendered) -> None:
        rule = f"ip saddr {ADDRESSES['web1']} meta l4proto 112 accept"

        assert rule in rendered.text("bal1", "firewall", "firewall.nft")
        assert "l4proto 112" not in rendered.text("web2", "firewall", "firewall.nft")

    def test_one_balancer_speaks_to_hosts_that_do_not_listen(self, tmp_path: Path) -> None:
        hosts = {name: {"cluster_address": address} for name, address in ADDRESSES.items()}
        rendered = render(tmp_path, GROUPS, hosts, keepalived_address=ADDRESS)

        text = rendered.text("bal1", "keepalived", "keepalived.conf.j2")
        assert rendered.value("bal1", "keepalived_is_here")
        assert rendered.value("bal1", "nginx_other_balancers") == []
        (peers,) = re.findall(r"unicast_peer \{([^}]+)\}", text)
        assert set(peers.split()) == set(ADDRESSES.values()) - {ADDRESSES["bal1"]}


class OtherBalancer:
    """Has one challenge, and counts what it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    @contextmanager
    def running(self) -> Iterator[int]:
        other = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                other.asked.append((str(self.headers["Host"]), self.path))
                body = b"theirs" if self.path.endswith("/theirs") else b""
                self.send_response(200 if body else 404)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


@pytest.mark.skipif(BINARY is None, reason="needs nginx")
class TestChallenge:
    """A real nginx with the role's site, beside another balancer."""

    @pytest.fixture
    def other(self) -> OtherBalancer:
        return OtherBalancer()

    @pytest.fixture
    def ask(self, other: OtherBalancer, tmp_path: Path) -> Iterator[Any]:
        folder = tmp_path / "nginx"
        upstream = tmp_path / "upstream.conf"
        upstream.write_text("upstream horizonai_bots { server 127.0.0.1:9; }\n")
        site = {
            "nginx_backends": ["localhost"],
            "nginx_other_balancers": ["localhost"],
            "nginx_upstream_file": str(upstream),
            "cluster_address": "127.0.0.1",
        }
        with (
            other.running() as port,
            nginx_before(
                tmp_path / "none",
                folder,
                {"server 127.0.0.1:80 ": f"server 127.0.0.1:{port} "},
                **site,
            ) as nginx,
        ):
            challenges = folder / "acme/.well-known/acme-challenge"
            challenges.mkdir(parents=True)
            (challenges / "ours").write_text("ours")

            def get(path: str, name: str = DOMAIN) -> tuple[int, str]:
                done = subprocess.run(
                    [
                        *("curl", "--silent", "--noproxy", "*", "--header", f"Host: {name}"),
                        *("--write-out", "\n%{http_code}"),
                        f"http://127.0.0.1:{nginx.http_port}{path}",
                    ],
                    capture_output=True,
                    text=True,
                    check=False,
                )
                body, _, status = done.stdout.rpartition("\n")
                return int(status), body

            yield get

    def test_its_own_challenge_is_answered_by_itself(self, ask: Any, other: OtherBalancer) -> None:
        assert ask("/.well-known/acme-challenge/ours") == (200, "ours")
        assert other.asked == []

    def test_the_others_challenge_is_fetched_there(self, ask: Any, other: OtherBalancer) -> None:
        path = "/.well-known/acme-challenge/theirs"

        assert ask(path) == (200, "theirs")
        assert other.asked == [("horizonai-bots-balancer", path)]

    def test_what_nobody_has_is_not_found(self, ask: Any) -> None:
        assert ask("/.well-known/acme-challenge/nobodys")[0] == 404

    def test_a_balancer_that_is_asked_by_another_asks_no_further(
        self, ask: Any, other: OtherBalancer
    ) -> None:
        name = "horizonai-bots-balancer"

        assert ask("/.well-known/acme-challenge/ours", name) == (200, "ours")
        assert ask("/.well-known/acme-challenge/theirs", name)[0] == 404
        assert other.asked == []

    def test_it_says_that_it_is_alive_while_no_web_host_is(self, ask: Any) -> None:
        assert ask("/alive", "horizonai-bots-balancer") == (204, "")
        assert ask("/alive")[0] == 301
