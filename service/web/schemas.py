"""What requests on bots may say. Unknown fields and wrong types are refused."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import phonenumbers
from jsonschema import Draft202012Validator, SchemaError
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
)

from service.bots.changes import BotChanges, assistant_changes
from service.store.records import SECRET_FIELDS, is_timezone

_E164 = re.compile(r"\+[1-9][0-9]{6,14}")
_PLACEHOLDER = re.compile(r"\{[A-Za-z_][A-Za-z0-9_]*\}")
_EXAMPLE_NUMBER = "+56912345678"


def _check_number(value: str) -> str:
    if value.lower().startswith("whatsapp:"):
        raise ValueError(f"write it without 'whatsapp:', like {_EXAMPLE_NUMBER}")
    if not _E164.fullmatch(value):
        raise ValueError(f"write it in E.164 form, a plus and only digits, like {_EXAMPLE_NUMBER}")
    try:
        is_possible = phonenumbers.is_possible_number(phonenumbers.parse(value))
    except phonenumbers.NumberParseException:
        is_possible = False
    if not is_possible:
        raise ValueError("no country has such a number: check its country code and its length")
    return value


def _check_timezone(value: str) -> str:
    if not is_timezone(value):
        raise ValueError("write a name of the IANA time zone database, like America/Santiago")
    return value


def _check_json_schema(value: dict[str, Any]) -> dict[str, Any]:
    try:
        Draft202012Validator.check_schema(value)
    except SchemaError as error:
        raise ValueError(f"it is not a JSON Schema: {error.message[:200]}") from None
    if value and value.get("type") != "object":
        raise ValueError('its "type" must be "object"')
    return value


def _check_path(value: str) -> str:
    if not value.startswith("/") or value.startswith("//"):
        raise ValueError("it must start with one /")
    if re.search(r"[\s?#\\\x00-\x1f]", value) or ".." in value.split("/"):
        raise ValueError("it must have no spaces, no .., no ? and no #: a query goes into 'query'")
    if re.search(r"[{}]", _PLACEHOLDER.sub("", value)):
        raise ValueError("placeholders look like {lead_id}")
    return value


def _check_unique_names(definitions: list[Any]) -> list[Any]:
    names = [definition.name for definition in definitions]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"these names stand there twice: {', '.join(twice)}")
    return definitions


def _flatten_function(value: Any) -> Any:
    """Also takes the older form with the definition inside `function`."""
    if isinstance(value, dict) and isinstance(value.get("function"), dict):
        return {**value["function"], **{k: v for k, v in value.items() if k != "function"}}
    return value


def _upper(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


def _without_slash(value: str) -> str:
    return value.rstrip("/")


Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
Number = Annotated[
    str,
    AfterValidator(_check_number),
    Field(examples=[_EXAMPLE_NUMBER], json_schema_extra={"pattern": f"^{_E164.pattern}$"}),
]
ClientId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,80}$")]
FunctionName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
JsonSchema = Annotated[dict[str, Any], AfterValidator(_check_json_schema)]
Instructions = Annotated[str, StringConstraints(min_length=1, max_length=256_000)]
ModelName = Annotated[str, StringConstraints(pattern=r"^[^\s\x00-\x1f]{1,100}$")]
Secret = Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,500}$")]
Address = Annotated[str, StringConstraints(max_length=500), AfterValidator(_without_slash)]
Sentence = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1600)]
Word = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=50)]
Words = Annotated[list[Word], Field(min_length=1, max_length=50)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Tool(BaseModel):
    """A tool of the Responses API, like {"type": "web_search"}; its own fields are not checked."""

    model_config = ConfigDict(extra="allow", strict=True)

    type: Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]{1,64}$")]


class AssistantConfig(Strict):
    """An assistant. What is null or never named is the service's default."""

    name: Name | None = None
    model: ModelName | None = Field(None, examples=["gpt-6-luna"])
    instructions: Instructions | None = None
    tools: Annotated[list[Tool], Field(max_length=128)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    max_output_tokens: Annotated[int, Field(ge=16, le=1_000_000)] | None = None
    reasoning_effort: Annotated[str, StringConstraints(pattern=r"^[a-z]{2,20}$")] | None = None
    metadata: dict[str, Any] | None = None


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
    method: Annotated[Literal["GET", "POST", "PUT", "PATCH", "DELETE"], BeforeValidator(_upper)] = (
        Field(examples=["POST"])
    )
    path: Annotated[str, StringConstraints(max_length=1000), AfterValidator(_check_path)] = Field(
        examples=["/api/leads/{lead_id}/"], json_schema_extra={"pattern": "^/"}
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
    assistant_config: AssistantConfig = Field(default_factory=AssistantConfig)
    assistant_functions: (
        Annotated[
            list[Annotated[FunctionDefinition, BeforeValidator(_flatten_function)]],
            Field(max_length=128),
            AfterValidator(_check_unique_names),
        ]
        | None
    ) = None
    horizon_actions: (
        Annotated[list[HorizonAction], Field(max_length=256), AfterValidator(_check_unique_names)]
        | None
    ) = None
    handoff: HandoffFields | None = None
    report_turns: bool | None = None
    metadata: dict[str, Any] | None = None
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
    timezone: Annotated[str, AfterValidator(_check_timezone)] | None = None
    texts: TextFields | None = None

    @field_validator("metadata")
    @classmethod
    def _refuse_secrets(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        misplaced = [name for name in SECRET_FIELDS if name in (value or {})]
        if misplaced:
            raise ValueError(
                f"{' and '.join(misplaced)} would stand here in clear: send it at top level, "
                "where it is encrypted"
            )
        return value

    def changes(self) -> BotChanges:
        """What to change. Raises InvalidBotError when two places differ on the assistant."""
        bot = self.model_dump(exclude_unset=True)
        # These lists are replaced whole, so their entries are kept with their defaults.
        if self.assistant_functions is not None:
            bot["assistant_functions"] = [function.dump() for function in self.assistant_functions]
        if self.horizon_actions is not None:
            bot["horizon_actions"] = [action.model_dump() for action in self.horizon_actions]
        assistant: dict[str, dict[str, Any]] = {
            place: bot.pop(place)
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
    assistant_updates: AssistantConfig = Field(
        default_factory=AssistantConfig,
        description="As assistant_config: what it names changes, in the assistant's next version.",
    )
