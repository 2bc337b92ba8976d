"""What the scenarios' tests share: playbooks run like an operator runs them, commands on a machine."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
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
SUDO_PASSWORD = ROOT / "molecule/shared/sudo-password"
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


def answering(prompts: Mapping[str, str], *command: str) -> Run:
    """A command that asks on its terminal; each prompt is answered once."""
    started = time.monotonic()
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        os.execvpe(command[0], command, _environment())  # noqa: S606  # no shell is wanted
    left, output = dict(prompts), b""
    while select.select([terminal], [], [], PLAYBOOK_TIMEOUT_S)[0]:
        try:
            output += os.read(terminal, 65536)
        except OSError:  # The other side is closed.
            break
        for prompt in [each for each in left if output.endswith(each.encode())]:
            os.write(terminal, f"{left.pop(prompt)}\n".encode())
    os.close(terminal)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    text = output.decode().replace("\r\n", "\n")
    assert not left, f"{sorted(left)} was never asked: {text}"
    return Run(code, text, time.monotonic() - started)


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
        # What --ask-become-pass is answered with.
        *("--become-password-file", str(SUDO_PASSWORD)),
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


# Two doors: what a person types comes in over SSH, as that person. What a test looks at, breaks and mends
# comes in through Docker, as root: no login, environment or SSH server of the machine can be in its way.


def typed(machine: str, command: str, *, stdin: str = "") -> str:
    """What a person sees who types this on the machine, with `sudo` where it is needed; it has to succeed."""
    result = type_in(machine, command, stdin=stdin)
    assert result.returncode == 0, f"{command}: {result.stdout}{result.stderr}"
    return result.stdout


def type_in(machine: str, command: str, *, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """The same, however it ends."""
    reach = reached(machine)
    # The password is typed by a program: standard input belongs to the command.
    askpass = 'export SUDO_ASKPASS=~/.askpass; sudo() { command sudo --askpass "$@"; }; '
    return subprocess.run(
        [
            *("ssh", "-o", "BatchMode=yes", *shlex.split(reach["ansible_ssh_common_args"])),
            *("-i", reach["ansible_ssh_private_key_file"], "-p", str(reach["ansible_port"])),
            *(f"{reach['ansible_user']}@{reach['ansible_host']}", askpass + command),
        ],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def reached(machine: str) -> Mapping[str, Any]:
    """How Ansible and people reach the machine."""
    file = SCENARIO / f"inventory/host_vars/{machine}.yml"
    return dict(yaml.safe_load(file.read_text(encoding="utf-8")))


def container(machine: str) -> str:
    """Docker's name of it, which is this clone's own."""
    return str(reached(machine)["machine_container"])


def on(machine: str, command: str, *, stdin: str = "") -> str:
    """What a shell command prints on the machine; it has to succeed."""
    result = subprocess.run(
        ["docker", "exec", "-i", container(machine), "sh", "-c", command],
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
        ["docker", "exec", container(machine), "sh", "-c", command],
        capture_output=True,
        timeout=300,
        check=False,
    ).returncode


def address_of(machine: str) -> str:
    """The machine's own address: known also of one that does not run, never a floating one."""
    return str(reached(machine)["ansible_host"])


def stop(machine: str) -> None:
    """As a power cut does it."""
    subprocess.run(["docker", "kill", container(machine)], check=True, capture_output=True)
    _forget_connections(machine)


def start(machine: str) -> None:
    """Once it has booted."""
    subprocess.run(["docker", "start", container(machine)], check=True, capture_output=True)
    wait_until_up(machine)


def restart(machine: str) -> None:
    """It is shut down in order, and boots."""
    subprocess.run(
        ["docker", "restart", "--time", "60", container(machine)], check=True, capture_output=True
    )
    wait_until_up(machine)


def wait_until_up(machine: str) -> None:
    wait_for(lambda: _is_up(machine), 180, f"{machine} is up")
    _forget_connections(machine)


def _forget_connections(machine: str) -> None:
    """Ansible's open ones lead nowhere, and would be waited for."""
    for socket in Path(reached(machine)["ansible_control_path_dir"]).iterdir():
        if socket.is_socket():
            socket.unlink(missing_ok=True)


def _is_up(machine: str) -> bool:
    command = ["docker", "exec", container(machine), "systemctl", "is-system-running"]
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
