"""Signed posts, as Twilio makes them: a new connection, exact time-outs, `X-Twilio-Signature`."""

from __future__ import annotations

import http.client
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal
from urllib.parse import urlencode, urlsplit

from twilio.request_validator import RequestValidator

USER_AGENT = "TwilioProxy/1.1"

Outcome = Literal["answered", "connect_failed", "read_failed"]


@dataclass(frozen=True, slots=True)
class Answer:
    """How one post ended; `status` is None when no answer came."""

    outcome: Outcome
    status: int | None = None
    content_type: str = ""
    body: str = ""
    error: str = ""


def signature(token: str, public_url: str, form: Mapping[str, str]) -> str:
    """The signature over the URL (query included, fragment not) and the form."""
    signed_url = urlsplit(public_url)._replace(fragment="").geturl()
    return str(RequestValidator(token).compute_signature(signed_url, dict(form)))


def post_signed(
    url: str,
    form: Mapping[str, str],
    token: str,
    *,
    public_url: str | None = None,
    headers: Mapping[str, str] | None = None,
    connect_timeout_s: float = 5.0,
    read_timeout_s: float = 15.0,
) -> Answer:
    """Post `form` to `url`, signed for `public_url` (`url` itself when not given).

    The request looks as if it had come through `public_url`'s host. Certificates are not checked:
    the emulators only call machines of the operator.
    """
    public = public_url or url
    parts = urlsplit(url)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    sent = {
        "Host": urlsplit(public).netloc,
        "Content-Type": "application/x-www-form-urlencoded; charset=UTF-8",
        "User-Agent": USER_AGENT,
        "Accept": "*/*",
        "Connection": "close",
        "X-Twilio-Signature": signature(token, public, form),
        **(headers or {}),
    }
    connection = _connection(parts.scheme, parts.hostname or "", parts.port, connect_timeout_s)
    try:
        return _exchange(connection, path, urlencode(form), sent, read_timeout_s)
    finally:
        connection.close()


def _exchange(
    connection: http.client.HTTPConnection,
    path: str,
    body: str,
    headers: Mapping[str, str],
    read_timeout_s: float,
) -> Answer:
    try:
        connection.connect()
    except OSError as error:
        return Answer("connect_failed", error=str(error))
    deadline = time.monotonic() + read_timeout_s
    try:
        connection.sock.settimeout(read_timeout_s)
        connection.request("POST", path, body, dict(headers))
        response = connection.getresponse()
        connection_left_s = max(deadline - time.monotonic(), 0.01)
        if connection.sock is not None:
            connection.sock.settimeout(connection_left_s)
        text = response.read().decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        return Answer("read_failed", error=str(error) or type(error).__name__)
    return Answer("answered", response.status, response.getheader("Content-Type", ""), text)


def _connection(
    scheme: str, host: str, port: int | None, timeout_s: float
) -> http.client.HTTPConnection:
    if scheme == "https":
        return http.client.HTTPSConnection(host, port, timeout=timeout_s, context=_any_peer())
    return http.client.HTTPConnection(host, port, timeout=timeout_s)


@lru_cache(maxsize=1)
def _any_peer() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
