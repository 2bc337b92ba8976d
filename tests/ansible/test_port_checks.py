"""Who listens: on this machine's real sockets, and in files like /proc's."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path("/")


@pytest.fixture
def listening() -> Iterator[int]:
    """A port that this very process holds."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        yield held.getsockname()[1]


def own_name() -> str:
    return Path("/proc/self/comm").read_text().strip()


def test_holder_is_named_with_its_process(ports: ModuleType, listening: int) -> None:
    (finding,) = ports.busy(ROOT, [{"port": listening, "processes": ["nginx"]}])
    assert finding.problem == f"Port {listening} is in use by {own_name()} (pid {os.getpid()})."


def test_our_own_process_may_hold_it(ports: ModuleType, listening: int) -> None:
    assert ports.busy(ROOT, [{"port": listening, "processes": [own_name()]}]) == []


def test_free_port_is_fine(ports: ModuleType) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        assert ports.busy(ROOT, [{"port": free.getsockname()[1], "processes": []}]) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0100007F", "127.0.0.1"),
        ("0A0B0C0D", "13.12.11.10"),
        ("00000000000000000000000001000000", "::1"),
        ("00000000000000000000000000000000", "::"),
        ("0000000000000000FFFF00000100007F", "127.0.0.1"),
    ],
)
def test_kernel_addresses_are_read(ports: ModuleType, text: str, expected: str) -> None:
    assert ports.address(text) == ip_address(expected)


def machine(root: Path, address: str, unit: str) -> Path:
    """Something that listens on port 6379 as process 42."""
    head = "  sl  local_address rem_address   st tx rx tr tm retr uid timeout inode\n"
    line = f"   0: {address}:18EB 00000000:0000 0A 0:0 00:0 0 0 0 777 1\n"
    (root / "proc/net").mkdir(parents=True)
    (root / "proc/net/tcp").write_text(head + line)
    (root / "proc/42/fd").mkdir(parents=True)
    (root / "proc/42/fd/3").symlink_to("socket:[777]")
    (root / "proc/42/comm").write_text("squatter\n")
    (root / "proc/42/cgroup").write_text(f"0::{unit}\n")
    return root


@pytest.mark.parametrize(
    ("unit", "remedy"),
    [
        ("/system.slice/squatter.service", "systemctl disable --now squatter.service"),
        ("/system.slice/system-a.slice/a@1.service", "systemctl disable --now a@1.service"),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/x.service", "kill 42"),
        ("/", "kill 42"),
    ],
)
def test_remedy_stops_the_unit_or_else_the_process(
    ports: ModuleType, tmp_path: Path, unit: str, remedy: str
) -> None:
    root = machine(tmp_path, "0100007F", unit)
    (finding,) = ports.busy(root, [{"port": 6379, "processes": ["redis-server"]}])
    assert finding.problem == "Port 6379 is in use by squatter (pid 42)."
    assert finding.remedy == remedy


@pytest.mark.parametrize(("address", "counts"), [("0100007F", 1), ("00000000", 1), ("0200000A", 0)])
def test_other_addresses_do_not_disturb_loopback(
    ports: ModuleType, tmp_path: Path, address: str, counts: int
) -> None:
    root = machine(tmp_path, address, "/")
    assert len(ports.busy(root, [{"port": 6379, "processes": [], "loopback": True}])) == counts


@pytest.mark.parametrize(
    ("address", "counts"), [("0200000A", 1), ("00000000", 1), ("0300000A", 0), ("0100007F", 0)]
)
def test_only_the_address_that_will_be_ours_counts(
    ports: ModuleType, tmp_path: Path, address: str, counts: int
) -> None:
    root = machine(tmp_path, address, "/")
    port = {"port": 6379, "processes": ["redis-server"], "addresses": ["10.0.0.2"]}
    both = port | {"loopback": True}
    assert len(ports.busy(root, [port])) == counts
    assert len(ports.busy(root, [both])) == (1 if address == "0100007F" else counts)


@pytest.mark.parametrize(
    ("unit", "counts"),
    [
        (r"/system.slice/system-horizonai\x2dbots.slice/horizonai-bots@20260101-a1.service", 0),
        ("/system.slice/horizonai-bots.service", 1),
        ("/system.slice/squatter.service", 1),
        ("/", 1),
    ],
)
def test_our_own_unit_may_hold_it_whatever_its_process_is_called(
    ports: ModuleType, tmp_path: Path, unit: str, counts: int
) -> None:
    root = machine(tmp_path, "0200000A", unit)
    port = {"port": 6379, "processes": ["systemd"], "unit": "horizonai-bots@"}
    assert len(ports.busy(root, [port])) == counts


def test_what_is_about_to_leave_may_hold_it(ports: ModuleType, tmp_path: Path) -> None:
    root = machine(tmp_path, "00000000", "/system.slice/old.service")
    port = {"port": 6379, "processes": ["redis-server"]}
    assert ports.busy(root, [port], leaving=["old.service"]) == []
    assert len(ports.busy(root, [port], leaving=["other.service"])) == 1


def test_systemd_holds_it_for_the_process_that_it_gave_it_to(
    ports: ModuleType, tmp_path: Path
) -> None:
    root = machine(tmp_path, "0200000A", "/")
    (root / "proc/1/fd").mkdir(parents=True)
    (root / "proc/1/fd/40").symlink_to("socket:[777]")
    (root / "proc/1/comm").write_text("systemd\n")
    assert ports.busy(root, [{"port": 6379, "processes": ["systemd"]}]) == []


def test_hidden_holder_is_still_a_problem(ports: ModuleType, tmp_path: Path) -> None:
    root = machine(tmp_path, "0100007F", "/")
    (root / "proc/42/fd/3").unlink()
    (finding,) = ports.busy(root, [{"port": 6379, "processes": []}])
    assert "could not be seen" in finding.problem


def test_ssh_ports_come_from_everywhere(
    ports: ModuleType, ssh_ports: ModuleType, tmp_path: Path
) -> None:
    assert ssh_ports.of_configuration("port 22\nport 2222\naddressfamily any\n") == {22, 2222}
    assert ssh_ports.of_configuration("listenaddress [::]:24\nlistenaddress 0.0.0.0:25\n") == {
        24,
        25,
    }
    assert ssh_ports.of_sockets("Listen=0.0.0.0:26 (Stream)\nListen=[::]:27 (Stream)\n") == {26, 27}
    assert ssh_ports.of_sockets("Listen=\n") == set()
    root = machine(tmp_path, "00000000", "/system.slice/ssh.service")
    assert ssh_ports.of_listeners(root) == {6379}


def test_ssh_connection_is_found_above_sudo(ssh_ports: ModuleType, tmp_path: Path) -> None:
    for pid, parent, environ in (
        (50, 40, b"PATH=/bin\0"),
        (40, 30, b"SUDO_USER=a\0NOT_SSH_CONNECTION=1 2 3 4\0"),
        (30, 1, b"A=b\0SSH_CONNECTION=192.0.2.1 50000 192.0.2.2 2022\0"),
    ):
        folder = tmp_path / "proc" / str(pid)
        folder.mkdir(parents=True)
        (folder / "environ").write_bytes(environ)
        (folder / "status").write_text(f"Name:\tx\nPPid:\t{parent}\n")
    assert ssh_ports.of_connection(tmp_path, 50) == {2022}
    assert ssh_ports.of_connection(tmp_path, 1) == set()
