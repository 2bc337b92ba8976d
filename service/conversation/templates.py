"""Templates of the actions: `{name}` stands for a value, `{{` and `}}` for the braces themselves.

A value is put in once and never looked at again: braces inside it are only text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

Values = Mapping[str, Any]

TOKEN = re.compile(r"\{\{|\}\}|\{([^\W\d][\w-]*)\}")
SEPARATORS = re.compile(r"[/\\]")
UNSENDABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
MISSING = object()
"""What a template comes to when a value of it is absent."""


class ArgumentsError(ValueError):
    """The arguments do not fit; the message tells the model what to change."""


def names_in(template: Any) -> set[str]:
    """The placeholders of a template, whatever its shape; keys of objects are never templates."""
    if isinstance(template, str):
        return {found[1] for found in TOKEN.finditer(template) if found[1]}
    if isinstance(template, Mapping):
        return set().union(*(names_in(inner) for inner in template.values()))
    if isinstance(template, list | tuple):
        return set().union(*(names_in(inner) for inner in template))
    return set()


def fill_path(template: str, values: Values) -> str:
    """Fill a path. Each value is quoted whole, so none can add a segment or a query.

    Raises:
        ArgumentsError: a value is absent, empty, or made to climb out of the path.
    """
    path = _replace(template, lambda name: quote(_path_text(name, values), safe=""))
    absolute = path if path.startswith("/") else f"/{path}"
    # Two harmless values side by side can still make a dot segment
    if any(part in (".", "..") for part in absolute.partition("?")[0].split("/")):
        raise ArgumentsError("the values would change the path; give plain identifiers")
    return absolute


def _path_text(name: str, values: Values) -> str:
    value = values.get(name)
    text = "" if value is None else as_text(name, value)
    if not text.strip():
        raise ArgumentsError(f"{name} is needed and must not be empty")
    if any(part in (".", "..") for part in SEPARATORS.split(text)):
        raise ArgumentsError(f"{name} must not contain . or .. as a path does")
    if UNSENDABLE.search(text):
        raise ArgumentsError(f"{name} must not contain control characters")
    return text


def fill_text(template: str, values: Values) -> Any:
    """Fill a text, or give MISSING when one of its values is absent.

    Raises:
        ArgumentsError: a value is no text, number or boolean.
    """
    if any(values.get(name) is None for name in names_in(template)):
        return MISSING
    return _replace(template, lambda name: as_text(name, values[name]))


def fill_structure(template: Any, values: Values) -> Any:
    """Fill JSON. A text that is exactly one placeholder becomes the value with its type.

    What lacks a value (absent or null) is left out: the key of an object, the entry of a list,
    and MISSING for the whole.

    Raises:
        ArgumentsError: a value inside a longer text is no text, number or boolean.
    """
    if isinstance(template, str):
        alone = TOKEN.fullmatch(template)
        if alone is None or not alone[1]:
            return fill_text(template, values)
        value = values.get(alone[1])
        return MISSING if value is None else value
    if isinstance(template, Mapping):
        filled = {key: fill_structure(inner, values) for key, inner in template.items()}
        return {key: inner for key, inner in filled.items() if inner is not MISSING}
    if isinstance(template, list | tuple):
        return [inner for inner in _filled_list(template, values) if inner is not MISSING]
    return template


def _filled_list(template: list[Any] | tuple[Any, ...], values: Values) -> Iterator[Any]:
    return (fill_structure(inner, values) for inner in template)


def as_text(name: str, value: Any) -> str:
    """A value inside a text: as JSON writes it, but 5.0 as 5.

    Raises:
        ArgumentsError: it is a list or an object.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, int | float):
        return str(value)
    raise ArgumentsError(f"{name} must be a text, a number or a boolean")


def _replace(template: str, text_of: Any) -> str:
    def replacement(found: re.Match[str]) -> str:
        return str(text_of(found[1])) if found[1] else found[0][0]

    return TOKEN.sub(replacement, template)
