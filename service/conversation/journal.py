"""The journal: what a turn has done, written before the next thing begins. The store implements it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from service.conversation.mailbox import Claim
from service.conversation.ports import Usage
from service.conversation.turn import Opening, Outcome, Part, Step, Text, Turn


class FencedError(Exception):
    """The conversation was claimed by another worker since: this one must stop at once."""


class Journal(Protocol):
    """Every method raises OutageError; those that write a turn raise FencedError when it is stale."""

    def open(self, claim: Claim) -> Opening:
        """Raise the fence, then take up the open turn or begin one with the claim's new events."""

    def save(
        self,
        turn: Turn,
        *,
        steps: Sequence[Step] = (),
        usage: tuple[str, Usage] | None = None,
        new_parts: Sequence[Part] = (),
        intend: Part | None = None,
        sent: Part | None = None,
        changed: Part | None = None,
    ) -> None:
        """Write all of it or nothing, then mirror it in `turn`.

        `usage` is a model's name and its tokens. `intend` gets its `intent_at`, `sent` has its SID,
        `changed` had its intent cleared or its error set.
        """

    def record_failure(self, turn: Turn, error: str, delay_s: float | None, took_s: float) -> None:
        """Count a failed try that took `took_s`; the next follows in `delay_s`, or never."""

    def die(self, turn: Turn, reason: str, error: str, apology: Part | None) -> Step:
        """Note that the turn is lost. Keeps the apology unless one went out within the hour."""

    def finish(self, turn: Turn, outcome: Outcome, sent: Part | None = None) -> None:
        """Close the turn and add its texts to the conversation."""

    def context(self, turn: Turn, limit: int) -> Sequence[Text]:
        """The last `limit` texts of the conversation before this turn, oldest first."""

    def used_sids(self, sids: Sequence[str]) -> set[str]:
        """Those of the SIDs that belong to parts, of whatever bot."""

    def reread(self, turn: Turn, part: Part) -> Part:
        """The part as it is now: a callback may have named its SID."""

    def abandoned(self, before: datetime, limit: int) -> Sequence[tuple[str, str, str, str]]:
        """Conversation, client, bot, number of open turns untouched since `before`."""
