"""What a run left behind, read from the stores and from the emulated vendors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import func, select

from service.store.models import MessageRow, PartRow, TurnRow
from tests.chaos.record import Delivered, Effect, Part, Record, Sent, Taken, Turn
from tests.chaos.system import System

_CHANNEL = "whatsapp:"


def running_turns(system: System) -> int:
    """Turns that have not ended."""
    container = system.container()
    try:
        with container.database.read() as connection:
            count = select(func.count()).where(TurnRow.status == "running")
            return int(connection.execute(count).scalar_one())
    finally:
        container.close()


def collect(system: System, sent: Sequence[Sent], answers: Mapping[str, int]) -> Record:
    """Everything that the checker looks at."""
    container = system.container()
    try:
        with container.database.read() as connection:
            turns = [
                Turn(row.id, row.conversation_id, row.ordinal, row.status, row.reason or "")
                for row in connection.execute(select(TurnRow.__table__))
            ]
            taken = [
                Taken(row.bot_id, row.sid, row.turn_id, row.id)
                for row in connection.execute(
                    select(MessageRow.__table__).where(MessageRow.direction == "in")
                )
            ]
            parts = [
                Part(row.turn_id, row.kind, row.n, _number(row.address), row.body, row.sid)
                for row in connection.execute(select(PartRow.__table__))
                # Planned, never begun: only a turn that replied has to have sent all of its parts.
                if row.intent_at is not None or row.sid is not None
            ]
    finally:
        container.close()
    delivered = [
        Delivered(message["sid"], _number(message["to"]), message["body"])
        for contact in sorted({message.contact for message in sent})
        for message in system.ask("twilio", "messages", to=contact)
    ]
    effects = [
        Effect(effect["body"]["nombre"], effect["body"]["interes"])
        for effect in system.ask("horizon", "state")["effects"]
    ]
    return Record(
        sent,
        turns,
        taken,
        parts,
        delivered,
        effects,
        system.left_over_keys(),
        system.spool_files(),
        answers,
    )


def _number(address: str) -> str:
    return address.removeprefix(_CHANNEL)
