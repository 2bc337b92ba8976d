"""What an acknowledgement and a turn cost each part, as `measured.toml` keeps it."""

from __future__ import annotations

import os
import platform
import time
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from benchmarks.capacity_simulation import Costs

FILE = Path(__file__).with_name("measured.toml")
COMMAND = "python -m benchmarks.capacity --measure"


class MeasuredError(Exception):
    """The figures cannot be had; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Measured:
    """The figures of `measured.toml`. MB are MiB, as everywhere here."""

    acknowledge_cpu_ms: float
    """Web processes, for one message."""
    balancer_cpu_ms: float
    """nginx, for one message over a TLS connection of its own."""
    turn_cpu_ms: float
    """The worker process, for one turn."""
    redis_accept_ms: float
    """Main thread of Redis, for one message until its acknowledgement."""
    redis_turn_ms: float
    """Main thread of Redis, for one turn."""
    database_turn_ms: float
    """All processes of PostgreSQL, for one turn."""
    transactions: float
    """Syncs of PostgreSQL's journal for one turn."""
    sync_ms: float
    """One small write until it is on this disk."""
    redis_commands_accept: float
    redis_commands_turn: float
    redis_message_bytes: float
    """Kept for 48 h after each message, against repeats."""
    redis_contact_bytes: float
    """Context and names of one contact; the context for REDIS_SESSION_TTL_SECONDS."""
    redis_waiting_bytes: float
    """A message that waits in a mailbox, the 48 h included."""
    web_mb: float
    """A web process, with its share of the parent."""
    worker_mb: float
    """A worker process without a turn."""
    turn_mb: float
    """Each turn that is in flight."""
    pool: int
    """Connections to the database that a process may hold."""

    @property
    def costs(self) -> Costs:
        """Those that the simulation takes."""
        return Costs(**{each.name: getattr(self, each.name) for each in fields(Costs)})


def read(path: Path = FILE) -> tuple[Measured, Mapping[str, str]]:
    """The figures, and when and on what they were measured. Raises MeasuredError."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        figures = Measured(**content["figures"])
        about = {name: str(value) for name, value in content["about"].items()}
    except (OSError, tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise MeasuredError(f"{path} cannot be used ({error}): write it with {COMMAND}") from error
    for each in fields(Measured):
        value = getattr(figures, each.name)
        if not isinstance(value, int | float) or not value > 0:
            raise MeasuredError(f"{each.name} in {path} is not above 0: write it with {COMMAND}")
    return figures, about


def write(measured: Measured, runs: int, path: Path = FILE) -> None:
    """The figures with the machine and the date."""
    about = {
        "command": COMMAND,
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}",
        "load_average": " ".join(f"{value:.1f}" for value in os.getloadavg()),
        "runs": str(runs),
    }
    lines = [
        f"# Written by {COMMAND}; benchmarks/capacity_figures.py says what each one is.",
        "[about]",
    ]
    lines += [f'{name} = "{value}"' for name, value in about.items()]
    lines += ["", "[figures]"]
    lines += [f"{each.name} = {_figure(getattr(measured, each.name))}" for each in fields(Measured)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _figure(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.4g}"
