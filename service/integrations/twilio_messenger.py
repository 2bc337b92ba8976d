"""The channel to the contact: WhatsApp through Twilio."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from service.conversation.bot import Bot
from service.conversation.ports import (
    OutboundMessage,
    PermanentError,
    ReceivedMessage,
    SentMessage,
    TransientError,
    UncertainError,
)
from service.integrations.twilio_client import RETRIES, UNREADABLE, TwilioClients
from service.integrations.twilio_http import TwilioHttp
from service.settings import Settings

MESSAGES_LOOKED_AT = 50
PAGE = 200
QUEUED_AT_MOST = timedelta(hours=10)
"""Longest validity that a message may be given (36,000 s)."""


class TwilioMessenger:
    """Implements `Messenger` and `History`. One object serves all bots and threads of the process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._http = TwilioHttp(settings)
        self._clients = TwilioClients(settings, self._http)

    def send(self, bot: Bot, message: OutboundMessage) -> str:
        """Send one part from the bot's messaging service, else from its number; return the SID.

        Raises:
            TransientError: it was certainly not processed.
            PermanentError: refused, or no credentials (`no_credentials`).
            UncertainError: it may have gone out: a timeout, a lost answer or a 5xx.
        """
        sender: dict[str, str] = (
            {"messaging_service_sid": bot.twilio_messaging_service_sid}
            if bot.twilio_messaging_service_sid
            else {"from_": bot.address}
        )
        messages = self._client_for(bot).messages
        try:
            sid = messages.create(
                to=message.to,
                body=message.body,
                status_callback=self._callback(message.part_id),
                **sender,
            ).sid
        except (ValueError, TypeError, AttributeError) as error:
            raise UncertainError("bad_answer", "Twilio accepted, but without a message") from error
        if not sid:
            raise UncertainError("bad_answer", "Twilio accepted, but without a SID")
        return str(sid)

    def find_sent(self, bot: Bot, to: str, since: datetime) -> Sequence[SentMessage]:
        """The bot's last outbound messages to `to` made at or after `since`, oldest first.

        `since` and `created_at` are in this host's time, though Twilio's clock tells another.
        Twilio's times are whole seconds, so `since` is taken down to its second there; as the
        clocks' difference is known to a second or two, messages made that much earlier may be
        among the found. Twilio's own date filter looks at when a message was sent, which a queued
        one has not been yet. An account may have several bots.

        Raises:
            TransientError: the list could not be read now.
            PermanentError: it was refused.
        """
        filters = {"to": to}
        if not bot.twilio_messaging_service_sid:
            filters["from_"] = bot.address
        messages = self._client_for(bot).messages
        try:
            found = messages.list(limit=MESSAGES_LOOKED_AT, **filters)
            ahead = timedelta(seconds=self._http.clock_offset_s)
            earliest = (since + ahead).replace(microsecond=0)
            sent = [
                _sent(record, ahead)
                for record in found
                if _is_of(record, bot) and _created_at(record) >= earliest
            ]
        except UncertainError as error:
            raise TransientError(error.code, error.message) from error
        except UNREADABLE as error:
            raise TransientError(
                "bad_answer", "Twilio's list of messages was unreadable"
            ) from error
        return sorted(sent, key=lambda message: message.created_at)

    def sent_to(self, bot: Bot, to: str, since: datetime) -> Sequence[SentMessage]:
        """As `find_sent`, however many there are. Raises TransientError, PermanentError."""
        filters = {"to": to}
        if not bot.twilio_messaging_service_sid:
            filters["from_"] = bot.address
        found, ahead = self._since(bot, since, filters)
        sent = [_sent(record, ahead) for record in found if _is_of(record, bot)]
        return sorted(sent, key=lambda message: message.created_at)

    def received_by(self, bot: Bot, since: datetime) -> Sequence[ReceivedMessage]:
        """What contacts sent to the bot's number. Raises TransientError, PermanentError."""
        found, ahead = self._since(bot, since, {"to": bot.address})
        received = [
            ReceivedMessage(
                sid=str(record.sid),
                sender=str(record.from_),
                body=str(record.body or ""),
                created_at=_created_at(record) - ahead,
            )
            for record in found
            if str(record.direction) == "inbound"
        ]
        return sorted(received, key=lambda message: message.created_at)

    def _since(
        self, bot: Bot, since: datetime, filters: Mapping[str, str]
    ) -> tuple[list[Any], timedelta]:
        """The account's messages from `since` on, and how far Twilio's clock is ahead.

        The list comes newest first, so it is read until it is older; the margin is for messages
        that waited in Twilio's queue, which stand where they were sent.
        """
        records: list[Any] = []
        try:
            for record in self._client_for(bot).messages.stream(page_size=PAGE, **filters):
                ahead = timedelta(seconds=self._http.clock_offset_s)
                created_at = _created_at(record)
                if created_at < since + ahead - QUEUED_AT_MOST:
                    break
                if created_at >= (since + ahead).replace(microsecond=0):
                    records.append(record)
            # Oldest first: their times are whole seconds, their order tells more.
            records.reverse()
        except UncertainError as error:
            raise TransientError(error.code, error.message) from error
        except UNREADABLE as error:
            raise TransientError(
                "bad_answer", "Twilio's list of messages was unreadable"
            ) from error
        return records, timedelta(seconds=self._http.clock_offset_s)

    def show_typing(self, bot: Bot, message_sid: str) -> None:
        """Show the typing indicator under the contact's message, which also marks it as read.

        Raises:
            VendorError: whatever failed; it never matters to a turn.
        """
        indicator = self._client_for(bot).messaging.v2.typing_indicator
        try:
            indicator.create(channel="whatsapp", message_id=message_sid)
        except (ValueError, TypeError, AttributeError) as error:
            raise UncertainError("bad_answer", "Twilio's answer was unreadable") from error

    def check_account(self, account_sid: str | None, auth_token: str | None) -> None:
        """See that the credentials open the account; arguments as a bot has them.

        Raises:
            VendorError: they do not, or Twilio cannot be asked now.
        """
        client = self._clients.of(account_sid, auth_token)
        try:
            status = client.api.v2010.accounts(client.account_sid).fetch().status
        except (ValueError, TypeError, AttributeError) as error:
            raise UncertainError("bad_answer", "Twilio's answer was unreadable") from error
        if status != "active":
            raise PermanentError("account_not_active", f"Twilio's account is {status}")

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _callback(self, part_id: str) -> str:
        base = self._settings.public_base_url
        return f"{base}/webhook/whatsapp/status?part={quote(part_id, safe='')}{RETRIES}"

    def _client_for(self, bot: Bot) -> Any:
        return self._clients.of(bot.twilio_account_sid, bot.twilio_auth_token)


def _is_of(record: Any, bot: Bot) -> bool:
    """Whether it is an outbound message of this bot."""
    service = bot.twilio_messaging_service_sid
    is_bots = record.from_ == bot.address or (service and record.messaging_service_sid == service)
    return bool(is_bots) and str(record.direction).startswith("outbound")


def _created_at(record: Any) -> datetime:
    """In Twilio's time."""
    created_at = record.date_created
    if not isinstance(created_at, datetime):
        raise ValueError("a message without a date")
    return created_at.replace(tzinfo=created_at.tzinfo or UTC)


def _sent(record: Any, ahead: timedelta) -> SentMessage:
    return SentMessage(
        sid=str(record.sid),
        to=str(record.to),
        body=str(record.body),
        created_at=_created_at(record) - ahead,
    )
