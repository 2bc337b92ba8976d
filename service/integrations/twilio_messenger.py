"""The channel to the contact: WhatsApp through Twilio."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from urllib.parse import quote

from twilio.rest import Client

from service.conversation.bot import Bot
from service.conversation.ports import (
    OutboundMessage,
    PermanentError,
    SentMessage,
    TransientError,
    UncertainError,
)
from service.integrations.error_answers import is_header_safe
from service.integrations.twilio_http import TwilioHttp
from service.settings import Settings

MAX_CLIENTS = 256
MESSAGES_LOOKED_AT = 50
CALLBACK_RETRIES = "#rc=3&rp=ct,rt,5xx&rt=4000&tt=15000"
"""Connection overrides (https://www.twilio.com/docs/usage/webhooks/webhooks-connection-overrides)."""


class TwilioMessenger:
    """Implements `Messenger`. One object serves all bots and threads of the process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._http = TwilioHttp(settings)
        self._client = lru_cache(maxsize=MAX_CLIENTS)(self._new_client)

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
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise TransientError(
                "bad_answer", "Twilio's list of messages was unreadable"
            ) from error
        return sorted(sent, key=lambda message: message.created_at)

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

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _callback(self, part_id: str) -> str:
        base = self._settings.public_base_url
        return f"{base}/webhook/whatsapp/status?part={quote(part_id, safe='')}{CALLBACK_RETRIES}"

    def _client_for(self, bot: Bot) -> Any:
        """The client of the bot's account.

        A bot's account without its own token is a subaccount of the operator's, whose credentials
        open it (https://www.twilio.com/docs/iam/api/subaccounts).
        """
        operator_sid = self._settings.twilio_account_sid
        account_sid = bot.twilio_account_sid or operator_sid
        username = account_sid if bot.twilio_auth_token else operator_sid
        password = bot.twilio_auth_token or self._settings.twilio_auth_token
        if not account_sid or not username or not password:
            raise PermanentError(
                "no_credentials",
                "There are no Twilio credentials: set the bot's twilio_account_sid and "
                "twilio_auth_token, or TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN.",
            )
        if not all(is_header_safe(value) for value in (account_sid, username, password)):
            raise PermanentError(
                "bad_credentials",
                "The Twilio credentials have characters that no credential has: set them again.",
            )
        return self._client(account_sid, username, password)

    def _new_client(self, account_sid: str, username: str, password: str) -> Any:
        client = Client(username, password, account_sid, http_client=self._http)
        base_url = self._settings.twilio_api_base_url
        if base_url is not None:
            # The SDK takes edge and region from the environment and would change the host by them
            client.edge = client.region = None
            for domain in (client.api, client.messaging, client.content):
                domain.base_url = base_url
        return client


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
