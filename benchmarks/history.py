"""Whether acknowledgement and turns cost the same with 1 and with 1,000,000 stored messages."""

from __future__ import annotations

import argparse
import tempfile
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import Table, insert

from benchmarks.acknowledge import WEBHOOK, Subject, write_requests, wrk_script
from benchmarks.acknowledge import measure as measure_acknowledgement
from benchmarks.lab import show
from benchmarks.service_lab import Lab, lab
from benchmarks.turns import measure_in, medians
from service.store.models import ContactRow, ConversationRow, MessageRow, PartRow, TurnRow

BOTS = 10
MESSAGES_OF_A_CONVERSATION = 20
CHUNK = 1_000
MOST_FACTOR = 1.2


def fill(messages: int, bench: Lab) -> None:
    """Conversations with their ended turns, until so many messages of both directions are stored."""
    tables: dict[str, Table] = {
        row.__tablename__: row.__table__  # type: ignore[misc]
        for row in (ContactRow, ConversationRow, TurnRow, MessageRow, PartRow)
    }
    conversations = messages // MESSAGES_OF_A_CONVERSATION
    begun = datetime.now(UTC) - timedelta(days=90)
    container = bench.container
    for start in range(0, conversations, CHUNK):
        rows: dict[str, list[dict[str, object]]] = {name: [] for name in tables}
        for number in range(start, min(start + CHUNK, conversations)):
            _conversation(rows, number, begun + timedelta(seconds=number))
        with container.database.write() as connection:
            for name, table in tables.items():
                connection.execute(insert(table), rows[name])
    container.close()


def _conversation(rows: dict[str, list[dict[str, object]]], number: int, at: datetime) -> None:
    bot = number % BOTS
    ids = {"bot_id": f"bot_{bot}", "client_id": f"client_{bot}"}
    times = {"created_at": at, "updated_at": at}
    contact, conversation = f"ct_old_{number}", f"cv_old_{number}"
    address = f"whatsapp:+5697{number:07d}"
    turns = MESSAGES_OF_A_CONVERSATION // 2
    rows["contacts"].append(
        {"id": contact, "identity": address, "address": address, **ids, **times}
    )
    rows["conversations"].append(
        {
            "id": conversation,
            "contact_id": contact,
            "number": f"+5691{bot:07d}",
            "last_ordinal": turns,
            "fence": turns,
            **ids,
            **times,
        }
    )
    for n in range(1, turns + 1):
        turn = f"tn_old_{number}_{n}"
        sid = f"{number:024x}{n:08x}"
        rows["turns"].append(
            {
                "id": turn,
                "conversation_id": conversation,
                "ordinal": n,
                "status": "replied",
                "reason": "answered",
                "finished_at": at,
                **ids,
                **times,
            }
        )
        shared = {"bot_id": ids["bot_id"], "conversation_id": conversation, "turn_id": turn}
        rows["messages"] += [
            {
                **shared,
                "direction": "in",
                "sid": f"SM{sid}",
                "text": f"¿Y la {n}?",
                "created_at": at,
            },
            {**shared, "direction": "out", "sid": None, "text": f"Es la {n}.", "created_at": at},
        ]
        rows["parts"].append(
            {
                **shared,
                "id": f"pt_old_{number}_{n}",
                "kind": "reply",
                "n": 1,
                "address": address,
                "body": f"Es la {n}.",
                "intent_at": at,
                "sid": f"SN{sid}",
                "sent_at": at,
                "updated_at": at,
            }
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, nargs="+", default=[1, 1_000_000])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=10)
    options = parser.parse_args()
    with ExitStack() as started:
        folder = Path(started.enter_context(tempfile.TemporaryDirectory()))
        requests, script = folder / "requests", folder / "wrk.lua"
        write_requests(requests, 24_000, BOTS)
        script.write_text(wrk_script(requests, 12_000))
        labs = {messages: started.enter_context(lab()) for messages in options.messages}
        urls = {
            messages: started.enter_context(bench.emulators()) for messages, bench in labs.items()
        }
        for messages, bench in labs.items():
            bench.add_bots(BOTS)
            fill(messages, bench)
        acknowledged = measure_acknowledgement(
            {str(n): Subject(bench, WEBHOOK, script, 32) for n, bench in labs.items()},
            max(options.seconds // 2, 1),
            options.runs,
        )
        for bench in labs.values():
            bench.empty_redis()
        runs: dict[int, list[dict[str, float]]] = {messages: [] for messages in labs}
        for run in range(options.runs):
            for messages, bench in labs.items():
                runs[messages].append(
                    measure_in(bench, urls[messages], 20, options.seconds, BOTS, run)
                )
    rows = []
    first: dict[str, float] = {}
    for messages in labs:
        turn = medians(runs[messages])
        figures = {
            "ack": acknowledged[str(messages)]["cpu_us"],
            "p50": turn["p50"],
            "own": turn["own"],
            "cpu": turn["cpu_ms"],
        }
        first = first or figures
        ratios = [figures[name] / first[name] for name in ("ack", "p50", "own", "cpu")]
        rows.append(
            [
                f"{messages:,}",
                *(f"{ratio:.2f}" for ratio in ratios),
                *(f"{figures[name]:.1f}" for name in ("ack", "p50", "own", "cpu")),
                "" if figures is first else _word(max(ratios[:2]) <= MOST_FACTOR),
            ]
        )
    show(
        f"Growth in stored messages, SQLite (medians of {options.runs} runs; each turn is a new contact's)",
        [
            "messages",
            "ack CPU ÷ first",
            "turn p50 ÷ first",
            "own ÷ first",
            "turn CPU ÷ first",
            "ack CPU µs",
            "turn p50 ms",
            "own ms",
            "turn CPU ms",
            f"≤ {MOST_FACTOR}",
        ],
        rows,
    )


def _word(reached: bool) -> str:
    return "reached" if reached else "short"


if __name__ == "__main__":
    main()
