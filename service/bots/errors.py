"""Why a request on bots is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with one field; `message` is a sentence. `field` None: it belongs to none."""

    field: str | None
    message: str


class BotNotFoundError(Exception):
    """There is no such bot, or the caller may not know of it; a message says more than that."""


class ForbiddenError(Exception):
    """The caller's key does not allow this; the message says what it allows."""


class ReadOnlyBotError(Exception):
    """The bot is kept by Horizon and is not changed here."""


class InvalidBotError(Exception):
    """The request names values that cannot be saved."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("; ".join(f"{fault.field}: {fault.message}" for fault in faults))
        self.faults = faults
