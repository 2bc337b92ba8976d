"""What requests on bots may say. Unknown fields and wrong types are refused."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from service.bots.changes import BotChanges, assistant_changes
from service.store.api_keys import CLIENT_ID
from service.web import field_rules as rules

Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
Number = Annotated[
    str,
    AfterValidator(rules.check_number),
    Field(
        examples=[rules.EXAMPLE_NUMBER], json_schema_extra={"pattern": f"^{rules.E164.pattern}$"}
    ),
]
ClientId = Annotated[str, StringConstraints(pattern=f"^{CLIENT_ID.pattern}$")]
FunctionName = Annotated[str, StringConstraints(pattern=rules.FUNCTION_NAME)]
JsonSchema = Annotated[dict[str, Any], AfterValidator(rules.check_json_schema)]
Metadata = Annotated[dict[str, Any], AfterValidator(rules.check_metadata)]
Instructions = Annotated[str, StringConstraints(min_length=1, max_length=256_000)]
ModelName = Annotated[str, StringConstraints(pattern=r"^[^\s\x00-\x1f]{1,100}$")]
Secret = Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,500}$")]
Address = Annotated[str, StringConstraints(max_length=500), AfterValidator(rules.without_slash)]
Sentence = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1600)]
Word = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=50),
    AfterValidator(rules.check_word),
]
Words = Annotated[list[Word], Field(min_length=1, max_length=50)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Tool(BaseModel):
    """A tool of the Responses API, like {"type": "web_search"}; of its own fields only functions'
    names are checked, and that none is a credential."""

    model_config = ConfigDict(extra="allow", strict=True)

    type: Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]{1,64}$")]

    @model_validator(mode="after")
    def _check(self) -> Tool:
        rules.check_tool(self.type, self.model_extra or {})
        return self


class AssistantConfig(Strict):
    """An assistant. What is null or never named is the service's default."""

    name: Name | None = None
    model: ModelName | None = Field(None, examples=["gpt-6-luna"])
    instructions: Instructions | None = None
    tools: (
        Annotated[
            list[Annotated[Tool, BeforeValidator(rules.flatten_function)]],
            Field(max_length=128),
        ]
        | None
    ) = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    max_output_tokens: Annotated[int, Field(ge=16, le=1_000_000)] | None = None
    reasoning_effort: Annotated[str, StringConstraints(pattern=r"^[a-z]{2,20}$")] | None = None
    metadata: Metadata | None = None


class FunctionDefinition(Strict):
    """A function that the assistant may call; the action of the same name carries it out."""

    type: Literal["function"] = "function"
    name: FunctionName
    description: Annotated[str, Field(max_length=4000)] = ""
    parameters: JsonSchema = Field(default_factory=dict)
    strict: bool | None = None

    def dump(self) -> dict[str, Any]:
        """The definition as it is kept."""
        definition = self.model_dump()
        if self.strict is None:
            del definition["strict"]
        return definition


class HorizonAction(Strict):
    """A CRM call. `{placeholders}` are filled with the function's arguments."""

    name: FunctionName
    method: Annotated[
        Literal["GET", "POST", "PUT", "PATCH", "DELETE"], BeforeValidator(rules.upper)
    ] = Field(examples=["POST"])
    path: Annotated[str, StringConstraints(max_length=1000), AfterValidator(rules.check_path)] = (
        Field(examples=["/api/leads/{lead_id}/"], json_schema_extra={"pattern": "^/"})
    )
    description: Annotated[str, Field(max_length=4000)] = ""
    query: dict[str, Any] = Field(default_factory=dict)
    body: Any = None
    parameters: JsonSchema | None = None
    idempotency: Literal["none", "key"] = Field(
        "none",
        description="`key`: the CRM honours Idempotency-Key, so a lost call may be repeated.",
    )


class HandoffFields(Strict):
    """Who knows whether a person has taken over, and what holds when that one cannot be asked."""

    source: Literal["none", "horizon"] | None = None
    on_failure: Literal["answer", "silent"] | None = None


class TextFields(Strict):
    """What the bot says without its model, and the words that it obeys."""

    apology: Sentence | None = None
    no_answer: Sentence | None = None
    opt_out_confirmation: Sentence | None = None
    opt_in_confirmation: Sentence | None = None
    opt_out_words: Words | None = None
    opt_in_words: Words | None = None


class BotFields(Strict):
    """What both creating and changing a bot may name. Null clears a field."""

    instructions: Instructions | None = None
    openai_model: ModelName | None = Field(None, examples=["gpt-6-luna"])
    assistant_config: AssistantConfig | None = None
    assistant_functions: (
        Annotated[
            list[Annotated[FunctionDefinition, BeforeValidator(rules.flatten_function)]],
            Field(max_length=128),
            AfterValidator(rules.check_unique_names),
        ]
        | None
    ) = None
    horizon_actions: (
        Annotated[
            list[HorizonAction], Field(max_length=256), AfterValidator(rules.check_unique_names)
        ]
        | None
    ) = None
    handoff: HandoffFields | None = None
    report_turns: bool | None = None
    status: Literal["active", "paused"] | None = Field(
        None, description="`paused`: messages are kept and answered by nobody."
    )
    metadata: Metadata | None = None
    twilio_account_sid: Annotated[str, StringConstraints(pattern=r"^AC[0-9A-Za-z]{32}$")] | None = (
        None
    )
    twilio_auth_token: Secret | None = None
    twilio_messaging_service_sid: (
        Annotated[str, StringConstraints(pattern=r"^MG[0-9A-Za-z]{32}$")] | None
    ) = None
    openai_api_key: Secret | None = None
    openai_base_url: Address | None = None
    horizon_api_token: Secret | None = None
    horizon_base_url: Address | None = None
    language: Literal["es", "en"] | None = None
    timezone: Annotated[str, AfterValidator(rules.check_timezone)] | None = None
    texts: TextFields | None = None

    def changes(self) -> BotChanges:
        """What to change. Raises InvalidBotError when two places differ on the assistant."""
        bot = self.model_dump(exclude_unset=True)
        # These lists are replaced whole, so their entries are kept with their defaults.
        if self.assistant_functions is not None:
            bot["assistant_functions"] = [function.dump() for function in self.assistant_functions]
        if self.horizon_actions is not None:
            bot["horizon_actions"] = [action.model_dump() for action in self.horizon_actions]
        assistant: dict[str, dict[str, Any]] = {
            place: bot.pop(place) or {}
            for place in ("assistant_config", "assistant_updates")
            if place in bot
        }
        assistant[""] = {
            name: bot.pop(field)
            for field, name in (("openai_model", "model"), ("instructions", "instructions"))
            if field in bot
        }
        return self._changes(bot, assistant)

    def _changes(self, bot: dict[str, Any], assistant: dict[str, dict[str, Any]]) -> BotChanges:
        return BotChanges(bot, assistant_changes(assistant))


class BotCreate(BotFields):
    """A new bot. Null is the same as not named."""

    name: Name
    twilio_phone_number: Number
    client_id: ClientId | None = Field(None, description="Default: the bot's own id.")

    def _changes(self, bot: dict[str, Any], assistant: dict[str, dict[str, Any]]) -> BotChanges:
        named = {place: _without_nulls(fields) for place, fields in assistant.items()}
        return super()._changes(_without_nulls(bot), named)


def _without_nulls(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _no_defaults(schema: dict[str, Any]) -> None:
    for field in schema["properties"].values():
        field.pop("default", None)


class BotUpdate(BotFields):
    """Changes of a bot: what is not named stays as it is."""

    model_config = ConfigDict(json_schema_extra=_no_defaults)

    # The defaults are never read: only what a request names counts.
    name: Name = ""
    twilio_phone_number: Number = ""
    client_id: ClientId = ""
    assistant_updates: AssistantConfig | None = Field(
        None,
        description="As assistant_config: what it names changes, in the assistant's next version.",
    )
