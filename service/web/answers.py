"""What answers on bots look like. Secrets show only whether they are set."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.bots.errors import Fault
from service.conversation.texts import texts_for
from service.settings import Settings
from service.store.records import (
    AssistantRecord,
    Record,
    effective_instructions,
    effective_model,
)


class Answer(BaseModel):
    model_config = ConfigDict(frozen=True, from_attributes=True)


class SecretAnswer(Answer):
    """A secret is never shown."""

    set: bool


class HandoffAnswer(Answer):
    source: Literal["none", "horizon"]
    on_failure: Literal["answer", "silent"]


class TextsAnswer(Answer):
    """The texts in force, the language's where the bot has none of its own."""

    apology: str
    no_answer: str
    opt_out_confirmation: str
    opt_in_confirmation: str
    opt_out_words: tuple[str, ...]
    opt_in_words: tuple[str, ...]


class AssistantAnswer(Answer):
    """A version of an assistant; model and instructions are those in force."""

    id: str
    version: int
    name: str
    model: str
    instructions: str
    tools: list[dict[str, Any]]
    temperature: float | None
    max_output_tokens: int | None
    reasoning_effort: str | None
    metadata: dict[str, Any]
    created_at: datetime | None


class BotAnswer(Answer):
    """A bot; `source` tells who keeps it."""

    id: str
    client_id: str
    name: str
    status: str
    source: Literal["database", "horizon_database", "horizon_api"]
    revision: int
    twilio_phone_number: str
    assistant_id: str
    assistant: AssistantAnswer
    openai_model: str
    instructions: str
    assistant_functions: list[dict[str, Any]]
    horizon_actions: list[dict[str, Any]]
    handoff: HandoffAnswer
    report_turns: bool
    metadata: dict[str, Any]
    texts: TextsAnswer
    language: str
    timezone: str
    twilio_account_sid: str | None
    twilio_auth_token: SecretAnswer
    twilio_messaging_service_sid: str | None
    openai_api_key: SecretAnswer
    openai_base_url: str | None
    horizon_api_token: SecretAnswer
    horizon_base_url: str | None
    created_at: datetime | None
    updated_at: datetime | None


class WarningAnswer(Answer):
    """Something that was saved and will probably not do what was meant."""

    field: str | None
    message: str


class BotEnvelope(Answer):
    data: BotAnswer
    warnings: list[WarningAnswer] = Field(default_factory=list)


class RefreshedEnvelope(Answer):
    data: BotAnswer
    source: Literal["database", "horizon_database", "horizon_api"]


class BotListEnvelope(Answer):
    """A page; `next_cursor` is null on the last one."""

    data: list[BotAnswer]
    next_cursor: str | None


class AssistantListEnvelope(Answer):
    """Every version, the newest first."""

    data: list[AssistantAnswer]


class DeletedAnswer(Answer):
    id: str
    deleted: Literal[True] = True


class DeletedEnvelope(Answer):
    data: DeletedAnswer
    warnings: list[WarningAnswer] = Field(default_factory=list)


def assistant_answer(assistant: AssistantRecord, settings: Settings) -> AssistantAnswer:
    """The version with its defaults filled in."""
    return AssistantAnswer.model_validate(
        {
            **assistant,
            "model": effective_model(assistant, settings),
            "instructions": effective_instructions(assistant, settings),
        }
    )


def bot_answer(record: Record, settings: Settings) -> BotAnswer:
    """The bot with its defaults filled in and its secrets left out."""
    assistant = assistant_answer(record["assistant"], settings)
    return BotAnswer.model_validate(
        {
            **record,
            "twilio_phone_number": record["number"],
            "assistant_id": assistant.id,
            "assistant": assistant,
            "openai_model": assistant.model,
            "instructions": assistant.instructions,
            "assistant_functions": record["functions"],
            "horizon_actions": record["actions"],
            "handoff": {"source": "none", "on_failure": "answer", **record["handoff"]},
            "texts": texts_for(record["language"], record["texts"]),
            "twilio_auth_token": SecretAnswer(set=record["twilio_auth_token"] is not None),
            "openai_api_key": SecretAnswer(set=record["openai_api_key"] is not None),
            "horizon_api_token": SecretAnswer(set=record["horizon_api_token"] is not None),
        }
    )


def warning_answers(faults: Iterable[Fault]) -> list[WarningAnswer]:
    """Warnings as the answer carries them."""
    return [WarningAnswer.model_validate(fault) for fault in faults]
