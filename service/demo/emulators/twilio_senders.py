"""Twilio's WhatsApp senders: the Channels Senders API, as far as `channels_senders` uses it.

It refuses what the reference rules out (https://www.twilio.com/docs/whatsapp/api/senders) and what the
SDK, twilio 9.13.0, has no field for. Whether Twilio takes an empty address, to remove a webhook, its
reference does not say: `refuse_empty_urls` decides. Nor does it say whether connection overrides that are
not offered are refused or ignored: refused, here, they are seen.
"""

from __future__ import annotations

import re
import secrets
import threading
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from service.demo.emulators.phone import OverrideError, Overrides
from service.demo.emulators.twilio_errors import ApiError
from service.demo.emulators.wire import Request, Response

PATH = "/v2/Channels/Senders"
SENDER_ID = re.compile(r"^whatsapp:\+[1-9]\d{6,14}$")
SID = re.compile(r"^XE[0-9a-fA-F]{32}$")
MERGED = ("configuration", "webhook", "profile")
PAGE_SIZE = 50
MAX_PAGE_SIZE = 1000
METHODS = ("POST", "PUT")
STATUSES = frozenset(
    {
        *("CREATING", "PENDING_VERIFICATION", "VERIFYING", "ONLINE", "ONLINE:UPDATING"),
        *("OFFLINE", "TWILIO_REVIEW", "DRAFT", "STUBBED"),
    }
)
PROFILE_LIMITS = {"about": 139, "address": 256, "description": 512}
FIELDS: Mapping[str, frozenset[str]] = {
    "webhook": frozenset(
        f"{hook}_{part}"
        for hook in ("callback", "fallback", "status_callback")
        for part in ("url", "method")
    ),
    "configuration": frozenset(
        {
            *("waba_id", "verification_method", "verification_code"),
            *("voice_application_sid", "account_type"),
        }
    ),
    "profile": frozenset(
        {
            *("name", "about", "address", "description", "logo_url", "banner_url"),
            *("privacy_url", "terms_of_service_url", "accent_color", "use_case", "vertical"),
            *("websites", "emails", "phone_numbers"),
        }
    ),
}


class SenderStore:
    """The registered senders, each of one account.

    One that was made or changed becomes ONLINE when it is next read.
    """

    def __init__(self, default_account: str = "") -> None:
        self.refuse_empty_urls = False
        self._default_account = default_account
        self._lock = threading.Lock()
        self._senders: dict[str, dict[str, Any]] = {}
        self._accounts: dict[str, str] = {}

    def add(
        self,
        sender_id: str,
        webhook_url: str | None = None,
        *,
        account: str | None = None,
        status: str = "ONLINE",
    ) -> str:
        """Register a number that has this status already; the SID comes back.

        Raises ValueError for a status that Twilio does not have.
        """
        _check_status(status)
        sender = _new_sender({"sender_id": sender_id, "webhook": {"callback_url": webhook_url}})
        sender["status"] = status
        with self._lock:
            self._keep(sender, account or self._default_account)
        return str(sender["sid"])

    def set_status(self, sid: str, status: str, *reasons: tuple[int, str]) -> None:
        """Twilio changes a sender's status; reasons are a code and a sentence, for OFFLINE alone.

        Raises ValueError for a status that Twilio does not have.
        """
        _check_status(status)
        if reasons and status != "OFFLINE":
            raise ValueError("only a sender that is OFFLINE has reasons for it")
        told = [
            {
                "code": str(code),
                "message": message,
                "more_info": f"https://www.twilio.com/docs/errors/{code}",
            }
            for code, message in reasons
        ]
        with self._lock:
            self._senders[sid] |= {"status": status, "offline_reasons": told or None}

    def webhook_of(self, sender_id: str) -> dict[str, Any]:
        """The webhook that a number has now."""
        with self._lock:
            return dict(
                next(
                    sender["webhook"] or {}
                    for sender in self._senders.values()
                    if sender["sender_id"] == sender_id
                )
            )

    def to_json(self) -> list[dict[str, Any]]:
        """Every sender as the API shows it."""
        with self._lock:
            return [dict(sender) for sender in self._senders.values()]

    def clear(self) -> None:
        """Forget every sender."""
        with self._lock:
            self._senders.clear()
            self._accounts.clear()

    def handle(self, request: Request, base_url: str, account: str) -> Response:
        """Answer a request of this account whose path begins with `PATH`.

        Raises:
            ApiError: the request is refused.
        """
        sid = request.path.removeprefix(PATH).strip("/")
        with self._lock:
            match request.method, sid:
                case "GET", "":
                    return self._list(request, base_url, account)
                case "POST", "":
                    return self._create(request, base_url, account)
                case "GET" | "POST" | "DELETE", _ if not SID.match(sid):
                    raise ApiError(20001, 400, f"Invalid parameter Sid: {sid}")
                case "GET" | "POST" | "DELETE", _ if self._accounts.get(sid) != account:
                    raise ApiError(20404, 404)
                case "GET", _:
                    return Response(200, _settled(self._senders[sid]))
                case "POST", _:
                    return self._update(self._senders[sid], request)
                case "DELETE", _:
                    del self._senders[sid], self._accounts[sid]
                    return Response(204)
        raise ApiError(20004, 405, "Method not allowed")

    def _keep(self, sender: dict[str, Any], account: str) -> None:
        self._senders[sender["sid"]] = sender
        self._accounts[sender["sid"]] = account

    def _list(self, request: Request, base_url: str, account: str) -> Response:
        channel = request.query.get("Channel", "")
        if channel not in ("whatsapp", "rcs"):
            raise ApiError(20001, 400, "Channel must be whatsapp or rcs")
        try:
            size = int(request.query.get("PageSize", PAGE_SIZE))
            page = int(request.query.get("Page", 0))
        except ValueError:
            raise ApiError(20001, 400, "PageSize and Page are numbers") from None
        if not 1 <= size <= MAX_PAGE_SIZE or page < 0:
            raise ApiError(20006, 400, f"PageSize must be from 1 to {MAX_PAGE_SIZE}")
        found = [
            sender
            for sender in self._senders.values()
            if sender["sender_id"].startswith(f"{channel}:")
            and self._accounts[sender["sid"]] == account
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

    def _create(self, request: Request, base_url: str, account: str) -> Response:
        body = self._body(request, "sender_id")
        sender_id = body.get("sender_id")
        if not isinstance(sender_id, str) or not SENDER_ID.match(sender_id):
            raise ApiError(63100, message="sender_id must be like whatsapp:+15551234567")
        if any(sender["sender_id"] == sender_id for sender in self._senders.values()):
            raise ApiError(63100, 409, f"{sender_id} is registered already")
        if account not in self._accounts.values():
            raise ApiError(63100, message="The first sender is registered in the console")
        if not (body.get("profile") or {}).get("name"):
            raise ApiError(63100, message="profile.name is required for a WhatsApp sender")
        sender = _new_sender(body)
        sender["url"] = f"{base_url}{PATH}/{sender['sid']}"
        self._keep(sender, account)
        return Response(202, dict(sender))

    def _update(self, sender: dict[str, Any], request: Request) -> Response:
        for name, value in self._body(request).items():
            if name in MERGED and value is not None:
                given = {key: part for key, part in value.items() if part is not None}
                sender[name] = {**(sender[name] or {}), **given}
            elif value is not None:
                sender[name] = value
        if sender["status"].startswith("ONLINE"):
            sender["status"] = "ONLINE:UPDATING"
        return Response(202, dict(sender))

    def _body(self, request: Request, *more: str) -> dict[str, Any]:
        body = _json_body(request)
        for name, value in body.items():
            if name in FIELDS:
                self._check(name, value)
            elif name not in ("friendly_name", *more):
                raise ApiError(63100, message=f"{name} is not known")
        return body

    def _check(self, name: str, fields: Any) -> None:
        if fields is None:
            return
        if not isinstance(fields, dict):
            raise ApiError(63100, message=f"{name} must be an object")
        for key, value in fields.items():
            if key not in FIELDS[name]:
                raise ApiError(63100, message=f"{name}.{key} is not known")
            if value is None:
                continue
            if key.endswith("_url") and not self._is_url(value):
                raise ApiError(63100, message=f"{name}.{key} is not a valid URL")
            if key.endswith("_url") and name == "webhook":
                self._check_overrides(f"{name}.{key}", value)
            if key.endswith("_method") and name == "webhook" and value not in METHODS:
                raise ApiError(63100, message=f"{name}.{key} must be POST or PUT")
            if len(str(value)) > PROFILE_LIMITS.get(key, 2048):
                raise ApiError(63100, message=f"{name}.{key} is too long")

    def _check_overrides(self, where: str, url: str) -> None:
        try:
            Overrides.of(url)
        except OverrideError as error:
            raise ApiError(63100, message=f"{where}: {error}") from None

    def _is_url(self, value: Any) -> bool:
        if value == "":
            return not self.refuse_empty_urls
        if not isinstance(value, str) or re.search(r"\s", value):
            return False
        address = urlsplit(value)
        return address.scheme in ("http", "https") and bool(address.hostname)


def _check_status(status: str) -> None:
    if status not in STATUSES:
        raise ValueError(f"a sender's status is one of {', '.join(sorted(STATUSES))}")


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
    if sender["status"] in ("CREATING", "ONLINE:UPDATING"):
        sender["status"] = "ONLINE"
    return dict(sender)


def _json_body(request: Request) -> dict[str, Any]:
    if not isinstance(request.body, dict) or "json" not in request.headers.get("content-type", ""):
        raise ApiError(63100, message="The body must be a JSON object")
    return request.body
