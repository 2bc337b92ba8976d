"""The model's part of a turn: ask, run what it calls, ask again, until there is a reply."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from time import monotonic
from typing import Any

from service.conversation.actions import tools_of
from service.conversation.bot import Bot
from service.conversation.clock import utc_now
from service.conversation.context import context_items, instructions, turn_items
from service.conversation.journal import Journal
from service.conversation.observer import Observer, Stopwatch
from service.conversation.policy import TurnLimits
from service.conversation.ports import Item, Model, ModelAnswer, ModelRequest, ToolCall, Usage
from service.conversation.storable import storable
from service.conversation.tools import ToolRunner
from service.conversation.trial import is_trial
from service.conversation.turn import Step, Text, Turn


@dataclass(frozen=True, slots=True)
class Reply:
    """What to say to the contact, and why it is that.

    `unsaved` and `usage` are the model's last answer, for the journal: one commit less for each turn.
    """

    text: str
    reason: str
    unsaved: tuple[Step, ...] = ()
    usage: tuple[str, Usage] | None = None


class Converser:
    """Runs the loop over the journal: what has been asked or called before is not done again."""

    def __init__(
        self,
        journal: Journal,
        model: Model,
        tools: ToolRunner,
        observer: Observer,
        limits: TurnLimits,
    ) -> None:
        self._journal = journal
        self._model = model
        self._tools = tools
        self._observer = observer
        self._limits = limits

    def reply(self, turn: Turn, bot: Bot, texts: Sequence[Text], watch: Stopwatch) -> Reply:
        """The caller saves what the reply says is unsaved.

        Raises TransientError, PermanentError, OutageError, FencedError.
        """
        deadline = monotonic() + self._limits.max_turn_s
        base = [*context_items(texts, self._limits), *turn_items(turn)]
        while True:
            last = turn.step("model")
            if last is not None:
                calls = _calls(last)
                if not calls:
                    return _reply_of(last, bot)
                for call in calls:
                    if monotonic() > deadline:
                        self._tools.leave(turn, call)
                    else:
                        self._tools.run(turn, bot, call, watch)
            rounds = sum(step.kind == "model" for step in turn.run_steps)
            if rounds > self._limits.max_rounds:
                return Reply(bot.texts.no_answer, "round_cap")
            capped = rounds == self._limits.max_rounds or monotonic() > deadline
            request = self._request(turn, bot, [*base, *_journaled(turn)], not capped)
            with watch.stage("model", outside=True):
                answer = self._model.respond(bot, request)
            counts = not is_trial(turn.contact.address)
            if counts:
                self._observer.tokens_used(answer.usage)
            # A call that comes in spite of the cap is dropped: there is no further round for it.
            step = _step(answer, _used_ids(turn) if not capped else None)
            usage = (answer.model, answer.usage) if counts else None
            if not step.data["calls"]:
                return replace(_reply_of(step, bot), unsaved=(step,), usage=usage)
            self._journal.save(turn, steps=[step], usage=usage)

    def _request(
        self, turn: Turn, bot: Bot, items: Sequence[Item], tools_allowed: bool
    ) -> ModelRequest:
        assistant = bot.assistant
        return ModelRequest(
            model=assistant.model,
            instructions=instructions(bot, utc_now()),
            input=items,
            tools=tools_of(bot),
            contact_hash=sha256(turn.contact.id.encode()).hexdigest(),
            cache_key=f"{bot.id}:{assistant.version}",
            timeout_s=self._limits.model_timeout_s,
            tools_allowed=tools_allowed,
            temperature=assistant.temperature,
            max_output_tokens=assistant.max_output_tokens,
            reasoning_effort=assistant.reasoning_effort,
        )


def tool_notes(turn: Turn) -> list[str]:
    """One line for each function that the turn called."""
    return [step.data["note"] for step in turn.run_steps if step.kind == "tool"]


def _step(answer: ModelAnswer, used_ids: set[str] | None) -> Step:
    """The journal's row. `used_ids` None means that no call may follow."""
    # A truncated answer may hold a truncated call: it is not run and its items are not sent back.
    runs = answer.calls and used_ids is not None and answer.incomplete_reason is None
    items, calls = _with_own_ids(answer, used_ids or set()) if runs else ([], [])
    data: dict[str, Any] = {
        "items": items,
        "text": storable(answer.text),
        "refusal": storable(answer.refusal or ""),
        "incomplete": answer.incomplete_reason,
        "calls": calls,
    }
    return Step("model", data)


def _with_own_ids(answer: ModelAnswer, used: set[str]) -> tuple[list[Item], list[list[str]]]:
    """Items and calls of which each call has an id that no other of the turn has.

    Compatible servers use an id again in a later round; the journal and the idempotency key tell
    calls apart by it. A call that is no whole one is left out: it would stay unanswered.
    """
    whole = [call.call_id for call in answer.calls]
    items: list[Item] = []
    calls: list[list[str]] = []
    for item in answer.items:
        if item.get("type") != "function_call":
            items.append(dict(item))
        elif item.get("call_id") in whole:
            call = answer.calls[whole.index(item["call_id"])]
            whole[whole.index(item["call_id"])] = ""
            own = call.call_id
            while own in used:
                own = f"{call.call_id}_{len(used)}"
            used.add(own)
            items.append({**item, "call_id": own})
            calls.append([own, call.name, call.arguments])
    return items, calls


def _used_ids(turn: Turn) -> set[str]:
    return {
        call.call_id for step in turn.run_steps if step.kind == "model" for call in _calls(step)
    }


def _calls(step: Step) -> list[ToolCall]:
    return [ToolCall(*call) for call in step.data["calls"]]


def _journaled(turn: Turn) -> list[Item]:
    """The model's own items and the outputs of its calls, in the order of the journal."""
    items: list[Item] = []
    for step in turn.run_steps:
        if step.kind == "model":
            items.extend(step.data["items"])
        elif step.kind == "tool":
            items.append(
                {
                    "type": "function_call_output",
                    "call_id": step.data["call_id"],
                    "output": step.data["output"],
                }
            )
    return items


def _reply_of(step: Step, bot: Bot) -> Reply:
    """Each way in which a model can end has its reply."""
    text = step.data["text"].strip()
    incomplete = step.data["incomplete"]
    if incomplete is not None:
        if text and incomplete != "content_filter":
            return Reply(text, "incomplete")
        return Reply(bot.texts.no_answer, "incomplete")
    if text:
        return Reply(text, "answered")
    refusal = step.data["refusal"].strip()
    if refusal:
        return Reply(refusal, "refusal")
    return Reply(bot.texts.no_answer, "empty")
