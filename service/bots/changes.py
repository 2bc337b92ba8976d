"""What a request changes of a bot, and the rows that come out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from service.bots.errors import Fault, InvalidBotError
from service.store.bots import Row
from service.store.records import SECRET_FIELDS
from service.store.secrets import Cipher, UnreadableSecretError

_CLEARED: Mapping[str, Any] = {
    "assistant_functions": [],
    "horizon_actions": [],
    "report_turns": False,
    "status": "active",
    "metadata": {},
    "language": "es",
    "timezone": "America/Santiago",
}
_NESTED = ("handoff", "texts")
_ASSISTANT_CLEARED: Mapping[str, Any] = {"tools": [], "metadata": {}}


@dataclass(frozen=True, slots=True)
class BotChanges:
    """The fields that a request names, by column. A key that is absent stays, None clears it.

    `assistant` holds the assistant's fields from wherever they were named. Secrets are in clear.
    """

    bot: Mapping[str, Any]
    assistant: Mapping[str, Any] = field(default_factory=dict)


def assistant_changes(sources: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """One set of assistant fields from several places of a request, by the name of the place.

    Top-level `openai_model` and `instructions` come as the place "".

    Raises:
        InvalidBotError: two places name the same field and differ.
    """
    values: dict[str, Any] = {}
    named_by: dict[str, str] = {}
    faults = []
    for place, fields in sources.items():
        for name, value in fields.items():
            path = f"{place}.{name}" if place else _TOP_LEVEL.get(name, name)
            if name in values and values[name] != value:
                message = f"It differs from {named_by[name]}: send the value once."
                faults.append(Fault(path, message))
            else:
                values[name] = value
                named_by[name] = path
    if faults:
        raise InvalidBotError(faults)
    return values


_TOP_LEVEL = {"model": "openai_model"}


def merge_bot(current: Row, changes: BotChanges, cipher: Cipher) -> dict[str, Any]:
    """The columns of `bots` that really change; secrets come out encrypted."""
    merged: dict[str, Any] = {}
    for name, value in changes.bot.items():
        held = current.get(name)
        if name in SECRET_FIELDS:
            if decrypted(held, cipher) == value and (held is None) == (value is None):
                continue
            merged[name] = None if value is None else cipher.encrypt(value)
            continue
        if name in _NESTED:
            named = {} if value is None else {**(held or {}), **value}
            value = {key: inner for key, inner in named.items() if inner is not None}
        elif value is None:
            value = _CLEARED.get(name)
        if value != held:
            merged[name] = value
    return merged


def merge_assistant(current: Row, changes: BotChanges, bot_name: str) -> dict[str, Any]:
    """The columns of `assistants` that really change."""
    merged = {}
    for name, value in changes.assistant.items():
        if value is None:
            value = bot_name if name == "name" else _ASSISTANT_CLEARED.get(name)
        if value != current.get(name):
            merged[name] = value
    return merged


def decrypted(token: str | None, cipher: Cipher) -> str | None:
    """A secret in clear; None when there is none or no key reads it any more."""
    if token is None:
        return None
    try:
        return cipher.decrypt(token)
    except UnreadableSecretError:
        return None
