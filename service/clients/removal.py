"""A client leaves: its number no longer leads here, then its bot is deleted. Its history stays."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from service.clients.api import BotsApi
from service.clients.numbers import CHANGE, LIST, Account, Senders, why
from service.clients.plan import secret_of
from service.container import Container
from service.conversation.ports import PermanentError, VendorError
from service.integrations.twilio_senders import Sender, leads_to, no_webhook
from service.store import bots
from service.store.bots import BOTS, Row


class RemovalError(Exception):
    """The client is not removed; the message says what to do."""


def find(container: Container, number: str) -> Row | None:
    """The active bot of a number in our own table, else the last one that had it, deleted by now."""
    with container.database.read() as connection:
        row = bots.active_by_number(connection, number)
        if row is not None:
            return row
        query = select(BOTS).where(BOTS.c.twilio_phone_number == number)
        last = connection.execute(query.order_by(BOTS.c.deleted_at.desc()).limit(1)).mappings()
        found = last.one_or_none()
        return None if found is None else dict(found)


def remove(
    container: Container,
    api: BotsApi,
    senders: Senders,
    number: str,
    *,
    check: bool,
    keep_sender: bool,
) -> dict[str, Any]:
    """Remove the client, or with `check` only tell what would be done. Twice is the same as once.

    Raises RemovalError, and what `BotsApi` raises.
    """
    row = find(container, number)
    if row is None:
        raise RemovalError(
            f"No bot has or had the number {number}: `horizonctl bots list` shows all."
        )
    result: dict[str, Any] = {
        "changed": row["deleted_at"] is None,
        "bot_id": row["id"],
        "name": row["name"],
        "number": number,
        "client_id": row["client_id"],
        "removed_at": row["deleted_at"],
        "sender": "left_alone",
        "todo": [],
        "warnings": [],
    }
    if row["deleted_at"] is not None:
        return result
    api.check()
    if not keep_sender:
        token = secret_of(container, {}, row, "twilio_auth_token")
        account = Account(row["twilio_account_sid"], token)
        result["sender"], result["todo"] = _unhook(container, senders, account, number, check)
    if not check:
        answer = api.delete(row["id"])
        result["warnings"] = [str(each.get("message")) for each in answer.get("warnings") or ()]
    return result


def _unhook(
    container: Container, senders: Senders, account: Account, number: str, check: bool
) -> tuple[str, list[str]]:
    """What became of the sender, and what a person has to do."""
    try:
        sender = senders.of_account(account.sid, account.token).get(number)
    except VendorError as error:
        raise RemovalError(
            f"Nothing was removed. {why(account, error, LIST)} To remove the client and leave Twilio alone, "
            "say --keep-sender."
        ) from error
    if sender is None:
        return "missing", []
    if not leads_to(sender, container.settings.public_urls):
        return "elsewhere", []
    if check:
        return "change", []
    try:
        senders.set_webhook(account.sid, account.token, sender.sid, no_webhook())
    except PermanentError as error:
        return "refused", _by_hand(sender, why(account, error, CHANGE))
    except VendorError as error:
        raise RemovalError(f"Nothing was removed. {why(account, error, CHANGE)}") from error
    return "changed", []


def _by_hand(sender: Sender, reason: str) -> list[str]:
    return [
        reason,
        f"In console.twilio.com choose Messaging, Senders, WhatsApp senders, {sender.number}, Edit "
        "sender, and empty the three addresses of this service. Until then Twilio notes an error for "
        "each message that comes.",
    ]
