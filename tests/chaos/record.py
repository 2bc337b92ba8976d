"""What a run leaves behind, as data: what was sent, what the vendors saw, what the stores hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Sent:
    """One message of a contact. Times in seconds since 1970; `acked_at` is that of its 200."""

    token: str
    sid: str
    bot_id: str
    contact: str
    begun_at: float
    acked_at: float | None
    attempts: int = 1


@dataclass(frozen=True, slots=True)
class Turn:
    """A row of `turns`."""

    id: str
    conversation: str
    ordinal: int
    status: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Taken:
    """An inbound row of `messages`; `position` orders the rows of a conversation."""

    bot_id: str
    sid: str
    turn_id: str
    position: int


@dataclass(frozen=True, slots=True)
class Part:
    """A row of `parts`."""

    turn_id: str
    kind: str
    n: int
    to: str
    body: str
    sid: str | None


@dataclass(frozen=True, slots=True)
class Delivered:
    """A message that Twilio took, in the order in which it took those of a contact."""

    sid: str
    to: str
    body: str


@dataclass(frozen=True, slots=True)
class Effect:
    """Something that a call of a tool changed in the CRM."""

    token: str
    action: str


@dataclass(frozen=True, slots=True)
class Record:
    """Everything that the checker looks at."""

    sent: Sequence[Sent]
    turns: Sequence[Turn]
    taken: Sequence[Taken]
    parts: Sequence[Part]
    delivered: Sequence[Delivered]
    effects: Sequence[Effect]
    redis_keys: Sequence[str] = field(default=())
    """Keys that may not be there when nothing is left to do."""
    spool_files: Sequence[str] = field(default=())
    """Files of messages, whole, half or damaged, that still lie in the spool."""
    answers: Mapping[str, int] = field(default_factory=dict)
    """How often the webhook answered with each status; failures of a connection by their name."""
