"""The answer of a turn: who may be answered, what is said, and that it goes out."""

from __future__ import annotations

from collections.abc import Sequence
from secrets import token_hex
from threading import Event as Signal

import structlog

from service.conversation.bot import Bot
from service.conversation.context import turn_texts
from service.conversation.converse import Converser, Reply, tool_notes
from service.conversation.delivery import Delivery
from service.conversation.journal import Journal
from service.conversation.observer import Stopwatch
from service.conversation.policy import Consent, consent
from service.conversation.ports import Background, Crm, Messenger, VendorError
from service.conversation.reply import split_reply
from service.conversation.trial import is_trial
from service.conversation.turn import Outcome, Part, PartKind, Step, Text, Turn

_log = structlog.get_logger(__name__)

_TYPING_AFTER_S = 1.0
"""A quick answer needs no indicator, and one that came after it would stay for 25 s."""


class Answerer:
    """Takes an open turn to *replied* or *silent*. Any number of threads may use one."""

    def __init__(
        self,
        *,
        journal: Journal,
        converser: Converser,
        delivery: Delivery,
        messenger: Messenger,
        crm: Crm,
        in_background: Background,
    ) -> None:
        self._journal = journal
        self._converser = converser
        self._delivery = delivery
        self._messenger = messenger
        self._crm = crm
        self._in_background = in_background

    def answer(self, turn: Turn, bot: Bot, before: Sequence[Text], watch: Stopwatch) -> Outcome:
        """Go on where the journal ends. `before` is what was said before this turn.

        Raises NotYetError, UndeliverableError, TransientError, PermanentError, OutageError,
        FencedError.
        """
        said = turn.step("reply")
        if said is None:
            wish = consent(turn.events, bot.texts, turn.contact.opted_out)
            if not wish.talk:
                reply = _confirmation(bot, wish)
                opted_out = wish.opted_out if wish.changed else None
            elif bot.paused:
                return self._silent(turn, "paused", wish)
            elif self._is_human(bot, turn):
                return self._silent(turn, "handoff", wish)
            else:
                answered = Signal()
                self._show_typing(turn, bot, answered)
                try:
                    reply = self._converser.reply(turn, bot, before, watch)
                finally:
                    answered.set()
                opted_out = False if turn.contact.opted_out else None
                if self._is_human(bot, turn):
                    self._journal.save(turn, steps=reply.unsaved, usage=reply.usage)
                    return self._silent(turn, "handoff", wish)
            if reply is None:
                return self._silent(turn, "opted_out" if wish.opted_out else "opted_in", wish)
            said = Step(
                "reply", {"text": reply.text, "reason": reply.reason, "opted_out": opted_out}
            )
            parts = _parts(turn, reply.text)
            self._journal.save(
                turn,
                steps=[*reply.unsaved, said],
                usage=reply.usage,
                new_parts=parts,
                intend=parts[0],
            )
            last = self._delivery.deliver(turn, bot, "reply", watch, fresh=parts[0])
        elif (stopped := self._stopped_since(turn, bot, said)) is not None:
            return stopped
        else:
            last = self._delivery.deliver(turn, bot, "reply", watch)
        outcome = Outcome(
            "replied",
            said.data["reason"],
            texts=turn_texts(turn, tool_notes(turn), said.data["text"]),
            opted_out=said.data["opted_out"],
        )
        with watch.stage("finish"):
            self._journal.finish(turn, outcome, sent=last)
        return outcome

    def _stopped_since(self, turn: Turn, bot: Bot, said: Step) -> Outcome | None:
        """Whether the contact or a person has silenced the bot while the reply waited to be sent."""
        wish = Consent(turn.contact.opted_out, changed=False, talk=False)
        if turn.contact.opted_out and not said.data["opted_out"]:
            return self._silent(turn, "opted_out", wish)
        begun = any(part.sid or part.intent_at for part in turn.parts_of("reply"))
        if said.data["opted_out"] is None and not begun:
            if bot.paused:
                return self._silent(turn, "paused", wish)
            if self._is_human(bot, turn):
                return self._silent(turn, "handoff", wish)
        return None

    def _silent(self, turn: Turn, reason: str, wish: Consent) -> Outcome:
        outcome = Outcome(
            "silent",
            reason,
            texts=turn_texts(turn, tool_notes(turn), None),
            opted_out=wish.opted_out if wish.changed else None,
        )
        self._journal.finish(turn, outcome)
        return outcome

    def _is_human(self, bot: Bot, turn: Turn) -> bool:
        if bot.handoff.source != "horizon" or is_trial(turn.contact.address):
            return False
        try:
            return self._crm.control_mode(bot, turn.contact.number) == "human"
        except VendorError as error:
            _log.warning("control_status_unavailable", code=error.code)
            return bot.handoff.on_failure == "silent"

    def _show_typing(self, turn: Turn, bot: Bot, answered: Signal) -> None:
        def show() -> None:
            if answered.is_set():
                return
            try:
                self._messenger.show_typing(bot, turn.events[-1].id)
            except VendorError as error:
                _log.debug("typing_not_shown", code=error.code)

        if not turn.resumed and not is_trial(turn.contact.address):
            self._in_background(show, _TYPING_AFTER_S)


def _confirmation(bot: Bot, wish: Consent) -> Reply | None:
    if not wish.changed:
        return None
    if wish.opted_out:
        return Reply(bot.texts.opt_out_confirmation, "opt_out")
    return Reply(bot.texts.opt_in_confirmation, "opt_in")


def _parts(turn: Turn, text: str) -> list[Part]:
    return [new_part(turn, "reply", n, body) for n, body in enumerate(split_reply(text))]


def new_part(turn: Turn, kind: PartKind, n: int, body: str) -> Part:
    """A part that is not journaled yet."""
    return Part("pt_" + token_hex(12), kind, n, turn.contact.address, body)
