"""The tools of a bot: what the model is told of them, and what its arguments become.

Pure functions; the words "tool", "function" and "strict" are those of the Responses API.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.conversation.arguments import validate_arguments
from service.conversation.bot import Action, Bot
from service.conversation.ports import ActionCall
from service.conversation.templates import (
    MISSING,
    ArgumentsError,
    as_text,
    fill_path,
    fill_structure,
    fill_text,
    names_in,
)

__all__ = [
    "RESERVED",
    "ArgumentsError",
    "derived_schema",
    "fill",
    "placeholders",
    "tools_of",
    "validate_arguments",
]

RESERVED = frozenset({"contact_phone", "contact_name", "bot_number", "conversation_id"})
"""Placeholders that the service fills; the model neither sees nor gives them."""

STRICT_KEYWORDS = frozenset(
    {"type", "title", "description", "enum", "const", "anyOf", "$ref", "$defs"}
    | {"properties", "required", "additionalProperties"}
    | {"items", "minItems", "maxItems"}
    | {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}
)
"""Keywords that strict tools may use (OpenAI, "Structured outputs: supported schemas").

`pattern` and `format` are left out: only some of their values are taken, the rest fails the turn.
"""

EMPTY_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {},
    "required": [],
    "additionalProperties": False,
}


def placeholders(action: Action) -> set[str]:
    """All placeholders of the action's path, query and body, the reserved ones included."""
    return names_in(action.path) | names_in(action.query) | names_in(action.body)


def derived_schema(action: Action) -> dict[str, Any]:
    """The parameters of an action without its own: all placeholders but the reserved, required."""
    names = sorted(placeholders(action) - RESERVED)
    return {
        **EMPTY_SCHEMA,
        "properties": {name: {"type": ["string", "number"]} for name in names},
        "required": names,
    }


def tools_of(bot: Bot) -> list[dict[str, Any]]:
    """The bot's tools as the Responses API takes them, each name once.

    First the actions, with the description and parameters of the function of the same name when
    there is one; then the other functions; then the assistant's tools.
    """
    given = [*bot.functions, *bot.assistant.tools]
    functions: dict[str, Mapping[str, Any]] = {}
    others: list[dict[str, Any]] = []
    for tool in given:
        function = _flat(tool)
        if function is not None:
            functions.setdefault(str(function["name"]), function)
        elif dict(tool) not in others:
            others.append(dict(tool))
    tools = {}
    for action in bot.actions:
        if action.name not in tools:
            tools[action.name] = _action_tool(action, functions.pop(action.name, {}))
    for name, function in functions.items():
        tools[name] = _function_tool(
            name, function.get("description"), function.get("parameters"), function.get("strict")
        )
    return [*tools.values(), *others]


def _flat(tool: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The function in a flat, older nested or bare tool; None for built-in tools."""
    nested = tool.get("function")
    function = nested if isinstance(nested, Mapping) else tool
    if tool.get("type", "function") != "function" or not function.get("name"):
        return None
    return function


def _action_tool(action: Action, function: Mapping[str, Any]) -> dict[str, Any]:
    given = function.get("parameters") or action.parameters
    schema = _without_reserved(given) if isinstance(given, Mapping) else derived_schema(action)
    description = function.get("description") or action.description
    return _function_tool(action.name, description, schema, function.get("strict"))


def _without_reserved(schema: Mapping[str, Any]) -> dict[str, Any]:
    cleaned = dict(schema)
    if isinstance(schema.get("properties"), Mapping):
        cleaned["properties"] = {
            name: value for name, value in schema["properties"].items() if name not in RESERVED
        }
    if isinstance(schema.get("required"), list):
        cleaned["required"] = [name for name in schema["required"] if name not in RESERVED]
    return cleaned


def _function_tool(
    name: str, description: object, parameters: object, strict: object
) -> dict[str, Any]:
    schema = dict(parameters) if isinstance(parameters, Mapping) and parameters else EMPTY_SCHEMA
    tool = {
        "type": "function",
        "name": name,
        "parameters": schema,
        # Always said, because the API takes true when it is left out
        "strict": strict is not False and schema.get("type") == "object" and _is_strict(schema),
    }
    return {**tool, "description": description} if description else tool


def _is_strict(schema: object) -> bool:
    """Whether strict mode takes it: closed objects, all properties required, known keywords."""
    if not isinstance(schema, Mapping) or not schema.keys() <= STRICT_KEYWORDS:
        return False
    properties, definitions = schema.get("properties", {}), schema.get("$defs", {})
    choices, required = schema.get("anyOf", []), schema.get("required", [])
    if not isinstance(properties, Mapping) or not isinstance(definitions, Mapping):
        return False
    if not isinstance(choices, list) or not isinstance(required, list):
        return False
    declared = schema.get("type")
    if declared == "object" or properties or (isinstance(declared, list) and "object" in declared):
        is_closed = schema.get("additionalProperties") is False
        if not is_closed or sorted(map(str, required)) != sorted(properties):
            return False
    elif not schema.keys() & {"type", "enum", "const", "anyOf", "$ref"}:
        return False
    items = [schema["items"]] if "items" in schema else []
    inner = [*properties.values(), *definitions.values(), *choices, *items]
    return all(_is_strict(part) for part in inner)


def fill(action: Action, arguments: Mapping[str, Any], context: Mapping[str, Any]) -> ActionCall:
    """Fill the action's templates with the model's arguments, and the reserved ones from `context`.

    Raises:
        ArgumentsError: a value is missing, of the wrong kind, or unfit for the path.
    """
    values = {name: value for name, value in arguments.items() if name not in RESERVED}
    values.update((name, context[name]) for name in RESERVED & context.keys())
    query = {key: _query_text(key, template, values) for key, template in action.query.items()}
    body = fill_structure(action.body, values)
    return ActionCall(
        action=action,
        path=fill_path(action.path, values),
        query={key: text for key, text in query.items() if text is not MISSING},
        body=None if body is MISSING else body,
    )


def _query_text(key: str, template: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(template, str):
        return fill_text(template, values)
    return MISSING if template is None else as_text(key, template)
