"""One HTTP call to Horizon: bounded in time and size, with typed errors."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from requests import PreparedRequest, Response, Session
from requests.auth import AuthBase
from requests.exceptions import RequestException, Timeout
from urllib3.exceptions import HTTPError

from service.conversation.ports import (
    ActionAnswer,
    PermanentError,
    TransientError,
    UncertainError,
    VendorError,
)
from service.conversation.storable import storable, storable_json
from service.integrations.address_guard import AddressRefusedError
from service.integrations.error_answers import plain, retry_after_s
from service.integrations.http_session import failure, time_limits, was_never_sent

MAX_BODY_BYTES = 64 * 1024


class _Bearer(AuthBase):
    """As `auth`, not as a header: a `.netrc` entry would replace a header."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


@dataclass(frozen=True, slots=True)
class Target:
    """Where calls go, and with what."""

    base_url: str
    token: str
    session: Session


def exchange(
    target: Target,
    method: str,
    path: str,
    *,
    timeout_s: float,
    query: Mapping[str, str] | None = None,
    body: Any = None,
    headers: Mapping[str, str] | None = None,
) -> tuple[ActionAnswer, float | None]:
    """Send one request; return its answer and the seconds that it asks to wait.

    Every HTTP status is an answer; redirects are not followed; of a body 64 KB are read.

    Raises:
        TransientError: it was never sent.
        PermanentError: it cannot be sent, or the address was refused (`address_refused`).
        UncertainError: sent, but its end is unknown.
    """
    if not path.startswith("/"):
        raise PermanentError("bad_path", "The path of a Horizon call must start with a slash.")
    deadline = time.monotonic() + timeout_s
    try:
        content = None if body is None else json.dumps(body, allow_nan=False).encode()
        response = target.session.request(
            method,
            target.base_url + path,
            params=dict(query or {}),
            data=content,
            headers={
                "Accept": "application/json",
                "Accept-Encoding": "identity",
                **({} if content is None else {"Content-Type": "application/json"}),
                **(headers or {}),
            },
            auth=_Bearer(target.token),
            timeout=time_limits(timeout_s),
            allow_redirects=False,
            stream=True,
        )
    except AddressRefusedError as error:
        raise PermanentError(
            "address_refused", f"The bot's horizon_base_url was refused: {error}."
        ) from error
    except RequestException as error:
        raise _no_answer(error) from error
    except (TypeError, ValueError, RecursionError) as error:
        raise PermanentError("bad_request", f"the call cannot be sent: {plain(error)}") from error
    with response:
        text = _read(response, deadline)
        return ActionAnswer(response.status_code, _parsed(text)), retry_after_s(response.headers)


def _no_answer(error: RequestException) -> VendorError:
    if isinstance(error, ValueError):
        return PermanentError("bad_request", f"the call cannot be sent: {plain(error)}")
    if was_never_sent(error):
        return TransientError("connection", f"Horizon could not be reached: {failure(error)}")
    if isinstance(error, Timeout):
        return UncertainError("timeout", "Horizon did not answer in time")
    return UncertainError("connection_lost", f"Horizon's answer was lost: {failure(error)}")


def _read(response: Response, deadline: float) -> str:
    """At most 64 KB of the body, until the deadline."""
    body = bytearray()
    try:
        while len(body) < MAX_BODY_BYTES:
            chunk = response.raw.read1(MAX_BODY_BYTES - len(body), decode_content=True)
            if not chunk:
                break
            body += chunk
            if time.monotonic() > deadline:
                raise UncertainError("timeout", "Horizon's answer did not end in time")
    except (HTTPError, OSError) as error:
        raise UncertainError("connection_lost", "Horizon's answer broke off") from error
    return body.decode("utf-8", "replace")


def _parsed(text: str) -> Any:
    try:
        value = json.loads(text)
        # NaN and 1e999 are no JSON, and no journal would take them
        json.dumps(value, allow_nan=False)
        return storable_json(value)
    except (ValueError, RecursionError):
        return storable(text)


def status_error(status: int, retry_s: float | None) -> VendorError:
    """The error that a status other than 2xx is, where no effect has to be feared."""
    if status >= 500 or status in (408, 425, 429):
        return TransientError(f"http_{status}", f"Horizon answered {status}", retry_s)
    if 300 <= status < 400:
        return PermanentError(
            f"http_{status}", "Horizon answered a redirect: set its final address instead."
        )
    return PermanentError(f"http_{status}", f"Horizon answered {status}")
