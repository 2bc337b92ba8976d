"""Twilio's WhatsApp senders: the Channels Senders API, as far as `channels_senders` uses it.

Source: the Senders API's reference and the SDK, twilio 9.13.0.
"""

from __future__ import annotations

import re
import secrets
import threading
from typing import Any

from service.demo.emulators.twilio_errors import ApiError
from service.demo.emulators.wire import Request, Response

PATH = "/v2/Channels/Senders"
SENDER_ID = re.compile(r"^whatsapp:\+[1-9]\d{6,14}$")
MERGED = ("configuration", "webhook", "profile")
PAGE_SIZE = 50


class SenderStore:
    """The registered senders. One that was made or changed becomes ONLINE when it is next read."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._senders: dict[str, dict[str, Any]] = {}

    def add(self, sender_id: str, webhook_url: str | None = None) -> str:
        """Register a number that is online already; the SID comes back."""
        sender = _new_sender({"sender_id": sender_id, "webhook": {"callback_url": webhook_url}})
        sender["status"] = "ONLINE"
        with self._lock:
            self._senders[sender["sid"]] = sender
        return str(sender["sid"])

    def to_json(self) -> list[dict[str, Any]]:
        """Every sender as the API shows it."""
        with self._lock:
            return [dict(sender) for sender in self._senders.values()]

    def clear(self) -> None:
        """Forget every sender."""
        with self._lock:
            self._senders.clear()

    def handle(self, request: Request, base_url: str) -> Response:
        """Answer a request whose path begins with `PATH`.

        Raises:
            ApiError: the request is refused.
        """
        sid = request.path.removeprefix(PATH).strip("/")
        with self._lock:
            match request.method, sid:
                case "GET", "":
                    return self._list(request, base_url)
                case "POST", "":
                    return self._create(request, base_url)
                case "GET" | "POST" | "DELETE", _ if sid not in self._senders:
                    raise ApiError(20404, 404)
                case "GET", _:
                    return Response(200, _settled(self._senders[sid]))
                case "POST", _:
                    return self._update(self._senders[sid], request)
                case "DELETE", _:
                    del self._senders[sid]
                    return Response(204)
        raise ApiError(20004, 405, "Method not allowed")

    def _list(self, request: Request, base_url: str) -> Response:
        channel = request.query.get("Channel", "whatsapp")
        size = int(request.query.get("PageSize", PAGE_SIZE))
        page = int(request.query.get("Page", 0))
        found = [
            sender
            for sender in self._senders.values()
            if sender["sender_id"].startswith(f"{channel}:")
        ]
        shown = found[page * size : (page + 1) * size]

        def url(number: int) -> str:
            return f"{base_url}{PATH}?Channel={channel}&PageSize={size}&Page={number}"

        more = len(found) > (page + 1) * size
        meta = {
            "key": "senders",
            "page": page,
            "page_size": size,
            "first_page_url": url(0),
            "previous_page_url": url(page - 1) if page else None,
            "next_page_url": url(page + 1) if more else None,
            "url": url(page),
        }
        return Response(200, {"meta": meta, "senders": [_settled(sender) for sender in shown]})

    def _create(self, request: Request, base_url: str) -> Response:
        body = _json_body(request)
        sender_id = body.get("sender_id")
        if not isinstance(sender_id, str) or not SENDER_ID.match(sender_id):
            raise ApiError(63100, message="sender_id must be like whatsapp:+15551234567")
        if any(sender["sender_id"] == sender_id for sender in self._senders.values()):
            raise ApiError(63100, 409, f"{sender_id} is registered already")
        sender = _new_sender(body)
        sender["url"] = f"{base_url}{PATH}/{sender['sid']}"
        self._senders[sender["sid"]] = sender
        return Response(202, dict(sender))

    def _update(self, sender: dict[str, Any], request: Request) -> Response:
        for name, value in _json_body(request).items():
            if name in MERGED and isinstance(value, dict):
                given = {key: part for key, part in value.items() if part is not None}
                sender[name] = {**(sender[name] or {}), **given}
            elif name == "friendly_name" and value is not None:
                sender[name] = value
            elif name not in MERGED and name != "friendly_name":
                raise ApiError(63100, message=f"{name} is not known")
        sender["status"] = "ONLINE:UPDATING"
        return Response(202, dict(sender))


def _new_sender(body: dict[str, Any]) -> dict[str, Any]:
    return {
        "sid": "XE" + secrets.token_hex(16),
        "status": "CREATING",
        "sender_id": body["sender_id"],
        "friendly_name": body.get("friendly_name"),
        "configuration": body.get("configuration"),
        "webhook": body.get("webhook"),
        "profile": body.get("profile"),
        "properties": None,
        "offline_reasons": None,
        "compliance": None,
        "url": None,
    }


def _settled(sender: dict[str, Any]) -> dict[str, Any]:
    sender["status"] = "ONLINE"
    return dict(sender)


def _json_body(request: Request) -> dict[str, Any]:
    if not isinstance(request.body, dict) or "json" not in request.headers.get("content-type", ""):
        raise ApiError(63100, message="The body must be a JSON object")
    return request.body
