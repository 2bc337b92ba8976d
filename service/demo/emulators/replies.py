"""What a brain may let the emulated model answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Brain = Callable[[dict[str, Any]], "Reply"]
"""The behaviour of the model: from the request's JSON to its reply."""


@dataclass(frozen=True, slots=True)
class Call:
    """A function call. `arguments` given as text go out unchanged, so they may be malformed."""

    name: str
    arguments: Mapping[str, Any] | str


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer of the model; make it with the functions of this module."""

    kind: Literal["text", "calls", "refusal", "incomplete", "failed", "empty", "raw"]
    text: str = ""
    calls: Sequence[Call] = ()
    code: str = ""
    body: Mapping[str, Any] = field(default_factory=dict)


def text(words: str) -> Reply:
    """A message."""
    return Reply("text", text=words)


def calls(wanted: Sequence[tuple[str, Mapping[str, Any] | str]], words: str = "") -> Reply:
    """Function calls as (name, arguments), after a message when there are `words`."""
    return Reply("calls", text=words, calls=[Call(name, given) for name, given in wanted])


def refusal(words: str) -> Reply:
    """A refusal."""
    return Reply("refusal", text=words)


def incomplete(reason: str, words: str = "") -> Reply:
    """Status incomplete for `max_output_tokens` or `content_filter`, with what there is so far."""
    return Reply("incomplete", text=words, code=reason)


def failed(code: str, message: str) -> Reply:
    """HTTP 200 with status failed, for example `server_error`."""
    return Reply("failed", text=message, code=code)


def empty() -> Reply:
    """Status completed without any output."""
    return Reply("empty")


def raw(body: Mapping[str, Any]) -> Reply:
    """This JSON instead of a response, with HTTP 200."""
    return Reply("raw", body=body)
