"""How a claim becomes an open turn: fence raised, events frozen, all in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, insert, select, update

from service.conversation.clock import utc_now
from service.conversation.describe import describe
from service.conversation.event import Event, turn_id
from service.conversation.mailbox import Claim
from service.conversation.turn import ContactState, Opening, Part, Step, Turn
from service.store.models import (
    BotRow,
    ContactRow,
    ConversationRow,
    MessageRow,
    PartRow,
    StepRow,
    TurnRow,
    table,
)

_conversations, _contacts, _turns = table(ConversationRow), table(ContactRow), table(TurnRow)
_messages, _parts, _steps = table(MessageRow), table(PartRow), table(StepRow)
_bots = table(BotRow)

# Columns without a value here are set to the parameters of their name.
_RAISE_FENCE = (
    _conversations.update()
    .where(_conversations.c.id == bindparam("conversation"))
    .values(fence=_conversations.c.fence + 1)
    .returning(_conversations.c.fence, _conversations.c.last_ordinal, _conversations.c.contact_id)
)
_UPDATE_CONVERSATION = _conversations.update().where(
    _conversations.c.id == bindparam("conversation")
)
_ADD_CONVERSATION = _conversations.insert()
_ADD_CONTACT = _contacts.insert()
_UPDATE_CONTACT = (
    _contacts.update()
    .where(_contacts.c.id == bindparam("contact"))
    .returning(_contacts.c.address, _contacts.c.profile_name, _contacts.c.opted_out_at)
)
_REVISION = select(_bots.c.revision).where(
    _bots.c.id == bindparam("bot"), _bots.c.deleted_at.is_(None)
)
_KNOWN_SIDS = select(_messages.c.sid).where(
    _messages.c.bot_id == bindparam("bot"), _messages.c.sid.in_(bindparam("sids", expanding=True))
)
_LATEST_TURN = (
    select(_turns)
    .where(_turns.c.conversation_id == bindparam("conversation"))
    .order_by(_turns.c.ordinal.desc())
    .limit(1)
)
_ADD_TURN = _turns.insert()
_UPDATE_TURN = _turns.update().where(_turns.c.id == bindparam("turn"))
_ADD_MESSAGES = _messages.insert()
_EVENTS_OF = (
    select(_messages.c.sid, _messages.c.payload)
    .where(_messages.c.turn_id == bindparam("turn"), _messages.c.direction == "in")
    .order_by(_messages.c.id)
)
_STEPS_OF = (
    select(_steps.c.kind, _steps.c.data)
    .where(_steps.c.turn_id == bindparam("turn"))
    .order_by(_steps.c.n)
)
_PARTS_OF = (
    select(_parts).where(_parts.c.turn_id == bindparam("turn")).order_by(_parts.c.kind, _parts.c.n)
)


def open_turn(connection: Connection, claim: Claim) -> Opening:
    """Take up the conversation's open turn, or begin one with the claim's first new events.

    The caller's transaction is committed only as a whole, so either the events belong to the turn
    and the fence is ours, or nothing happened.
    """
    messages = [event for event in claim.events if event.kind == "message"]
    contact = _conversation(connection, claim, messages)
    if contact is None:
        return Opening(None, claim.events, None)
    fence, last_ordinal, state = contact
    revision = connection.scalar(_REVISION, {"bot": claim.bot_id})
    known = _known_sids(connection, claim.bot_id, messages)
    latest = connection.execute(_LATEST_TURN, {"conversation": claim.conversation_id}).one_or_none()
    if latest is not None and latest.status == "running":
        done = [event for event in claim.events if _is_done(connection, event, known)]
        return Opening(_resume(connection, claim, latest, fence, state), done, revision)

    handled: list[Event] = []
    fresh: list[Event] = []
    for event in claim.events:
        if _is_done(connection, event, known):
            handled.append(event)
        elif event.kind == "message":
            fresh.append(event)
        elif fresh:
            break
        else:
            handled.append(event)
            dead = _dead_turn(connection, claim, event)
            if dead is not None:
                turn = _reopen(connection, claim, dead, event, last_ordinal + 1, fence, state)
                return Opening(turn, handled, revision)
    if not fresh:
        return Opening(None, handled, revision)
    turn = _begin(connection, claim, fresh, last_ordinal + 1, fence, state)
    return Opening(turn, [*handled, *fresh], revision)


def _conversation(
    connection: Connection, claim: Claim, messages: Sequence[Event]
) -> tuple[int, int, ContactState] | None:
    """Raise the fence; make the conversation and its contact when they are new."""
    now = utc_now()
    row = connection.execute(
        _RAISE_FENCE, {"conversation": claim.conversation_id, "updated_at": now}
    ).one_or_none()
    latest = messages[-1].fields if messages else {}
    seen = {
        "address": latest.get("From"),
        "external_user_id": latest.get("ExternalUserId"),
        "profile_name": latest.get("ProfileName", "")[:300],
    }
    seen = {name: value for name, value in seen.items() if value}
    if row is None:
        if not messages:
            return None
        contact_id = "ct_" + claim.conversation_id.removeprefix("cv_")
        first = messages[0].fields
        connection.execute(
            _ADD_CONTACT,
            {
                "id": contact_id,
                "bot_id": claim.bot_id,
                "client_id": claim.client_id,
                "identity": first.get("ExternalUserId") or first["From"],
                **seen,
            },
        )
        connection.execute(
            _ADD_CONVERSATION,
            {
                "id": claim.conversation_id,
                "contact_id": contact_id,
                "bot_id": claim.bot_id,
                "client_id": claim.client_id,
                "number": claim.number,
                "fence": 1,
            },
        )
        return 1, 0, ContactState(contact_id, first["From"], seen.get("profile_name"), False)
    contact = connection.execute(
        _UPDATE_CONTACT, {"contact": row.contact_id, "updated_at": now, **seen}
    ).one()
    state = ContactState(
        row.contact_id, contact.address, contact.profile_name, contact.opted_out_at is not None
    )
    return row.fence, row.last_ordinal, state


def _known_sids(connection: Connection, bot_id: str, messages: Sequence[Event]) -> set[str]:
    if not messages:
        return set()
    return set(
        connection.scalars(_KNOWN_SIDS, {"bot": bot_id, "sids": [event.id for event in messages]})
    )


def _is_done(connection: Connection, event: Event, known: set[str]) -> bool:
    if event.kind == "unreadable":
        return True
    if event.kind == "message":
        return event.id in known
    steps = connection.scalars(
        select(StepRow.data).where(
            StepRow.turn_id == event.fields.get("turn"), StepRow.kind == "retry"
        )
    )
    return any(data.get("event") == event.id for data in steps)


def _dead_turn(connection: Connection, claim: Claim, event: Event) -> Row[Any] | None:
    return connection.execute(
        select(TurnRow).where(
            TurnRow.id == event.fields.get("turn"),
            TurnRow.conversation_id == claim.conversation_id,
            TurnRow.status == "dead",
        )
    ).one_or_none()


def _begin(
    connection: Connection,
    claim: Claim,
    events: Sequence[Event],
    ordinal: int,
    fence: int,
    contact: ContactState,
) -> Turn:
    turn = Turn(
        id=turn_id(claim.conversation_id, events[0].id),
        conversation_id=claim.conversation_id,
        bot_id=claim.bot_id,
        client_id=claim.client_id,
        ordinal=ordinal,
        fence=fence,
        contact=contact,
        events=events,
    )
    connection.execute(
        _ADD_TURN,
        {
            "id": turn.id,
            "conversation_id": turn.conversation_id,
            "bot_id": turn.bot_id,
            "client_id": turn.client_id,
            "ordinal": ordinal,
        },
    )
    connection.execute(
        _ADD_MESSAGES,
        [
            {
                "bot_id": claim.bot_id,
                "conversation_id": claim.conversation_id,
                "turn_id": turn.id,
                "direction": "in",
                "sid": event.id,
                "text": describe(event),
                "payload": {"at_ms": event.at_ms, "fields": dict(event.fields)},
            }
            for event in events
        ],
    )
    _take_ordinal(connection, claim.conversation_id, ordinal)
    return turn


def _resume(
    connection: Connection, claim: Claim, row: Row[Any], fence: int, contact: ContactState
) -> Turn:
    crashes = row.crashes
    if row.progress != row.progress_seen:
        crashes = 0
    elif not claim.excused:
        crashes += 1
    connection.execute(
        _UPDATE_TURN,
        {
            "turn": row.id,
            "crashes": crashes,
            "progress_seen": row.progress,
            "updated_at": utc_now(),
        },
    )
    turn = _load(connection, row, fence, contact)
    turn.crashes = crashes
    turn.resumed = True
    return turn


def _reopen(
    connection: Connection,
    claim: Claim,
    row: Row[Any],
    command: Event,
    ordinal: int,
    fence: int,
    contact: ContactState,
) -> Turn:
    turn = _load(connection, row, fence, contact)
    turn.ordinal, turn.tries, turn.retry_s = ordinal, 0, 0.0
    turn.resumed = True
    connection.execute(
        update(TurnRow)
        .where(TurnRow.id == row.id)
        .values(
            status="running",
            reason=None,
            error=None,
            finished_at=None,
            ordinal=ordinal,
            tries=0,
            crashes=0,
            retry_s=0.0,
            runs=TurnRow.runs + 1,
            progress=TurnRow.progress + 1,
            updated_at=utc_now(),
        )
    )
    step = Step("retry", {"event": command.id})
    connection.execute(
        insert(StepRow).values(turn_id=row.id, n=len(turn.steps), kind=step.kind, data=step.data)
    )
    turn.steps.append(step)
    # The turn's notes are added again when it ends.
    connection.execute(
        delete(MessageRow).where(MessageRow.turn_id == row.id, MessageRow.direction != "in")
    )
    # A part that was refused for good was certainly not sent: it may be tried again.
    connection.execute(
        update(PartRow)
        .where(PartRow.turn_id == row.id, PartRow.sid.is_(None), PartRow.error_code.is_not(None))
        .values(intent_at=None, error_code=None)
    )
    for part in turn.parts:
        if part.sid is None and part.error_code is not None:
            part.intent_at = part.error_code = None
    _take_ordinal(connection, claim.conversation_id, ordinal)
    return turn


def _take_ordinal(connection: Connection, conversation_id: str, ordinal: int) -> None:
    connection.execute(
        _UPDATE_CONVERSATION, {"conversation": conversation_id, "last_ordinal": ordinal}
    )


def _load(connection: Connection, row: Row[Any], fence: int, contact: ContactState) -> Turn:
    events = [
        Event(
            id=message.sid,
            kind="message",
            bot_id=row.bot_id,
            at_ms=message.payload["at_ms"],
            fields=message.payload["fields"],
        )
        for message in connection.execute(_EVENTS_OF, {"turn": row.id})
    ]
    steps = [Step(step.kind, step.data) for step in connection.execute(_STEPS_OF, {"turn": row.id})]
    parts = [part_of(part) for part in connection.execute(_PARTS_OF, {"turn": row.id})]
    return Turn(
        id=row.id,
        conversation_id=row.conversation_id,
        bot_id=row.bot_id,
        client_id=row.client_id,
        ordinal=row.ordinal,
        fence=fence,
        contact=contact,
        events=events,
        steps=steps,
        parts=parts,
        tries=row.tries,
        crashes=row.crashes,
        retry_s=row.retry_s,
    )


def part_of(row: Row[Any]) -> Part:
    """A row of `parts` as the core knows it."""
    return Part(
        id=row.id,
        kind=row.kind,
        n=row.n,
        address=row.address,
        body=row.body,
        intent_at=row.intent_at,
        sid=row.sid,
        callback_sid=row.callback_sid,
        error_code=row.error_code,
    )
