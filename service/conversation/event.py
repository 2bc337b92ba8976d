"""What can happen to a conversation, and how conversations and contacts are told apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Literal

import orjson

EventKind = Literal["message", "retry", "unreadable"]


@dataclass(frozen=True, slots=True)
class Event:
    """One thing to be handled, in order.

    `id` is the MessageSid of a message, or a unique id of a command. `fields` are the message's form
    fields as they came, or the command's. `at_ms` is when it was accepted, Unix milliseconds.
    """

    id: str
    kind: EventKind
    bot_id: str
    at_ms: int
    fields: Mapping[str, str]
    raw: bytes = b""

    @property
    def text(self) -> str:
        return self.fields.get("Body", "")


def encode(event: Event) -> bytes:
    """The event as it lies in the mailbox."""
    return orjson.dumps(
        {
            "id": event.id,
            "kind": event.kind,
            "bot": event.bot_id,
            "at": event.at_ms,
            "fields": event.fields,
        }
    )


def decode(raw: bytes) -> Event:
    """The event behind the bytes of a mailbox; `raw` is kept so that exactly it can be removed."""
    data: dict[str, Any] = orjson.loads(raw)
    return Event(data["id"], data["kind"], data["bot"], data["at"], data["fields"], raw)


def unreadable(raw: bytes) -> Event:
    """What stands for bytes that are no event: it is set aside and holds nothing up."""
    return Event("", "unreadable", "", 0, {}, raw)


def conversation_id(bot_id: str, identity: str) -> str:
    """The conversation of an identity with a bot: always the same, known without a look-up."""
    return "cv_" + blake2b(f"{bot_id}\0{identity}".encode(), digest_size=12).hexdigest()


def turn_id(conversation: str, first_event_id: str) -> str:
    """The turn that begins with this event: the same however often it is begun."""
    return "tn_" + blake2b(f"{conversation}\0{first_event_id}".encode(), digest_size=12).hexdigest()
