"""Trials: test messages of an operator, which go the whole way of a message and reach nobody.

A trial comes from an address that the messenger has for no person, one of its own for each, so that a
conversation is wholly a trial or not at all. The web lets such an address in only with the operator's
mark (`service/web/trial_mark.py`). Its turn runs like any other, but its parts go to nobody, actions
that change something are not made, and nothing of it counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from secrets import token_hex

from service.conversation.bot import Bot
from service.conversation.observer import Stage
from service.conversation.ports import Messenger, OutboundMessage, SentMessage, Usage
from service.conversation.turn import Outcome

ADDRESS_PREFIX = "whatsapp:horizon-test."
"""No number, and no id of a person either: those begin with a country's two letters and a dot."""

SID_PREFIX = "trial:"


def is_trial(address: str) -> bool:
    """Whether this is the address of a trial's contact."""
    return address.startswith(ADDRESS_PREFIX)


def new_address() -> str:
    """The address of a contact for one trial."""
    return ADDRESS_PREFIX + token_hex(12)


class TrialMessenger:
    """Implements `Messenger`: parts of trials are kept from the messenger, all others go through."""

    def __init__(self, messenger: Messenger) -> None:
        self._messenger = messenger

    def send(self, bot: Bot, message: OutboundMessage) -> str:
        """As `Messenger.send`; a trial's part has a SID made of its own id."""
        if is_trial(message.to):
            return SID_PREFIX + message.part_id
        return self._messenger.send(bot, message)

    def find_sent(self, bot: Bot, to: str, since: datetime) -> Sequence[SentMessage]:
        """As `Messenger.find_sent`; nobody has anything of a trial."""
        return () if is_trial(to) else self._messenger.find_sent(bot, to, since)

    def show_typing(self, bot: Bot, message_sid: str) -> None:
        """As `Messenger.show_typing`, which is never asked for a trial."""
        self._messenger.show_typing(bot, message_sid)


class Uncounted:
    """Implements `Observer` for trials: nothing is counted."""

    def observe(self, stage: Stage, seconds: float) -> None:
        """Not counted."""

    def turn_ended(self, outcome: Outcome) -> None:
        """Not counted."""

    def turn_retried(self, reason: str) -> None:
        """Not counted."""

    def tokens_used(self, usage: Usage) -> None:
        """Not counted."""
