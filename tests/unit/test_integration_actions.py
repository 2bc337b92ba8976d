"""The tools of a bot, and what the model's arguments become."""

from __future__ import annotations

import json
import time
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.conversation.actions import (
    ArgumentsError,
    derived_schema,
    fill,
    placeholders,
    tools_of,
    validate_arguments,
)
from service.conversation.bot import Action, Assistant
from tests.unit.loopback_vendor import bot_with

ACTION = Action(
    name="crear_nota",
    method="POST",
    path="/api/leads/{lead_id}/notas/",
    query={"canal": "whatsapp", "tel": "{contact_phone}"},
    body={"texto": "Dice: {texto}", "veces": "{veces}"},
)
CLOSED = {
    "type": "object",
    "properties": {"a": {"type": "string"}},
    "required": ["a"],
    "additionalProperties": False,
}
OPEN = {"type": "object", "properties": {"a": {"type": "string"}}}

texts = st.text()
values = st.one_of(texts, st.integers(), st.booleans(), st.floats(allow_nan=False))


def action(**more: Any) -> Action:
    return Action(**{"name": "f", "method": "POST", "path": "/x/", **more})


def assistant_with(*tools: dict[str, Any]) -> Assistant:
    return Assistant("a1", 1, "Ana", "gpt-6-luna", "Ayuda.", tools=tools)


def test_placeholders_are_found_in_path_query_and_body() -> None:
    nested = action(path="/{a}/", query={"q": "x{b}"}, body={"k": [{"l": "{c} y {a}"}], "n": 1})

    assert placeholders(nested) == {"a", "b", "c"}


def test_doubled_braces_are_no_placeholders() -> None:
    assert placeholders(action(body="{{a}} {b}")) == {"b"}


def test_a_schema_is_derived_without_the_reserved_placeholders() -> None:
    assert derived_schema(ACTION) == {
        "type": "object",
        "properties": {
            "lead_id": {"type": ["string", "number"]},
            "texto": {"type": ["string", "number"]},
            "veces": {"type": ["string", "number"]},
        },
        "required": ["lead_id", "texto", "veces"],
        "additionalProperties": False,
    }


def test_an_action_is_a_strict_function() -> None:
    tools = tools_of(bot_with(actions=[ACTION]))

    assert tools == [
        {
            "type": "function",
            "name": "crear_nota",
            "parameters": derived_schema(ACTION),
            "strict": True,
        }
    ]


def test_a_function_of_the_same_name_describes_its_action() -> None:
    function = {"name": "crear_nota", "description": "Anota.", "parameters": CLOSED}

    tools = tools_of(bot_with(actions=[ACTION], functions=[function]))

    assert tools == [
        {
            "type": "function",
            "name": "crear_nota",
            "description": "Anota.",
            "parameters": CLOSED,
            "strict": True,
        }
    ]


def test_the_model_is_never_asked_for_a_reserved_value() -> None:
    properties = {"a": {"type": "string"}, "contact_phone": {"type": "string"}}
    parameters = {**CLOSED, "properties": properties, "required": ["a", "contact_phone"]}

    tools = tools_of(bot_with(actions=[action(parameters=parameters)]))

    assert tools[0]["parameters"] == CLOSED


def test_the_older_nested_shape_is_flattened() -> None:
    nested = {"type": "function", "function": {"name": "g", "parameters": OPEN}}

    assert tools_of(bot_with(functions=[nested])) == [
        {"type": "function", "name": "g", "parameters": OPEN, "strict": False}
    ]


def test_tools_of_the_assistant_follow_and_come_once() -> None:
    search = {"type": "web_search", "filters": {"allowed_domains": ["example.com"]}}
    bot = bot_with(
        actions=[action(name="f")],
        functions=[{"name": "g"}],
        assistant=assistant_with({"type": "function", "name": "g"}, search, search),
    )

    tools = tools_of(bot)

    assert [tool.get("name", tool["type"]) for tool in tools] == ["f", "g", "web_search"]
    assert tools[2] == search


def test_an_action_that_is_declared_twice_is_one_tool() -> None:
    assert len(tools_of(bot_with(actions=[action(), action(path="/y/")]))) == 1


@pytest.mark.parametrize(
    ("schema", "strict"),
    [
        (CLOSED, True),
        (OPEN, False),
        ({**CLOSED, "required": []}, False),
        ({**CLOSED, "properties": {"a": {"type": "string", "pattern": "a+"}}}, False),
        ({**CLOSED, "properties": {"a": OPEN}}, False),
        ({**CLOSED, "properties": {"a": {"type": "array", "items": OPEN}}}, False),
        ({**CLOSED, "properties": {"a": {"type": "array", "items": {"type": "string"}}}}, True),
        ({**CLOSED, "properties": {"a": {"anyOf": [CLOSED, {"type": "null"}]}}}, True),
        ({**CLOSED, "properties": {"a": {"anyOf": [OPEN, {"type": "null"}]}}}, False),
        ({**CLOSED, "properties": {"a": {}}}, False),
        ({**CLOSED, "properties": "a"}, False),
        ({"oneOf": [CLOSED]}, False),
    ],
)
def test_a_function_is_strict_only_with_a_schema_that_strict_mode_takes(
    schema: dict[str, Any], strict: bool
) -> None:
    tools = tools_of(bot_with(functions=[{"name": "f", "parameters": schema}]))

    assert tools[0]["strict"] is strict


def test_a_function_that_says_it_is_not_strict_is_not() -> None:
    function = {"name": "f", "parameters": CLOSED, "strict": False}

    assert tools_of(bot_with(functions=[function]))[0]["strict"] is False


def test_arguments_that_fit_are_parsed() -> None:
    assert validate_arguments(CLOSED, '{"a": "ñ"}') == {"a": "ñ"}


def test_no_arguments_at_all_are_an_empty_object() -> None:
    assert validate_arguments({"type": "object"}, "") == {}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("{", "not valid JSON"),
        ("[1]", "must be a JSON object"),
        ('{"a": NaN}', "not valid JSON"),
        ('{"a": 1e999}', "not valid JSON"),
        ('{"a": "\\ud800"}', "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("{}", 'arguments: "a" is a required property'),
        ('{"a": 1}', 'a: the value is not of type "string"'),
        ('{"a": "x", "b": 1}', "'b' was unexpected"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_in_words(arguments: str, words: str) -> None:
    with pytest.raises(ArgumentsError) as caught:
        validate_arguments(CLOSED, arguments)

    assert words in str(caught.value)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "strnig"},
        {"properties": {"a": {"pattern": "("}}},
        {"$ref": "#/$defs/missing"},
        {"$ref": "http://127.0.0.1:9/schema.json"},
        {"$ref": "file:///etc/hostname"},
        {"$ref": "#"},
        {"$dynamicRef": "#"},
        {"properties": {"a": {"$id": "https://crm.example/lead", "type": "string"}}},
        {"properties": {"a": {"pattern": "^(?!x)"}}},
        {"properties": 5},
        {"required": 5},
    ],
)
def test_a_broken_schema_is_said_to_be_broken(schema: dict[str, Any]) -> None:
    with pytest.raises(ArgumentsError, match="schema is broken"):
        validate_arguments(schema, '{"a": "x"}')


def test_a_fault_is_named_with_its_place() -> None:
    line = {"type": "object", "properties": {"n": {"maximum": 9}}}
    schema = {"properties": {"lines": {"type": "array", "items": line}}}

    with pytest.raises(ArgumentsError, match=r"^lines\[1\].n: the value is greater"):
        validate_arguments(schema, '{"lines": [{"n": 1}, {"n": 12}]}')


def test_a_schema_may_refer_to_itself_below_and_to_its_definitions() -> None:
    node = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "next": {"$ref": "#/$defs/node"}},
    }
    schema = {"$id": "https://crm.example/list", "$defs": {"node": node}, **node}

    assert validate_arguments(schema, '{"next": {"next": {"name": "x"}}}')
    with pytest.raises(ArgumentsError, match=r"^next\.next\.name: "):
        validate_arguments(schema, '{"next": {"next": {"name": 1}}}')


@pytest.mark.parametrize(
    ("pattern", "value"),
    [("^(a+)+$", "a" * 200_000 + "!"), ("(a|b|ab)*c", "ab" * 100_000)],
)
@pytest.mark.parametrize("keyword", ["pattern", "patternProperties", "propertyNames"])
def test_no_pattern_of_a_client_holds_the_worker(keyword: str, pattern: str, value: str) -> None:
    schemas: dict[str, dict[str, Any]] = {
        "pattern": {"properties": {"a": {"pattern": pattern}}},
        "patternProperties": {"patternProperties": {pattern: True}, "additionalProperties": False},
        "propertyNames": {"propertyNames": {"pattern": pattern}},
    }
    arguments = {"a": value} if keyword == "pattern" else {value: 1}
    begun = time.process_time()

    with pytest.raises(ArgumentsError):
        validate_arguments(schemas[keyword], json.dumps(arguments))

    assert time.process_time() - begun < 1


@pytest.mark.parametrize("keyword", ["allOf", "anyOf", "oneOf"])
def test_branches_that_double_with_each_reference_are_not_followed(keyword: str) -> None:
    definitions: dict[str, Any] = {"d0": {"type": "string"}}
    for number in range(1, 64):
        branch = {"$ref": f"#/$defs/d{number - 1}"}
        definitions[f"d{number}"] = {keyword: [branch, branch]}
    schema = {"$defs": definitions, "properties": {"a": {"$ref": "#/$defs/d63"}}}

    with pytest.raises(ArgumentsError, match="more to check than is allowed"):
        validate_arguments(schema, '{"a": 1}')


def test_branches_that_double_with_each_level_of_the_arguments_are_not_followed() -> None:
    branch = {"properties": {"a": {"$ref": "#"}}, "required": ["a"]}
    arguments = '{"a":' * 60 + "1" + "}" * 60

    with pytest.raises(ArgumentsError, match="more to check than is allowed"):
        validate_arguments({"anyOf": [branch, branch]}, arguments)


def test_a_long_list_of_arguments_is_checked() -> None:
    line = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    schema = {"properties": {"lines": {"type": "array", "items": line}}}

    assert (
        len(validate_arguments(schema, json.dumps({"lines": [{"n": 1}] * 1000}))["lines"]) == 1000
    )


def test_arguments_that_are_nested_too_deeply_are_refused() -> None:
    arguments = '{"a":' * 900 + "1" + "}" * 900

    with pytest.raises(ArgumentsError):
        validate_arguments({"properties": {"a": {"$ref": "#"}}}, arguments)


def test_a_template_is_filled_with_arguments_and_context() -> None:
    call = fill(
        ACTION, {"lead_id": 7, "texto": "hola", "veces": 3}, {"contact_phone": "+56933334444"}
    )

    assert call.path == "/api/leads/7/notas/"
    assert call.query == {"canal": "whatsapp", "tel": "+56933334444"}
    assert call.body == {"texto": "Dice: hola", "veces": 3}
    assert call.action is ACTION


def test_the_model_cannot_give_a_reserved_value() -> None:
    asked = action(body={"tel": "{contact_phone}", "nombre": "{contact_name}"})

    call = fill(asked, {"contact_phone": "+1", "contact_name": "Eva"}, {"contact_phone": "+2"})

    assert call.body == {"tel": "+2"}


def test_a_text_that_is_one_placeholder_becomes_the_typed_value() -> None:
    given_value = {"lista": [1, {"b": None}]}

    assert fill(action(body="{a}"), {"a": given_value}, {}).body == given_value


@pytest.mark.parametrize("arguments", [{}, {"a": None}])
def test_what_lacks_its_value_is_left_out(arguments: dict[str, Any]) -> None:
    asked = action(
        query={"q": "{a}", "r": "x{a}", "s": 1},
        body={"k": "{a}", "l": "x {a}", "m": ["{a}", 1], "n": {"o": "{a}"}, "p": None},
    )

    call = fill(asked, arguments, {})

    assert call.query == {"s": "1"}
    assert call.body == {"m": [1], "n": {}, "p": None}


def test_a_body_that_is_only_an_absent_value_is_no_body() -> None:
    assert fill(action(body="{a}"), {}, {}).body is None


def test_doubled_braces_become_braces() -> None:
    assert fill(action(body="{{a}} {a}"), {"a": 1}, {}).body == "{a} 1"


@pytest.mark.parametrize(
    ("value", "text"), [(5, "5"), (5.0, "5"), (2.5, "2.5"), (True, "true"), ("a", "a")]
)
def test_a_single_value_in_a_text_is_written_as_json_writes_it(value: Any, text: str) -> None:
    call = fill(action(path="/{a}/", query={"q": "{a}"}, body="<{a}>"), {"a": value}, {})

    assert (call.path, call.query, call.body) == (f"/{text}/", {"q": text}, f"<{text}>")


@pytest.mark.parametrize("where", [{"path": "/{a}/"}, {"query": {"q": "{a}"}}, {"body": "x{a}"}])
def test_a_list_has_no_place_in_a_text(where: dict[str, Any]) -> None:
    with pytest.raises(ArgumentsError, match="a must be"):
        fill(action(**where), {"a": [1]}, {})


@pytest.mark.parametrize(
    "value", [None, "", " ", ".", "..", "../x", "x/..", "..\\x", "a/./b", "a\nb", "a\x00", "\ud800"]
)
def test_a_value_unfit_for_a_path_is_refused(value: Any) -> None:
    with pytest.raises(ArgumentsError):
        fill(action(path="/leads/{a}/"), {"a": value}, {})


def test_a_path_without_its_value_is_refused() -> None:
    with pytest.raises(ArgumentsError, match="lead_id"):
        fill(ACTION, {"texto": "x", "veces": 1}, {})


@pytest.mark.parametrize("path", ["/leads/{a}{b}/", "/leads/.{a}/", "/leads/{a}."])
def test_values_cannot_make_a_dot_segment_together(path: str) -> None:
    with pytest.raises(ArgumentsError):
        fill(action(path=path), {"a": ".", "b": "."}, {})


def test_a_path_is_made_absolute() -> None:
    assert fill(action(path="@evil.example/{a}"), {"a": "x"}, {}).path == "/@evil.example/x"


@given(texts)
def test_a_value_never_adds_to_a_path(value: str) -> None:
    try:
        path = fill(action(path="/api/leads/{a}/notas/"), {"a": value}, {}).path
    except ArgumentsError:
        return
    before, segment, after = path.removeprefix("/api/leads/").partition("/notas/")
    assert (segment, after) == ("/notas/", "")
    assert not set(before) & set("/?#\\% ") - {"%"}
    assert unquote(before) == value


@given(texts, texts)
def test_a_value_is_never_looked_at_for_placeholders(first: str, second: str) -> None:
    given_values = {"a": first + "{b}{contact_phone}}}", "b": second}

    call = fill(action(body=["{a}", "x{a}y{b}"]), given_values, {"contact_phone": "+1"})

    assert call.body == [given_values["a"], f"x{given_values['a']}y{second}"]


@given(st.dictionaries(texts, values))
def test_a_body_keeps_its_shape_whatever_the_arguments(arguments: dict[str, Any]) -> None:
    template = {"k": {"l": "t {a}", "m": [1, "{b}"]}, "fijo": "x"}

    body = fill(action(body=template), arguments, {}).body

    assert body["fijo"] == "x"
    assert body.keys() == template.keys()
    assert body["k"].keys() <= {"l", "m"}


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_any_text_survives_validation_unchanged(value: str) -> None:
    assert validate_arguments(CLOSED, json.dumps({"a": value})) == {"a": value}


@given(texts)
def test_whatever_the_model_writes_is_an_object_or_an_arguments_error(arguments: str) -> None:
    try:
        parsed = validate_arguments({}, arguments)
    except ArgumentsError:
        return
    assert json.loads(arguments.strip() or "{}") == parsed
