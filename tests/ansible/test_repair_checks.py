"""Each fault that repair claims to find, on a host that is made of a few dictionaries."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

engine = importlib.import_module("ansible.module_utils.horizon_check")
checks = importlib.import_module("ansible.module_utils.horizon_checks")

RELEASE = "20260101000000_aaaaaaaaaaaa"
WEB = f"horizonai-bots@{RELEASE}.service"
WORKER = f"horizonai-bots-worker@{RELEASE}-1.service"
CLUSTER = "postgresql@15-main.service"
UNITS = (
    "horizonai-bots.socket", "horizonai-bots.service", "horizonai-bots-firewall.service",
    "redis-server.service", "redis-sentinel.service", "postgresql.service", CLUSTER, "nginx.service",
    "keepalived.service", "certbot.timer", WEB, WORKER,
)  # fmt: skip
HEALTHY = {
    "db": "up",
    "redis": "up",
    "spool": "writable",
    "spooled": 0,
    "queue": {"due": 0, "oldest_due_s": 0.0, "dead": 0},
}


class FakeHost:
    """Healthy until a test breaks it; `systemctl start` helps unless the unit is `stubborn`."""

    def __init__(self, root: Path) -> None:
        (root / "releases" / RELEASE / "venv" / "bin").mkdir(parents=True)
        (root / "current").symlink_to(root / "releases" / RELEASE)
        self.params: dict[str, Any] = {
            "root": str(root),
            "home": "/home",
            "user": "bots",
            "boot_units": ["nginx.service"],
            "public_ports": [80, 443],
            "private_ports": [6379],
            "outside_names": ["api.twilio.com"],
            "domains": ["bots.example.com"],
            "addresses": ["192.0.2.1"],
            "disks": ["/"],
            "files": [{"path": "/etc/env", "owner": "root", "group": "bots", "mode": "0640"}],
            "clock_off_s": 0.0,
            "without": [],
            "parts": ["balancer", "floating", "web", "workers", "redis", "sentinel", "database"],
            "private_addresses": [],
        }
        self.active = dict.fromkeys(UNITS, "active")
        self.enabled = dict.fromkeys(UNITS, "enabled")
        self.stubborn: set[str] = set()
        self.failed: list[str] = []
        self.ports = [("0.0.0.0", 80), ("0.0.0.0", 443), ("127.0.0.1", 6379)]  # noqa: S104
        self.owners: dict[str, tuple[str, str, int]] = {"/etc/env": ("root", "bots", 0o640)}
        self.space = (10_000.0, 0.5, 0.9)
        self.state: dict[str, Any] | None = copy.deepcopy(HEALTHY)
        self.schema = {"runs": True, "state": "at head"}
        self.beats = [{"id": "bots1:7", "release": RELEASE}]
        self.checked = [
            {"what": what, "whose": "service", "ok": True, "message": ""}
            for what in ("redis", "twilio", "openai")
        ]
        self.codes: dict[str, tuple[int, str]] = {}
        self.names = {"api.twilio.com": {"198.51.100.1"}, "bots.example.com": {"192.0.2.1"}}
        self.cert: tuple[float, str] | None = (60.0, "Let's Encrypt")
        self.is_served: bool | None = True
        self.memory = 2_000.0
        self.victims: list[str] = []
        self.commands: list[str] = []

    def unit(self, name: str) -> dict[str, str]:
        load = "loaded" if name in self.active else "not-found"
        return {
            "LoadState": load,
            "ActiveState": self.active.get(name, "inactive"),
            "UnitFileState": self.enabled.get(name, ""),
        }

    def failed_units(self) -> list[str]:
        return self.failed

    def running(self) -> list[str]:
        return [WEB, WORKER]

    def name(self) -> str:
        return "bots1"

    def listeners(self) -> list[tuple[str, int]]:
        return self.ports

    def owner(self, path: str) -> tuple[str, str, int] | None:
        return self.owners.get(path)

    def free(self, path: str) -> tuple[float, float, float]:
        return self.space

    def health(self) -> dict[str, Any]:
        if self.state is None:
            raise engine.UncheckedError("horizonctl health: no answer")
        return self.state

    def horizonctl(self, *words: str) -> Any:
        return {"workers": {"workers": self.beats}, "db": self.schema, "check": self.checked}[
            words[0]
        ]

    def certificate(self, domain: str) -> tuple[float, str] | None:
        return self.cert

    def serves(self, domain: str) -> bool | None:
        return self.is_served

    def resolve(self, name: str) -> set[str]:
        return self.names.get(name, set())

    def memory_mb(self) -> float:
        return self.memory

    def killed(self) -> list[str]:
        return self.victims

    def run(self, *command: str) -> tuple[int, str]:
        line = " ".join(command)
        self.commands.append(line)
        for start, answer in self.codes.items():
            if line.startswith(start):
                return answer
        if line.endswith("postgresql@*.service"):
            return (
                0,
                f"{CLUSTER} loaded {self.active[CLUSTER]} running PostgreSQL Cluster 15-main\n",
            )
        if line == "systemctl start certbot.service":
            self.cert = (89.0, "Let's Encrypt")
            self.failed = [unit for unit in self.failed if unit != command[2]]
        elif line.startswith(("systemctl start", "systemctl restart")):
            if command[2] not in self.stubborn:
                self.active[command[2]] = "active"
        elif line.startswith("systemctl enable"):
            self.enabled |= dict.fromkeys(command[2:], "enabled")
        elif line.startswith("systemctl reset-failed"):
            self.failed = [unit for unit in self.failed if unit != command[2]]
        elif line.startswith("chmod"):
            owner, group, _ = self.owners[command[2]]
            self.owners[command[2]] = (owner, group, int(command[1], 8))
        elif line.startswith("chown root:bots"):
            self.owners[command[2]] = ("root", "bots", self.owners[command[2]][2])
        elif line.startswith("systemctl reload nginx"):
            self.is_served = True
        elif line.startswith("timedatectl show"):
            return 0, "yes\n"
        elif line.startswith("systemd-detect-virt"):
            return 1, ""
        return 0, ""


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHost:
    for room in ("units", "network"):
        looks = importlib.import_module(f"ansible.module_utils.horizon_look_{room}")
        monkeypatch.setattr(looks, "wait", lambda condition: condition())
    return FakeHost(tmp_path)


def findings(host: FakeHost, *, mend: bool = True, look_only: bool = False) -> dict[str, Any]:
    found = engine.examine(host, checks.checks_of(host.params), mend=mend, look_only=look_only)
    return {each.check: each for each in found}


def worse(host: FakeHost, **options: bool) -> dict[str, str]:
    return {
        name: each.state for name, each in findings(host, **options).items() if each.state != "ok"
    }


def test_there_are_enough_checks_with_names_of_their_own() -> None:
    names = [check.name for check in checks.CHECKS]

    assert len(names) >= 25
    assert len(set(names)) == len(names)


def test_a_healthy_host_is_left_alone(host: FakeHost) -> None:
    assert worse(host) == {}
    assert not [
        line
        for line in host.commands
        if line.startswith(("systemctl", "chown", "certbot")) and " list-units " not in line
    ]


def _no_port(host: FakeHost) -> None:
    host.ports = [entry for entry in host.ports if entry[1] != 443]


MENDED: list[tuple[str, Callable[[FakeHost], object]]] = [
    ("socket", lambda host: host.active.update({"horizonai-bots.socket": "failed"})),
    ("web", lambda host: host.active.update({WEB: "failed"})),
    ("workers", lambda host: host.active.update({WORKER: "inactive"})),
    ("Redis", lambda host: host.active.update({"redis-server.service": "failed"})),
    ("Sentinel", lambda host: host.active.update({"redis-sentinel.service": "failed"})),
    ("PostgreSQL", lambda host: host.active.update({"postgresql.service": "inactive"})),
    ("PostgreSQL", lambda host: host.active.update({CLUSTER: "failed"})),
    ("nginx", lambda host: host.active.update({"nginx.service": "failed"})),
    ("keepalived", lambda host: host.active.update({"keepalived.service": "failed"})),
    (
        "firewall unit",
        lambda host: host.active.update({"horizonai-bots-firewall.service": "inactive"}),
    ),
    ("renewal", lambda host: host.active.update({"certbot.timer": "inactive"})),
    ("start with the machine", lambda host: host.enabled.update({"nginx.service": "disabled"})),
    ("start with the machine", lambda host: host.enabled.update({WORKER: "disabled"})),
    ("failed units", lambda host: host.failed.append("horizonai-bots@old.service")),
    ("failed units", lambda host: host.failed.append("certbot.service")),
    ("permissions", lambda host: host.owners.update({"/etc/env": ("root", "bots", 0o644)})),
    ("permissions", lambda host: host.owners.update({"/etc/env": ("someone", "bots", 0o640)})),
    ("certificate", lambda host: setattr(host, "cert", (3.0, "Let's Encrypt"))),
    ("served certificate", lambda host: setattr(host, "is_served", False)),
]


@pytest.mark.parametrize(("name", "break_it"), MENDED)
def test_what_is_safe_is_mended(
    host: FakeHost, name: str, break_it: Callable[[FakeHost], object]
) -> None:
    break_it(host)
    assert worse(host, mend=False) == {name: "wrong"}
    assert worse(host, look_only=True) == {name: "would mend"}

    assert worse(host) == {name: "mended"}
    assert worse(host) == {}


def test_nginx_is_not_made_to_serve_a_worse_certificate(host: FakeHost) -> None:
    host.cert, host.is_served = (3.0, "nobody"), False
    host.codes["systemctl start certbot.service"] = (1, "no answer")

    assert worse(host) == {"certificate": "wrong", "served certificate": "wrong"}
    assert "systemctl reload nginx.service" not in host.commands


def _break_for_good(host: FakeHost) -> None:
    host.active[WEB] = "failed"
    host.stubborn.add(WEB)


NAMED: list[tuple[str, Callable[[FakeHost], object], str]] = [
    ("clock", lambda host: host.params.update(clock_off_s=-90.0), "-90 s"),
    ("time synchronization", lambda host: host.codes.update({"timedatectl show": (0, "no\n")}), "nothing"),
    ("disk", lambda host: setattr(host, "space", (150.0, 0.5, 0.9)), "150 MB"),
    ("disk", lambda host: setattr(host, "space", (5_000.0, 0.5, 0.01)), "inodes"),
    ("memory", lambda host: setattr(host, "memory", 20.0), "20 MB"),
    ("killed processes", lambda host: host.victims.append("python"), "python"),
    ("names outside", lambda host: host.names.pop("api.twilio.com"), "api.twilio.com"),
    ("domain", lambda host: host.names.update({"bots.example.com": {"203.0.113.9"}}), "203.0.113.9"),
    ("folders", lambda host: host.owners.pop("/etc/env"), "/etc/env"),
    ("owner of the data", lambda host: host.codes.update({"find /home": (0, "/home/x\n")}), "/home/x"),
    ("firewall rules", lambda host: host.codes.update({"nft list": (1, "")}), "not loaded"),
    ("nginx's settings", lambda host: host.codes.update({"nginx -t": (1, "emerg: x")}), "emerg: x"),
    ("public ports", _no_port, "443"),
    ("private ports", lambda host: host.ports.append(("0.0.0.0", 6379)), "0.0.0.0:6379"),  # noqa: S104
    ("database", lambda host: host.state.update(db="down"), "down"),  # type: ignore[union-attr]
    ("Redis answers", lambda host: host.state.update(redis="down"), "down"),  # type: ignore[union-attr]
    ("spool", lambda host: host.state.update(spool="not writable"), "not writable"),  # type: ignore[union-attr]
    ("spooled messages", lambda host: host.state.update(spooled=4), "4 messages"),  # type: ignore[union-attr]
    ("queue", lambda host: host.state["queue"].update(oldest_due_s=900), "900 s"),  # type: ignore[index]
    ("dead turns", lambda host: host.state["queue"].update(dead=2), "2 turns"),  # type: ignore[index]
    ("schema", lambda host: host.schema.update(runs=False, state="behind"), "behind"),
    ("heartbeats", lambda host: host.beats.clear(), "0 of 1"),
    ("Redis keeps messages", lambda host: host.checked[0].update(ok=False, message="off"), "off"),
    (
        "Redis keeps messages",
        lambda host: host.checked.append(
            {"what": "sentinel", "whose": "10.0.0.2:26379", "ok": False, "message": "no answer"}
        ),
        "10.0.0.2:26379: no answer",
    ),
    ("Twilio", lambda host: host.checked[1].update(ok=False, message="20003"), "20003"),
    ("OpenAI", lambda host: host.checked[2].update(ok=False, message="refused"), "refused"),
    ("release", lambda host: Path(host.params["root"], "current").unlink(), "leads nowhere"),
    ("web", _break_for_good, "failed"),
]  # fmt: skip


def test_what_a_later_mend_brings_back_is_not_left(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The socket's file comes with its unit, which is looked at after the files."""
    socket = "horizonai-bots.socket"
    host.active[socket] = "inactive"
    there = host.owners
    monkeypatch.setattr(
        host, "owner", lambda path: there.get(path) if host.active[socket] == "active" else None
    )

    assert worse(host, mend=False) == {"folders": "wrong", "socket": "wrong"}
    assert worse(host) == {"folders": "mended", "socket": "mended"}


@pytest.mark.parametrize(("name", "break_it", "words"), NAMED)
def test_what_needs_a_person_is_named_with_its_remedy(
    host: FakeHost, name: str, break_it: Callable[[FakeHost], object], words: str
) -> None:
    break_it(host)

    found = findings(host)[name]

    assert found.state == "wrong"
    assert words in found.found
    assert found.remedy


def test_every_check_is_broken_here_at_least_once() -> None:
    tried = {name for name, _ in MENDED} | {name for name, _, _ in NAMED}

    assert tried == {check.name for check in checks.CHECKS}


def test_what_cannot_be_looked_at_is_not_called_well(host: FakeHost) -> None:
    host.state = None

    assert worse(host)["database"] == "unchecked"


def test_a_check_can_be_left_out(host: FakeHost) -> None:
    host.params["without"] = ["PostgreSQL"]
    host.active.pop("postgresql.service")

    assert worse(host) == {}


@pytest.mark.parametrize(
    ("parts", "there", "gone"),
    [
        (["balancer", "floating"], {"nginx", "keepalived"}, {"web", "workers", "Redis"}),
        (
            ["balancer"],
            {"nginx", "certificate"},
            {"keepalived", "web", "workers", "Redis", "release", "Twilio"},
        ),
        (["web"], {"web", "socket", "schema"}, {"workers", "heartbeats", "nginx", "PostgreSQL"}),
        (["workers"], {"workers", "heartbeats", "schema"}, {"web", "socket", "queue", "domain"}),
        (["redis", "sentinel"], {"Redis", "Sentinel", "disk"}, {"PostgreSQL", "schema"}),
        (["database"], {"PostgreSQL", "firewall rules"}, {"Redis", "Sentinel", "OpenAI"}),
    ],
)
def test_a_host_is_looked_at_for_what_it_carries(
    host: FakeHost, parts: list[str], there: set[str], gone: set[str]
) -> None:
    host.params["parts"] = parts

    names = {check.name for check in checks.checks_of(host.params)}

    assert there <= names
    assert not gone & names


def test_workers_of_another_host_do_not_stand_for_this_one(host: FakeHost) -> None:
    host.beats = [{"id": "bots2:7", "release": RELEASE}]

    assert worse(host, mend=False) == {"heartbeats": "wrong"}


def test_a_port_may_be_open_on_the_private_network(host: FakeHost) -> None:
    host.ports.append(("10.0.0.1", 6379))
    assert worse(host) == {"private ports": "wrong"}

    host.params["private_addresses"] = ["10.0.0.1"]
    assert worse(host) == {}
