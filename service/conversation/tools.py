"""Running the functions that the model asks for. A call's effect happens at most once.

GET, PUT and DELETE may be repeated. A POST or PATCH is journaled before it is made; when its end is
unknown it is repeated only if the action's `idempotency` is `key`, else the model is told so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from service.conversation.actions import ArgumentsError, fill, tools_of, validate_arguments
from service.conversation.bot import Action, Bot
from service.conversation.journal import Journal
from service.conversation.observer import Stopwatch
from service.conversation.ports import (
    ActionAnswer,
    ActionCall,
    Crm,
    ToolCall,
    TransientError,
    UncertainError,
    VendorError,
)
from service.conversation.storable import storable
from service.conversation.trial import is_trial
from service.conversation.turn import Step, Turn

_REPEATABLE = frozenset({"GET", "PUT", "DELETE"})
_MAX_OUTPUT_CHARS = 8_000
_MAX_NOTE_CHARS = 400
_UNKNOWN = (
    "The result is unknown: the CRM did not answer in time. It may or may not have been done. "
    "Do not call it again; tell the contact that the team will confirm it."
)
_TRIAL = (
    "Not called: this is a test message of the operator, and the function would change something. "
    "Answer as if it had been done, and say that it was only a test."
)


@dataclass(frozen=True, slots=True)
class ToolResult:
    """The output for the model and a line for the conversation."""

    output: str
    note: str


class ToolRunner:
    """Runs one call after the other, each journaled."""

    def __init__(self, journal: Journal, crm: Crm) -> None:
        self._journal = journal
        self._crm = crm

    def run(self, turn: Turn, bot: Bot, call: ToolCall, watch: Stopwatch) -> None:
        """Make the call unless the journal has its result. Raises OutageError and FencedError."""
        if not _is_done(turn, call):
            with watch.stage("tool", outside=True):
                result = self._result(turn, bot, call)
            self._record(turn, call, result)

    def leave(self, turn: Turn, call: ToolCall) -> None:
        """Tell the model that there is no time left for this call. Raises as `run`."""
        if _is_done(turn, call):
            return
        reason = _UNKNOWN if _was_begun(turn, call) else "Not called: there is no time left."
        self._record(turn, call, _failed(call, reason))

    def _record(self, turn: Turn, call: ToolCall, result: ToolResult) -> None:
        data = {
            "call_id": call.call_id,
            "name": call.name,
            "output": result.output,
            "note": result.note,
        }
        self._journal.save(turn, steps=[Step("tool", data)])

    def _result(self, turn: Turn, bot: Bot, call: ToolCall) -> ToolResult:
        schema = _schema(bot, call.name)
        action = next((action for action in bot.actions if action.name == call.name), None)
        if schema is None:
            return _failed(call, f"There is no function named {call.name[:64]}.")
        if action is None:
            return _failed(call, "This function is not available: no action is connected to it.")
        try:
            arguments = validate_arguments(schema, call.arguments)
            request = fill(action, arguments, _context(turn, bot))
        except ArgumentsError as error:
            return _failed(call, f"Nothing was called, the arguments are wrong: {error}")
        return self._make(turn, bot, call, action, request)

    def _make(
        self, turn: Turn, bot: Bot, call: ToolCall, action: Action, request: ActionCall
    ) -> ToolResult:
        if is_trial(turn.contact.address) and action.method != "GET":
            return _failed(call, _TRIAL)
        if action.idempotency == "key":
            request = replace(request, idempotency_key=f"{turn.id}:{call.call_id}")
        repeatable = action.method in _REPEATABLE or action.idempotency == "key"
        if not repeatable:
            if _was_begun(turn, call):
                return _failed(call, _UNKNOWN)
            self._journal.save(turn, steps=[Step("tool_intent", {"call_id": call.call_id})])
        try:
            return _answered(call, self._call(bot, request, repeatable))
        except UncertainError:
            return _failed(call, _UNKNOWN)
        except TransientError:
            return _failed(call, "The CRM could not be reached; nothing was done.")
        except VendorError as error:
            return _failed(call, f"The CRM cannot be used: {error.message}")

    def _call(self, bot: Bot, request: ActionCall, repeatable: bool) -> ActionAnswer:
        try:
            answer = self._crm.call(bot, request)
        except TransientError:
            return self._crm.call(bot, request)
        except UncertainError:
            if not repeatable:
                raise
            return self._crm.call(bot, request)
        if answer.status >= 500 and repeatable:
            return self._crm.call(bot, request)
        return answer


def _schema(bot: Bot, name: str) -> Mapping[str, Any] | None:
    for tool in tools_of(bot):
        if tool.get("type") == "function" and tool["name"] == name:
            schema: Mapping[str, Any] = tool.get("parameters") or {"type": "object"}
            return schema
    return None


def _context(turn: Turn, bot: Bot) -> dict[str, str]:
    return {
        "contact_phone": turn.contact.number,
        "contact_name": turn.contact.profile_name or "",
        "bot_number": bot.number,
        "conversation_id": turn.conversation_id,
    }


def _is_done(turn: Turn, call: ToolCall) -> bool:
    return any(
        step.kind == "tool" and step.data["call_id"] == call.call_id for step in turn.run_steps
    )


def _was_begun(turn: Turn, call: ToolCall) -> bool:
    return any(
        step.kind == "tool_intent" and step.data["call_id"] == call.call_id
        for step in turn.run_steps
    )


def _answered(call: ToolCall, answer: ActionAnswer) -> ToolResult:
    body = answer.body
    if not isinstance(body, str):
        # Not orjson, which refuses whole numbers beyond 64 bits and lone surrogates.
        body = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    body = storable(body[:_MAX_OUTPUT_CHARS])
    if 200 <= answer.status < 300:
        output = body or "Done."
    elif answer.status < 500:
        output = f"The CRM refused this (HTTP {answer.status}): {body}"
    else:
        output = f"The CRM failed (HTTP {answer.status}). It is not certain that this was done."
    return ToolResult(output, _note(call, f"HTTP {answer.status} {body}"))


def _failed(call: ToolCall, reason: str) -> ToolResult:
    return ToolResult(reason, _note(call, reason))


def _note(call: ToolCall, outcome: str) -> str:
    return storable(f"called {call.name[:64]} with {call.arguments}: {outcome}"[:_MAX_NOTE_CHARS])
