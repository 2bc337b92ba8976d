"""How long the figures of `horizonctl stats` and `search` take with 1,000,000 stored messages."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from sqlalchemy import insert, text

from benchmarks.lab import median, show
from benchmarks.service_lab import Lab, lab, postgresql_lab
from service.container import Container
from service.store.models import (
    ContactRow,
    ConversationRow,
    MessageRow,
    TurnRow,
    UsageRow,
    table,
)

CLIENTS = 50
DAYS = 30
TURNS_OF_A_CONVERSATION = 25
CHUNK = 5_000
FIELDS = {"Body": "¿Tienen mesa para cuatro?", "ChannelMetadata": "x" * 800}
"""As large as what Twilio sends."""

Rows = dict[type, list[dict[str, object]]]


def fill(messages: int, bench: Lab) -> None:
    """Turns of one message and one answer each, evenly over the last 30 days, until now."""
    turns = messages // 2
    begun = datetime.now(UTC) - timedelta(days=DAYS)
    step = timedelta(days=DAYS) / turns
    with bench.container.database.write() as connection:
        for start in range(0, turns, CHUNK):
            rows: Rows = {
                row: [] for row in (ContactRow, ConversationRow, TurnRow, MessageRow, UsageRow)
            }
            for n in range(start, min(start + CHUNK, turns)):
                _turn(rows, n, begun + n * step)
            for row, values in rows.items():
                if values:
                    connection.execute(insert(table(row)), values)
    with bench.container.database.write() as connection:
        connection.execute(text("ANALYZE"))


def _turn(rows: Rows, n: int, at: datetime) -> None:
    conversation = n // TURNS_OF_A_CONVERSATION
    client = conversation % CLIENTS
    ids = {"bot_id": f"bot_{client}", "client_id": f"client_{client}"}
    times = {"created_at": at, "updated_at": at}
    names = {"conversation_id": f"cv_{conversation}", "turn_id": f"tn_{n}"}
    if n % TURNS_OF_A_CONVERSATION == 0:
        contact = {"id": f"ct_{conversation}", "identity": "c", "address": "c"}
        rows[ContactRow].append({**contact, **ids, **times})
        rows[ConversationRow].append(
            {
                "id": names["conversation_id"],
                "contact_id": contact["id"],
                "number": "+56911110000",
                **ids,
                **times,
            }
        )
    rows[TurnRow].append(
        {
            "id": names["turn_id"],
            "conversation_id": names["conversation_id"],
            "ordinal": n % TURNS_OF_A_CONVERSATION + 1,
            "status": "replied" if n % 100 else "dead",
            "finished_at": at,
            **ids,
            **times,
        }
    )
    shared = {"bot_id": ids["bot_id"], "created_at": at, **names}
    payload = {"at_ms": int(at.timestamp() * 1000) - 3000, "fields": FIELDS}
    rows[MessageRow] += [
        {**shared, "direction": "in", "sid": f"SM{n}", "text": f"¿{n}?", "payload": payload},
        {**shared, "direction": "out", "sid": None, "text": f"Es {n}.", "payload": None},
    ]
    rows[UsageRow].append(
        {
            **ids,
            "turn_id": names["turn_id"],
            "model": "gpt-6-luna",
            "input_tokens": 1500,
            "cached_tokens": 900,
            "output_tokens": 60,
            "created_at": at,
        }
    )


def seconds(ask: Callable[[], object], runs: int) -> float:
    """The median time of some runs."""
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        ask()
        times.append(time.perf_counter() - started)
    return median(times)


def measure(container: Container, runs: int) -> dict[str, float]:
    """Seconds of each question."""
    report = container.report
    now = datetime.now(UTC)
    return {
        "clients today": seconds(report.today, runs),
        "one client today": seconds(lambda: report.today("client_1"), runs),
        "usage of 7 days": seconds(lambda: report.usage(7), runs),
        "usage of 30 days": seconds(lambda: report.usage(30), runs),
        "search, 7 days, nothing found": seconds(
            lambda: container.message_search.find("nowhere", now - timedelta(days=7), now), runs
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    found: dict[str, dict[str, float]] = {}
    for name, make in (("SQLite", lab), ("PostgreSQL", postgresql_lab)):
        with make() as bench:
            bench.add_bots(CLIENTS)
            fill(options.messages, bench)
            found[name] = measure(bench.container, options.runs)
    show(
        f"Figures with {options.messages:,} messages of {DAYS} days, {CLIENTS} clients "
        f"(medians of {options.runs} runs)",
        ["question", *(f"{name} s" for name in found)],
        [
            [question, *(f"{figures[question]:.2f}" for figures in found.values())]
            for question in next(iter(found.values()))
        ],
    )


if __name__ == "__main__":
    main()
