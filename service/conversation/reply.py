"""Splitting a reply into messages that the messenger takes."""

from __future__ import annotations

import re

MAX_PART_CHARS = 1_600
"""Longest body of one message (Twilio error 21617 beyond), counted in UTF-16 units to be safe."""
MAX_PARTS = 10

_CUT_CHARS = 8
"""White space that a cut may have taken away."""

_SENTENCE_END = re.compile(r"[.!?…][\"'»”)\]]*\s+")
_URL = re.compile(r"https?://\S+")
_EARLIEST = 0.4
"""A paragraph or sentence that ends before this share of a part is no good place to cut."""


def split_reply(text: str, limit: int = MAX_PART_CHARS, most: int = MAX_PARTS) -> list[str]:
    """Cut at a paragraph, else a sentence, else a line, else a word, never inside a URL that fits.

    Returns at most `most` non-empty parts in order; what is beyond the last is dropped and marked
    with an ellipsis. White space at the cuts is not kept.
    """
    rest = text.strip()
    parts: list[str] = []
    while rest:
        if len(parts) == most - 1 and _units(rest) > limit:
            head = rest[: _fitting(rest, limit - 1)]
            parts.append(rest[: _cut(head, rest)].rstrip() + "…")
            break
        if _units(rest) <= limit:
            parts.append(rest)
            break
        head = rest[: _fitting(rest, limit)]
        at = _cut(head, rest)
        parts.append(rest[:at].rstrip())
        rest = rest[at:].lstrip()
    return parts


def continues(part: str, following: str, limit: int = MAX_PART_CHARS) -> bool:
    """Whether two messages in a row may be parts of one reply: together they fit into none."""
    return _units(part) + _units(following) + _CUT_CHARS > limit


def _units(text: str) -> int:
    return len(text) + sum(character > "\uffff" for character in text)


def _fitting(text: str, limit: int) -> int:
    """How many characters of the text fit into the limit."""
    units = 0
    for position, character in enumerate(text):
        units += 2 if character > "\uffff" else 1
        if units > limit:
            return position
    return len(text)


def _cut(head: str, rest: str) -> int:
    earliest = int(len(head) * _EARLIEST)
    # White space right behind the head is as good a place as any inside it.
    window = rest[: len(head) + 1]
    if (at := window.rfind("\n\n")) >= earliest:
        return at
    sentences = [match.end() for match in _SENTENCE_END.finditer(window)]
    if sentences and sentences[-1] >= earliest:
        return min(sentences[-1], len(head))
    if (at := window.rfind("\n")) >= earliest:
        return at
    for at in range(len(window) - 1, 0, -1):
        if window[at].isspace():
            return at
    for url in _URL.finditer(rest):
        if 0 < url.start() < len(head) < url.end():
            return url.start()
    return len(head)
