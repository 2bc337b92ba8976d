"""Handing a reply's parts to the messenger: in order, each at most once.

A part's intent is journaled before it is sent and its SID after. An intent without a SID may have
been sent: it is repeated only after a grace time and after the messenger's list, looked at twice,
does not show it.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from threading import Event as Signal
from time import monotonic

import structlog

from service.conversation.bot import Bot
from service.conversation.clock import utc_now
from service.conversation.journal import FencedError, Journal
from service.conversation.observer import Stopwatch
from service.conversation.ports import (
    Messenger,
    OutboundMessage,
    PermanentError,
    TransientError,
    UncertainError,
    VendorError,
)
from service.conversation.turn import Part, PartKind, Turn

_log = structlog.get_logger(__name__)

_SECOND_LOOK_S = 2.0
_CLOCK_TOLERANCE = timedelta(seconds=2)


class UndeliverableError(Exception):
    """The messenger refuses a part for good."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class NotYetError(Exception):
    """The part cannot be sent now; `counts` tells whether that was a failed try."""

    def __init__(self, code: str, reason: str, delay_s: float, counts: bool) -> None:
        super().__init__(reason)
        self.code = code
        self.delay_s = delay_s
        self.counts = counts


class Delivery:
    """Sends parts for any turn; it keeps nothing between calls."""

    def __init__(self, journal: Journal, messenger: Messenger, send_grace_s: float) -> None:
        self._journal = journal
        self._messenger = messenger
        self._grace_s = send_grace_s

    def deliver(
        self, turn: Turn, bot: Bot, kind: PartKind, watch: Stopwatch, fresh: Part | None = None
    ) -> Part | None:
        """Send what is not sent yet. Returns the last part when its SID is yet to be journaled.

        `fresh` is the part whose intent the caller has journaled a moment ago.
        Raises NotYetError, UndeliverableError, OutageError, FencedError.
        """
        unrecorded: Part | None = None
        for part in turn.parts_of(kind):
            if part.sid is not None:
                continue
            started = monotonic()
            if part is not fresh:
                intent_at = part.intent_at
                if intent_at is not None and self._was_sent(turn, bot, part, intent_at):
                    continue
                self._journal.save(turn, sent=unrecorded, intend=part)
            self._send(turn, bot, part, started, watch)
            unrecorded = part
        return unrecorded

    def _send(self, turn: Turn, bot: Bot, part: Part, started: float, watch: Stopwatch) -> None:
        if self._grace_s and monotonic() - started > self._grace_s / 2:
            # This process stood still: by now another worker may have looked the part up.
            raise FencedError(f"part {part.id} was not sent in time after its intent")
        try:
            with watch.stage("send", outside=True):
                part.sid = self._messenger.send(
                    bot, OutboundMessage(part.id, part.address, part.body)
                )
        except TransientError as error:
            part.intent_at = None
            self._journal.save(turn, changed=part)
            raise NotYetError(
                error.code, str(error), error.retry_after_s or 0, counts=True
            ) from error
        except PermanentError as error:
            part.intent_at, part.error_code = None, error.code
            self._journal.save(turn, changed=part)
            raise UndeliverableError(error.code, error.message) from error
        except UncertainError as error:
            _log.warning("send_uncertain", turn_id=turn.id, part_id=part.id, code=error.code)
            raise NotYetError(error.code, str(error), self._grace_s, counts=True) from error

    def _was_sent(self, turn: Turn, bot: Bot, part: Part, intent_at: datetime) -> bool:
        """Find out what became of an intent without a SID, once its grace time is over."""
        part.callback_sid = self._journal.reread(turn, part).callback_sid
        if part.callback_sid is None:
            wait_s = self._grace_s - (utc_now() - intent_at).total_seconds()
            if wait_s > 0:
                raise NotYetError("grace", "an uncertain send waits", wait_s, counts=False)
        part.sid = part.callback_sid or self._look_up(bot, part, intent_at)
        if part.sid is None:
            self._pause()
            part.sid = self._look_up(bot, part, intent_at)
        _log.info("send_reconciled", turn_id=turn.id, part_id=part.id, found=part.sid is not None)
        if part.sid is None:
            return False
        self._journal.save(turn, sent=part)
        return True

    def _look_up(self, bot: Bot, part: Part, intent_at: datetime) -> str | None:
        since = intent_at.replace(microsecond=0) - _CLOCK_TOLERANCE
        try:
            listed = self._messenger.find_sent(bot, part.address, since)
        except VendorError as error:
            raise NotYetError(error.code, str(error), 0, counts=True) from error
        same = [sent.sid for sent in listed if sent.body.strip() == part.body.strip()]
        used = self._journal.used_sids(same)
        return next((sid for sid in same if sid not in used), None)

    def _pause(self) -> None:
        Signal().wait(min(_SECOND_LOOK_S, self._grace_s / 10))
