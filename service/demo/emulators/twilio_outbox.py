"""Sending: what Twilio accepts, refuses and fails to deliver.

Source: the Message resource's reference and Twilio's error dictionary.
"""

from __future__ import annotations

import json
import re
import secrets
import threading
import time
from collections import defaultdict, deque
from datetime import UTC, datetime
from urllib.parse import urlsplit

from service.demo.emulators.twilio_callbacks import CallbackOptions, Callbacks
from service.demo.emulators.twilio_errors import MESSAGES, ApiError
from service.demo.emulators.twilio_messages import Message, MessageStore
from service.demo.emulators.wire import Request, Response

MAX_BODY_CHARS = 1600
VALIDITY_S = range(1, 36_001)
ADDRESS = re.compile(r"^(?:whatsapp:)?\+[1-9]\d{6,14}$|^whatsapp:[A-Z]{2}\.[A-Za-z0-9]+$")
SERVICE_SID = re.compile(r"^MG[0-9a-fA-F]{32}$")
CONTENT_SID = re.compile(r"^HX[0-9a-fA-F]{32}$")


class Outbox:
    """Creates messages and lets them be delivered; errors can be ordered by contact.

    `refused` maps an address to (code, HTTP status) for an answer without a message,
    `undeliverable` to the code that an accepted message ends with.
    """

    def __init__(self, store: MessageStore, options: CallbackOptions, delivery: Callbacks) -> None:
        self.refused: dict[str, tuple[int, int]] = {}
        self.undeliverable: dict[str, int] = {}
        self.rate_limit_per_s: int | None = None
        self._store = store
        self._options = options
        self._delivery = delivery
        self._sent_at: dict[str, deque[float]] = defaultdict(deque)
        self._rate_lock = threading.Lock()

    def create(self, request: Request, account_sid: str) -> Response:
        """Create a message from the form of a request.

        Raises:
            ApiError: it is refused.
        """
        check_new_message(request)
        to = request.field("To")
        self._limit_rate(request.field("From") or request.field("MessagingServiceSid"))
        if to in self.refused:
            raise ApiError(*self.refused[to])
        media = request.body.get("MediaUrl", [])
        message = Message(
            sid="SM" + secrets.token_hex(16),
            account_sid=account_sid,
            to=to,
            from_=request.field("From"),
            body=request.field("Body"),
            direction="outbound-api",
            status="queued",
            created_at=datetime.now(UTC),
            messaging_service_sid=request.field("MessagingServiceSid") or None,
            status_callback=request.field("StatusCallback") or None,
            num_media=len(media) if isinstance(media, list) else 1,
        )
        answer = message.to_json()
        error_code = self.undeliverable.get(to)
        if error_code is not None:
            message.error_code, message.error_message = error_code, MESSAGES.get(error_code)
            ends = ["undelivered"]
        else:
            ends = ["delivered", "read"] if self._options.read else ["delivered"]
        self._store.add(message)
        self._delivery.begin(message, ["sent", *ends])
        return Response(201, answer)

    def clear(self) -> None:
        """Forget the ordered errors."""
        self.refused.clear()
        self.undeliverable.clear()

    def _limit_rate(self, sender: str) -> None:
        if self.rate_limit_per_s is None:
            return
        now = time.monotonic()
        with self._rate_lock:
            sent_at = self._sent_at[sender]
            while sent_at and sent_at[0] <= now - 1:
                sent_at.popleft()
            if len(sent_at) >= self.rate_limit_per_s:
                raise ApiError(20429, 429)
            sent_at.append(now)


def check_new_message(request: Request) -> None:
    """Check the form of a message to be sent.

    Raises:
        ApiError: with Twilio's number for what is wrong.
    """
    to, sender = request.field("To"), request.field("From")
    service, content = request.field("MessagingServiceSid"), request.field("ContentSid")
    body, variables = request.field("Body"), request.field("ContentVariables")
    if not to:
        raise ApiError(21604)
    if not sender and not service:
        raise ApiError(21603)
    if not ADDRESS.match(to):
        raise ApiError(21211, message=f"Invalid 'To' Phone Number: {to}")
    if sender and not ADDRESS.match(sender):
        raise ApiError(21212, message=f"The 'From' number {sender} is not a valid phone number")
    if sender and sender.startswith("whatsapp:") != to.startswith("whatsapp:"):
        raise ApiError(21910)
    if sender == to:
        raise ApiError(63031)
    if service and not SERVICE_SID.match(service):
        raise ApiError(21701)
    if not body and not content and not request.field("MediaUrl"):
        raise ApiError(21602)
    if len(body) > MAX_BODY_CHARS:
        raise ApiError(21617)
    if content and not CONTENT_SID.match(content):
        raise ApiError(21655)
    if variables and not _is_object(variables):
        raise ApiError(21656)
    callback = request.field("StatusCallback")
    if callback and not _is_url(callback):
        raise ApiError(21609, message=f"The 'StatusCallback' URL {callback} is not a valid URL.")
    validity = request.field("ValidityPeriod")
    if validity and (not validity.isdigit() or int(validity) not in VALIDITY_S):
        raise ApiError(21624, message="Invalid validity period value")


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def _is_url(value: str) -> bool:
    try:
        parts = urlsplit(value)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)
