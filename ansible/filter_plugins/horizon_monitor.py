"""What the hosts told of themselves (`horizonctl monitor --json`), as tables of plain text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

NOTHING = "-"
_NO_CLIENT = "There is no client"
_NOT_FOUND = "Error executing command."
"""What the module `command` says when there is no such program."""
_GIB = 2**30
_MIB = 2**20


def monitor_tables(
    looks: Mapping[str, Any], usages: Mapping[str, Any] | None = None, one_service: bool = False
) -> str:
    """Tables of hosts, clients and (with `usages`) usage, then what needs an operator.

    Both hold the registered result of the command by host; `usages` that of `horizonctl stats --json`.
    Hosts of `one_service` know the same clients, so one of them tells.
    """
    found = {host: told(look) for host, look in looks.items()}
    seen = {host: state for host, state in found.items() if isinstance(state, dict)}
    parts = [
        _table(
            ("host", "load", "memory", "disk", "waiting", "workers", "dead", "certificate"),
            [(host, *_server(state["server"])) for host, state in seen.items()],
        ),
        _table(
            ("host", "client", "state", "in", "out", "last message", "errors", "answer"),
            [
                (host, *_client(client))
                for host, state in [*seen.items()][: 1 if one_service else None]
                for client in state["stats"]["clients"]
            ],
        ),
    ]
    if usages:
        # Of a service on several hosts the first one that answers tells for all.
        heard = [host for host, look in usages.items() if isinstance(told(look), dict)]
        parts.append(
            _usage({host: usages[host] for host in (heard[:1] if one_service else usages)})
        )
    parts += [
        "\n".join(f"{host}: {fault}" for fault in state["server"]["faults"])
        for host, state in seen.items()
    ]
    parts += [f"{host}: {state}" for host, state in found.items() if isinstance(state, str)]
    return "\n\n".join(part for part in parts if part)


def monitor_silent(looks: Mapping[str, Any]) -> list[str]:
    """The hosts that could not be looked at. One that does not know the client counts only if all do not."""
    failed = {host: state for host, look in looks.items() if isinstance(state := told(look), str)}
    others = [host for host, state in failed.items() if _NO_CLIENT not in state]
    return list(failed) if len(failed) == len(looks) else others


def told(look: Any) -> dict[str, Any] | str:
    """What a host told; a sentence when it told nothing."""
    if not isinstance(look, Mapping):
        return "it was not asked"
    if look.get("unreachable"):
        return f"it cannot be reached: {_first_line(look.get('msg'))}"
    if look.get("rc") != 0:
        complaint = look.get("stderr") or look.get("stdout") or look.get("msg")
        if complaint == _NOT_FOUND:
            complaint = (
                "horizonctl is not there: ansible-playbook site.yml -i <inventory> installs it."
            )
        return f"it could not be looked at: {_first_line(complaint)}"
    try:
        value = json.loads(look.get("stdout", ""))
    except ValueError:
        return "its answer is no JSON: is `horizonctl` of another version there?"
    return value if isinstance(value, dict) else "its answer is not that of `horizonctl monitor`"


def _server(server: Mapping[str, Any]) -> tuple[str, ...]:
    queue = server["queue"] or {}
    total, free = server["memory_total"], server["memory_available"]
    disks = [1 - disk["free"] / disk["total"] for disk in server["disks"] if disk["total"]]
    days = [one["days"] for one in server["certificates"] if one["days"] is not None]
    return (
        f"{server['load'][0]:.2f}/{server['cpus']}",
        f"{(total - free) / _MIB:.0f}/{total / _MIB:.0f} MB" if total and free else NOTHING,
        f"{max(disks):.0%}" if disks else NOTHING,
        _shown(queue.get("due")),
        _shown(queue.get("workers")),
        _shown(server["dead_turns"]),
        f"{min(days)} days" if days else NOTHING,
    )


def _client(client: Mapping[str, Any]) -> tuple[str, ...]:
    rate, answer = client["error_rate"], client["median_answer_s"]
    return (
        client["client_id"],
        client["state"],
        str(client["received"]),
        str(client["sent"]),
        _shown(client["last_message_at"]),
        NOTHING if rate is None else f"{rate:.1%}",
        NOTHING if answer is None else f"{answer:.1f} s",
    )


def _usage(usages: Mapping[str, Any]) -> str:
    rows = []
    for host, look in usages.items():
        state = told(look)
        for day in state["usage"] if isinstance(state, dict) else ():
            cost = day["cost_usd"]
            tokens = day["tokens"]
            rows.append(
                (
                    *(host, day["date"], day["client_id"], str(day["received"]), str(day["sent"])),
                    *(str(sum(day["turns"].values())), str(tokens["input"]), str(tokens["output"])),
                    "unknown" if cost is None else f"{cost:.4f}",
                )
            )
    return _table(
        (
            "host",
            "day",
            "client",
            "in",
            "out",
            "turns",
            "tokens in",
            "tokens out",
            "USD (estimate)",
        ),
        rows,
    )


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    widths = [max(len(row[place]) for row in (columns, *rows)) for place in range(len(columns))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (columns, *rows)
    )


def _shown(value: object) -> str:
    return NOTHING if value is None else str(value)


def _first_line(text: object) -> str:
    return str(text or "it says nothing").strip().split("\n", 1)[0]


class FilterModule:
    """Filters of monitor.yml."""

    def filters(self) -> dict[str, Any]:
        return {"monitor_tables": monitor_tables, "monitor_silent": monitor_silent}
