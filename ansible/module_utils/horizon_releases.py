"""Releases on a host: their folders, the journal of their activations, and how one replaces another.

An *instance* is a release that runs: the release's name, and from the second time on `:N`, because the
same release may have to run twice side by side when only its configuration changed. Units:

    horizonai-bots@<instance>.service               web
    horizonai-bots-worker@<instance>-<n>.service    worker n

Standard library only: this runs on the hosts.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ansible.module_utils.horizon_migrations import Migration, left_behind, newest

WEB = re.compile(r"^horizonai-bots@(?P<instance>[^@]+)\.service$")
WORKER = re.compile(r"^horizonai-bots-worker@(?P<instance>[^@]+)-(?P<number>\d+)\.service$")
RELEASE = re.compile(r"^[0-9A-Za-z][0-9A-Za-z_.]*$")
MAX_ACTIVATIONS = 100
POLL_S = 0.5


class ReleaseError(Exception):
    """The release cannot be activated; the text says why, and what is true now."""


def web_unit(instance: str) -> str:
    return f"horizonai-bots@{instance}.service"


def worker_units(instance: str, workers: int) -> list[str]:
    return [f"horizonai-bots-worker@{instance}-{n}.service" for n in range(1, workers + 1)]


def instance_of(unit: str) -> str | None:
    """The instance that a unit belongs to; None when it is no unit of a release."""
    match = WEB.match(unit) or WORKER.match(unit)
    return match["instance"] if match else None


def release_of(instance: str) -> str:
    return instance.partition(":")[0]


@dataclass(frozen=True)
class UnitState:
    """What systemd says of a unit."""

    name: str
    active: str
    restarts: int
    main_pid: int

    @property
    def is_up(self) -> bool:
        return self.active == "active"

    @property
    def has_died(self) -> bool:
        return self.restarts > 0 or self.active in ("failed", "inactive", "deactivating")


class Host(Protocol):
    """What an activation needs from the machine."""

    def units(self) -> list[str]:
        """Units of releases that are not at rest, those that wait for a restart included."""

    def state(self, unit: str) -> UnitState: ...
    def start(self, units: Iterable[str]) -> None:
        """Raises ReleaseError."""

    def stop(self, units: Iterable[str]) -> None:
        """Stop and forget failures; returns when all have ended."""

    def enable(self, units: Iterable[str]) -> None: ...
    def enabled(self) -> list[str]: ...
    def disable(self, units: Iterable[str]) -> None: ...
    def reload(self) -> None:
        """Let systemd read the units again."""

    def schema(self, release: str) -> dict[str, Any]:
        """`horizonctl db current --json` of that release. Raises ReleaseError."""

    def migrations(self, release: str) -> list[Migration]:
        """Those of an installed release. Raises ReleaseError."""

    def migrate(self, release: str, *, is_new: bool) -> None:
        """Bring the database, which has no tables yet when it is new, to the release's schema.

        Raises ReleaseError.
        """

    def probe(self, release: str) -> None:
        """Raises ReleaseError."""

    def ready(self, instance: str) -> str | None:
        """None when the web of this instance is ready, else what it answers."""

    def beating(self, release: str, main_pids: Iterable[int]) -> set[int]:
        """Those of the processes that report themselves alive, as workers of the release."""

    def last_words(self, unit: str) -> str:
        """The last line that says why the unit failed."""

    def link_current(self, release: str) -> None: ...
    def monotonic(self) -> float: ...
    def sleep(self, seconds: float) -> None: ...


@dataclass
class Journal:
    """What runs and what was tried on this host; kept in one file, replaced in one step."""

    path: Path
    current: dict[str, Any] | None = None
    activations: list[dict[str, Any]] = field(default_factory=list)
    bad: dict[str, dict[str, str]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Journal:
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return cls(path)
        except ValueError as error:
            raise ReleaseError(
                f"{path} cannot be read ({error}). Remedy: move it aside and run the playbook again; "
                "what runs is then found from the units."
            ) from error
        return cls(path, data["current"], data["activations"], data["bad"])

    def write(self) -> None:
        self.path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".new")
        text = json.dumps(
            {
                "current": self.current,
                "activations": self.activations[-MAX_ACTIVATIONS:],
                "bad": self.bad,
            },
            indent=1,
        )
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(self.path)

    @property
    def running(self) -> str | None:
        """The release that runs, as far as it is known."""
        return None if self.current is None else str(self.current["release"])

    def note(self, release: str, how: str, result: str, reason: str = "") -> None:
        self.activations.append(
            {"release": release, "at": _now(), "how": how, "result": result, "reason": reason}
        )

    def condemn(self, release: str, by: str, reason: str) -> None:
        self.bad[release] = {"at": _now(), "by": by, "reason": reason}

    def good(self, exists: Callable[[str], bool]) -> dict[str, str]:
        """When each release began to run well last: the running one, and those that can run again."""
        times = {
            entry["release"]: entry["at"]
            for entry in self.activations
            if entry["result"] == "good"
            and (entry["release"] == self.running or entry["release"] not in self.bad)
            and exists(entry["release"])
        }
        if self.running is not None and exists(self.running):
            # Of an older run, of which the journal tells no more.
            times.setdefault(self.running, "")
        return times

    def previous_good(self, exists: Callable[[str], bool]) -> str | None:
        """The release that ran well last before the current one, and can run again."""
        for entry in reversed(self.activations):
            release = entry["release"]
            if (
                entry["result"] == "good"
                and release != self.running
                and release not in self.bad
                and exists(release)
            ):
                return str(release)
        return None


@dataclass(frozen=True)
class Wanted:
    """What should run. `config` is a fingerprint of everything else that the processes are made of."""

    release: str
    config: str
    workers: int
    how: str
    workers_in_turn: bool = False
    """New workers start when the old ones have ended: where memory holds no more. Web still overlaps."""
    web: bool = True
    """Whether this host runs web; one that runs none has workers."""
    elsewhere: Mapping[str, int] = field(default_factory=dict)
    """Releases of other hosts with the same database, each with the newest schema it knows."""

    def units(self, instance: str) -> list[str]:
        """Of an instance, web first."""
        web = [web_unit(instance)] if self.web else []
        return [*web, *worker_units(instance, self.workers)]


@dataclass(frozen=True)
class Limits:
    ready_s: float = 60
    heartbeat_s: float = 60
    settle_s: float = 3


@dataclass
class Outcome:
    changed: bool
    instance: str
    steps: list[str]


def is_current(journal: Journal, host: Host, wanted: Wanted) -> bool:
    """Whether exactly what is wanted runs, and nothing beside it."""
    current = journal.current
    if current is None or (current["release"], current["config"]) != (
        wanted.release,
        wanted.config,
    ):
        return False
    expected = wanted.units(current["instance"])
    return (
        set(host.units()) == set(expected)
        and all(host.state(unit).is_up for unit in expected)
        and set(host.enabled()) == set(expected)
    )


def activate(journal: Journal, host: Host, wanted: Wanted, limits: Limits) -> Outcome:
    """Start the release beside what runs, prove it, then stop what ran.

    Where it runs already, only a database that has lost its tables gets them again.

    Raises:
        ReleaseError: it did not work out. What ran before still runs, and nothing of the new is left.
    """
    steps: list[str] = []
    if is_current(journal, host, wanted):
        try:
            _migrate(host, wanted, steps)
        except ReleaseError as error:
            raise ReleaseError(f"{wanted.release} runs, and it cannot work: {error}") from error
        return Outcome(bool(steps), str(journal.current and journal.current["instance"]), steps)
    before = journal.running
    try:
        _clear_strays(journal, host, wanted, steps)
        _migrate(host, wanted, steps)
        host.probe(wanted.release)
        steps.append("probed on a private socket")
        instance = _start_beside(host, wanted, limits, steps)
    except ReleaseError as error:
        left = f"{before} still serves" if before and host.units() else "nothing runs"
        journal.note(wanted.release, wanted.how, "taken back", str(error))
        if wanted.release != before:
            journal.condemn(wanted.release, "take-back", str(error))
        journal.write()
        raise ReleaseError(f"{wanted.release} was taken back: {error} Now: {left}.") from error
    new = wanted.units(instance)
    host.enable(new)
    host.link_current(wanted.release)
    journal.current = {
        "release": wanted.release,
        "instance": instance,
        "config": wanted.config,
    }
    journal.bad.pop(wanted.release, None)
    journal.note(wanted.release, wanted.how, "good")
    journal.write()
    _stop_others(host, new, steps)
    return Outcome(True, instance, steps)


def _clear_strays(journal: Journal, host: Host, wanted: Wanted, steps: list[str]) -> None:
    """End what an interrupted activation left beside the release that serves."""
    serving = None if journal.current is None else journal.current["instance"]
    if serving is None or not host.state(wanted.units(serving)[0]).is_up:
        return
    strays = [unit for unit in host.units() if instance_of(unit) != serving]
    if strays:
        host.stop(strays)
        host.disable([unit for unit in host.enabled() if instance_of(unit) != serving])
        steps.append("ended what an interrupted run had left")


def _migrate(host: Host, wanted: Wanted, steps: list[str]) -> None:
    release = wanted.release
    schema = host.schema(release)
    if schema["runs"]:
        return
    if schema["state"] not in ("behind", "empty"):
        raise ReleaseError(
            f"it cannot run on the database's schema {schema['current']}, which a newer release made "
            f"and which its code ({schema['release']}) does not know. Remedy: deploy a version that "
            "knows this schema, or restore a backup from before it."
        )
    is_new = schema["state"] == "empty"
    if not is_new:
        here = {release_of(str(instance_of(unit))) for unit in host.units()}
        running = {name: newest(host.migrations(name)) for name in here} | dict(wanted.elsewhere)
        running.pop(release, None)
        reason = left_behind(host.migrations(release), running)
        if reason:
            raise ReleaseError(reason)
    host.migrate(release, is_new=is_new)
    steps.append(f"database at {schema['release']}")


def _start_beside(host: Host, wanted: Wanted, limits: Limits, steps: list[str]) -> str:
    instance = _free_instance(host, wanted.release)
    web, workers = (
        [web_unit(instance)] if wanted.web else [],
        worker_units(instance, wanted.workers),
    )
    old_workers = [unit for unit in host.units() if WORKER.match(unit)]
    ended: list[str] = []
    started = host.monotonic()
    try:
        first = web if wanted.workers_in_turn else [*web, *workers]
        if first:
            host.start(first)
        if web:
            _wait_ready(host, instance, first, limits.ready_s)
            steps.append(f"web ready after {host.monotonic() - started:.1f} s")
        if wanted.workers_in_turn:
            ended = old_workers
            host.stop(ended)
            host.start(workers)
        if workers:
            _wait_heartbeats(host, wanted.release, [*web, *workers], limits.heartbeat_s)
            steps.append(f"{wanted.workers} workers alive after {host.monotonic() - started:.1f} s")
        host.sleep(limits.settle_s)
        _check_alive(host, [*web, *workers])
    except BaseException:
        host.stop([*web, *workers])
        if ended:
            host.start(ended)
        raise
    return instance


def _free_instance(host: Host, release: str) -> str:
    taken = {instance_of(unit) for unit in host.units()}
    names = (release if n == 1 else f"{release}:{n}" for n in range(1, 1000))
    return next(name for name in names if name not in taken)


def _wait_ready(host: Host, instance: str, units: list[str], within_s: float) -> None:
    deadline = host.monotonic() + within_s
    while (answer := host.ready(instance)) is not None:
        _check_alive(host, units)
        if host.monotonic() > deadline:
            raise ReleaseError(f"its web was not ready within {within_s:.0f} s: {answer}.")
        host.sleep(POLL_S)


def _wait_heartbeats(host: Host, release: str, units: list[str], within_s: float) -> None:
    deadline = host.monotonic() + within_s
    while True:
        _check_alive(host, units)
        pids = {unit: host.state(unit).main_pid for unit in units if WORKER.match(unit)}
        alive = host.beating(release, pids.values())
        silent = [unit for unit, pid in pids.items() if pid not in alive]
        if not silent:
            return
        if host.monotonic() > deadline:
            raise ReleaseError(
                f"{silent[0]} sent no heartbeat within {within_s:.0f} s. Its log: "
                f"journalctl -u {silent[0]}. {host.last_words(silent[0])}"
            )
        host.sleep(POLL_S)


def _check_alive(host: Host, units: list[str]) -> None:
    for unit in units:
        if host.state(unit).has_died:
            raise ReleaseError(f"{unit} died at start: {host.last_words(unit)}")


def _stop_others(host: Host, keep: list[str], steps: list[str]) -> None:
    host.disable([unit for unit in host.enabled() if unit not in keep])
    others = [unit for unit in host.units() if unit not in keep]
    if others:
        started = host.monotonic()
        host.stop(others)
        steps.append(f"the one before ended within {host.monotonic() - started:.1f} s")


def to_remove(journal: Journal, releases: Iterable[str], keep: int) -> list[str]:
    """Releases that are in nobody's way to go back: all but the `keep` that were tried last.

    The running one and the one before it always stay.
    """
    names = list(releases)
    last_tried = {entry["release"]: number for number, entry in enumerate(journal.activations)}
    by_age = sorted(names, key=lambda name: (last_tried.get(name, -1), name), reverse=True)
    stays = {journal.running, journal.previous_good(lambda name: name in names)}
    kept = [name for name in by_age if name in stays]
    for name in by_age:
        if name not in kept and len(kept) < keep:
            kept.append(name)
    return [name for name in by_age if name not in kept]


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
