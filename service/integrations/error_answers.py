"""What is read from a vendor's error answer, whoever the vendor is."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

MAX_RETRY_AFTER_S = 3600.0
MAX_TEXT_CHARS = 300
MASK = "***"
LONG_NUMBER = re.compile(r"\d{7,}")
REFUSED_KEY = "the server refused the key"
"""Said for 401 and 403 instead of the server's words, which often repeat the key."""

_KEY = re.compile(
    r"(?i:\b(?:bearer|basic)\s+\S+)"
    r"|\b(?:sk|hk|pk|rk)[-_][\w*.-]+"
    # Long and mixed as only random text is: names of models are neither
    r"|\b(?=[\w-]*[a-z])(?=[\w-]*[A-Z])(?=[\w-]*\d)[\w-]{24,}"
    r"|\b(?=\w*[A-Za-z])(?=\w*\d)\w{20,}"
)
_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}|[0-9]{3,6}")


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, at most an hour, from `Retry-After-Ms` or `Retry-After` (also a date)."""
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return _within_limits(milliseconds / 1000)
    value = headers.get("retry-after")
    seconds = _number(value)
    if seconds is not None:
        return _within_limits(seconds)
    if value is None:
        return None
    try:
        return _within_limits(parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def _number(value: str | None) -> float | None:
    try:
        return None if value is None else float(value)
    except ValueError:
        return None


def _within_limits(seconds: float) -> float | None:
    # Not a plain min(max()): NaN would pass through it
    return min(seconds, MAX_RETRY_AFTER_S) if seconds >= 0 else None


def plain(text: object, key: str = "") -> str:
    """A vendor's message made fit for logs: one short line, phone numbers and keys masked.

    `key` is the one that the call was made with; others are known by their looks.
    """
    words = str(text)[: MAX_TEXT_CHARS * 4]
    if key:
        words = words.replace(key, MASK)
    words = "".join(char if char.isprintable() else " " for char in words)
    words = _KEY.sub(MASK, words)
    masked = LONG_NUMBER.sub(lambda found: f"{found[0][:2]}...{found[0][-2:]}", words)
    return masked[:MAX_TEXT_CHARS].strip()


def code_of(value: object, otherwise: str, key: str = "") -> str:
    """A vendor's error code, or `otherwise` when it is none: codes are logged as they are."""
    code = str(value or "")
    return code if _CODE.fullmatch(code) and plain(code, key) == code else otherwise


def is_header_safe(value: str) -> bool:
    """Whether the text can be a header's value: nothing in it could end the header."""
    return bool(value) and value.isascii() and value.isprintable()
