"""A signed form from Twilio: its fields, and whether the account's token signed exactly this.

Signature: base64 of the HMAC-SHA1, keyed with the auth token, over the full URL and then every field's
name and value, sorted by name (https://www.twilio.com/docs/usage/security#validating-requests).
The result is the same as twilio.request_validator.RequestValidator's (a property test compares them)
without its second computation for another port and its slow comparison.
"""

from __future__ import annotations

import hmac
from base64 import b64encode
from collections.abc import Mapping, Sequence
from hashlib import sha1
from urllib.parse import urlsplit, urlunsplit

import falcon
from falcon.uri import parse_query_string

from service.web.limited_body import read_at_most

MAX_BODY_BYTES = 1024 * 1024
_MAX_FIELDS = 500
_FORM = "application/x-www-form-urlencoded"


class WrongTypeError(ValueError):
    """The request's body is not a URL-encoded form."""


class FormError(ValueError):
    """The form cannot be read."""


class TooLargeError(ValueError):
    """The body is larger than any form of Twilio's."""


class PublicAddresses:
    """The addresses that Twilio may call, the first of them for requests that name none of them."""

    __slots__ = ("_by_host", "_first")

    def __init__(self, urls: Sequence[str]) -> None:
        self._first = urls[0]
        self._by_host = {host: url for url in reversed(urls) for host in _hosts(url)}

    def called(self, request: falcon.Request) -> str:
        """The configured address that the request's Host names; nothing else of it counts."""
        return self._by_host.get((request.get_header("Host") or "").lower(), self._first)


class TwilioRequest:
    """One request of Twilio's, before anybody knows whether it is genuine."""

    __slots__ = ("_algorithm", "_form", "_signature", "_url", "fields")

    def __init__(
        self, url: str, form: Mapping[str, str | list[str]], signature: str, algorithm: str
    ) -> None:
        self._url = url
        self._form = form
        self._signature = signature
        self._algorithm = algorithm
        # A field that comes more than once counts with its last value.
        fields = {
            name: value if isinstance(value, str) else value[-1] for name, value in form.items()
        }
        if any("\0" in name or "\0" in value for name, value in fields.items()):
            # PostgreSQL keeps no NUL in a text.
            fields = {
                name.replace("\0", ""): value.replace("\0", "") for name, value in fields.items()
            }
        self.fields: Mapping[str, str] = fields

    @classmethod
    def read(cls, request: falcon.Request, addresses: PublicAddresses) -> TwilioRequest:
        """Parse the form, blank values kept. Raises WrongTypeError, FormError, TooLargeError."""
        if (request.content_type or "").split(";", 1)[0].strip().lower() != _FORM:
            raise WrongTypeError(f"the body must be {_FORM}")
        body = read_at_most(request, MAX_BODY_BYTES)
        if body is None:
            raise TooLargeError("the form is larger than 1 MB")
        try:
            text = body.decode()
        except UnicodeDecodeError as error:
            raise FormError("the form cannot be read: it must be UTF-8") from error
        if text.count("&") >= _MAX_FIELDS:
            raise FormError(f"the form has more than {_MAX_FIELDS} fields")
        # Falcon's parser is compiled: a tenth of the time of urllib's.
        form = parse_query_string(text, keep_blank=True, csv=False)
        settings = request.get_header("X-Twilio-Webhooks-Signature-Settings") or ""
        return cls(
            addresses.called(request) + _raw_path(request),
            form,
            request.get_header("X-Twilio-Signature") or "",
            settings,
        )

    @property
    def is_signed(self) -> bool:
        """Whether it carries a signature, true or false."""
        return bool(self._signature)

    def signature_fault(self, auth_token: str) -> str | None:
        """Why the signature does not hold; None when it does."""
        if not self._signature:
            return "the header X-Twilio-Signature is missing"
        if _algorithm(self._algorithm) != "HMAC_SHA1":
            return "the signature names an algorithm that this bot does not use"
        expected = signature(self._url, self._form, auth_token)
        given = self._signature.encode("utf-8", "replace")
        if hmac.compare_digest(expected, given):
            return None
        # Twilio is not consistent about the scheme's own port: its library takes both.
        for url in _with_other_port(self._url):
            if hmac.compare_digest(signature(url, self._form, auth_token), given):
                return None
        return (
            "the signature does not match: check the auth token, and that the called address is "
            "PUBLIC_BASE_URL or one of PUBLIC_OTHER_URLS"
        )


def signature(url: str, form: Mapping[str, str | list[str]], auth_token: str) -> bytes:
    """The signature of a form, as the header carries it."""
    text = url
    for name in sorted(form):
        value = form[name]
        if isinstance(value, str):
            text += name + value
        else:
            # Twilio's own library takes the distinct values of a name once each, sorted.
            text += "".join(name + each for each in sorted(set(value)))
    # hmac.new keeps the interpreter's lock for texts this short; hmac.digest always lets go of it,
    # which costs a change of threads under load.
    return b64encode(hmac.new(auth_token.encode(), text.encode("utf-8", "replace"), sha1).digest())


def _hosts(url: str) -> list[str]:
    """What the header Host may say for this address."""
    return [urlsplit(each).netloc.lower() for each in (url, *_with_scheme_port(url))]


def _with_scheme_port(url: str) -> list[str]:
    return [] if urlsplit(url).port is not None else _with_other_port(url)


def _with_other_port(url: str) -> list[str]:
    parts = urlsplit(url)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    if parts.port is not None:
        return [urlunsplit(parts._replace(netloc=host))]
    port = 443 if parts.scheme == "https" else 80
    return [urlunsplit(parts._replace(netloc=f"{host}:{port}"))]


def _raw_path(request: falcon.Request) -> str:
    """Path and query exactly as they were sent: gunicorn's RAW_URI, else rebuilt."""
    raw: str = request.env.get("RAW_URI") or ""
    path = raw.partition("#")[0] if raw.startswith("/") else request.path
    if "?" in path or not request.query_string:
        return path
    return f"{path}?{request.query_string}"


def _algorithm(settings: str) -> str:
    for pair in settings.split(","):
        name, _, value = pair.partition("=")
        if name.strip().lower() == "algorithm":
            return value.strip()
    return "HMAC_SHA1"
