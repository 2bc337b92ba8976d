"""The whole comparison after a restore, and what the messenger took that no backup has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from time import monotonic, sleep
from typing import TYPE_CHECKING

import structlog

from service.conversation.bot import Bot
from service.conversation.event import Event
from service.conversation.policy import consent
from service.conversation.ports import ReceivedMessage, TransientError, VendorError
from service.conversation.restoration import Restoration, Settled
from service.store.restored import Restored

if TYPE_CHECKING:
    from service.container import Container

_log = structlog.get_logger(__name__)

BACKUP_MARGIN = timedelta(minutes=15)
"""A copy takes a while, and what came while it was made may be in it or not: known ones are left out."""
_TRIES = 3
_SPOOL_S = 30.0


@dataclass(frozen=True, slots=True)
class LostMessage:
    """A contact's message that Twilio delivered and the backup does not have.

    `answered`: something went out to the contact after it. `opt_out`: it asked not to be written to
    again, which the restored contact may not know.
    """

    sid: str
    bot_id: str
    number: str
    contact: str
    received_at: datetime
    answered: bool
    opt_out: bool


@dataclass
class Reconciled:
    """What was found. Counts are messages; `unsettled` and `unlisted` name what and the reason."""

    conversations: int = 0
    trimmed: int = 0
    answered: int = 0
    dead: int = 0
    left: int = 0
    replayed: int = 0
    unsettled: list[tuple[str, str]] = field(default_factory=list)
    unlisted: list[tuple[str, str]] = field(default_factory=list)
    lost: list[LostMessage] = field(default_factory=list)

    def add(self, settled: Settled) -> None:
        self.conversations += 1
        for name in ("trimmed", "answered", "dead", "left"):
            setattr(self, name, getattr(self, name) + getattr(settled, name))


def reconcile(container: Container, backup_at: datetime | None, max_age: timedelta) -> Reconciled:
    """Settle every conversation with pending mail or an open turn; the caller lifts the hold.

    Without `backup_at` nothing is listed as lost. It may be run again at any time. Raises OutageError.
    """
    restored = Restored(container.database, container.redis)
    restoration = Restoration(
        mailbox=container.mailbox,
        journal=container.journal,
        known=restored,
        bots=container.directory,
        history=container.messenger,
        max_age=max_age,
    )
    found = Reconciled()
    _empty_spool(container, found)
    for conversation in restored.open_turns():
        container.mailbox.revive(*conversation)
    for conversation_id in container.mailbox.conversations():
        settled = restoration.settle(conversation_id)
        for _ in range(_TRIES - 1):
            if settled.code is None:
                break
            settled = restoration.settle(conversation_id)
        found.add(settled)
        if settled.code is not None:
            found.unsettled.append((conversation_id, settled.code))
    if backup_at is not None:
        for bot_id, number in restored.bots():
            _list_lost(container, restored, bot_id, number, backup_at - BACKUP_MARGIN, found)
    return found


def _empty_spool(container: Container, found: Reconciled) -> None:
    """What waits on this host's disk belongs to the pending messages too; others may replay it."""
    deadline = monotonic() + _SPOOL_S
    while True:
        found.replayed += container.spool.replay(container.mailbox.accept)
        if not container.spool:
            return
        if monotonic() > deadline:
            found.unsettled.append(("spool", "not_empty"))
            return
        sleep(0.1)


def _list_lost(
    container: Container,
    restored: Restored,
    bot_id: str,
    number: str,
    since: datetime,
    found: Reconciled,
) -> None:
    bot = container.directory.by_id(bot_id, number)
    if bot is None or bot.number != number:
        return
    try:
        received = _patiently(container, bot, since)
        accepted = restored.accepted(bot_id, [message.sid for message in received])
        lost = [message for message in received if message.sid not in accepted]
        answers = {
            sender: container.messenger.sent_to(bot, sender, since)
            for sender in {message.sender for message in lost}
        }
    except VendorError as error:
        _log.warning("lost_messages_not_listed", bot_id=bot_id, code=error.code)
        found.unlisted.append((bot_id, error.code))
        return
    for message in lost:
        sent = answers[message.sender]
        found.lost.append(
            LostMessage(
                sid=message.sid,
                bot_id=bot_id,
                number=number,
                contact=message.sender,
                received_at=message.created_at,
                answered=any(answer.created_at >= message.created_at for answer in sent),
                opt_out=_is_opt_out(bot, message),
            )
        )


def _patiently(container: Container, bot: Bot, since: datetime) -> Sequence[ReceivedMessage]:
    for _ in range(_TRIES - 1):
        try:
            return container.messenger.received_by(bot, since)
        except TransientError:
            continue
    return container.messenger.received_by(bot, since)


def _is_opt_out(bot: Bot, message: ReceivedMessage) -> bool:
    event = Event(message.sid, "message", bot.id, 0, {"Body": message.body})
    return consent([event], bot.texts, opted_out=False).opted_out
