"""Twilio's messages: how one is kept, moves on and is listed.

Source: the Message resource's reference and the SDK, twilio 9.13.0.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any
from urllib.parse import quote, urlencode

from service.demo.emulators.twilio_errors import ApiError

MAX_PAGE = 1000
SEGMENT_CHARS = 153


def whatsapp_address(number: str) -> str:
    """`whatsapp:…` for a number or BSUID that may have it already."""
    return number if number.startswith("whatsapp:") else f"whatsapp:{number}"


@dataclass(slots=True)
class Message:
    """One message of either direction. Times are UTC."""

    sid: str
    account_sid: str
    to: str
    from_: str
    body: str
    direction: str
    status: str
    created_at: datetime
    messaging_service_sid: str | None = None
    status_callback: str | None = None
    num_media: int = 0
    sent_at: datetime | None = None
    updated_at: datetime | None = None
    error_code: int | None = None
    error_message: str | None = None

    @property
    def listed_at(self) -> datetime:
        """The time that lists filter by: whole seconds, as Twilio keeps it."""
        return (self.sent_at or self.created_at).replace(microsecond=0)

    def to_json(self) -> dict[str, Any]:
        """The resource as the API shows it."""
        uri = f"/2010-04-01/Accounts/{self.account_sid}/Messages/{self.sid}"
        return {
            "account_sid": self.account_sid,
            "api_version": "2010-04-01",
            "body": self.body,
            "date_created": format_datetime(self.created_at),
            "date_sent": format_datetime(self.sent_at) if self.sent_at else None,
            "date_updated": format_datetime(self.updated_at or self.created_at),
            "direction": self.direction,
            "error_code": self.error_code,
            "error_message": self.error_message,
            "from": self.from_,
            "messaging_service_sid": self.messaging_service_sid,
            "num_media": str(self.num_media),
            "num_segments": str(max(1, -(-len(self.body) // SEGMENT_CHARS))),
            "price": None,
            "price_unit": None,
            "sid": self.sid,
            "status": self.status,
            "subresource_uris": {"media": f"{uri}/Media.json"},
            "to": self.to,
            "uri": f"{uri}.json",
        }


class MessageStore:
    """The messages of all accounts, found by SID and by contact. Thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._by_sid: dict[str, Message] = {}
        self._by_to: dict[str, list[Message]] = defaultdict(list)

    def add(self, message: Message) -> None:
        """Keep a new message and wake those who wait for it."""
        with self._changed:
            self._by_sid[message.sid] = message
            self._by_to[message.to].append(message)
            self._changed.notify_all()

    def get(self, sid: str) -> Message | None:
        """The message with this SID."""
        with self._changed:
            return self._by_sid.get(sid)

    def set_status(self, message: Message, status: str) -> None:
        """Let a message move on."""
        with self._changed:
            message.status = status
            message.updated_at = datetime.now(UTC)
            if status == "sent":
                message.sent_at = message.updated_at
            self._changed.notify_all()

    def outbound_to(self, address: str) -> list[Message]:
        """What was sent to a contact, oldest first."""
        with self._changed:
            return [message for message in self._by_to.get(address, ()) if _is_outbound(message)]

    def wait_outbound(self, address: str, count: int, timeout_s: float) -> list[Message]:
        """Wait until the contact has `count` messages, or the time is over."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while len(found := self.outbound_to(address)) < count:
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    break
                self._changed.wait(left_s)
        return found

    def newest_first(self, account_sid: str, to: str | None = None) -> list[Message]:
        """An account's messages; with `to` only that address's."""
        with self._changed:
            found = list(self._by_sid.values()) if to is None else list(self._by_to.get(to, ()))
        return [message for message in reversed(found) if message.account_sid == account_sid]

    def clear(self) -> None:
        """Forget every message."""
        with self._changed:
            self._by_sid.clear()
            self._by_to.clear()

    def __len__(self) -> int:
        with self._changed:
            return len(self._by_sid)


def list_page(store: MessageStore, account_sid: str, query: Mapping[str, str]) -> dict[str, Any]:
    """One page of an account's messages, newest first, in Twilio's envelope.

    Raises:
        ApiError: a filter is not understood.
    """
    found = [
        message
        for message in store.newest_first(account_sid, query.get("To"))
        if _matches(message, query)
    ]
    size = min(_number(query.get("PageSize"), 50) or 1, MAX_PAGE)
    page = _number(query.get("Page"), 0)
    token = query.get("PageToken", "").removeprefix("PA")
    start = 0
    if token:
        last = next((at for at, message in enumerate(found) if message.sid == token), len(found))
        start = last + 1
    shown = found[start : start + size]
    more = start + size < len(found)
    base = f"/2010-04-01/Accounts/{account_sid}/Messages.json"
    filters = {key: value for key, value in query.items() if key not in ("Page", "PageToken")}
    filters["PageSize"] = str(size)

    def uri(number: int, after: str | None = None) -> str:
        extra = {"Page": str(number)} | ({"PageToken": f"PA{after}"} if after else {})
        return f"{base}?{urlencode({**filters, **extra}, quote_via=quote)}"

    return {
        "first_page_uri": uri(0),
        "next_page_uri": uri(page + 1, shown[-1].sid) if more else None,
        "previous_page_uri": None,
        "uri": uri(page, token or None),
        "page": page,
        "page_size": size,
        "start": start,
        "end": start + max(len(shown) - 1, 0),
        "messages": [message.to_json() for message in shown],
    }


def _matches(message: Message, query: Mapping[str, str]) -> bool:
    if query.get("From") and message.from_ != query["From"]:
        return False
    at = message.listed_at
    if query.get("DateSent>") and at < _date(query["DateSent>"]):
        return False
    if query.get("DateSent<") and at > _date(query["DateSent<"]):
        return False
    return not query.get("DateSent") or at.date() == _date(query["DateSent"]).date()


def _date(value: str) -> datetime:
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        raise ApiError(20001, message=f"Invalid date: {value}") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _number(value: str | None, default: int) -> int:
    return int(value) if value and value.isdigit() else default


def _is_outbound(message: Message) -> bool:
    return message.direction.startswith("outbound")
