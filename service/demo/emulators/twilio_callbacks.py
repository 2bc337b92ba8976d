"""Delivery of status callbacks: from sent to delivered and read, in threads, in or out of order.

Source: Twilio's page on outbound message status callbacks.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from service.demo.emulators.signing import post_signed
from service.demo.emulators.twilio_messages import Message

THREADS = 4
EVENT_TYPES = {"delivered": "DELIVERED", "read": "READ"}

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class CallbackOptions:
    """How callbacks go out. `delay_s` passes before each one; `shuffle` mixes their order."""

    enabled: bool = True
    delay_s: float = 0.0
    shuffle: bool = False
    read: bool = False


def callback_form(message: Message, status: str) -> dict[str, str]:
    """The form that reports one status of a message."""
    form = {
        "ChannelInstallSid": "XE" + "0" * 32,
        "ChannelPrefix": "whatsapp",
        "SmsSid": message.sid,
        "SmsStatus": status,
        "MessageSid": message.sid,
        "MessageStatus": status,
        "To": message.to,
        "From": message.from_,
        "AccountSid": message.account_sid,
        "ApiVersion": "2010-04-01",
    }
    if status in EVENT_TYPES:
        form["EventType"] = EVENT_TYPES[status]
    if message.messaging_service_sid:
        form["MessagingServiceSid"] = message.messaging_service_sid
    if status in ("failed", "undelivered") and message.error_code is not None:
        form["ErrorCode"] = str(message.error_code)
        form["ChannelStatusMessage"] = message.error_message or ""
    return form


class Callbacks:
    """Moves messages through their statuses and reports each one; nothing outlives `stop`."""

    def __init__(
        self,
        options: CallbackOptions,
        set_status: Callable[[Message, str], None],
        token_of: Callable[[str], str],
    ) -> None:
        self._options = options
        self._set_status = set_status
        self._token_of = token_of
        self._due: list[tuple[float, int, Message, tuple[str, ...]]] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._running = False

    def start(self) -> None:
        """Begin to deliver."""
        self._running = True
        for _ in range(THREADS):
            threading.Thread(target=self._work, daemon=True).start()

    def stop(self) -> None:
        """Drop what is still to be delivered."""
        with self._changed:
            self._running = False
            self._due.clear()
            self._changed.notify_all()

    def begin(self, message: Message, statuses: Sequence[str]) -> None:
        """Let the message pass through `statuses`; without a callback URL it does so at once."""
        options = self._options
        if not options.enabled or not message.status_callback:
            for status in statuses:
                self._set_status(message, status)
            return
        if options.shuffle:
            for status in statuses:
                self._set_status(message, status)
            for status in random.sample(list(statuses), len(statuses)):
                self._schedule(message, (status,))
        else:
            self._schedule(message, tuple(statuses))

    def _schedule(self, message: Message, statuses: tuple[str, ...]) -> None:
        due = time.monotonic() + self._options.delay_s
        with self._changed:
            heapq.heappush(self._due, (due, next(self._numbers), message, statuses))
            self._changed.notify()

    def _work(self) -> None:
        while True:
            with self._changed:
                while self._running and (not self._due or self._due[0][0] > time.monotonic()):
                    wait_s = self._due[0][0] - time.monotonic() if self._due else None
                    self._changed.wait(wait_s)
                if not self._running:
                    return
                _, _, message, (status, *later) = heapq.heappop(self._due)
            if not self._options.shuffle:
                self._set_status(message, status)
            self._post(message, status)
            if later and self._running:
                self._schedule(message, tuple(later))

    def _post(self, message: Message, status: str) -> None:
        answer = post_signed(
            message.status_callback or "",
            callback_form(message, status),
            self._token_of(message.account_sid),
        )
        if answer.status is None or answer.status >= 300:
            _log.info("status callback of %s: %s", message.sid, answer.status or answer.error)
