"""The SDK's clients, one for each account, all on one HTTP client of ours."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from twilio.base.exceptions import TwilioException

# The SDK would load these two at the first message, while everybody waits
from twilio.rest import (
    Client,
    api,  # noqa: F401
    messaging,  # noqa: F401
)

from service.conversation.ports import PermanentError
from service.integrations.error_answers import is_header_safe
from service.integrations.twilio_http import TwilioHttp
from service.settings import Settings

MAX_CLIENTS = 256
UNREADABLE = (ValueError, TypeError, AttributeError, KeyError, TwilioException)
"""What the SDK raises at a list that is none: the last one when it is answered with 202 or without a key."""
RETRIES = "#rc=3&rp=ct,rt,5xx&rt=4000&tt=15000"
"""Connection overrides (https://www.twilio.com/docs/usage/webhooks/webhooks-connection-overrides)."""


class TwilioClients:
    """For any number of threads."""

    def __init__(self, settings: Settings, http: TwilioHttp) -> None:
        self._settings = settings
        self._http = http
        self._client = lru_cache(maxsize=MAX_CLIENTS)(self._new_client)

    def of(self, account_sid: str | None, auth_token: str | None) -> Any:
        """The client of an account, by a bot's own credentials; None means the operator's.

        An account without its own token is a subaccount of the operator's, whose credentials open it
        (https://www.twilio.com/docs/iam/api/subaccounts).

        Raises:
            PermanentError: `no_credentials`, `bad_credentials`.
        """
        operator_sid = self._settings.twilio_account_sid
        own_sid = account_sid or operator_sid
        username = own_sid if auth_token else operator_sid
        password = auth_token or self._settings.twilio_auth_token
        if not own_sid or not username or not password:
            raise PermanentError(
                "no_credentials",
                "There are no Twilio credentials: set the bot's twilio_account_sid and "
                "twilio_auth_token, or TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN.",
            )
        if not all(is_header_safe(value) for value in (own_sid, username, password)):
            raise PermanentError(
                "bad_credentials",
                "The Twilio credentials have characters that no credential has: set them again.",
            )
        return self._client(own_sid, username, password)

    def _new_client(self, account_sid: str, username: str, password: str) -> Any:
        client = Client(username, password, account_sid, http_client=self._http)
        base_url = self._settings.twilio_api_base_url
        if base_url is not None:
            # The SDK takes edge and region from the environment and would change the host by them
            client.edge = client.region = None
            for domain in (client.api, client.messaging):
                domain.base_url = base_url
        return client
