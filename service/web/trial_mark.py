"""The mark of a trial (`service/conversation/trial.py`): proof that the operator wrote the message.

HMAC-SHA256, keyed with a key that is derived from SECRET_KEY, over every other field of the form. Whoever
knows a bot's auth token, its client for example, can sign a form as Twilio does and still not make one.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence

import orjson

from service.conversation.trial import is_trial

FIELD = "HorizonTrialMark"
_PURPOSE = b"horizon trial mark 1"
_ADDRESSES = ("From", "ExternalUserId")


class TrialMarks:
    """Makes marks with the first key of SECRET_KEY and takes those of any."""

    def __init__(self, secret_keys: Sequence[str]) -> None:
        self._keys = [hmac.digest(key.encode(), _PURPOSE, "sha256") for key in secret_keys]

    def mark(self, fields: Mapping[str, str]) -> str:
        """The mark of a form, hexadecimal."""
        return self._mark(self._keys[0], fields)

    def fault(self, fields: Mapping[str, str]) -> str | None:
        """Why a form that claims to be a trial is none; None for a trial, and for any other form."""
        claimed = any(is_trial(fields.get(name, "")) for name in _ADDRESSES)
        if FIELD not in fields and not claimed:
            return None
        if not is_trial(fields.get("From", "")):
            return "a test message must come from an address of tests"
        given = fields.get(FIELD, "").encode("utf-8", "replace")
        marks = [self._mark(key, fields).encode() for key in self._keys]
        if any([hmac.compare_digest(mark, given) for mark in marks]):
            return None
        return "the mark of a test message is missing or does not hold: check SECRET_KEY"

    @staticmethod
    def _mark(key: bytes, fields: Mapping[str, str]) -> str:
        others = sorted((name, value) for name, value in fields.items() if name != FIELD)
        return hmac.digest(key, orjson.dumps(others), "sha256").hex()
