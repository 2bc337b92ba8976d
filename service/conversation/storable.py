"""Text from outside as every store can keep it."""

from __future__ import annotations

from typing import Any


def storable(text: str) -> str:
    """Without NUL, which PostgreSQL refuses, and without lone surrogates, which UTF-8 has none of."""
    if text.isascii() and "\0" not in text:
        return text
    return text.replace("\0", "").encode("utf-8", "replace").decode()


def storable_json(value: Any) -> Any:
    """The same JSON value with every text in it, names included, made storable."""
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, list):
        return [storable_json(inner) for inner in value]
    if isinstance(value, dict):
        return {storable(name): storable_json(inner) for name, inner in value.items()}
    return value
