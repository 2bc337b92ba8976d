"""After a restore: what the backup still holds as unanswered is compared with the messenger's lists.

Between the backup and the loss of the data, the service went on answering. Its journal of that time
is gone, the messenger's memory is not. Nothing is claimed meanwhile, so each conversation is settled
from here: answered messages are closed with the answer that went out, messages that are too old to
answer become a dead turn, the rest is left to the workers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Literal, Protocol

import structlog

from service.conversation.answer import new_part
from service.conversation.bot import Bot
from service.conversation.clock import utc_now
from service.conversation.context import turn_texts
from service.conversation.converse import tool_notes
from service.conversation.event import Event
from service.conversation.journal import FencedError, Journal
from service.conversation.mailbox import Claim
from service.conversation.policy import consent
from service.conversation.ports import History, PermanentError, SentMessage, VendorError
from service.conversation.reply import continues
from service.conversation.runner import Bots
from service.conversation.turn import Outcome, PartKind, Step, Turn

_log = structlog.get_logger(__name__)

REASON = "restored"
"""How a turn is marked that was ended here and not by the one who ran it."""
CLOCK_TOLERANCE = timedelta(seconds=3)
_MAX_TURN_EVENTS = 100

Verdict = Literal["answered", "dead", "left"]


class HeldMailbox(Protocol):
    """The mailbox while nothing is claimed. Raises OutageError."""

    def take(self, conversation: str) -> Claim | None:
        """Lease this very conversation with all its events; None: it is idle."""

    def acknowledge(self, claim: Claim, handled: Sequence[Event], session: bytes = b"") -> bool: ...

    def release(self, claim: Claim, delay_s: float = 0) -> bool: ...


class KnownMessages(Protocol):
    """What SQL has of the messages. Raises OutageError."""

    def known(self, bot_id: str, sids: Sequence[str]) -> set[str]:
        """Those of the contacts' messages that belong to a turn."""


@dataclass(slots=True)
class Settled:
    """What became of a conversation's pending messages; `code` tells why it could not be settled."""

    trimmed: int = 0
    answered: int = 0
    dead: int = 0
    left: int = 0
    code: str | None = None

    def add(self, verdict: Verdict, messages: int) -> None:
        setattr(self, verdict, getattr(self, verdict) + messages)


@dataclass
class _Sent:
    """Messages that went out and that no turn of the restored database knows, oldest first."""

    messages: list[SentMessage] = field(default_factory=list)

    def take_body(self, body: str, since: datetime) -> SentMessage | None:
        """The first with this text, which is then gone from the list."""
        for message in self.messages:
            if message.created_at >= since and message.body.strip() == body.strip():
                self.messages.remove(message)
                return message
        return None

    def take_reply(self, since: datetime) -> list[SentMessage]:
        """The parts of the first reply, which are then gone from the list."""
        reply: list[SentMessage] = []
        for message in self.messages:
            if message.created_at < since:
                continue
            if reply and not continues(reply[-1].body, message.body):
                break
            reply.append(message)
        self.messages = [message for message in self.messages if message not in reply]
        return reply


class Restoration:
    """Settles one conversation at a time. `max_age` is how old a message may be and be answered."""

    def __init__(
        self,
        *,
        mailbox: HeldMailbox,
        journal: Journal,
        known: KnownMessages,
        bots: Bots,
        history: History,
        max_age: timedelta,
    ) -> None:
        self._mailbox = mailbox
        self._journal = journal
        self._known = known
        self._bots = bots
        self._history = history
        self._max_age = max_age

    def settle(self, conversation: str) -> Settled:
        """Settle its open turn and its mail. Doing it again changes nothing. Raises OutageError."""
        done = Settled()
        claim = self._mailbox.take(conversation)
        if claim is None:
            return done
        handled: list[Event] = []
        try:
            left = self._settle(claim, done, handled)
        except (VendorError, FencedError) as error:
            done.code = error.code if isinstance(error, VendorError) else "fenced"
            _log.warning("not_settled", conversation_id=conversation, code=done.code)
            left = True
        if left and not handled:
            self._mailbox.release(claim)
        else:
            self._mailbox.acknowledge(claim, handled)
        return done

    def _settle(self, claim: Claim, done: Settled, handled: list[Event]) -> bool:
        """Whether something is left. `handled` gets what the mailbox need not keep."""
        messages = [event for event in claim.events if event.kind == "message"]
        known = self._known.known(claim.bot_id, [event.id for event in messages])
        trimmed = [e for e in claim.events if e.kind == "unreadable" or e.id in known]
        fresh = [event for event in claim.events if event not in trimmed]
        bot = self._bots.by_id(claim.bot_id, claim.number)
        if bot is None:
            # The worker closes them in silence.
            done.left += len(fresh)
            return True
        turn = self._journal.open(replace(claim, events=trimmed)).turn
        sent = _Sent()
        refused: PermanentError | None = None
        if turn is not None or fresh:
            try:
                sent = self._unknown(bot, turn, fresh)
            except PermanentError as error:
                # It will refuse what the worker sends too; a person can retry the dead turn.
                refused = error
        if turn is not None:
            verdict = self._settle_turn(turn, bot, sent, turn.events[-1].at_ms, refused)
            done.add(verdict, len(turn.events))
            if verdict == "left":
                # The open turn first: what lies behind it cannot have been answered.
                done.left += len(fresh)
                return True
            trimmed_of_turn = {event.id for event in turn.events}
            done.trimmed += sum(event.id not in trimmed_of_turn for event in trimmed)
        else:
            done.trimmed += len(trimmed)
        handled += trimmed
        return self._settle_fresh(claim, bot, fresh, sent, refused, done, handled)

    def _settle_fresh(
        self,
        claim: Claim,
        bot: Bot,
        fresh: Sequence[Event],
        sent: _Sent,
        refused: PermanentError | None,
        done: Settled,
        handled: list[Event],
    ) -> bool:
        seen = 0
        for group in _groups(fresh):
            seen += len(group)
            waits: Sequence[Event] = ()
            reply: list[SentMessage] = []
            if group[0].kind == "message":
                # What no turn had at the backup was in the mailbox, and is answered as a whole.
                reply = sent.take_reply(_moment(group[-1].at_ms))
                if not reply and refused is None:
                    waits = [event for event in group if not self._is_old(event.at_ms)]
            ended = [event for event in group if event not in waits]
            if ended:
                opening = self._journal.open(replace(claim, events=ended))
                if opening.turn is not None:
                    if reply:
                        verdict = self._close(opening.turn, bot, reply)
                    else:
                        at_ms = ended[-1].at_ms
                        verdict = self._settle_turn(opening.turn, bot, sent, at_ms, refused)
                    done.add(verdict, len(ended))
                    if verdict == "left":
                        done.left += len(fresh) - seen
                        handled.clear()
                        return True
                else:
                    done.trimmed += len(ended)
                handled += opening.handled
            if waits:
                done.left += len(waits) + len(fresh) - seen
                return True
        return False

    def _unknown(self, bot: Bot, turn: Turn | None, fresh: Sequence[Event]) -> _Sent:
        events = [*(turn.events if turn else ()), *fresh]
        addresses = {event.fields["From"] for event in events if event.fields.get("From")}
        if turn is not None:
            addresses.add(turn.contact.address)
        since = _moment(min(event.at_ms for event in events))
        found = [
            message
            for address in sorted(addresses)
            for message in self._history.sent_to(bot, address, since)
        ]
        used = self._journal.used_sids([message.sid for message in found])
        found.sort(key=lambda message: message.created_at)
        return _Sent([message for message in found if message.sid not in used])

    def _settle_turn(
        self, turn: Turn, bot: Bot, sent: _Sent, at_ms: int, refused: PermanentError | None
    ) -> Verdict:
        """An open turn: its journal tells what it was about to send. `at_ms`: when it was asked for."""
        since = _moment(at_ms)
        for part in turn.parts:
            if part.sid is None and part.error_code is None:
                found = sent.take_body(part.body, since)
                if found is not None:
                    part.sid = found.sid
                    self._journal.save(turn, sent=part)
        said, dying = turn.step("reply"), turn.step("dying")
        replied = turn.parts_of("reply")
        if dying is not None:
            if not any(part.sid for part in turn.parts_of("apology")) and not self._is_old(at_ms):
                return "left"
            self._bury(turn, dying)
            return "dead"
        if said is not None and replied and all(part.sid for part in replied):
            self._finish(turn, said)
            return "answered"
        if said is None and (reply := sent.take_reply(since)):
            return self._close(turn, bot, reply)
        if refused is not None:
            self._die(turn, f"the messenger's list cannot be read: {refused}")
            return "dead"
        if self._is_old(at_ms):
            self._die(turn, "it was too old to be answered when the backup was restored")
            return "dead"
        return "left"

    def _close(self, turn: Turn, bot: Bot, sent: Sequence[SentMessage]) -> Verdict:
        """Enter what went out, in one step with the reply: no worker can send it again."""
        text = "\n\n".join(message.body.strip() for message in sent)
        apologized = text == bot.texts.apology.strip()
        kind: PartKind = "apology" if apologized else "reply"
        parts = []
        for n, message in enumerate(sent, len(turn.parts_of(kind))):
            part = new_part(turn, kind, n, message.body)
            part.sid, part.intent_at = message.sid, message.created_at
            parts.append(part)
        if apologized:
            self._journal.save(turn, new_parts=parts)
            self._die(turn, "it failed after the backup: an apology went out")
            return "dead"
        wish = consent(turn.events, bot.texts, turn.contact.opted_out)
        opted_out: bool | None = None
        if wish.changed:
            opted_out = wish.opted_out
        elif wish.talk and turn.contact.opted_out:
            opted_out = False
        said = Step("reply", {"text": text, "reason": REASON, "opted_out": opted_out})
        self._journal.save(turn, steps=[said], new_parts=parts)
        self._finish(turn, said)
        return "answered"

    def _finish(self, turn: Turn, said: Step) -> None:
        texts = turn_texts(turn, tool_notes(turn), said.data["text"])
        self._journal.finish(
            turn,
            Outcome("replied", said.data["reason"], texts=texts, opted_out=said.data["opted_out"]),
        )

    def _die(self, turn: Turn, error: str) -> None:
        """Without an apology: it would come long after, or beside another answer."""
        self._bury(turn, self._journal.die(turn, REASON, error, None))

    def _bury(self, turn: Turn, cause: Step) -> None:
        said = turn.step("reply")
        texts = turn_texts(turn, tool_notes(turn), None)
        opted_out = said.data["opted_out"] if said is not None else None
        self._journal.finish(
            turn,
            Outcome("dead", cause.data["reason"], cause.data["error"], texts, opted_out=opted_out),
        )

    def _is_old(self, at_ms: int) -> bool:
        return utc_now() - datetime.fromtimestamp(at_ms / 1000, UTC) > self._max_age


def _groups(events: Sequence[Event]) -> Iterator[list[Event]]:
    """As a claim would take them: messages together, a command alone."""
    group: list[Event] = []
    for event in events:
        if group and (event.kind != "message" or len(group) == _MAX_TURN_EVENTS):
            yield group
            group = []
        group.append(event)
        if event.kind != "message":
            yield group
            group = []
    if group:
        yield group


def _moment(at_ms: int) -> datetime:
    """What was sent in answer to an event of this time is not older."""
    at = datetime.fromtimestamp(at_ms / 1000, UTC).replace(microsecond=0)
    return at - CLOCK_TOLERANCE
