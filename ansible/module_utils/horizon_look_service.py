"""What the service says of itself and of what it needs."""

from __future__ import annotations

from collections.abc import Callable

from ansible.module_utils.horizon_check import Host

MOST_QUEUE_S = 300


def health(field: str, good: str, word: str) -> Callable[[Host], str | None]:
    def look(host: Host) -> str | None:
        value = host.health().get(field)
        return None if value == good else f"the service says: {word} {value}"

    return look


def schema(host: Host) -> str | None:
    state = host.horizonctl("db", "current", "--json")
    return None if state.get("runs") else f"the database's schema is {state.get('state')}"


def spooled(host: Host) -> str | None:
    health = host.health()
    waiting = health.get("spooled") or 0
    if waiting and health.get("redis") == "up":
        return f"{waiting} messages wait in the spool though Redis is there"
    return None


def queue_old(host: Host) -> str | None:
    oldest = (host.health().get("queue") or {}).get("oldest_due_s") or 0
    return f"the oldest message has waited {oldest:.0f} s" if oldest > MOST_QUEUE_S else None


def dead(host: Host) -> str | None:
    dead = (host.health().get("queue") or {}).get("dead") or 0
    return f"{dead} turns are dead" if dead else None


def checked(*what: str) -> Callable[[Host], str | None]:
    def look(host: Host) -> str | None:
        wrong = [
            f"{each['whose']}: {each['message']}"
            for each in host.horizonctl("check", "--json")
            if each["what"] in what and not each["ok"]
        ]
        return "; ".join(wrong) or None

    return look
