"""`POST /webhook/whatsapp/status`: Twilio's delivery callbacks, signed like the webhook."""

from __future__ import annotations

import falcon
import structlog

from service.conversation.outage import OutageError
from service.conversation.storable import storable
from service.store.deliveries import Deliveries
from service.store.directory import BotDirectory
from service.web.twilio_request import (
    FormError,
    PublicAddresses,
    TooLargeError,
    TwilioRequest,
    WrongTypeError,
)

_log = structlog.get_logger(__name__)


class DeliveryStatusResource:
    """Always answers with an empty body; the reason of a refusal is logged."""

    def __init__(
        self,
        *,
        directory: BotDirectory,
        deliveries: Deliveries,
        addresses: PublicAddresses,
        operator_auth_token: str | None,
    ) -> None:
        self._directory = directory
        self._deliveries = deliveries
        self._addresses = addresses
        self._operator_auth_token = operator_auth_token

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        status, reason = self._take(request)
        response.status = status
        response.content_type = "text/xml; charset=utf-8"
        response.data = b'<?xml version="1.0" encoding="UTF-8"?><Response/>'
        if reason is not None:
            _log.warning("status_refused", status=int(status[:3]), reason=reason)

    def _take(self, request: falcon.Request) -> tuple[str, str | None]:
        try:
            form = TwilioRequest.read(request, self._addresses)
        except WrongTypeError as error:
            return falcon.HTTP_415, str(error)
        except TooLargeError as error:
            return falcon.HTTP_413, str(error)
        except FormError as error:
            return falcon.HTTP_400, str(error)
        fields = form.fields
        sid, state = fields.get("MessageSid"), fields.get("MessageStatus")
        sender = fields.get("From", "")
        if not (sid and state and sender):
            return falcon.HTTP_400, "MessageSid, MessageStatus or From is missing"
        try:
            bot = self._directory.find(
                sender.removeprefix("whatsapp:"), fields.get("MessagingServiceSid") or None
            )
            if bot is None:
                return falcon.HTTP_404, "no bot has this number"
            token = bot.twilio_auth_token or self._operator_auth_token
            if token is None:
                return falcon.HTTP_403, "the bot has no auth token"
            refusal = form.signature_fault(token)
            if refusal is not None:
                return falcon.HTTP_403, refusal
            known = self._deliveries.record(
                bot.id,
                sid[:64],
                storable(request.get_param("part") or "")[:40] or None,
                state,
                fields.get("ErrorCode") or None,
            )
        except OutageError as error:
            return falcon.HTTP_503, str(error)
        # A message of another system on the same number is no fault: Twilio must not retry it.
        if not known:
            _log.info("status_of_unknown_part", bot_id=bot.id, message_sid=sid[:64])
        return falcon.HTTP_200, None
