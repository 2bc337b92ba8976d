"""What alerts see of a machine: disks, memory, a restart that is needed, updates that wait."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from service.alerts import host, updates
from service.alerts.findings import Condition, Findings
from service.alerts.host import Limits
from service.alerts.kept import Kept

ROOT = Path(__file__).parents[2]
DAY_S = 86_400
Sizes = dict[str, int]
Look = Callable[[], dict[str, Condition]]


def sizes(used: int = 10, inodes: int = 10) -> SimpleNamespace:
    """A file system of 100 blocks and 100 inodes."""
    return SimpleNamespace(
        f_frsize=2**30,
        f_blocks=100,
        f_bfree=100 - used,
        f_bavail=100 - used,
        f_files=100,
        f_ffree=100 - inodes,
    )


class Machine:
    """A folder that looks like the root of a host, and the programs that answer there."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.disks = {"/": sizes()}
        self.bin = root / "bin"
        for folder in ("proc/self", "boot", "run", "bin", "var/lib/apt/lists", "var/lib/dpkg"):
            (root / folder).mkdir(parents=True)
        self.write("var/lib/dpkg/status", "")
        self.memory(available=50)
        self.mounts("/dev/vda1 / ext4 rw 0 0")
        self.program("systemctl", "[]")
        self.apt()
        monkeypatch.setenv("PATH", f"{self.bin}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.setattr(host, "statvfs", lambda path: self.disks[self.inside(path)])
        monkeypatch.setattr(host, "release", lambda: "6.1.0-28-amd64")

    def inside(self, path: Path) -> str:
        return "/" + str(path.relative_to(self.root)).removeprefix(".")

    def write(self, name: str, text: str) -> None:
        (self.root / name).write_text(text, encoding="utf-8")

    def memory(self, available: int) -> None:
        self.write("proc/meminfo", f"MemTotal: 100 kB\nMemAvailable: {available} kB\n")

    def mounts(self, *lines: str) -> None:
        self.write("proc/self/mounts", "\n".join(lines) + "\n")

    def program(self, name: str, says: str, code: int = 0) -> None:
        file = self.bin / name
        file.write_text(
            f"#!/bin/sh\necho run >> {self.root}/{name}.runs\ncat <<'END'\n{says}\nEND\nexit {code}\n"
        )
        file.chmod(0o755)

    def apt(self, *lines: str, code: int = 0) -> None:
        self.program("apt-get", "\n".join(("Reading package lists...", *lines)), code)

    def look(self, now: float | None = None) -> dict[str, Condition]:
        findings = Findings()
        kept = Kept(self.root / "looks.json")
        host.look(findings, Limits(), kept, now=now or time.time(), root=self.root)
        return {condition.key: condition for condition in findings.conditions}


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path / "root", monkeypatch)


def test_a_machine_in_order_has_no_condition(machine: Machine) -> None:
    assert machine.look() == {}


def test_each_full_file_system_is_a_condition_of_its_own(machine: Machine) -> None:
    machine.mounts(
        "/dev/vda1 / ext4 rw 0 0",
        "/dev/vda1 /srv/same\\040disk ext4 rw 0 0",
        "/dev/vdb /var/lib/data ext4 rw 0 0",
        "/dev/loop0 /snap/x squashfs ro 0 0",
        "tmpfs /run tmpfs rw 0 0",
    )
    machine.disks |= {"/var/lib/data": sizes(used=95, inodes=91)}

    found = machine.look()

    assert set(found) == {"disk:/var/lib/data", "inodes:/var/lib/data"}
    assert found["disk:/var/lib/data"].facts == {"percent": 95, "free_mb": 5120}
    assert found["inodes:/var/lib/data"].facts == {"percent": 91}


def test_a_little_below_the_limit_an_alert_goes_on_and_none_begins(machine: Machine) -> None:
    machine.disks["/"] = sizes(used=88)
    machine.memory(available=12)

    found = machine.look()

    assert {key: one.begins for key, one in found.items()} == {"disk:/": False, "memory:all": False}


def test_little_available_memory_is_a_condition(machine: Machine) -> None:
    machine.memory(available=5)

    assert machine.look()["memory:all"].facts == {"percent": 95, "available_mb": 0}


@pytest.mark.parametrize("folder", ["run", "var/run"])
def test_a_restart_that_debian_asks_for_is_a_condition(machine: Machine, folder: str) -> None:
    (machine.root / folder).mkdir(parents=True, exist_ok=True)
    machine.write(f"{folder}/reboot-required", "*** System restart required ***\n")
    machine.write(f"{folder}/reboot-required.pkgs", "linux-image-amd64\nlibc6\nlibc6\n")

    assert machine.look()["reboot:all"].facts == {"why": "libc6, linux-image-amd64"}


@pytest.mark.parametrize(
    ("installed", "needed"),
    [
        (("6.1.0-28-amd64", "6.1.0-30-amd64"), True),
        (("6.1.0-28-amd64", "6.1.0-9-amd64"), False),
        (("6.1.0-28-amd64", "6.12.0-1-amd64"), True),
        # Another flavour, and a kernel that is not one of this machine's.
        (("6.1.0-28-amd64", "6.1.0-30-cloud-amd64"), False),
        (("6.1.0-30-amd64",), False),
    ],
)
def test_a_newer_kernel_than_the_running_one_needs_a_restart(
    machine: Machine, installed: tuple[str, ...], needed: bool
) -> None:
    for version in installed:
        machine.write(f"boot/vmlinuz-{version}", "")

    found = machine.look()

    assert ("reboot:all" in found) is needed
    if needed:
        assert "6.1.0-28-amd64" in found["reboot:all"].facts["why"]


INST = "Inst openssl [3.0.15-1] (3.0.16-1 Debian-Security:12/oldstable-security [amd64])"
OTHER = "Inst vim [2:9.0] (2:9.1 Debian:12.9/oldstable [amd64])"
NEW_KERNEL = (
    "Inst linux-image-6.1.0-30-amd64 (6.1.124-1 Debian-Security:12/oldstable-security [amd64])"
)


def test_security_updates_are_told_once_they_wait_too_long(machine: Machine) -> None:
    machine.apt(OTHER, INST, NEW_KERNEL, "Conf openssl (3.0.16-1 Debian-Security:12/x [amd64])")
    now = time.time()

    first, later = machine.look(now), machine.look(now + 2.1 * DAY_S)

    assert first == {}
    names = "linux-image-6.1.0-30-amd64, openssl"
    assert later["updates:security"].facts == {"count": 2, "days": 2, "names": names}


def test_apt_is_asked_again_only_when_something_changed_or_an_hour_passed(machine: Machine) -> None:
    now = time.time()

    def runs() -> int:
        return len((machine.root / "apt-get.runs").read_text().split())

    machine.look(now)
    machine.look(now + 60)
    once = runs()
    machine.write("var/lib/dpkg/status", "Package: vim\n")
    machine.look(now + 120)
    changed = runs()
    machine.look(now + 120 + 3_700)

    assert (once, changed, runs()) == (1, 2, 3)


def test_updates_that_cannot_be_looked_for_are_told(machine: Machine) -> None:
    machine.apt(code=100)

    assert machine.look()["unchecked:updates"].facts["what"] == "apt-get -s dist-upgrade fails"


def test_lists_of_packages_that_nobody_renews_are_told(machine: Machine) -> None:
    lists = machine.root / "var/lib/apt/lists"
    old = time.time() - 9 * DAY_S
    os.utime(lists, (old, old))

    found = machine.look()

    assert "apt-get update" in found["unchecked:updates"].facts["what"]


def test_a_memory_of_looks_that_is_broken_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "looks.json").write_text("[")
    kept = Kept(tmp_path / "looks.json")

    assert kept.get("updates") is None
    kept.put("updates", {"x": 1})
    assert Kept(tmp_path / "looks.json").get("updates") == {"x": 1}


def test_a_host_without_the_service_runs_the_same_check_with_debians_python(tmp_path: Path) -> None:
    """No library but Python's own: that is all which such a host has."""
    out = tmp_path / "told"
    program = tmp_path / "notify"
    program.write_text(f"#!/bin/sh\ncat >> {out}\nenv >> {out}.env\n")
    program.chmod(0o755)
    environment = {
        "PATH": os.environ["PATH"],
        "ALERT_COMMAND": str(program),
        "ALERT_URL": "",
        "ALERT_STATE_FILE": str(tmp_path / "alerts.json"),
        "ALERT_LANGUAGE": "en",
        "ALERT_DOMAIN": "bots.example.test",
        "ALERT_MEMORY_PERCENT": "0",
        "ALERT_DISK_PERCENT": "100",
    }
    role = yaml.safe_load((ROOT / "roles/alerts/vars/main.yml").read_text())
    copied = tmp_path / "library/service/alerts"
    copied.mkdir(parents=True)
    for module in role["alerts_modules"]:
        shutil.copy(ROOT / f"service/alerts/{module}.py", copied)
    words = [sys.executable, "-I", "-S", "-c"]
    start = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'library')!r}); import runpy; "
        "sys.argv = ['alerts']; runpy.run_module('service.alerts', run_name='__main__')"
    )

    done = subprocess.run([*words, start], env=environment, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    messages = [json.loads(line) for line in out.read_text().splitlines()]
    memory = next(message for message in messages if message["kind"] == "memory")
    assert memory["event"] == "firing"
    assert memory["domain"] == "bots.example.test"
    assert "ALERT_" not in Path(f"{out}.env").read_text()


def test_a_setting_that_is_no_number_is_named(tmp_path: Path) -> None:
    from service.alerts.__main__ import main

    with pytest.raises(SystemExit, match="ALERT_DISK_PERCENT"):
        main({"ALERT_DISK_PERCENT": "much", "ALERT_URL": "http://127.0.0.1:9/"})


def test_the_names_of_many_updates_are_cut_short() -> None:
    names = [f"package-{number:02}" for number in range(30)]

    said = updates.named(names)

    assert said.startswith("package-00, package-01")
    assert said.endswith("package-09 +20")
