"""The WhatsApp senders of a Twilio account: which there are, and where their webhooks lead.

Source: https://www.twilio.com/docs/whatsapp/api/senders, a public beta.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from service.conversation.ports import TransientError, UncertainError
from service.integrations.twilio_client import RETRIES, UNREADABLE, TwilioClients
from service.integrations.twilio_http import TwilioHttp
from service.settings import Settings

PAGE_SIZE = 100
_URLS = ("callback_url", "fallback_url", "status_callback_url")
_PATIENT_RETRIES = "#rc=3&rp=ct,rt,5xx&rt=9000&tt=15000"
"""For a webhook that may wait 8 s for a replica."""
_METHODS = ("callback_method", "fallback_method", "status_callback_method")


@dataclass(frozen=True, slots=True)
class Sender:
    """A number's record. `webhook` has Twilio's names; what is not set is not in it."""

    sid: str
    number: str
    status: str
    webhook: Mapping[str, str] = field(default_factory=dict)
    offline_reasons: tuple[str, ...] = ()

    @property
    def is_online(self) -> bool:
        """Whether messages reach it."""
        return self.status.startswith("ONLINE")


def our_webhook(public_base_url: str, *, waits_for_replica: bool = False) -> dict[str, str]:
    """What a sender of ours has: its messages, also those whose first try failed, and its callbacks."""
    retries = _PATIENT_RETRIES if waits_for_replica else RETRIES
    messages = f"{public_base_url}/webhook/whatsapp{retries}"
    return {
        "callback_url": messages,
        "callback_method": "POST",
        "fallback_url": messages,
        "fallback_method": "POST",
        "status_callback_url": f"{public_base_url}/webhook/whatsapp/status{RETRIES}",
        "status_callback_method": "POST",
    }


def differences(held: Mapping[str, str], wanted: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Before and after of each field that differs. A method that Twilio does not tell is POST."""
    found = {}
    for name, value in wanted.items():
        before = held.get(name, "POST" if name in _METHODS else "")
        if before != value:
            found[name] = (before, value)
    return found


def leads_to(sender: Sender, public_urls: Sequence[str]) -> bool:
    """Whether any of its webhooks is at one of these addresses."""
    prefixes = tuple(f"{url}/" for url in public_urls)
    return any(sender.webhook.get(name, "").startswith(prefixes) for name in _URLS)


class TwilioSenders:
    """Raises TransientError and PermanentError; setting a webhook twice does no harm."""

    def __init__(self, settings: Settings) -> None:
        self._http = TwilioHttp(settings)
        self._clients = TwilioClients(settings, self._http)

    def of_account(self, account_sid: str | None, auth_token: str | None) -> dict[str, Sender]:
        """The account's WhatsApp senders by number; credentials as a bot has them."""
        client = self._clients.of(account_sid, auth_token)
        try:
            listed = client.messaging.v2.channels_senders.list(
                channel="whatsapp", page_size=PAGE_SIZE
            )
            senders = [_sender(record) for record in listed]
        except UncertainError as error:
            raise TransientError(error.code, error.message) from error
        except UNREADABLE as error:
            raise TransientError("bad_answer", "Twilio's list of senders was unreadable") from error
        return {sender.number: sender for sender in senders}

    def set_webhook(
        self,
        account_sid: str | None,
        auth_token: str | None,
        sender_sid: str,
        webhook: Mapping[str, str],
    ) -> None:
        """Change these fields of a sender's webhook; an empty address takes it away."""
        context = self._clients.of(account_sid, auth_token).messaging.v2.channels_senders(
            sender_sid
        )
        request = context.MessagingV2ChannelsSenderRequestsUpdate({"webhook": dict(webhook)})
        try:
            context.update(request)
        except UncertainError as error:
            raise TransientError(error.code, error.message) from error
        except (ValueError, TypeError, AttributeError) as error:
            raise TransientError("bad_answer", "Twilio's answer was unreadable") from error

    def close(self) -> None:
        """Close the connections."""
        self._http.close()


def no_webhook() -> dict[str, str]:
    """What takes our addresses away from a sender."""
    return dict.fromkeys(_URLS, "")


def _sender(record: Any) -> Sender:
    webhook = record.webhook if isinstance(record.webhook, dict) else {}
    reasons = record.offline_reasons if isinstance(record.offline_reasons, list) else []
    return Sender(
        sid=str(record.sid),
        number=str(record.sender_id).removeprefix("whatsapp:"),
        status=str(record.status),
        webhook={name: str(value) for name, value in webhook.items() if value},
        offline_reasons=tuple(_reason(reason) for reason in reasons),
    )


def _reason(reason: Any) -> str:
    return str(reason.get("message") or reason) if isinstance(reason, dict) else str(reason)
