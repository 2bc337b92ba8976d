"""A bot as the core knows it: its number, its assistant, its credentials and its ways."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

IdempotencyRule = Literal["none", "key"]
"""`key`: the CRM honours `Idempotency-Key`, so a call whose end is unknown may be repeated."""


@dataclass(frozen=True, slots=True)
class Action:
    """A CRM call that the assistant may make. `{placeholders}` in path, query and body are filled."""

    name: str
    method: str
    path: str
    description: str = ""
    query: Mapping[str, Any] = field(default_factory=dict)
    body: Any = None
    parameters: Mapping[str, Any] | None = None
    idempotency: IdempotencyRule = "none"


@dataclass(frozen=True, slots=True)
class Assistant:
    """One version of an assistant's configuration. `model` and `instructions` are already resolved."""

    id: str
    version: int
    name: str
    model: str
    instructions: str
    tools: Sequence[Mapping[str, Any]] = ()
    temperature: float | None = None
    max_output_tokens: int | None = None
    reasoning_effort: str | None = None


@dataclass(frozen=True, slots=True)
class Handoff:
    """Whether a person may take over, who knows it, and what holds when that one cannot be asked."""

    source: Literal["none", "horizon"] = "none"
    on_failure: Literal["answer", "silent"] = "answer"


@dataclass(frozen=True, slots=True)
class Texts:
    """What the bot says without its model, and the words that it obeys. All resolved, none empty."""

    apology: str
    no_answer: str
    opt_out_confirmation: str
    opt_in_confirmation: str
    opt_out_words: Sequence[str]
    opt_in_words: Sequence[str]


@dataclass(frozen=True, slots=True)
class Bot:
    """A bot, complete for running turns. Secrets are in clear text here and nowhere else.

    An empty credential means: the operator's own from the settings. A bot that names its own
    `openai_base_url` or `horizon_base_url` is never given the operator's key.
    """

    id: str
    client_id: str
    name: str
    number: str
    assistant: Assistant
    texts: Texts
    language: str = "es"
    timezone: str = "America/Santiago"
    actions: Sequence[Action] = ()
    functions: Sequence[Mapping[str, Any]] = ()
    handoff: Handoff = Handoff()
    report_turns: bool = False
    paused: bool = False
    metadata: Mapping[str, Any] = field(default_factory=dict)
    twilio_account_sid: str | None = None
    twilio_auth_token: str | None = field(default=None, repr=False)
    twilio_messaging_service_sid: str | None = None
    openai_api_key: str | None = field(default=None, repr=False)
    openai_base_url: str | None = None
    horizon_api_token: str | None = field(default=None, repr=False)
    horizon_base_url: str | None = None

    @property
    def address(self) -> str:
        """The bot's address as the messenger writes it."""
        return f"whatsapp:{self.number}"
