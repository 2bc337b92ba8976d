"""Reads a request's JSON object, within limits that every store of ours can keep."""

from __future__ import annotations

import json
import math
from typing import Any

import falcon

from service.bots.errors import Fault
from service.web.errors import MAX_ERRORS, Problem, invalid
from service.web.limited_body import read_at_most

MAX_BYTES = 1_000_000
MAX_DEPTH = 40
_INT64 = 2**63


def read_json_object(request: falcon.Request) -> dict[str, Any]:
    """Raises Problem: 413 too large, 415 another type, 400 not JSON, 422 not storable."""
    raw = read_at_most(request, MAX_BYTES)
    if raw is None:
        raise Problem(413, f"The body is larger than {MAX_BYTES:,} bytes.")
    if not raw.strip():
        raise Problem(400, "The body is empty: send a JSON object.")
    media_type = (request.content_type or "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise Problem(415, "Send the body as JSON, with 'Content-Type: application/json'.")
    try:
        value = json.loads(raw.decode("utf-8-sig"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise Problem(400, "The body is not JSON in UTF-8.") from None
    if not isinstance(value, dict):
        raise Problem(400, "The body must be a JSON object.")
    faults: list[Fault] = []
    _check(value, "", 0, faults)
    if faults:
        raise invalid(faults)
    return value


def _check(value: Any, path: str, depth: int, faults: list[Fault]) -> None:
    """Collect what JSON allows and a database or the model's API would choke on."""
    if len(faults) > MAX_ERRORS:
        return
    if depth > MAX_DEPTH:
        faults.append(Fault(path or None, f"It is nested deeper than {MAX_DEPTH} levels."))
    elif isinstance(value, dict):
        for key, inner in value.items():
            _check(key, path, depth, faults)
            _check(inner, f"{path}.{key}" if path else key, depth + 1, faults)
    elif isinstance(value, list):
        for position, inner in enumerate(value):
            _check(inner, f"{path}.{position}", depth + 1, faults)
    elif isinstance(value, str):
        if "\0" in value or any("\ud800" <= char <= "\udfff" for char in value):
            faults.append(Fault(path or None, "It has a NUL character or half a surrogate pair."))
    elif (isinstance(value, float) and not math.isfinite(value)) or (
        isinstance(value, int) and not -_INT64 <= value < _INT64
    ):
        faults.append(Fault(path or None, "The number is too large."))


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
