"""The mailbox: what one may do with a conversation's events. The store implements it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from service.conversation.event import Event


@dataclass(frozen=True, slots=True)
class Inbound:
    """An event on its way into the mailbox, with the identities that decide its conversation.

    `sender` is the address to reply to; `external_id` is the messenger's stable id of the person,
    empty when there is none.
    """

    event: Event
    client_id: str
    number: str
    sender: str
    external_id: str = ""


@dataclass(frozen=True, slots=True)
class Accepted:
    """Where an event went; `duplicate` when it had been accepted before."""

    conversation_id: str
    duplicate: bool


@dataclass(frozen=True, slots=True)
class Claim:
    """A conversation that this worker holds. `excused`: its last holder gave it back in good order."""

    conversation_id: str
    token: str
    client_id: str
    bot_id: str
    number: str
    excused: bool
    events: Sequence[Event]
    claimed_at: float
    """time.monotonic() from before the claim."""


@dataclass(frozen=True, slots=True)
class Depth:
    """The queue: conversations that wait, that are being worked on, and how late the oldest is.

    `held`: nothing is claimed, a restored service is being compared with the messenger.
    """

    due: int
    leased: int
    oldest_due_s: float
    held: bool = False


class Mailbox(Protocol):
    """Every method raises OutageError when the store cannot be used."""

    def accept(self, inbound: Inbound) -> Accepted: ...

    def command(self, conversation_id: str, event: Event, client_id: str, number: str) -> bool:
        """Put a command into this very conversation. False: it had been put there before."""

    def claim(self, count: int, newcomers_only: bool = False) -> tuple[Sequence[Claim], float]:
        """Up to `count` due conversations, fairly among clients, and seconds until the next is due."""

    def renew(self, claims: Sequence[Claim]) -> set[str]:
        """Extend the leases; return the conversations that are no longer ours."""

    def acknowledge(self, claim: Claim, handled: Sequence[Event], session: bytes = b"") -> bool:
        """Remove exactly these events and give the conversation back. False: the lease was lost."""

    def release(self, claim: Claim, delay_s: float = 0) -> bool:
        """Give the conversation back untouched, due again after `delay_s`."""

    def revive(self, conversation_id: str, client_id: str, bot_id: str, number: str) -> bool:
        """Make an idle conversation due although it has no mail: a turn of it is open."""

    def session(self, conversation_id: str) -> bytes | None: ...

    def depth(self) -> Depth: ...
