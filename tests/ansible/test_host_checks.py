"""What a machine is, read from files like those of a real one."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from types import ModuleType

import pytest

from tests.server_process import PATIENCE_S

DOCKER = "0::/docker/abc\n"
MEMINFO = "MemTotal:        8000000 kB\nMemFree: 1 kB\n"


def write(root: Path, path: str, text: str) -> Path:
    """A file of the machine."""
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def cloud_init(root: Path, text: str) -> Path:
    """A program that notes that it was asked to wait."""
    program = write(root, "usr/bin/cloud-init", f"#!/bin/sh\necho $* >{root}/asked\n{text}\n")
    program.chmod(0o755)
    return root / "asked"


@pytest.mark.parametrize("end", ["exit 0", "exit 1", "exit 2"])
def test_the_end_of_the_first_boot_is_waited_for(
    host: ModuleType, tmp_path: Path, end: str
) -> None:
    asked = cloud_init(tmp_path, end)

    assert host.first_boot(tmp_path, 60) == []
    assert asked.read_text() == "status --wait\n"


def test_a_machine_without_cloud_init_is_ready(host: ModuleType, tmp_path: Path) -> None:
    assert host.first_boot(tmp_path, 60) == []


def test_a_first_boot_that_does_not_end_is_a_problem(host: ModuleType, tmp_path: Path) -> None:
    cloud_init(tmp_path, "exec sleep 600")

    (problem,) = host.first_boot(tmp_path, 1)

    assert "still sets this machine up after 1 s" in problem.problem


@pytest.mark.parametrize(
    ("text", "problem", "warning"),
    [
        ('ID=debian\nVERSION_ID="12"\n', "", ""),
        ("ID=debian\nVERSION_ID=13\n", "", ""),
        ('ID=debian\nVERSION_ID="11"\nPRETTY_NAME="Debian 11"\n', "Debian 11 is not", ""),
        ("ID=debian\nPRETTY_NAME='Debian sid'\n", "Debian sid is not", ""),
        ('ID=ubuntu\nVERSION_ID="24.04"\nPRETTY_NAME="Ubuntu 24.04"\n', "", "Ubuntu 24.04 is"),
        ('ID=ubuntu\nVERSION_ID="22.04"\n', "ubuntu is not supported", ""),
        ("ID=alpine\nVERSION_ID=3.20\n", "alpine is not supported", ""),
        ("", "a system without /etc/os-release is not", ""),
    ],
)
def test_system_is_supported_untested_or_refused(
    host: ModuleType, tmp_path: Path, text: str, problem: str, warning: str
) -> None:
    write(tmp_path, "etc/os-release", text)
    problems, warnings = host.system(tmp_path)
    assert [bool(problems), bool(warnings)] == [bool(problem), bool(warning)]
    assert problem in str(problems)
    assert warning in str(warnings)


def test_only_what_is_installed_is_a_package_that_need_not_be_asked_for(
    host: ModuleType, tmp_path: Path
) -> None:
    record = (
        "Package: {}\nStatus: {}\nArchitecture: amd64\nDescription: Status: install ok installed\n"
    )
    states = {
        "nginx": "install ok installed",
        "kept": "hold ok installed",
        "removed": "deinstall ok config-files",
        "broken": "install reinstreq half-installed",
        "unpacked": "install ok unpacked",
    }
    records = "\n".join(record.format(*each) for each in states.items())
    write(tmp_path, "var/lib/dpkg/status", records)

    assert host.packages(tmp_path) == ["kept", "nginx"]
    assert host.packages(tmp_path / "nowhere") == []


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ('DB_HOST="10.0.0.4"\nDB_PASSWORD="x"\n', "10.0.0.4"),
        ('DATABASE_URL="postgresql://u:p@db.example.test:5432/x"\n', "db.example.test"),
        ('DATABASE_URL="postgresql:///x"\n', "localhost"),
        ('DATABASE_URL="sqlite:////var/lib/x.db"\n', "sqlite"),
        # Nothing was ever written there.
        ('DATABASE_URL="sqlite:////var/lib/y.db"\n', ""),
        ('REDIS_URL="redis://127.0.0.1/0"\n', ""),
    ],
)
def test_the_present_database_is_known(
    host: ModuleType, tmp_path: Path, settings: str, where: str
) -> None:
    write(tmp_path, "etc/horizonai-bots/env", settings)
    write(tmp_path, "var/lib/x.db", "")
    assert host.database(tmp_path) == ""
    write(tmp_path, "etc/systemd/system/horizonai-bots.service", "")
    assert host.database(tmp_path) == where


def test_the_parts_that_are_installed_are_known(host: ModuleType, tmp_path: Path) -> None:
    assert host.installed(tmp_path) == []
    for file in host.FILES_OF_PARTS.values():
        write(tmp_path, file, "")
    assert host.installed(tmp_path) == ["balancer", "web", "redis"]


def test_other_architectures_are_refused(host: ModuleType) -> None:
    assert host.architecture("x86_64") == host.architecture("aarch64") == []
    assert "riscv64" in host.architecture("riscv64")[0].problem


def test_python_is_asked_for_its_version(host: ModuleType, tmp_path: Path) -> None:
    old = write(tmp_path, "python3", "#!/bin/sh\necho 3 10 12\n")
    broken = write(tmp_path, "broken", "#!/bin/sh\nexit 1\n")
    for file in (old, broken):
        file.chmod(0o755)
    assert host.python(sys.executable) == []
    assert host.python(str(tmp_path / "absent")) == []
    assert "is Python 3.10.12" in host.python(str(old))[0].problem
    assert "does not run" in host.python(str(broken))[0].problem


def test_disk_is_looked_at_where_the_folder_will_be(host: ModuleType, tmp_path: Path) -> None:
    stat = os.statvfs(tmp_path)
    free = stat.f_bavail * stat.f_frsize // (1 << 20)
    assert host.disk(tmp_path, {"/var/lib/not/there": 0}) == []
    (finding,) = host.disk(tmp_path, {"/var/lib/not/there": free + 10_000, "/opt": 0})
    assert finding.problem.startswith("/var/lib/not/there has")
    assert f"{free + 10_000} MB are needed" in finding.problem


@pytest.mark.parametrize(
    ("name", "groups", "mounts", "limits", "expected"),
    [
        ("no group", "", "", {}, 7812),
        (
            "v2, own namespace",
            "0::/\n",
            "30 20 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw",
            {"sys/fs/cgroup/memory.max": "536870912\n"},
            512,
        ),
        (
            "v2, a limit above",
            "0::/user.slice/session.scope\n",
            "30 20 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw",
            {
                "sys/fs/cgroup/user.slice/memory.max": "629145600\n",
                "sys/fs/cgroup/user.slice/session.scope/memory.max": "max\n",
            },
            600,
        ),
        (
            "v2, the host's namespace",
            DOCKER,
            "30 20 0:26 /docker/abc /sys/fs/cgroup rw - cgroup2 cgroup2 rw",
            {"sys/fs/cgroup/memory.max": "536870912\n"},
            512,
        ),
        (
            "v1",
            "9:cpu,cpuacct:/\n8:memory:/docker/abc\n0::/\n",
            "40 20 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
            "41 20 0:31 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu",
            {
                "sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes": "524288000",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
            },
            500,
        ),
    ],
)
def test_memory_is_the_smallest_limit(
    host: ModuleType,
    tmp_path: Path,
    name: str,
    groups: str,
    mounts: str,
    limits: dict[str, str],
    expected: int,
) -> None:
    write(tmp_path, "proc/meminfo", MEMINFO)
    write(tmp_path, "proc/self/cgroup", groups)
    write(tmp_path, "proc/self/mountinfo", mounts)
    for path, value in limits.items():
        write(tmp_path, path, value)
    assert host.memory_mb(tmp_path) == expected
    assert host.memory(tmp_path, expected) == []
    (finding,) = host.memory(tmp_path, expected + 1)
    assert f"may use {expected} MB" in finding.problem


def test_own_addresses_are_those_of_the_interfaces(host: ModuleType, tmp_path: Path) -> None:
    write(
        tmp_path,
        "proc/net/fib_trie",
        "     |-- 172.17.0.0\n        /16 link UNICAST\n     |-- 172.17.0.2\n        /32 host LOCAL\n",
    )
    write(tmp_path, "proc/net/if_inet6", "20010db8000000000000000000000007 02 40 00 80 eth0\n")
    assert host.own_addresses(tmp_path) == {"172.17.0.2", "2001:db8::7"}


@pytest.mark.parametrize(
    ("answers", "warning"),
    [
        ({"172.17.0.2"}, ""),
        ({"203.0.113.9", "172.17.0.2"}, ""),
        (None, "does not resolve"),
        ({"203.0.113.9"}, "resolves to 203.0.113.9, and none of these"),
        ({"127.0.1.1"}, "resolves to loopback"),
        ({"fe80::1%eth0"}, "none of these"),
    ],
)
def test_name_that_leads_elsewhere_is_a_warning(
    host: ModuleType, answers: set[str] | None, warning: str
) -> None:
    found = host.names("bots.agency.test", answers, {"172.17.0.2", "127.0.0.1"})
    assert bool(found) == bool(warning)
    assert warning in str(found)


def test_resolving_ends_in_time(host: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()

    def hang(*_: object, **__: object) -> list[object]:
        answered.wait(PATIENCE_S)
        return []

    monkeypatch.setattr(host.socket, "getaddrinfo", hang)
    assert host.resolve("bots.agency.test", timeout_s=0.05) is None
    assert not answered.is_set()
    answered.set()
    monkeypatch.undo()
    assert host.resolve("localhost") & {"127.0.0.1", "::1"}
