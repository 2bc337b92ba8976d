"""Bearer keys (RFC 6750)."""

from __future__ import annotations

import falcon

from service.store.api_keys import ApiKeys, Caller
from service.web.errors import Problem

_CHALLENGE = 'Bearer realm="horizon"'


class Authenticator:
    """Tells who makes a request."""

    def __init__(self, api_keys: ApiKeys) -> None:
        self._api_keys = api_keys

    def caller(self, request: falcon.Request) -> Caller:
        """Raises Problem (401), DatabaseDownError."""
        scheme, _, key = (request.auth or "").partition(" ")
        key = key.strip()
        if scheme.lower() != "bearer" or not key:
            raise Problem(
                401,
                "Send an API key in the header 'Authorization: Bearer <key>'.",
                headers={"WWW-Authenticate": _CHALLENGE},
            )
        caller = self._api_keys.authenticate(key)
        if caller is None:
            raise Problem(
                401,
                "This API key is not known or was revoked: `horizonctl key create` makes a new one.",
                headers={"WWW-Authenticate": f'{_CHALLENGE}, error="invalid_token"'},
            )
        return caller
