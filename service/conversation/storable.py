"""Text from outside as every store can keep it."""

from __future__ import annotations

import math
from typing import Any

MAX_DEPTH = 100
"""PostgreSQL and orjson (254 levels) refuse what is nested without end."""
TOO_DEEP = "(nested too deep)"
_INT64 = 2**63


def storable(text: str) -> str:
    """Without NUL, which PostgreSQL refuses, and without lone surrogates, which UTF-8 has none of."""
    if text.isascii() and "\0" not in text:
        return text
    return text.replace("\0", "").encode("utf-8", "replace").decode()


def storable_json(value: Any, depth: int = 0) -> Any:
    """The same JSON value with every text in it, names included, made storable.

    A whole number beyond 64 bits becomes text, one that is no number null, and what lies deeper
    than `MAX_DEPTH` the text `TOO_DEEP`.
    """
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, (list, dict)):
        if depth >= MAX_DEPTH:
            return TOO_DEEP
        if isinstance(value, list):
            return [storable_json(inner, depth + 1) for inner in value]
        return {storable(name): storable_json(inner, depth + 1) for name, inner in value.items()}
    if isinstance(value, int):
        return value if -_INT64 <= value < _INT64 else str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
