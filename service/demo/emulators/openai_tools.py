"""The rules that OpenAI applies to `tools` and `tool_choice`.

Source: the Responses API reference and the structured-outputs guide (strict schemas).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from service.demo.emulators.openai_errors import (
    ApiError,
    missing,
    unknown,
    wrong_type,
    wrong_value,
)

FUNCTION_NAME = re.compile(r"^[a-zA-Z0-9_-]{1,64}$")
FUNCTION_KEYS = frozenset(
    [
        "type",
        "name",
        "description",
        "parameters",
        "strict",
        "allowed_callers",
        "defer_loading",
        "output_schema",
        "async",
    ]
)
BUILT_IN_TOOLS = frozenset(
    [
        "apply_patch",
        "code_interpreter",
        "computer",
        "computer_use_preview",
        "custom",
        "file_search",
        "image_generation",
        "local_shell",
        "mcp",
        "namespace",
        "programmatic_tool_calling",
        "shell",
        "tool_search",
        "web_search",
        "web_search_2025_08_26",
        "web_search_preview",
        "web_search_preview_2025_03_11",
    ]
)
NOT_STRICT = (
    "allOf",
    "oneOf",
    "not",
    "if",
    "then",
    "else",
    "dependentRequired",
    "dependentSchemas",
)


def check_tools(request: Mapping[str, Any]) -> None:
    """Check both parameters together.

    Raises:
        ApiError: 400, as the API words it.
    """
    tools = request.get("tools")
    if tools is None:
        tools = []
    if not isinstance(tools, list):
        raise wrong_type("tools", "an array of objects", tools)
    names: set[str] = set()
    for position, tool in enumerate(tools):
        name = _check_tool(tool, f"tools[{position}]")
        if name in names:
            raise ApiError(
                400,
                f"Duplicate tool name: '{name}'. Tool names must be unique.",
                code="invalid_request_error",
                param="tools",
            )
        if name is not None:
            names.add(name)
    _check_choice(request.get("tool_choice"), tools, names)


def _check_tool(tool: Any, at: str) -> str | None:
    if not isinstance(tool, dict):
        raise wrong_type(at, "an object", tool)
    kind = tool.get("type")
    if kind is None:
        raise missing(f"{at}.type")
    if kind != "function":
        if kind not in BUILT_IN_TOOLS:
            raise wrong_value(f"{at}.type", kind, ["function", *sorted(BUILT_IN_TOOLS)])
        return None
    name = tool.get("name")
    if name is None:
        raise missing(f"{at}.name")
    for key in tool:
        if key not in FUNCTION_KEYS:
            raise unknown(f"{at}.{key}")
    if not isinstance(name, str):
        raise wrong_type(f"{at}.name", "a string", name)
    if not FUNCTION_NAME.match(name):
        raise ApiError(
            400,
            f"Invalid '{at}.name': string does not match pattern. Expected a string that matches "
            f"the pattern '{FUNCTION_NAME.pattern}'.",
            code="invalid_value",
            param=f"{at}.name",
        )
    _check_parameters(tool, name, at)
    return name


def _check_parameters(tool: Mapping[str, Any], name: str, at: str) -> None:
    schema = tool.get("parameters")
    strict = tool.get("strict")
    if strict is not None and not isinstance(strict, bool):
        raise wrong_type(f"{at}.strict", "a boolean", strict)
    if schema is None:
        if strict:
            raise _schema_error(name, at, "schema must be a JSON Schema of 'type: \"object\"'")
        return
    if not isinstance(schema, dict):
        raise wrong_type(f"{at}.parameters", "an object", schema)
    if schema.get("type") != "object":
        raise _schema_error(
            name,
            at,
            "schema must be a JSON Schema of 'type: \"object\"', "
            f"got 'type: \"{schema.get('type')}\"'",
        )
    if strict:
        fault = _strict_fault(schema, ())
        if fault:
            raise _schema_error(name, at, fault)


def _schema_error(name: str, at: str, fault: str) -> ApiError:
    return ApiError(
        400,
        f"Invalid schema for function '{name}': {fault}.",
        code="invalid_function_parameters",
        param=f"{at}.parameters",
    )


def _strict_fault(schema: Any, context: tuple[str, ...]) -> str | None:
    """The first thing that keeps a schema from being strict, or None."""
    if not isinstance(schema, dict):
        return None
    for word in NOT_STRICT:
        if word in schema:
            return f"In context={context}, '{word}' is not permitted"
    kind = schema.get("type")
    properties = schema.get("properties")
    if kind == "object" or (isinstance(kind, list) and "object" in kind) or properties is not None:
        if schema.get("additionalProperties") is not False:
            return (
                f"In context={context}, 'additionalProperties' is required to be supplied and to "
                "be false"
            )
        absent = [key for key in properties or {} if key not in (schema.get("required") or [])]
        if absent:
            return (
                f"In context={context}, 'required' is required to be supplied and to be an array "
                f"including every key in properties. Missing '{absent[0]}'"
            )
    nested: list[tuple[Any, tuple[str, ...]]] = []
    for group in ("properties", "$defs", "definitions"):
        nested += [
            (part, (*context, group, str(key))) for key, part in (schema.get(group) or {}).items()
        ]
    nested.append((schema.get("items"), (*context, "items")))
    nested += [
        (part, (*context, "anyOf", str(position)))
        for position, part in enumerate(schema.get("anyOf") or [])
    ]
    for part, place in nested:
        fault = _strict_fault(part, place)
        if fault:
            return fault
    return None


def _check_choice(choice: Any, tools: list[Any], names: set[str]) -> None:
    if choice is None:
        return
    if isinstance(choice, str):
        if choice not in ("none", "auto", "required"):
            raise wrong_value("tool_choice", choice, ["none", "auto", "required"])
        if choice == "required" and not tools:
            raise ApiError(
                400,
                "Tool choice 'required' must be specified with 'tools' parameter.",
                param="tool_choice",
            )
        return
    if not isinstance(choice, dict):
        raise wrong_type("tool_choice", "an object or a string", choice)
    if choice.get("type") == "function" and choice.get("name") not in names:
        raise ApiError(
            400, "Tool choice 'function' not found in 'tools' parameter.", param="tool_choice"
        )
