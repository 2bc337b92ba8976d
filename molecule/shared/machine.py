"""What the scenarios' tests share: playbooks run like an operator runs them, commands on a machine."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
SCENARIO = Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"])
EPHEMERAL = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
PLAYBOOK_TIMEOUT_S = 900


@dataclass(frozen=True)
class Run:
    """A playbook that has ended."""

    code: int
    output: str
    seconds: float

    @property
    def changed(self) -> int:
        """Tasks that changed something, on all hosts."""
        recap = self.output.rpartition("PLAY RECAP")[2]
        return sum(
            int(word.partition("=")[2]) for word in recap.split() if word.startswith("changed=")
        )


def playbook(
    name: str,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    inventory: str = "hosts.yml",
    **extra: object,
) -> Run:
    """`ansible-playbook NAME` from the project's folder, with an inventory of the scenario's."""
    started = time.monotonic()
    result = subprocess.run(
        _command(name, *arguments, inventory=inventory, **extra),
        cwd=ROOT,
        env=_environment() | dict(environment or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=PLAYBOOK_TIMEOUT_S,
        check=False,
    )
    return Run(result.returncode, result.stdout, time.monotonic() - started)


class Begun:
    """A playbook that runs, until it is killed with what it does on the machine."""

    def __init__(self, name: str, *arguments: str, **extra: object) -> None:
        self._log = EPHEMERAL / "interrupted.log"
        with open(self._log, "w", encoding="utf-8") as log:
            self._process = subprocess.Popen(
                _command(name, *arguments, **extra),
                cwd=ROOT,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def kill(self, machine: str, pattern: str, *options: str) -> str:
        """Kill controller and machine's part in the moment that `stopper.py` waits for; what was killed.

        It fails when the moment does not come, or when one of both had come to its end before.
        """
        words = shlex.join(["python3", "-", pattern, *options])
        stopper = (ROOT / "molecule/shared/stopper.py").read_text(encoding="utf-8")
        try:
            stopped = json.loads(on(machine, words, stdin=stopper))
        finally:
            ran = self.kill_here()
        on(machine, f"kill -KILL {' '.join(map(str, stopped['pids']))}")
        assert ran, self.output
        return "\n".join(stopped["words"])

    def kill_here(self) -> bool:
        """The controller alone goes away: what runs on the machine goes on. Whether it ran."""
        ran = self._process.poll() is None
        for pid in _family(self._process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        return ran

    @property
    def output(self) -> str:
        """What it has printed."""
        return self._log.read_text(encoding="utf-8")


def _command(
    name: str, *arguments: str, inventory: str = "hosts.yml", **extra: object
) -> list[str]:
    return [
        *("ansible-playbook", name, "-i", str(SCENARIO / "inventory" / inventory)),
        *(("-e", json.dumps(extra)) if extra else ()),
        *arguments,
    ]


def _environment() -> dict[str, str]:
    known = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    return known | {"ANSIBLE_NOCOLOR": "1"}


def _family(pid: int) -> list[int]:
    """The process and all below it: a worker of Ansible's has a session of its own."""
    found = [pid]
    for each in found:
        with contextlib.suppress(OSError):
            found += map(int, Path(f"/proc/{each}/task/{each}/children").read_text().split())
    return found


def on(machine: str, command: str, *, stdin: str = "") -> str:
    """What a shell command on the machine prints; it has to succeed."""
    result = subprocess.run(
        ["docker", "exec", "-i", machine, "sh", "-c", command],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, f"{command}: {result.stdout}{result.stderr}"
    return result.stdout


def code_on(machine: str, command: str) -> int:
    """The exit code of a shell command on the machine."""
    return subprocess.run(
        ["docker", "exec", machine, "sh", "-c", command],
        capture_output=True,
        timeout=300,
        check=False,
    ).returncode


def address_of(machine: str) -> str:
    """The machine's address on the scenario's network."""
    text = subprocess.check_output(["docker", "inspect", machine], text=True)
    (network,) = json.loads(text)[0]["NetworkSettings"]["Networks"].values()
    return str(network["IPAddress"])


def private_address_of(machine: str) -> str:
    """Its `cluster_address`: known also of one that does not run, and never a floating one."""
    inventory = yaml.safe_load((SCENARIO / "inventory/hosts.yml").read_text(encoding="utf-8"))
    return str(inventory["machines"]["hosts"][machine]["cluster_address"])


def stop(machine: str) -> None:
    """As a power cut does it."""
    subprocess.run(["docker", "kill", machine], check=True, capture_output=True)


def start(machine: str) -> None:
    """Once it has booted."""
    subprocess.run(["docker", "start", machine], check=True, capture_output=True)
    wait_for(lambda: _is_up(machine), 90, f"{machine} is up")


def _is_up(machine: str) -> bool:
    command = ["docker", "exec", machine, "systemctl", "is-system-running"]
    told = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return told in ("running", "degraded")


def made() -> Mapping[str, Any]:
    """The scenario's secrets."""
    file = SCENARIO / "inventory/group_vars/all/made.yml"
    return dict(yaml.safe_load(file.read_text(encoding="utf-8")))


def vendors() -> Mapping[str, str]:
    """Addresses of the emulated vendors."""
    return dict(json.loads((EPHEMERAL / "vendors.json").read_text(encoding="utf-8")))


def wait_for(condition: Callable[[], bool], within_s: float, what: str) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {within_s} s"
        time.sleep(0.2)
