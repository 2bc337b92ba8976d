"""An emulator of Twilio: messages, typing, senders, media, status callbacks and the phone side.

The SDK reaches it with `client.api.base_url`, `client.messaging.base_url` and
`client.content.base_url` set to `url`. Source: Twilio's API reference and the SDK, twilio 9.13.0.
"""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from service.demo.emulators import phone
from service.demo.emulators.phone import InboundDelivery
from service.demo.emulators.server import Emulator
from service.demo.emulators.twilio_callbacks import CallbackOptions, Callbacks
from service.demo.emulators.twilio_errors import ApiError
from service.demo.emulators.twilio_messages import (
    Message,
    MessageStore,
    list_page,
    whatsapp_address,
)
from service.demo.emulators.twilio_outbox import Outbox
from service.demo.emulators.twilio_senders import PATH as SENDERS_PATH
from service.demo.emulators.twilio_senders import SenderStore
from service.demo.emulators.wire import Request, Response

ACCOUNT_SID = "AC" + "e" * 32
AUTH_TOKEN = "emulator-auth-token"  # noqa: S105  # opens nothing but the emulator
TYPING_PATH = "/v2/Indicators/Typing.json"
MEDIA_CDN = "/media-cdn/"
OVERLOAD = {429: 20429, 503: 20503}
MESSAGES_PATH = re.compile(
    r"^/2010-04-01/Accounts/(?P<account>AC\w+)/Messages"
    r"(?:\.json|/(?P<message>\w+)(?:\.json|/Media/(?P<media>\w+)))$"
)
ACCOUNT_PATH = re.compile(r"^/2010-04-01/Accounts/(?P<account>AC\w+)\.json$")
MESSAGE_SID = re.compile(r"^(?:SM|MM)[0-9a-f]{32}$")


class TwilioEmulator(Emulator):
    """Twilio on loopback with its registered `accounts` (SID → auth token); the first one is the
    account of the phone side.

    `rate_limit_per_s` limits each sender (429); `redirect_media` answers media like Twilio, with a
    redirect to another place that wants no credentials. `callbacks` may be changed while it runs.
    """

    def __init__(
        self,
        accounts: Mapping[str, str] | None = None,
        *,
        port: int = 0,
        host: str = "127.0.0.1",
        callbacks: CallbackOptions | None = None,
        rate_limit_per_s: int | None = None,
        redirect_media: bool = False,
        keep_requests: int = 20_000,
    ) -> None:
        super().__init__(port, host, keep_requests)
        self.accounts = dict(accounts or {ACCOUNT_SID: AUTH_TOKEN})
        self.callbacks = callbacks or CallbackOptions()
        self.redirect_media = redirect_media
        self.senders = SenderStore(next(iter(self.accounts)))
        self.typing: list[str] = []
        self._store = MessageStore()
        self._delivery = Callbacks(
            self.callbacks, self._store.set_status, lambda account: self.accounts[account]
        )
        self._outbox = Outbox(self._store, self.callbacks, self._delivery)
        self._outbox.rate_limit_per_s = rate_limit_per_s
        self._media: dict[str, tuple[str, bytes]] = {}

    def start(self) -> None:
        """Listen and deliver callbacks until `stop`."""
        super().start()
        self._delivery.start()

    def stop(self) -> None:
        """Stop both."""
        self._delivery.stop()
        super().stop()

    # What tests order and see

    def refuse(self, to: str, code: int, status: int = 400) -> None:
        """Answer a message to this contact with an error; nothing is created."""
        self._outbox.refused[whatsapp_address(to)] = (code, status)

    def allow(self, to: str) -> None:
        """Take messages to this contact again."""
        self._outbox.refused.pop(whatsapp_address(to), None)

    def undeliverable(self, to: str, code: int) -> None:
        """Accept messages to this contact, which then end `undelivered` with this error."""
        self._outbox.undeliverable[whatsapp_address(to)] = code

    def messages_to(self, number: str) -> list[Message]:
        """What was sent to a contact, oldest first."""
        return self._store.outbound_to(whatsapp_address(number))

    def wait_for_messages(self, to: str, count: int, timeout_s: float = 10.0) -> list[Message]:
        """The contact's messages once there are `count`.

        Raises:
            TimeoutError: there were fewer; it shows which.
        """
        found = self._store.wait_outbound(whatsapp_address(to), count, timeout_s)
        if len(found) < count:
            bodies = [message.body for message in found]
            raise TimeoutError(f"{len(found)} of {count} messages in {timeout_s} s: {bodies}")
        return found

    def add_media(self, content: bytes, content_type: str) -> str:
        """Keep a file as an inbound message's media; its URL, behind credentials, is returned."""
        media_sid = "ME" + secrets.token_hex(16)
        self._media[media_sid] = (content_type, content)
        account, message_sid = next(iter(self.accounts)), "MM" + secrets.token_hex(16)
        return f"{self.url}/2010-04-01/Accounts/{account}/Messages/{message_sid}/Media/{media_sid}"

    def send(
        self,
        webhook_url: str,
        *,
        to: str,
        from_: str,
        body: str,
        public_url: str | None = None,
        account_sid: str | None = None,
        message_sid: str | None = None,
        profile_name: str = "Contacto",
        external_user_id: str | None = None,
        **extra_fields: str,
    ) -> InboundDelivery:
        """Write from a phone: post the message to the webhook as Twilio does (see `phone.deliver`).

        `extra_fields` are further form fields (`NumMedia="1", MediaUrl0=…`). A given `message_sid`
        plays a second delivery of the same message.
        """
        account = account_sid or next(iter(self.accounts))
        form = phone.inbound_form(
            account,
            to,
            from_,
            body,
            message_sid=message_sid,
            profile_name=profile_name,
            external_user_id=external_user_id,
            extra=extra_fields,
        )
        self.remember(form)
        return phone.deliver(webhook_url, form, self.accounts[account], public_url=public_url)

    def remember(self, form: Mapping[str, str]) -> None:
        """Have a contact's message in the list, once, whether or not it is delivered."""
        if self._store.get(form["MessageSid"]) is None:
            self._store.add(_inbound(form))

    # The API

    def handle(self, request: Request) -> Response:
        """Answer one call of the API."""
        if request.path.startswith(MEDIA_CDN):
            return self._file(request.path.removeprefix(MEDIA_CDN))
        try:
            account = self._authenticate(request)
            if request.path.startswith(SENDERS_PATH):
                return self.senders.handle(request, self.url, account)
            if request.path == TYPING_PATH and request.method == "POST":
                return self._show_typing(request)
            if ACCOUNT_PATH.match(request.path) and request.method == "GET":
                return self._account(request, account)
            return self._messages(request, account)
        except ApiError as error:
            return error.to_response()

    def error_answer(self, status: int, message: str) -> Response:
        """An error in Twilio's shape."""
        return ApiError(OVERLOAD.get(status, 20500), status, message).to_response()

    def control(self, request: Request) -> Response | None:
        """For other processes: `inbound`, `heard` (its form: listed, not delivered), `messages`,
        `accounts`, `senders`, `callbacks`, `errors`.
        """
        match request.method, request.path:
            case "POST", "/_emulator/inbound":
                return Response(200, self.send(**request.body).to_json())
            case "POST", "/_emulator/heard":
                self.remember(request.body)
                return Response(201)
            case "GET", "/_emulator/messages":
                query = request.query
                found = self._store.wait_outbound(
                    whatsapp_address(query.get("to", "")),
                    int(query.get("count", 0)),
                    float(query.get("timeout", 0)),
                )
                return Response(200, [message.to_json() for message in found])
            case "POST", "/_emulator/accounts":
                self.accounts[str(request.body["sid"])] = str(request.body["token"])
                return Response(201)
            case "POST", "/_emulator/senders":
                return Response(201, {"sid": self.senders.add(**request.body)})
            case "POST", "/_emulator/callbacks":
                for name, value in request.body.items():
                    setattr(self.callbacks, name, value)
                return Response(200)
            case "POST", "/_emulator/errors":
                order = self.undeliverable if request.body.get("later") else self.refuse
                order(str(request.body["to"]), int(request.body["code"]))
                return Response(201)
        return None

    def state(self) -> dict[str, Any]:
        """Accounts (no tokens), messages and senders."""
        accounts = list(self.accounts)
        messages = [m for account in accounts for m in self._store.newest_first(account)]
        return {
            "accounts": accounts,
            "messages": [message.to_json() for message in messages],
            "senders": self.senders.to_json(),
            "typing": list(self.typing),
        }

    def clear_state(self) -> None:
        """Forget messages, senders, media and ordered errors; accounts stay."""
        self._store.clear()
        self.senders.clear()
        self.typing.clear()
        self._media.clear()
        self._outbox.clear()

    def _authenticate(self, request: Request) -> str:
        scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
        try:
            user, _, password = base64.b64decode(credentials).decode().partition(":")
        except ValueError:
            raise ApiError(20003, 401) from None
        if scheme != "Basic" or not password or self.accounts.get(user) != password:
            raise ApiError(20003, 401)
        return user

    def _account(self, request: Request, account: str) -> Response:
        if not request.path.endswith(f"/{account}.json"):
            raise ApiError(20404, 404, f"The requested resource {request.path} was not found")
        return Response(200, {"sid": account, "friendly_name": "Emulator", "status": "active"})

    def _show_typing(self, request: Request) -> Response:
        sid = request.field("messageId")
        if request.field("channel") != "whatsapp" or not MESSAGE_SID.match(sid):
            raise ApiError(20001, message="channel and messageId are required")
        self.typing.append(sid)
        return Response(200, {"success": True})

    def _messages(self, request: Request, account: str) -> Response:
        found = MESSAGES_PATH.match(request.path)
        if found is None or found["account"] != account:
            raise ApiError(20404, 404, f"The requested resource {request.path} was not found")
        if found["media"]:
            if self.redirect_media and found["media"] in self._media:
                return Response(307, headers={"Location": self.url + MEDIA_CDN + found["media"]})
            return self._file(found["media"])
        if found["message"] and request.method == "GET":
            message = self._store.get(found["message"])
            if message is None or message.account_sid != account:
                raise ApiError(20404, 404)
            return Response(200, message.to_json())
        if request.method == "GET":
            return Response(200, list_page(self._store, account, request.query))
        if request.method == "POST" and not found["message"]:
            return self._outbox.create(request, account)
        raise ApiError(20004, 405, "Method not allowed")

    def _file(self, media_sid: str) -> Response:
        if media_sid not in self._media:
            return ApiError(20404, 404).to_response()
        content_type, content = self._media[media_sid]
        return Response(200, content, {"Content-Type": content_type})


def _inbound(form: Mapping[str, str]) -> Message:
    return Message(
        sid=form["MessageSid"],
        account_sid=form["AccountSid"],
        to=form["To"],
        from_=form["From"],
        body=form["Body"],
        direction="inbound",
        status="received",
        created_at=datetime.now(UTC),
        messaging_service_sid=form.get("MessagingServiceSid"),
        num_media=int(form.get("NumMedia", "0")),
    )
