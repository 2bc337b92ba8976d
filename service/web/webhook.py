"""Twilio's webhook: find the bot, prove the signature, keep the message, then answer 200.

Whatever Redis does, the answer comes within 3 s: 200 when the message is kept in Redis or in the
spool, else 503, on which Twilio retries when the webhook's URL carries the overrides of the README.
Where a replica has to have it too, a request waits for one up to 8 s (`keeping.py`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from time import monotonic, time

import falcon
import structlog

from service.conversation.bot import Bot
from service.conversation.event import Event, encode
from service.conversation.mailbox import Inbound
from service.conversation.outage import OutageError
from service.conversation.trial import is_trial
from service.metrics import Metrics
from service.store.directory import BotDirectory
from service.web.keeping import Keeper
from service.web.trial_mark import TrialMarks
from service.web.twilio_request import (
    FormError,
    PublicAddresses,
    TooLargeError,
    TwilioRequest,
    WrongTypeError,
)

_log = structlog.get_logger(__name__)

_TRIAL = "trial"
_EMPTY_TWIML = b'<?xml version="1.0" encoding="UTF-8"?><Response/>'
_REQUIRED = ("MessageSid", "From", "To", "AccountSid")
_LONGEST = {"From": 200, "To": 200, "ExternalUserId": 200}
_SID = re.compile(r"[A-Z]{2}[0-9A-Fa-f]{32}")
"""https://www.twilio.com/docs/glossary/what-is-a-sid

The signature runs over names and values without marks between them. With any longer id a recorded
message could be sent again as a new one: its next field, moved into the id, leaves it as it was.
"""


class WebhookResource:
    """`POST /webhook/whatsapp`. Every answer is TwiML; the reason of a refusal is logged."""

    def __init__(
        self,
        *,
        directory: BotDirectory,
        keeper: Keeper,
        metrics: Metrics,
        trial_marks: TrialMarks,
        addresses: PublicAddresses,
        operator_auth_token: str | None,
        takes_messages: bool = True,
    ) -> None:
        """Without `takes_messages` it writes nowhere, not even what it learns of a number."""
        self._directory = directory
        self._keeper = keeper
        self._metrics = metrics
        self._trial_marks = trial_marks
        self._addresses = addresses
        self._operator_auth_token = operator_auth_token
        self._takes_messages = takes_messages

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        response.content_type = falcon.MEDIA_TEXT
        response.text = "ok"

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        started = monotonic()
        result, status = self._take(request, started)
        response.status = status
        response.content_type = "text/xml; charset=utf-8"
        response.data = _EMPTY_TWIML
        if result != _TRIAL:
            self._metrics.message_taken(result, monotonic() - started)

    def _take(self, request: falcon.Request, started: float) -> tuple[str, str]:
        """What became of the message, and the HTTP status that says so."""
        try:
            form = TwilioRequest.read(request, self._addresses)
        except WrongTypeError as error:
            return _refuse("not_a_form", falcon.HTTP_415, reason=str(error))
        except FormError as error:
            return _refuse("malformed", falcon.HTTP_400, reason=str(error))
        except TooLargeError as error:
            return _refuse("malformed", falcon.HTTP_413, reason=str(error))
        fields = form.fields
        if not fields.get("To"):
            return _refuse("malformed", falcon.HTTP_400, reason="the field To is missing")
        if not self._takes_messages:
            if not form.is_signed:
                return _refuse("bad_signature", falcon.HTTP_403, reason="there is no signature")
            return _refuse("unavailable", falcon.HTTP_503, reason="a probe takes no message")
        try:
            bot = self._directory.find(
                fields["To"].removeprefix("whatsapp:"),
                fields.get("MessagingServiceSid") or None,
            )
        except OutageError as error:
            return _refuse("unavailable", falcon.HTTP_503, reason=str(error))
        if bot is None:
            return _refuse("unknown_bot", falcon.HTTP_404, reason="no bot has this number")
        token = bot.twilio_auth_token or self._operator_auth_token
        if token is None:
            reason = "the bot has no twilio_auth_token and TWILIO_AUTH_TOKEN is not set"
            return _refuse("bad_signature", falcon.HTTP_403, reason=reason, bot_id=bot.id)
        refusal = form.signature_fault(token)
        if refusal is not None:
            return _refuse("bad_signature", falcon.HTTP_403, reason=refusal, bot_id=bot.id)
        missing = _fault(fields)
        if missing is not None:
            return _refuse("malformed", falcon.HTTP_400, reason=missing, bot_id=bot.id)
        refusal = self._trial_marks.fault(fields)
        if refusal is not None:
            return _refuse("bad_signature", falcon.HTTP_403, reason=refusal, bot_id=bot.id)
        result, status = self._accept(bot, fields, started)
        return (
            _TRIAL if is_trial(fields["From"]) and status == falcon.HTTP_200 else result
        ), status

    def _accept(self, bot: Bot, fields: Mapping[str, str], started: float) -> tuple[str, str]:
        event = Event(fields["MessageSid"], "message", bot.id, int(time() * 1000), fields)
        event = Event(event.id, event.kind, event.bot_id, event.at_ms, fields, encode(event))
        inbound = Inbound(
            event=event,
            client_id=bot.client_id,
            number=bot.number,
            sender=fields["From"],
            external_id=fields.get("ExternalUserId", ""),
        )
        try:
            return self._keeper.keep(inbound, started), falcon.HTTP_200
        except OutageError as error:
            return _refuse("unavailable", falcon.HTTP_503, reason=str(error), bot_id=bot.id)


def _fault(fields: Mapping[str, str]) -> str | None:
    for name in _REQUIRED:
        if not fields.get(name):
            return f"the field {name} is missing"
    for name, limit in _LONGEST.items():
        if len(fields.get(name, "")) > limit:
            return f"the field {name} is longer than {limit} characters"
    if not _SID.fullmatch(fields["MessageSid"]):
        return "the field MessageSid is no id of Twilio's"
    return None


def _refuse(result: str, status: str, **details: str) -> tuple[str, str]:
    _log.warning("webhook_refused", result=result, status=int(status[:3]), **details)
    return result, status
