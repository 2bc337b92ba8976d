"""A claimed conversation from its mail to its end: replied, silent, dead, or handed back for later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any, Protocol

import structlog

from service.conversation.answer import Answerer, new_part
from service.conversation.bot import Bot
from service.conversation.clock import utc_now
from service.conversation.context import (
    decode_session,
    encode_session,
    newest,
    turn_texts,
)
from service.conversation.converse import tool_notes
from service.conversation.delivery import Delivery, NotYetError, UndeliverableError
from service.conversation.journal import FencedError, Journal
from service.conversation.mailbox import Claim, Mailbox
from service.conversation.observer import Observer, Stopwatch
from service.conversation.outage import OutageError
from service.conversation.policy import TurnLimits, retry_delay_s
from service.conversation.ports import Background, Crm, PermanentError, TransientError, VendorError
from service.conversation.trial import Uncounted, is_trial
from service.conversation.turn import Opening, Outcome, Part, Step, Text, Turn

_log = structlog.get_logger(__name__)

_OUTAGE_PAUSE_S = 1.0
_FAULT_PAUSE_S = 30.0
_UNCOUNTED = Uncounted()


class Bots(Protocol):
    """Where bots come from."""

    def by_id(self, bot_id: str, number: str) -> Bot | None:
        """The bot, which had this number when it took the message. Raises OutageError."""

    def reload_if_stale(self, bot: Bot, sql_revision: int | None) -> Bot | None:
        """The bot as its source has it, None when it was deleted. Raises OutageError."""


@dataclass(frozen=True, slots=True)
class _Setback:
    """Why a turn cannot go on now. `error` may quote a vendor, so only `code` is logged."""

    code: str
    error: str
    at_least_s: float
    counts: bool = True
    sending: bool = False


class TurnRunner:
    """Runs one claim at a time in the caller's thread; any number of threads may use one runner."""

    def __init__(
        self,
        *,
        mailbox: Mailbox,
        journal: Journal,
        bots: Bots,
        answerer: Answerer,
        delivery: Delivery,
        crm: Crm,
        observer: Observer,
        limits: TurnLimits,
        lease_s: float,
        in_background: Background,
    ) -> None:
        self._mailbox = mailbox
        self._journal = journal
        self._bots = bots
        self._answerer = answerer
        self._delivery = delivery
        self._crm = crm
        self._observer = observer
        self._limits = limits
        self._lease_s = lease_s
        self._in_background = in_background

    def run(self, claim: Claim) -> None:
        """Never raises: whatever happens, the conversation is handed back or its lease runs out."""
        with structlog.contextvars.bound_contextvars(
            conversation_id=claim.conversation_id, bot_id=claim.bot_id
        ):
            try:
                self._run(claim)
            except FencedError as error:
                _log.warning("fenced_off", reason=str(error))
            except OutageError as error:
                _log.warning("outage", reason=str(error))
                self._release(claim, _OUTAGE_PAUSE_S)
            except Exception:
                # A fault of ours before the turn was open: there is no row to count it in.
                _log.exception("claim_failed")
                self._release(claim, _FAULT_PAUSE_S)

    def _run(self, claim: Claim) -> None:
        observer: Observer = self._observer
        if any(is_trial(event.fields.get("From", "")) for event in claim.events):
            observer = _UNCOUNTED
        watch = Stopwatch(observer)
        if claim.events:
            waited = utc_now().timestamp() - claim.events[-1].at_ms / 1000
            observer.observe("wait", max(0.0, waited))
        bot = self._bots.by_id(claim.bot_id, claim.number)
        if monotonic() - claim.claimed_at > self._lease_s:
            raise FencedError("the lease ran out before the turn was opened")
        with watch.stage("open"):
            opening = self._journal.open(claim)
        turn = opening.turn
        if turn is None:
            self._mailbox.acknowledge(claim, opening.handled)
            return
        if bot is not None:
            bot = self._bots.reload_if_stale(bot, opening.bot_revision)
        if is_trial(turn.contact.address):
            watch = Stopwatch(_UNCOUNTED)
        with structlog.contextvars.bound_contextvars(turn_id=turn.id):
            try:
                self._run_turn(claim, opening, turn, bot, watch)
            except (FencedError, OutageError):
                raise
            except Exception:
                # Even the turn's end has failed. It must not hold up what comes after it.
                _log.exception("turn_end_failed")
                self._journal.finish(turn, Outcome("dead", "internal", "its end failed"))
                self._end(claim, opening, turn, None, None)

    def _run_turn(
        self, claim: Claim, opening: Opening, turn: Turn, bot: Bot | None, watch: Stopwatch
    ) -> None:
        before: Sequence[Text] | None = None
        try:
            if bot is None:
                outcome = Outcome("silent", "bot_deleted", texts=turn_texts(turn, (), None))
                self._journal.finish(turn, outcome)
            elif (cause := turn.step("dying")) is not None:
                outcome = self._bury(turn, bot, cause, watch)
            elif turn.crashes >= self._limits.max_crashes:
                outcome = self._die(turn, bot, "crashes", "the turn crashed too often", watch)
            else:
                before = self._context(claim, turn)
                outcome = self._answerer.answer(turn, bot, before, watch)
        except NotYetError as error:
            setback = _Setback(error.code, str(error), error.delay_s, error.counts, sending=True)
            ended = self._try_later(claim, turn, bot, setback, watch)
        except TransientError as error:
            setback = _Setback(error.code, str(error), error.retry_after_s or 0)
            ended = self._try_later(claim, turn, bot, setback, watch)
        except UndeliverableError as error:
            ended = self._die(turn, None, error.code, str(error), watch)
        except PermanentError as error:
            ended = self._die(turn, bot, error.code, str(error), watch)
        except (FencedError, OutageError):
            raise
        except Exception as error:
            _log.exception("turn_failed")
            setback = _Setback("internal", f"internal: {type(error).__name__}", 0)
            ended = self._try_later(claim, turn, bot, setback, watch)
        else:
            ended = outcome
        if ended is None:
            return
        self._end(claim, opening, turn, ended, before)
        watch.stop()
        self._observer_of(turn).turn_ended(ended)
        _log.info(
            "turn_ended",
            status=ended.status,
            reason=ended.reason,
            events=len(turn.events),
            parts=len(turn.parts),
        )
        self._report(turn, bot, ended)

    def _observer_of(self, turn: Turn) -> Observer:
        return _UNCOUNTED if is_trial(turn.contact.address) else self._observer

    def _try_later(
        self, claim: Claim, turn: Turn, bot: Bot | None, setback: _Setback, watch: Stopwatch
    ) -> Outcome | None:
        """Hand the conversation back for another try; when there is none left, the turn dies."""
        delay_s: float | None = setback.at_least_s
        if setback.counts:
            took_s = watch.elapsed_s
            delay_s = retry_delay_s(
                self._limits, turn.tries + 1, turn.retry_s + took_s, setback.at_least_s
            )
            self._journal.record_failure(turn, setback.error, delay_s, took_s)
        if delay_s is None:
            # What could not be sent is not apologized for: the apology would go the same way.
            return self._die(turn, None if setback.sending else bot, "tries", setback.error, watch)
        _log.info("turn_retried", code=setback.code, tries=turn.tries, delay_s=round(delay_s, 2))
        self._observer_of(turn).turn_retried("send" if setback.sending else "vendor")
        self._release(claim, delay_s)
        return None

    def _die(
        self, turn: Turn, bot: Bot | None, reason: str, error: str, watch: Stopwatch
    ) -> Outcome:
        """`bot` is None when an apology would not get through either."""
        apology: Part | None = None
        begun = any(part.sid for part in turn.parts_of("reply"))
        if bot is not None and not begun and not turn.contact.opted_out:
            apology = new_part(turn, "apology", len(turn.parts_of("apology")), bot.texts.apology)
        cause = self._journal.die(turn, reason, error, apology)
        return self._bury(turn, bot, cause, watch)

    def _bury(self, turn: Turn, bot: Bot | None, cause: Step, watch: Stopwatch) -> Outcome:
        """Send the apology, once and without a second try, and close the turn as dead."""
        texts = turn_texts(turn, tool_notes(turn), None)
        last: Part | None = None
        unsent = [part for part in turn.parts_of("apology") if part.intent_at is None]
        if bot is not None and unsent:
            try:
                last = self._delivery.deliver(turn, bot, "apology", watch)
            except (NotYetError, UndeliverableError) as error:
                _log.warning("apology_not_sent", code=error.code)
        said = turn.step("reply")
        outcome = Outcome(
            "dead",
            cause.data["reason"],
            cause.data["error"],
            texts,
            # Whoever opted out has done so, whether or not the confirmation got through.
            opted_out=said.data["opted_out"] if said is not None else None,
        )
        self._journal.finish(turn, outcome, sent=last)
        _log.error("turn_dead", reason=outcome.reason)
        return outcome

    def _end(
        self,
        claim: Claim,
        opening: Opening,
        turn: Turn,
        outcome: Outcome | None,
        before: Sequence[Text] | None,
    ) -> None:
        session = b""
        if before is not None and outcome is not None:
            texts = newest([*before, *outcome.texts], self._limits)
            session = encode_session(turn.ordinal, texts)
        try:
            kept = self._mailbox.acknowledge(claim, opening.handled, session)
        except OutageError as error:
            # The turn is finished in SQL: the next claim only removes its events.
            _log.warning("acknowledge_failed", reason=str(error))
            return
        if not kept:
            _log.warning("lease_lost_at_the_end")

    def _release(self, claim: Claim, delay_s: float) -> None:
        try:
            self._mailbox.release(claim, delay_s)
        except OutageError as error:
            _log.warning("release_failed", reason=str(error))

    def _context(self, claim: Claim, turn: Turn) -> Sequence[Text]:
        if not turn.resumed:
            raw = None
            try:
                raw = self._mailbox.session(claim.conversation_id)
            except OutageError as error:
                _log.warning("session_unavailable", reason=str(error))
            if raw is not None:
                held = decode_session(raw, turn.ordinal - 1)
                if held is not None:
                    return held
            if turn.ordinal == 1:
                return ()
        return newest(self._journal.context(turn, self._limits.context_messages), self._limits)

    def _report(self, turn: Turn, bot: Bot | None, outcome: Outcome) -> None:
        if bot is None or not bot.report_turns or is_trial(turn.contact.address):
            return
        report: Mapping[str, Any] = {
            "turn_id": turn.id,
            "conversation_id": turn.conversation_id,
            "status": outcome.status,
            "reason": outcome.reason,
            "messages": len(turn.events),
            "parts": len(turn.parts_of("reply")),
        }

        def send() -> None:
            try:
                self._crm.report(bot, turn.contact.number, "turn", report)
            except VendorError as error:
                _log.warning("report_not_sent", turn_id=turn.id, code=error.code)

        self._in_background(send)
