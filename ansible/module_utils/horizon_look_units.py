"""Units of systemd: which of them do not run, and how they are started."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ansible.module_utils import horizon_look_network as network
from ansible.module_utils.horizon_check import Host, wait
from ansible.module_utils.horizon_releases import WORKER

POSTGRESQL_UNIT = "postgresql.service"


def is_down(unit: str) -> Callable[[Host], str | None]:
    def look(host: Host) -> str | None:
        state = host.unit(unit)
        if state.get("LoadState") == "not-found":
            return f"{unit} is not installed"
        if state.get("ActiveState") != "active":
            return f"{unit} is {state.get('ActiveState', 'unknown')}"
        return None

    return look


def start(unit: str) -> Callable[[Host], object]:
    def mend(host: Host) -> None:
        host.run("systemctl", "reset-failed", unit)
        host.run("systemctl", "start", unit)

    return mend


def clusters(host: Host) -> dict[str, str]:
    """PostgreSQL's servers and their states: Debian's postgresql.service itself runs nothing."""
    words = ("list-units", "--all", "--plain", "--no-legend", "postgresql@*.service")
    _, told = host.run("systemctl", *words)
    rows = [line.split() for line in told.splitlines()]
    return {row[0]: row[2] for row in rows if len(row) > 3}


def postgresql_down(host: Host) -> str | None:
    down = [f"{unit} is {state}" for unit, state in clusters(host).items() if state != "active"]
    return is_down(POSTGRESQL_UNIT)(host) or ", ".join(down) or None


def start_postgresql(host: Host) -> None:
    for unit in (POSTGRESQL_UNIT, *clusters(host)):
        start(unit)(host)


def not_enabled(host: Host) -> str | None:
    asleep = [
        unit
        for unit in [*host.params["boot_units"], *host.running()]
        if host.unit(unit).get("UnitFileState") not in ("enabled", "enabled-runtime", "static")
    ]
    return f"{', '.join(asleep)} would not start with the machine" if asleep else None


def enable(host: Host) -> None:
    host.run("systemctl", "enable", *host.params["boot_units"], *host.running())


def web_down(host: Host) -> str | None:
    units = [unit for unit in host.running() if not WORKER.match(unit)]
    if not units:
        return "no release was ever activated"
    state = host.unit(units[0]).get("ActiveState")
    return None if state == "active" else f"{units[0]} is {state}"


def workers_of(host: Host) -> list[str]:
    return [unit for unit in host.running() if WORKER.match(unit)]


def workers_down(host: Host) -> str | None:
    workers = workers_of(host)
    down = [unit for unit in workers if host.unit(unit).get("ActiveState") != "active"]
    if not workers:
        return "there is no worker"
    return f"{', '.join(down)} {'is' if len(down) == 1 else 'are'} not running" if down else None


def start_release(host: Host) -> None:
    for unit in host.running():
        if host.unit(unit).get("ActiveState") != "active":
            host.run("systemctl", "reset-failed", unit)
            host.run("systemctl", "start", unit)
    units = host.running()
    wait(lambda: all(host.unit(unit).get("ActiveState") == "active" for unit in units))


def failed(host: Host) -> str | None:
    units = host.failed_units()
    return f"failed: {', '.join(units)}" if units else None


def mend_failed(host: Host) -> None:
    """Releases that have a successor are forgotten: those of the running one have been started before.

    A renewal is tried again: it asks for nothing that is not due.
    """
    for unit in host.failed_units():
        if unit == network.RENEWAL:
            network.renew(host)
        if unit.startswith(("horizonai-bots@", "horizonai-bots-worker@")):
            host.run("systemctl", "reset-failed", unit)


def beats(host: Host) -> str | None:
    wanted = len(workers_of(host))
    release = Path(host.params["root"], "current").resolve().name
    found = [
        beat
        for beat in host.horizonctl("workers", "--json")["workers"]
        if str(beat.get("release", "")).startswith(release)
        and str(beat["id"]).rpartition(":")[0] == host.name()
    ]
    if len(found) < wanted:
        return f"{len(found)} of {wanted} workers of {release} say that they can work"
    return None


def wait_beats(host: Host) -> None:
    wait(lambda: beats(host) is None)
