"""A turn and what its journal knows of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from service.conversation.event import Event

StepKind = Literal["model", "tool_intent", "tool", "reply", "dying", "retry"]
PartKind = Literal["reply", "apology"]
TurnStatus = Literal["running", "replied", "silent", "dead"]
Direction = Literal["in", "out", "note"]


@dataclass(frozen=True, slots=True)
class Step:
    """A row of the journal."""

    kind: StepKind
    data: Mapping[str, Any]


@dataclass(slots=True)
class Part:
    """One message of a reply. An intent without a SID may have been sent."""

    id: str
    kind: PartKind
    n: int
    address: str
    body: str
    intent_at: datetime | None = None
    sid: str | None = None
    callback_sid: str | None = None
    error_code: str | None = None


@dataclass(frozen=True, slots=True)
class ContactState:
    """The contact as the turn finds it. `address` is where the last message came from."""

    id: str
    address: str
    profile_name: str | None
    opted_out: bool

    @property
    def number(self) -> str:
        """The E.164 number, or the messenger's id when the number is hidden."""
        return self.address.removeprefix("whatsapp:")


@dataclass(slots=True)
class Turn:
    """An open turn. `fence` must accompany every write; `steps` and `parts` mirror the journal."""

    id: str
    conversation_id: str
    bot_id: str
    client_id: str
    ordinal: int
    fence: int
    contact: ContactState
    events: Sequence[Event]
    steps: list[Step] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    tries: int = 0
    crashes: int = 0
    retry_s: float = 0.0
    """What failed tries and the waits after them have taken."""
    resumed: bool = False

    def parts_of(self, kind: PartKind) -> list[Part]:
        return [part for part in self.parts if part.kind == kind]

    @property
    def run_steps(self) -> list[Step]:
        """The steps that still hold: a retry begins the attempt to die anew, nothing else."""
        steps: list[Step] = []
        for step in self.steps:
            if step.kind == "retry":
                steps = [kept for kept in steps if kept.kind != "dying"]
            else:
                steps.append(step)
        return steps

    def step(self, kind: StepKind) -> Step | None:
        """The last step of this kind that still holds."""
        return next((step for step in reversed(self.run_steps) if step.kind == kind), None)


@dataclass(frozen=True, slots=True)
class Text:
    """A line of a conversation as the next turns see it."""

    direction: Direction
    text: str


@dataclass(frozen=True, slots=True)
class Opening:
    """What a claim found: a turn to go on with, if any, and the events that then can be removed.

    `bot_revision` is the bot's revision in SQL, None when it has no row or is deleted.
    """

    turn: Turn | None
    handled: Sequence[Event]
    bot_revision: int | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a turn ended."""

    status: TurnStatus
    reason: str
    error: str | None = None
    texts: Sequence[Text] = ()
    opted_out: bool | None = None
