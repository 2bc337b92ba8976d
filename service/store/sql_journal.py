"""The journal in SQL. A write first proves its fence on the conversation's row, which also locks it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, bindparam, select, update
from sqlalchemy.exc import IntegrityError

from service.conversation.clock import utc_now
from service.conversation.journal import FencedError
from service.conversation.mailbox import Claim
from service.conversation.ports import Usage
from service.conversation.storable import storable
from service.conversation.turn import Opening, Outcome, Part, Step, Text, Turn
from service.store.database import Database
from service.store.journal_opening import open_turn, part_of
from service.store.models import (
    ContactRow,
    ConversationRow,
    MessageRow,
    PartRow,
    StepRow,
    TurnRow,
    UsageRow,
    table,
)

_conversations, _contacts, _turns = table(ConversationRow), table(ContactRow), table(TurnRow)
_parts = table(PartRow)
# Columns without a value here are set to the parameters of their name.
_PROVE = _conversations.update().where(
    _conversations.c.id == bindparam("conversation"), _conversations.c.fence == bindparam("held")
)
_UPDATE_TURN = _turns.update().where(_turns.c.id == bindparam("turn"))
_PROGRESS = _UPDATE_TURN.values(progress=_turns.c.progress + 1)
_UPDATE_PART = _parts.update().where(_parts.c.id == bindparam("part"))
_UPDATE_CONTACT = _contacts.update().where(_contacts.c.id == bindparam("contact"))
_ADD_STEPS = table(StepRow).insert()
_ADD_USAGE = table(UsageRow).insert()
_ADD_PARTS = _parts.insert()
_ADD_MESSAGES = table(MessageRow).insert()
_APOLOGY_PAUSE = timedelta(hours=1)
_MAX_ERROR_CHARS = 1_000


class SqlJournal:
    """Implements `conversation.journal.Journal`. Raises DatabaseDownError and FencedError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def open(self, claim: Claim) -> Opening:
        try:
            with self._database.write() as connection:
                return open_turn(connection, claim)
        except IntegrityError:
            # A worker whose lease had run out made the same rows a moment ago: now they are seen.
            with self._database.write() as connection:
                return open_turn(connection, claim)

    def save(
        self,
        turn: Turn,
        *,
        steps: Sequence[Step] = (),
        usage: tuple[str, Usage] | None = None,
        new_parts: Sequence[Part] = (),
        intend: Part | None = None,
        sent: Part | None = None,
        changed: Part | None = None,
    ) -> None:
        now = utc_now()
        with self._database.write() as connection:
            _prove(connection, turn, now)
            _progress(connection, turn, now)
            _add_steps(connection, turn, steps)
            if usage is not None:
                _add_usage(connection, turn, *usage)
            if sent is not None:
                _update_part(connection, sent, sid=sent.sid, sent_at=now, error_code=None)
            if changed is not None:
                _update_part(
                    connection,
                    changed,
                    intent_at=changed.intent_at,
                    error_code=(changed.error_code or "")[:20] or None,
                )
            if new_parts:
                connection.execute(
                    _ADD_PARTS,
                    [
                        _part_values(turn, part, now if part is intend else part.intent_at)
                        for part in new_parts
                    ],
                )
            elif intend is not None:
                _update_part(connection, intend, intent_at=now)
        turn.steps.extend(steps)
        turn.parts.extend(new_parts)
        if intend is not None:
            intend.intent_at = now

    def record_failure(self, turn: Turn, error: str, delay_s: float | None, took_s: float) -> None:
        now = utc_now()
        retry_s = turn.retry_s + took_s + (delay_s or 0)
        with self._database.write() as connection:
            _prove(connection, turn, now)
            connection.execute(
                _PROGRESS,
                {
                    "turn": turn.id,
                    "tries": turn.tries + 1,
                    "retry_s": retry_s,
                    "error": storable(error[:_MAX_ERROR_CHARS]),
                    "updated_at": now,
                },
            )
        turn.tries += 1
        turn.retry_s = retry_s

    def die(self, turn: Turn, reason: str, error: str, apology: Part | None) -> Step:
        now = utc_now()
        step = Step("dying", {"reason": reason, "error": storable(error[:_MAX_ERROR_CHARS])})
        with self._database.write() as connection:
            _prove(connection, turn, now)
            _progress(connection, turn, now)
            _add_steps(connection, turn, [step])
            kept = apology is not None and _may_apologize(connection, turn, now)
            if apology is not None and kept:
                connection.execute(_ADD_PARTS, _part_values(turn, apology, None))
        turn.steps.append(step)
        if apology is not None and kept:
            turn.parts.append(apology)
        return step

    def finish(self, turn: Turn, outcome: Outcome, sent: Part | None = None) -> None:
        now = utc_now()
        with self._database.write() as connection:
            _prove(connection, turn, now)
            if sent is not None:
                _update_part(connection, sent, sid=sent.sid, sent_at=now, error_code=None)
            error = storable(outcome.error[:_MAX_ERROR_CHARS]) if outcome.error else None
            connection.execute(
                _UPDATE_TURN,
                {
                    "turn": turn.id,
                    "status": outcome.status,
                    "reason": outcome.reason[:40],
                    "error": error,
                    "finished_at": now,
                    "updated_at": now,
                },
            )
            # The contact's own messages have been there since the turn was opened.
            added = [text for text in outcome.texts if text.direction != "in"]
            if added:
                connection.execute(
                    _ADD_MESSAGES,
                    [
                        {
                            "bot_id": turn.bot_id,
                            "conversation_id": turn.conversation_id,
                            "turn_id": turn.id,
                            "direction": text.direction,
                            "text": text.text,
                        }
                        for text in added
                    ],
                )
            if outcome.opted_out is not None:
                opted_out_at = now if outcome.opted_out else None
                connection.execute(
                    _UPDATE_CONTACT,
                    {"contact": turn.contact.id, "opted_out_at": opted_out_at, "updated_at": now},
                )

    def context(self, turn: Turn, limit: int) -> Sequence[Text]:
        with self._database.read() as connection:
            rows = connection.execute(
                select(MessageRow.direction, MessageRow.text)
                .join(TurnRow, TurnRow.id == MessageRow.turn_id)
                .where(
                    TurnRow.conversation_id == turn.conversation_id,
                    TurnRow.ordinal < turn.ordinal,
                )
                .order_by(TurnRow.ordinal.desc(), MessageRow.id.desc())
                .limit(limit)
            ).all()
        return [Text(row.direction, row.text) for row in reversed(rows)]

    def used_sids(self, sids: Sequence[str]) -> set[str]:
        if not sids:
            return set()
        with self._database.read() as connection:
            found = connection.scalars(select(PartRow.sid).where(PartRow.sid.in_(sids)))
            return {sid for sid in found if sid is not None}

    def reread(self, turn: Turn, part: Part) -> Part:
        with self._database.read() as connection:
            return part_of(connection.execute(select(PartRow).where(PartRow.id == part.id)).one())

    def abandoned(self, before: datetime, limit: int) -> Sequence[tuple[str, str, str, str]]:
        with self._database.read() as connection:
            rows = connection.execute(
                select(
                    ConversationRow.id,
                    ConversationRow.client_id,
                    ConversationRow.bot_id,
                    ConversationRow.number,
                )
                .join(TurnRow, TurnRow.conversation_id == ConversationRow.id)
                .where(TurnRow.status == "running", TurnRow.updated_at < before)
                .order_by(TurnRow.updated_at)
                .limit(limit)
            )
            return [(row.id, row.client_id, row.bot_id, row.number) for row in rows]


def _prove(connection: Connection, turn: Turn, now: datetime) -> None:
    proved = connection.execute(
        _PROVE, {"conversation": turn.conversation_id, "held": turn.fence, "updated_at": now}
    )
    if proved.rowcount != 1:
        raise FencedError(f"turn {turn.id}: fence {turn.fence} is stale")


def _progress(connection: Connection, turn: Turn, now: datetime) -> None:
    connection.execute(_PROGRESS, {"turn": turn.id, "updated_at": now})


def _add_steps(connection: Connection, turn: Turn, steps: Sequence[Step]) -> None:
    if steps:
        connection.execute(
            _ADD_STEPS,
            [
                {"turn_id": turn.id, "n": n, "kind": step.kind, "data": dict(step.data)}
                for n, step in enumerate(steps, len(turn.steps))
            ],
        )


def _add_usage(connection: Connection, turn: Turn, model: str, usage: Usage) -> None:
    connection.execute(
        _ADD_USAGE,
        {
            "bot_id": turn.bot_id,
            "client_id": turn.client_id,
            "turn_id": turn.id,
            "model": model[:100],
            "input_tokens": usage.input_tokens,
            "cached_tokens": usage.cached_tokens,
            "output_tokens": usage.output_tokens,
            "reasoning_tokens": usage.reasoning_tokens,
        },
    )


def _part_values(turn: Turn, part: Part, intent_at: datetime | None) -> dict[str, Any]:
    return {
        "id": part.id,
        "turn_id": turn.id,
        "bot_id": turn.bot_id,
        "conversation_id": turn.conversation_id,
        "kind": part.kind,
        "n": part.n,
        "address": part.address,
        "body": part.body,
        "intent_at": intent_at,
        "sid": part.sid,
        "sent_at": intent_at if part.sid else None,
    }


def _update_part(connection: Connection, part: Part, **values: Any) -> None:
    connection.execute(_UPDATE_PART, {"part": part.id, "updated_at": utc_now(), **values})


def _may_apologize(connection: Connection, turn: Turn, now: datetime) -> bool:
    last = connection.scalar(
        select(ConversationRow.apologized_at).where(ConversationRow.id == turn.conversation_id)
    )
    if last is not None and now - last < _APOLOGY_PAUSE:
        return False
    connection.execute(
        update(ConversationRow)
        .where(ConversationRow.id == turn.conversation_id)
        .values(apologized_at=now)
    )
    return True
