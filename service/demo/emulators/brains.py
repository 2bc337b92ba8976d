"""Brains for tests, and how a brain reads the request that it is given."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterable, Mapping
from typing import Any

from service.demo.emulators.replies import Brain, Reply, text


def input_items(request: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The items of `input`, also when it is a single text."""
    given = request["input"]
    if isinstance(given, str):
        return [{"type": "message", "role": "user", "content": given}]
    return list(given)


def content_text(content: Any) -> str:
    """The text of a message's content, its parts joined by line breaks."""
    if isinstance(content, str):
        return content
    parts = [part.get("text") or part.get("refusal") for part in content or []]
    return "\n".join(part for part in parts if part)


def turn_messages(request: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The contact's messages since the assistant's last one."""
    messages: list[dict[str, Any]] = []
    for item in input_items(request):
        if item.get("role") == "assistant":
            messages.clear()
        elif item.get("role") == "user":
            messages.append(item)
    return messages


def turn_texts(request: Mapping[str, Any]) -> list[str]:
    """The texts that the contact wrote since the assistant's last message."""
    return [content_text(item.get("content")) for item in turn_messages(request)]


def said_texts(request: Mapping[str, Any], *roles: str) -> list[str]:
    """Every message's text, oldest first; with `roles`, only theirs."""
    return [
        content_text(item.get("content"))
        for item in input_items(request)
        if "role" in item and (not roles or item["role"] in roles)
    ]


def tool_answers(request: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The (function, output) pairs that end the input; outputs that are JSON are parsed."""
    items = input_items(request)
    names = {
        item.get("call_id"): str(item.get("name"))
        for item in items
        if item.get("type") == "function_call"
    }
    answers: list[tuple[str, Any]] = []
    for item in reversed(items):
        if item.get("type") != "function_call_output":
            break
        output: Any = content_text(item.get("output"))
        with contextlib.suppress(ValueError):
            output = json.loads(output)
        answers.insert(0, (names[item["call_id"]], output))
    return answers


def echo_brain(request: dict[str, Any]) -> Reply:
    """Says `eco: ` and what the contact wrote in this turn, joined by ` | `."""
    return text("eco: " + " | ".join(turn_texts(request)))


class ScriptedBrain:
    """Gives the scripted replies in order, then asks `then`. Thread-safe.

    An entry may be a function of the request. `seen` holds the requests in order.
    """

    def __init__(self, script: Iterable[Reply | Brain], then: Brain = echo_brain) -> None:
        self._script = list(script)
        self._then = then
        self._lock = threading.Lock()
        self.seen: list[dict[str, Any]] = []

    def __call__(self, request: dict[str, Any]) -> Reply:
        with self._lock:
            self.seen.append(request)
            entry = self._script.pop(0) if self._script else self._then
        return entry if isinstance(entry, Reply) else entry(request)
