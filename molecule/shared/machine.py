"""What the scenarios' tests share: playbooks run like an operator runs them, commands on a machine."""

from __future__ import annotations

import json
import os
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


def playbook(name: str, *arguments: str, **extra: object) -> Run:
    """`ansible-playbook NAME` from the project's folder, with the scenario's inventory."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")
    } | {"ANSIBLE_NOCOLOR": "1"}
    command = [
        *("ansible-playbook", name, "-i", str(SCENARIO / "inventory/hosts.yml")),
        *(("-e", json.dumps(extra)) if extra else ()),
        *arguments,
    ]
    started = time.monotonic()
    result = subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=PLAYBOOK_TIMEOUT_S,
        check=False,
    )
    return Run(result.returncode, result.stdout, time.monotonic() - started)


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
