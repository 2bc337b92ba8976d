"""The figures as programs read them: `horizonctl stats --json`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from service.monitoring.report import ClientDay, ClientToday, Report, TurnCounts


def stats_json(
    report: Report, clients: Sequence[ClientToday], usage: Sequence[ClientDay], days: int
) -> dict[str, Any]:
    """Today's clients, and the usage of the last days; rates from 0 to 1, times in seconds."""
    first, last = report.days(days)[0], report.days(days)[-1]
    return {
        "timezone": report.zone.key,
        "from": first.date.isoformat(),
        "to": last.date.isoformat(),
        "clients": [client_json(client) for client in clients],
        "usage": [day_json(day) for day in usage],
    }


def client_json(client: ClientToday) -> dict[str, Any]:
    """A client's day so far."""
    queue = client.queue
    return {
        "client_id": client.client_id,
        "state": client.state,
        "bots": [asdict(bot) for bot in client.bots],
        "received": client.received,
        "sent": client.sent,
        "turns": _turns(client.turns) | {"open": client.turns.open},
        "error_rate": client.turns.error_rate,
        "median_answer_s": _rounded(client.median_answer_s),
        "last_message_at": _iso(client.last_message_at),
        "queue": None
        if queue is None
        else {"due": queue.due, "leased": queue.leased, "late_s": _rounded(queue.late_s)},
    }


def day_json(day: ClientDay) -> dict[str, Any]:
    """A client's usage of a day. `cost_usd` is None when a model has no price: it is not known."""
    return {
        "date": day.date.isoformat(),
        "client_id": day.client_id,
        "received": day.received,
        "sent": day.sent,
        "turns": _turns(day.turns),
        "tokens": asdict(day.tokens),
        "cost_usd": None if day.cost.unpriced else float(day.cost.usd),
        "cost_known_usd": float(day.cost.usd),
        "unpriced_models": sorted(day.cost.unpriced),
    }


def _turns(turns: TurnCounts) -> dict[str, int]:
    return {"replied": turns.replied, "silent": turns.silent, "dead": turns.dead}


def _iso(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat(timespec="seconds")


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
