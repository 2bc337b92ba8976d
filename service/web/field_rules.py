"""What single fields of requests on bots have to look like: each raises ValueError with a sentence."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import islice
from typing import Any

import phonenumbers
from jsonschema import Draft202012Validator, SchemaError

from service.conversation.arguments import check_parameters
from service.store.records import SECRET_FIELDS, is_timezone, secrets_in

E164 = re.compile(r"\+[1-9][0-9]{6,14}")
_PLACEHOLDER = re.compile(r"\{[A-Za-z_][A-Za-z0-9_]*\}")
EXAMPLE_NUMBER = "+56912345678"
FUNCTION_NAME = r"^[A-Za-z0-9_-]{1,64}$"
_MAX_NAMED = 5


def check_number(value: str) -> str:
    if value.lower().startswith("whatsapp:"):
        raise ValueError(f"write it without 'whatsapp:', like {EXAMPLE_NUMBER}")
    if not E164.fullmatch(value):
        raise ValueError(f"write it in E.164 form, a plus and only digits, like {EXAMPLE_NUMBER}")
    try:
        is_possible = phonenumbers.is_possible_number(phonenumbers.parse(value))
    except phonenumbers.NumberParseException:
        is_possible = False
    if not is_possible:
        raise ValueError("no country has such a number: check its country code and its length")
    return value


def check_timezone(value: str) -> str:
    if not is_timezone(value):
        raise ValueError("write a name of the IANA time zone database, like America/Santiago")
    return value


def check_json_schema(value: dict[str, Any]) -> dict[str, Any]:
    try:
        Draft202012Validator.check_schema(value)
    except SchemaError as error:
        raise ValueError(f"it is not a JSON Schema: {error.message[:200]}") from None
    if value and value.get("type") != "object":
        raise ValueError('its "type" must be "object"')
    check_parameters(value)
    return value


def check_path(value: str) -> str:
    if not value.startswith("/") or value.startswith("//"):
        raise ValueError("it must start with one /")
    if re.search(r"[\s?#\\\x00-\x1f]", value) or ".." in value.split("/"):
        raise ValueError("it must have no spaces, no .., no ? and no #: a query goes into 'query'")
    if re.search(r"[{}]", _PLACEHOLDER.sub("", value)):
        raise ValueError("placeholders look like {lead_id}")
    return value


def check_unique_names(definitions: list[Any]) -> list[Any]:
    names = [definition.name for definition in definitions]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"these names stand there twice: {', '.join(twice)}")
    return definitions


def flatten_function(value: Any) -> Any:
    """Also takes the older form with the definition inside `function`."""
    if isinstance(value, dict) and isinstance(value.get("function"), dict):
        return {**value["function"], **{k: v for k, v in value.items() if k != "function"}}
    return value


def check_word(value: str) -> str:
    if not any(character.isalnum() for character in value):
        raise ValueError("it needs a letter or a digit: signs and emojis are not compared")
    return value


def check_metadata(value: dict[str, Any]) -> dict[str, Any]:
    """Metadata is kept and shown in clear."""
    misplaced = list(islice(secrets_in(value), _MAX_NAMED))
    own = [path for path in misplaced if path in SECRET_FIELDS]
    if own:
        raise ValueError(
            f"{' and '.join(own)} would stand here in clear: send it at top level, where it is "
            "encrypted"
        )
    if misplaced:
        raise ValueError(
            f"{' and '.join(misplaced)} looks like a secret and would stand here in clear: leave it "
            "out"
        )
    return value


def check_tool(kind: str, fields: Mapping[str, Any]) -> None:
    """`fields` are those beside the type."""
    if kind == "function":
        name = fields.get("name")
        if not isinstance(name, str) or not re.fullmatch(FUNCTION_NAME, name):
            raise ValueError(
                "a function tool needs a name of 1 to 64 letters A to Z, digits, - and _"
            )
        # Its parameters describe values: a property named token is none.
        return
    misplaced = list(islice(secrets_in(fields), _MAX_NAMED))
    if kind == "mcp" and fields.get("headers") and "headers" not in misplaced:
        misplaced.append("headers")
    if misplaced:
        raise ValueError(
            f"{' and '.join(misplaced)} would stand here in clear, and tools with credentials are "
            "not supported: leave it out, or make the call a function with a Horizon action"
        )


def upper(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


def without_slash(value: str) -> str:
    return value.rstrip("/")
