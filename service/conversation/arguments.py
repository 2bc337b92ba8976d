"""Whether the model's arguments fit a tool's `parameters`, whoever wrote that schema.

A schema is a client's own, and all clients share the worker: checking must end soon whatever it
says. Patterns run in an engine of linear time (no look-around, no back references), references
lead nowhere but into the schema itself, and what would be looked at is counted before.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any
from urllib.parse import unquote

from jsonschema_rs import Draft202012Validator, RegexOptions, ValidationError

from service.conversation.templates import ArgumentsError

__all__ = ["check_parameters", "validate_arguments"]

MAX_FAULTS = 5
MAX_FAULT_CHARS = 200
MAX_VISITS = 20_000
"""Pairs of a subschema and a value; at the most they cost about 20 µs each, when none fits."""

_IN_PLACE = ("not", "if", "then", "else")
_IN_PLACE_LISTS = ("allOf", "anyOf", "oneOf")
_OF_EACH_VALUE = ("additionalProperties", "unevaluatedProperties")
_OF_EACH_ITEM = ("items", "contains", "unevaluatedItems", "additionalItems")
_LOOKS_TWICE = ("unevaluatedProperties", "unevaluatedItems")
_UNFOLLOWED = ("$dynamicRef", "$recursiveRef", "$id")


class _BrokenSchemaError(Exception):
    """The schema cannot be used."""


def check_parameters(schema: Mapping[str, Any]) -> None:
    """See, before it is saved, that arguments can be checked against this schema.

    Raises:
        ValueError: a sentence that says what it must not have.
    """
    root = {name: value for name, value in schema.items() if name != "$id"}
    try:
        Draft202012Validator(root, pattern_options=RegexOptions(), offline=True)
    except (ValueError, TypeError) as error:
        raise ValueError(
            "a pattern may have no look-around and no back reference, and a $ref must lead into "
            "the schema itself"
        ) from error


def validate_arguments(schema: Mapping[str, Any], arguments_json: str) -> dict[str, Any]:
    """Parse the model's arguments and check them against the tool's `parameters`.

    Raises:
        ArgumentsError: in words that the model can act on.
    """
    arguments = _parsed(arguments_json)
    # Its own address is of no use: what refers to it by that is not followed.
    root = {name: value for name, value in schema.items() if name != "$id"}
    try:
        if _Visits(root).of(root, arguments) > MAX_VISITS:
            raise ArgumentsError("there is more to check than is allowed; give shorter arguments")
        faults = _faults(root, arguments)
    except (_BrokenSchemaError, RecursionError) as error:
        raise ArgumentsError("this tool's own schema is broken; do not call it again") from error
    if faults:
        raise ArgumentsError("; ".join(faults))
    return arguments


def _parsed(arguments_json: str) -> dict[str, Any]:
    try:
        arguments = json.loads(
            arguments_json.strip() or "{}", parse_constant=_no_number, parse_float=_finite
        )
        # A lone surrogate is JSON, but it can be sent in no request
        json.dumps(arguments, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise ArgumentsError("the arguments are not valid JSON") from error
    if not isinstance(arguments, dict):
        raise ArgumentsError("the arguments must be a JSON object")
    return arguments


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is too large")
    return number


def _faults(root: dict[str, Any], arguments: dict[str, Any]) -> list[str]:
    try:
        validator = Draft202012Validator(
            root, mask="the value", pattern_options=RegexOptions(), offline=True
        )
    except (ValueError, TypeError) as error:
        raise _BrokenSchemaError from error
    try:
        found = list(islice(validator.iter_errors(arguments), MAX_FAULTS))
    except ValueError as error:
        raise ArgumentsError("the arguments are nested too deeply") from error
    return [_sentence(fault) for fault in found]


def _sentence(fault: ValidationError) -> str:
    place = "".join(
        f"[{step}]" if isinstance(step, int) else f".{step}" for step in fault.instance_path
    )
    return f"{place.removeprefix('.') or 'arguments'}: {fault.message}"[:MAX_FAULT_CHARS]


class _Visits:
    """How often a subschema meets a value when every branch is looked at; each pair asked once.

    Without it a schema of a few hundred bytes whose branches refer twice to the next one would
    take hours (2 to the power of its definitions).
    """

    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root
        self._known: dict[tuple[int, int], int | None] = {}

    def of(self, schema: Any, value: Any) -> int:
        """Raises _BrokenSchemaError for what leads nowhere, elsewhere, or back to itself."""
        if not isinstance(schema, dict):
            return 1
        pair = (id(schema), id(value))
        if pair not in self._known:
            self._known[pair] = None
            self._known[pair] = self._count(schema, value)
        visits = self._known[pair]
        if visits is None:
            raise _BrokenSchemaError
        return visits

    def _count(self, schema: dict[str, Any], value: Any) -> int:
        if any(isinstance(schema.get(name), str) for name in _UNFOLLOWED):
            raise _BrokenSchemaError
        visits = 1 + sum(self.of(inner, value) for inner in self._in_place(schema))
        if isinstance(value, dict):
            visits += sum(self.of(*pair) for pair in _of_properties(schema, value))
        elif isinstance(value, list):
            visits += sum(self.of(*pair) for pair in _of_items(schema, value))
        # Those have their siblings looked at once more.
        return visits * 2 if schema.keys() & set(_LOOKS_TWICE) else visits

    def _in_place(self, schema: dict[str, Any]) -> Iterator[Any]:
        if "$ref" in schema:
            yield self._referred(schema["$ref"])
        yield from (schema[name] for name in _IN_PLACE if name in schema)
        for name in _IN_PLACE_LISTS:
            yield from _entries(schema.get(name))
        for name in ("dependentSchemas", "dependencies"):
            yield from _fields(schema.get(name)).values()

    def _referred(self, reference: Any) -> Any:
        if not isinstance(reference, str) or not (reference == "#" or reference[:2] == "#/"):
            raise _BrokenSchemaError
        found: Any = self._root
        for token in unquote(reference).split("/")[1:]:
            name = token.replace("~1", "/").replace("~0", "~")
            try:
                found = found[int(name) if isinstance(found, list) else name]
            except (LookupError, TypeError, ValueError):
                raise _BrokenSchemaError from None
            # From here on references would be relative to this one.
            if isinstance(found, dict) and isinstance(found.get("$id"), str):
                raise _BrokenSchemaError
        return found


def _of_properties(schema: dict[str, Any], value: dict[str, Any]) -> Iterator[tuple[Any, Any]]:
    properties = _fields(schema.get("properties"))
    everywhere = [schema[name] for name in _OF_EACH_VALUE if name in schema]
    everywhere += _fields(schema.get("patternProperties")).values()
    for name, inner in value.items():
        if name in properties:
            yield properties[name], inner
        if "propertyNames" in schema:
            yield schema["propertyNames"], name
        yield from ((each, inner) for each in everywhere)


def _of_items(schema: dict[str, Any], value: list[Any]) -> Iterator[tuple[Any, Any]]:
    for name in ("prefixItems", "items"):
        yield from zip(_entries(schema.get(name)), value, strict=False)
    for name in _OF_EACH_ITEM:
        if isinstance(schema.get(name), dict):
            yield from ((schema[name], inner) for inner in value)


def _entries(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _fields(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
