"""What a run left behind, asked of the service on a machine and of the emulated Twilio."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from machine import on, vendors, wait_for
from steady_load import Load

from tests.chaos.checker import check, dead
from tests.chaos.record import Delivered, Part, Record, Sent, Taken, Turn

IN_THE_SERVICE = """
import json
from sqlalchemy import text
from service.container import Container
from service.settings import Settings

container = Container(Settings())
told = {}
with container.database.read() as connection:
    for name, query in QUERIES.items():
        told[name] = [list(row) for row in connection.execute(text(query))]
keys = container.redis.client.scan_iter("hb:*", count=1000)
told["keys"] = sorted(key if isinstance(key, str) else key.decode() for key in keys)
print(json.dumps(told))
"""
QUERIES = {
    "turns": "SELECT id, conversation_id, ordinal, status, coalesce(reason, '') FROM turns",
    "taken": "SELECT bot_id, sid, turn_id, id FROM messages WHERE direction = 'in'",
    "parts": "SELECT turn_id, kind, n, address, body, sid FROM parts "
    "WHERE intent_at IS NOT NULL OR sid IS NOT NULL",
}
AS_SERVICE = (
    "set -a; . /etc/horizonai-bots/env; set +a; cd /opt/horizonai-bots/current; "
    "exec setpriv --reuid=horizonai-bots --regid=horizonai-bots --clear-groups "
    "env PYTHONPATH=. venv/bin/python -B -"
)
SETTLE_S = 120
LEFT_OVER = ("hb:mb:", "hb:c:", "hb:due:", "hb:leases", "hb:clients", "hb:unreadable")


def settled(machine: str, load: Load) -> Record:
    """The record of a load that has ended and been answered; its figures are printed."""
    load.end()
    wait_for(lambda: is_done(machine), SETTLE_S, "everything is answered")
    record = collect(machine, load.sent, load.answers)
    acknowledged = sum(message.acked_at is not None for message in load.sent)
    print(f"{acknowledged} of {len(load.sent)} messages acknowledged; answers: {load.answers}")
    print(f"{len(dead(record))} dead turns")
    return record


def broken(record: Record) -> dict[str, list[str]]:
    """The promises that the record breaks, and where; when that was is printed."""
    found = {name: rows for name, rows in check(record).items() if rows}
    acked = {message.token: message.acked_at for message in record.sent if message.acked_at}
    for name, rows in found.items():
        times = sorted(at for row in rows if (at := acked.get(row.split()[0])))
        told = [time.strftime("%H:%M:%S", time.localtime(at)) for at in times]
        print(f"{name}: {len(rows)}, acknowledged {told[0]} to {told[-1]}" if told else name)
    return found


def collect(machine: str, sent: Sequence[Sent], answers: Mapping[str, int]) -> Record:
    """Everything that the checker of tests/chaos looks at."""
    told = asked(machine)
    return Record(
        sent,
        [Turn(*row) for row in told["turns"]],
        [Taken(*row) for row in told["taken"]],
        [Part(*row[:3], _number(row[3]), *row[4:]) for row in told["parts"]],
        [each for contact in sorted({m.contact for m in sent}) for each in _delivered(contact)],
        [],
        left_over(told),
        answers=answers,
    )


def asked(machine: str) -> dict[str, Any]:
    script = f"QUERIES = {QUERIES!r}\n{IN_THE_SERVICE}"
    return dict(json.loads(on(machine, AS_SERVICE, stdin=script).splitlines()[-1]))


def left_over(told: Mapping[str, Any]) -> list[str]:
    return [key for key in told["keys"] if key.startswith(LEFT_OVER)]


def is_done(machine: str) -> bool:
    told = asked(machine)
    return not left_over(told) and all(turn[3] != "running" for turn in told["turns"])


def _delivered(contact: str) -> list[Delivered]:
    query = urlencode({"to": contact, "count": 0, "timeout": 0})
    url = f"{vendors()['twilio']}/_emulator/messages?{query}"
    with urllib.request.urlopen(url, timeout=10) as answer:
        return [Delivered(m["sid"], _number(m["to"]), m["body"]) for m in json.load(answer)]


def _number(address: str) -> str:
    return address.removeprefix("whatsapp:")
