"""What the core asks of the outside: errors, data and interfaces. It names no vendor and no framework."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol

from service.conversation.bot import Action, Bot

Item = Mapping[str, Any]
"""One input or output item of the Responses API, as JSON."""


class VendorError(Exception):
    """A call to the outside failed. `code` is the vendor's own code, or ours for the transport."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class TransientError(VendorError):
    """It certainly had no effect and may succeed later."""

    def __init__(self, code: str, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(code, message)
        self.retry_after_s = retry_after_s


class PermanentError(VendorError):
    """It had no effect and the same call will fail again."""


class UncertainError(VendorError):
    """It may have had its effect: the answer was lost."""


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One stateless call of the model.

    `input` holds the context's items and everything of this turn, reasoning included.
    `contact_hash` is at most 128 characters and does not reveal the contact.
    """

    model: str
    instructions: str
    input: Sequence[Item]
    tools: Sequence[Item]
    contact_hash: str
    cache_key: str
    timeout_s: float
    tools_allowed: bool = True
    temperature: float | None = None
    max_output_tokens: int | None = None
    reasoning_effort: str | None = None


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function that the model wants called; `arguments` is JSON text, not yet checked."""

    call_id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one model call."""

    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0


@dataclass(frozen=True, slots=True)
class ModelAnswer:
    """What the model said: `items` goes back to it unchanged in the next call of the turn.

    `incomplete_reason` is None when the model finished; else max_output_tokens, content_filter or other.
    """

    items: Sequence[Item]
    text: str
    refusal: str | None
    calls: Sequence[ToolCall]
    incomplete_reason: str | None
    usage: Usage
    model: str


@dataclass(frozen=True, slots=True)
class OutboundMessage:
    """One part as the messenger sends it. `to` is the address that the contact wrote from."""

    part_id: str
    to: str
    body: str


@dataclass(frozen=True, slots=True)
class SentMessage:
    """A message that the messenger's own list shows."""

    sid: str
    to: str
    body: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class ReceivedMessage:
    """A contact's message that the messenger's own list shows."""

    sid: str
    sender: str
    body: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class ActionCall:
    """An action with its template filled: what goes over the wire.

    `path` is absolute and already quoted; `idempotency_key` is sent only when the action says so.
    """

    action: Action
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True)
class ActionAnswer:
    """The CRM's answer, errors of the 4xx kind included; `body` is parsed JSON or text."""

    status: int
    body: Any


class Model(Protocol):
    """The language model."""

    def respond(self, bot: Bot, request: ModelRequest) -> ModelAnswer:
        """Raises TransientError or PermanentError; asking twice does no harm."""


class Background(Protocol):
    """Runs what no turn waits for; it may be dropped."""

    def __call__(self, task: Callable[[], None], after_s: float = 0) -> None:
        """Run it in another thread, `after_s` from now."""


class Messenger(Protocol):
    """The channel to the contact."""

    def send(self, bot: Bot, message: OutboundMessage) -> str:
        """Return the SID. Raises TransientError (never processed), PermanentError, UncertainError."""

    def find_sent(self, bot: Bot, to: str, since: datetime) -> Sequence[SentMessage]:
        """The messages to `to` made at or after `since`, oldest first.

        Raises TransientError, PermanentError.
        """

    def show_typing(self, bot: Bot, message_sid: str) -> None:
        """Show that an answer is being written. Raises VendorError, which never matters to a turn."""


class History(Protocol):
    """What the messenger remembers of a bot, however long the lists are.

    Times are this host's; messages of some seconds before `since` may be among the found, oldest
    first. Raises TransientError, PermanentError.
    """

    def sent_to(self, bot: Bot, to: str, since: datetime) -> Sequence[SentMessage]:
        """What went from the bot to this contact."""

    def received_by(self, bot: Bot, since: datetime) -> Sequence[ReceivedMessage]:
        """What contacts sent to the bot's number."""


class Crm(Protocol):
    """The client's CRM."""

    def call(self, bot: Bot, call: ActionCall) -> ActionAnswer:
        """Raises TransientError (never reached), PermanentError (not configured), UncertainError."""

    def control_mode(self, bot: Bot, contact_number: str) -> Literal["human", "bot"]:
        """Who answers this contact. Two tries of 2 s. Raises VendorError."""

    def report(self, bot: Bot, contact_number: str, kind: str, data: Mapping[str, Any]) -> None:
        """Tell the CRM of an event. Raises VendorError."""
