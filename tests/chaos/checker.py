"""The promises, checked over a run's record: pure functions, each naming what breaks one.

No more and no less than what is promised: a message that was never acknowledged may be answered or
not, but not twice; order holds between messages of a contact of which one was acknowledged before
the other was sent.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping

from tests.chaos.record import Record, Sent, Turn

TOKEN = re.compile(r"\btk-[0-9a-f]+-\d{6}\b")
NO_TWIML = "no TwiML"
"""A 200 that Twilio would not understand."""
LEAST_ACKNOWLEDGED = 1 / 3
"""Share of the messages; a machine without time to spare still took more than half."""
ENDED = ("replied", "silent", "dead")


def check(record: Record) -> dict[str, list[str]]:
    """What breaks each promise; an empty list where it is kept."""
    return {name: sorted(set(rule(record))) for name, rule in RULES.items()}


def lost(record: Record) -> Iterator[str]:
    """Acknowledged, and in no turn that ended; or the turn replied and the reply is not there."""
    turns = {turn.id: turn for turn in record.turns}
    turn_of = {(taken.bot_id, taken.sid): turns.get(taken.turn_id) for taken in record.taken}
    said = _said(record)
    for message in record.sent:
        if message.acked_at is None:
            continue
        turn = turn_of.get((message.bot_id, message.sid))
        if turn is None:
            yield f"{message.token} ({message.sid}) was acknowledged and is in no turn"
        elif turn.status not in ENDED:
            yield f"{message.token}: its turn {turn.id} is {turn.status}"
        elif turn.status == "replied" and not said[message.token, message.contact]:
            yield f"{message.token}: its turn {turn.id} replied, and {message.contact} got no reply"
    for turn in record.turns:
        if turn.status not in ENDED:
            yield f"turn {turn.id} is {turn.status}"


def answered_twice(record: Record) -> Iterator[str]:
    """In more than one turn, in the reply of more than one turn, or answered to somebody else.

    What a dead turn left unanswered stands in the context of the next one, which may answer it.
    """
    homes = Counter((taken.bot_id, taken.sid) for taken in record.taken)
    for (bot_id, sid), times in homes.items():
        if times > 1:
            yield f"{sid} of {bot_id} is in {times} turns"
    contact_of = {message.token: message.contact for message in record.sent}
    turns_of = defaultdict(set)
    turn_of_sid = {part.sid: part.turn_id for part in record.parts if part.sid}
    given_up = {turn.id for turn in dead(record)}
    for delivered in record.delivered:
        for token in TOKEN.findall(delivered.body):
            turn = turn_of_sid.get(delivered.sid, delivered.sid)
            if turn not in given_up:
                turns_of[token].add(turn)
            if contact_of.get(token, delivered.to) != delivered.to:
                yield f"{token} was answered to {delivered.to}"
    for token, found in turns_of.items():
        if len(found) > 1:
            yield f"{token} was answered by {len(found)} turns: {', '.join(sorted(found))}"


def sent_twice(record: Record) -> Iterator[str]:
    """A part that Twilio took more than once, or a message that no part accounts for."""
    sids = Counter(part.sid for part in record.parts if part.sid)
    for sid, times in sids.items():
        if times > 1:
            yield f"{sid} stands for {times} parts"
    body_of = {part.sid: (part.to, part.body) for part in record.parts if part.sid}
    for delivered in record.delivered:
        if delivered.sid not in body_of:
            yield f"{delivered.sid} to {delivered.to} belongs to no part: {delivered.body[:60]!r}"
        elif body_of[delivered.sid] != (delivered.to, delivered.body):
            yield f"{delivered.sid} to {delivered.to} is not what its part says"
    for (to, body), times in Counter((d.to, d.body) for d in record.delivered).items():
        if times > 1 and TOKEN.search(body):
            yield f"{to} got {times} times: {body[:60]!r}"


def never_sent(record: Record) -> Iterator[str]:
    """Parts of a turn that replied which Twilio does not have."""
    have = {delivered.sid for delivered in record.delivered}
    status = {turn.id: turn.status for turn in record.turns}
    for part in record.parts:
        if status.get(part.turn_id) == "replied" and (part.sid is None or part.sid not in have):
            yield f"part {part.n} of turn {part.turn_id} ({part.sid}) never got to Twilio"


def parts_out_of_order(record: Record) -> Iterator[str]:
    """A contact's messages at Twilio in another order than turns and parts have."""
    ordinal = {turn.id: turn.ordinal for turn in record.turns}
    place = {
        part.sid: (ordinal.get(part.turn_id, 0), part.n, part.kind)
        for part in record.parts
        if part.sid
    }
    last: dict[str, tuple[tuple[int, int, str], str]] = {}
    for delivered in record.delivered:
        here = place.get(delivered.sid)
        if here is None:
            continue
        before = last.get(delivered.to)
        if before is not None and here[:2] < before[0][:2]:
            yield f"{delivered.to}: {delivered.sid} {here} came after {before[1]} {before[0]}"
        last[delivered.to] = (here, delivered.sid)


def messages_out_of_order(record: Record) -> Iterator[str]:
    """A was acknowledged before B was sent, and B was taken up before A."""
    ordinal = {turn.id: turn.ordinal for turn in record.turns}
    place = {
        (taken.bot_id, taken.sid): (ordinal.get(taken.turn_id, 0), taken.position)
        for taken in record.taken
    }
    by_conversation: dict[tuple[str, str], list[Sent]] = defaultdict(list)
    for message in record.sent:
        by_conversation[message.bot_id, message.contact].append(message)
    for messages in by_conversation.values():
        acknowledged = sorted(
            (m for m in messages if m.acked_at is not None and (m.bot_id, m.sid) in place),
            key=lambda m: m.acked_at or 0,
        )
        furthest: Sent | None = None
        waiting = iter(acknowledged)
        following = next(waiting, None)
        for message in sorted(messages, key=lambda m: m.begun_at):
            here = place.get((message.bot_id, message.sid))
            while following is not None and (following.acked_at or 0) < message.begun_at:
                if furthest is None or _place(place, following) > _place(place, furthest):
                    furthest = following
                following = next(waiting, None)
            if here is not None and furthest is not None and here < _place(place, furthest):
                yield f"{message.contact}: {message.token} overtook {furthest.token}"


def repeated_effects(record: Record) -> Iterator[str]:
    """A tool's effect that happened more than once for one message."""
    for effect, times in Counter(record.effects).items():
        if times > 1:
            yield f"{effect.action} of {effect.token} happened {times} times"


def left_over(record: Record) -> Iterator[str]:
    """Leases, mailboxes, schedule or spool entries although nothing is left to do."""
    for key in record.redis_keys:
        yield f"Redis still has {key}"
    for name in record.spool_files:
        yield f"the spool still has {name}"


def wrong_answers(record: Record) -> Iterator[str]:
    """Anything but 200 and 503 from the service; 502 and 504 are the proxy's while web is down."""
    for answer, times in record.answers.items():
        if (answer.isdigit() and answer not in ("200", "502", "503", "504")) or answer == NO_TWIML:
            yield f"{answer}, {times} times"


def hardly_acknowledged(record: Record) -> Iterator[str]:
    """So few that the other rules prove nothing."""
    acknowledged = sum(message.acked_at is not None for message in record.sent)
    if acknowledged == 0 or acknowledged < LEAST_ACKNOWLEDGED * len(record.sent):
        yield f"{acknowledged} of {len(record.sent)} messages were acknowledged"


RULES: Mapping[str, Callable[[Record], Iterator[str]]] = {
    "lost": lost,
    "answered twice": answered_twice,
    "sent twice": sent_twice,
    "never sent": never_sent,
    "parts out of order": parts_out_of_order,
    "messages out of order": messages_out_of_order,
    "repeated effects": repeated_effects,
    "left over": left_over,
    "wrong answers": wrong_answers,
    "hardly acknowledged": hardly_acknowledged,
}


def dead(record: Record) -> list[Turn]:
    """Turns that were given up: allowed, and shown."""
    return [turn for turn in record.turns if turn.status == "dead"]


def _said(record: Record) -> Counter[tuple[str, str]]:
    return Counter(
        (token, delivered.to)
        for delivered in record.delivered
        for token in TOKEN.findall(delivered.body)
    )


def _place(place: Mapping[tuple[str, str], tuple[int, int]], message: Sent) -> tuple[int, int]:
    return place[message.bot_id, message.sid]
