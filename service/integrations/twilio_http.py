"""The HTTP client beneath the Twilio SDK.

The SDK's own hands the last answer over in an attribute, which another thread may have replaced by
then, keeps ten connections and drops the headers of errors. This one returns what it received and
raises our errors, so the callers of the SDK never see the SDK's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

from requests import Response
from requests.exceptions import RequestException, Timeout
from twilio.http.response import Response as TwilioResponse

from service.conversation.clock import utc_now
from service.conversation.ports import PermanentError, TransientError, UncertainError, VendorError
from service.integrations.error_answers import plain, retry_after_s
from service.integrations.http_session import (
    connections_for,
    failure,
    new_session,
    time_limits,
    was_never_sent,
)
from service.settings import Settings

TWILIO_HOSTS = 4

BACK_OFF = {"20429", "20503", "63010", "63012", "63017", "21611", "30001"}
SLOW_RETRY_S = {"63018": 30.0}
"""Codes of https://www.twilio.com/docs/api/errors after which the same call may succeed later."""


class TwilioHttp:
    """What the SDK's `Client` takes as `http_client`; one for all accounts and threads.

    `clock_offset_s` is Twilio's time minus this host's, from the `Date` of the last answer; 0 until
    there is one. It never says more than is true, and less by the part of the second that `Date`
    leaves out and by the answer's way.
    """

    is_async = False

    def __init__(self, settings: Settings) -> None:
        connections = connections_for(settings.worker_threads)
        self._session = new_session(connections=connections, hosts=TWILIO_HOSTS)
        self._timeout_s = settings.twilio_timeout_s
        self.clock_offset_s = 0.0

    def request(
        self,
        method: str,
        uri: str,
        params: Mapping[str, Any] | None = None,
        data: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        auth: tuple[str, str] | None = None,
        timeout: float | None = None,
        allow_redirects: bool = False,
    ) -> Any:
        """Send one request.

        Raises:
            TransientError: it was not processed (never sent, or Twilio says to come back).
            PermanentError: it was not processed and would not be.
            UncertainError: sent, but its end is unknown.
        """
        headers = dict(headers or {})
        as_json = headers.get("Content-Type") == "application/json"
        try:
            response = self._session.request(
                method,
                uri,
                params=dict(params or {}),
                data=None if as_json else dict(data or {}),
                json=data if as_json else None,
                headers=headers,
                auth=auth,
                timeout=time_limits(timeout or self._timeout_s),
                allow_redirects=False,
            )
        except RequestException as error:
            raise _no_answer(error) from error
        self._compare_clocks(response.headers.get("Date"))
        if response.status_code >= 300:
            raise _error_answer(response)
        # Not response.text: it guesses the encoding, which is slow and always UTF-8
        text = response.content.decode("utf-8", "replace")
        return TwilioResponse(response.status_code, text, response.headers)

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def _compare_clocks(self, date: str | None) -> None:
        try:
            told = parsedate_to_datetime(date or "")
        except ValueError:
            return
        told_s = told.replace(tzinfo=told.tzinfo or UTC).timestamp()
        self.clock_offset_s = told_s - utc_now().timestamp()


def _no_answer(error: RequestException) -> VendorError:
    if isinstance(error, ValueError):
        return PermanentError("bad_request", f"the request could not be made: {plain(error)}")
    if was_never_sent(error):
        return TransientError("connection", f"Twilio could not be reached: {failure(error)}")
    if isinstance(error, Timeout):
        return UncertainError("timeout", "Twilio did not answer in time")
    return UncertainError("connection_lost", f"Twilio's answer was lost: {failure(error)}")


def _error_answer(response: Response) -> VendorError:
    status = response.status_code
    code, message = _code_and_message(response)
    if status >= 500:
        return UncertainError(code, message)
    if code in SLOW_RETRY_S:
        wait_s = max(retry_after_s(response.headers) or 0.0, SLOW_RETRY_S[code])
        return TransientError(code, message, wait_s)
    if status in (408, 425, 429) or code in BACK_OFF:
        return TransientError(code, message, retry_after_s(response.headers))
    return PermanentError(code, message)


def _code_and_message(response: Response) -> tuple[str, str]:
    """Twilio's own code and sentence, from both shapes of its errors; else the HTTP status."""
    code = f"http_{response.status_code}"
    try:
        body = json.loads(response.content)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        return code, f"Twilio answered {response.status_code}"
    words = [body.get("message") or body.get("title"), body.get("detail")]
    message = plain(": ".join(str(word) for word in words if word))
    return str(body.get("code") or code), message or f"Twilio answered {response.status_code}"
