"""Whatever arguments the model gives: they stay values, in paths, in queries and in JSON."""

from __future__ import annotations

import io
import json
import re
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from hypothesis import strategies as st
from requests import Request

from service.conversation.actions import RESERVED, fill
from service.conversation.arguments import validate_arguments
from service.conversation.bot import Action
from service.conversation.ports import ActionCall
from service.conversation.templates import ArgumentsError
from tests.fuzz.cases import Part, fuzz

BASE = "https://crm.example.com/base"
CONTEXT = {
    "contact_phone": "+56922220000",
    "contact_name": "Ana {bot_number}",
    "bot_number": "+56911110000",
    "conversation_id": "cv_1",
}
ACTION = Action(
    name="update_lead",
    method="POST",
    path="/api/leads/{lead}/notes/{note}-{note}/",
    query={"q": "{search}", "fixed": "1", "who": "{contact_phone}", "mixed": "a{search}b"},
    body={
        "text": "{text}",
        "quoted": 'say "{text}"',
        "who": "{contact_phone}",
        "inner": [{"tag": "{tag}"}, "{{literal}}"],
    },
)
ANYTHING: dict[str, Any] = {"type": "object"}

attacks = st.sampled_from(
    [
        "..",
        "../..",
        "..%2f",
        "%2e%2e/",
        ".%2e",
        "/",
        "//evil.example",
        "\\..\\",
        "a/../../b",
        "?x=1",
        "#f",
        "&admin=1",
        "a=b&c=d",
        ";jsessionid",
        "@evil.example",
        "https://evil.example",
        ":80",
        "\r\nHost: evil",
        "\n",
        "\0",
        "\x7f",
        '","role":"admin',
        '"}',
        "{contact_phone}",
        "{{text}}",
        "{lead}",
        "%00",
        "%0d%0a",
        "\u2025",
        "\uff0e\uff0e",
        "\u2215",
        "\ud800",
        " ",
        "+",
        "%",
    ]
)
words = st.text(max_size=30) | attacks | st.builds(str.__add__, attacks, st.text(max_size=8))
scalars = words | st.integers() | st.floats() | st.booleans() | st.none()
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)
names = st.sampled_from(["lead", "note", "search", "text", "tag", *RESERVED])
arguments = st.fixed_dictionaries(
    {"lead": st.integers(0) | words, "note": st.text("abc123-_ñ", min_size=1) | words},
    optional={"search": words, "text": values, "tag": values},
) | st.dictionaries(names | st.text(max_size=10), values, max_size=8)


def check_path(call: ActionCall, given: dict[str, Any]) -> None:
    """The address that `requests` really makes of it has the action's shape."""
    sent = Request("POST", BASE + call.path, params=dict(call.query)).prepare().url
    assert sent is not None
    parts = urlsplit(sent)
    assert (parts.scheme, parts.netloc, parts.fragment) == ("https", "crm.example.com", "")
    segments = parts.path.split("/")
    assert [segments[index] for index in (0, 1, 2, 3, 5, 7)] == [
        "",
        "base",
        "api",
        "leads",
        "notes",
        "",
    ]
    assert len(segments) == 8
    assert not {".", ".."} & {unquote(segment) for segment in segments}
    assert re.fullmatch(r"[\x21-\x7e]*", sent)
    query = parse_qsl(parts.query, keep_blank_values=True)
    assert sorted(name for name, _ in query) == sorted(call.query)
    assert dict(query)["fixed"] == "1"
    assert dict(query)["who"] == CONTEXT["contact_phone"]
    if isinstance(given.get("search"), str):
        assert dict(query)["q"] == given["search"]


def check_body(call: ActionCall, given: dict[str, Any]) -> None:
    """It is JSON with the action's own keys and the service's own values in it."""
    body = json.loads(json.dumps(call.body, allow_nan=False))
    assert set(body) <= {"text", "quoted", "who", "inner"}
    assert body["who"] == CONTEXT["contact_phone"]
    assert body["inner"][-1] == "{literal}"
    assert set(body["inner"][0]) <= {"tag"}
    if isinstance(given.get("text"), str):
        assert (body["text"], body["quoted"]) == (given["text"], f'say "{given["text"]}"')


def test_no_argument_leaves_its_place_in_the_action(service_log: io.StringIO) -> None:
    def check(part: Part, given: dict[str, Any]) -> None:
        try:
            accepted = validate_arguments(ANYTHING, json.dumps(given))
            call = fill(ACTION, accepted, CONTEXT)
        except ArgumentsError:
            part.outcomes["refused"] += 1
        else:
            check_path(call, accepted)
            check_body(call, accepted)
            part.outcomes["filled"] += 1
        assert service_log.getvalue() == ""

    part = fuzz("templates, arguments", 0.12, arguments, check)
    assert part.outcomes["filled"] > part.cases / 20


templates = st.text(max_size=40) | st.lists(
    st.sampled_from(
        ["{lead}", "{", "}", "{{", "}}", "/", "{contact_phone}", "{ñ}", "{1}", "{a-b}"]
    ),
    max_size=8,
).map("".join)


def test_any_template_is_filled_or_refused(service_log: io.StringIO) -> None:
    def check(part: Part, sent: tuple[str, Any, dict[str, Any]]) -> None:
        path, body, given = sent
        action = Action("any", "POST", path, query={path: path}, body={path: [body, path]})
        try:
            call = fill(action, given, CONTEXT)
        except ArgumentsError:
            part.outcomes["refused"] += 1
        else:
            assert call.path.startswith("/")
            part.outcomes["filled"] += 1
        assert service_log.getvalue() == ""

    fuzz("templates, any template", 0.03, st.tuples(templates, values, arguments), check)


def test_any_text_of_the_model_is_an_object_or_refused(service_log: io.StringIO) -> None:
    schema = {
        "type": "object",
        "properties": {
            "lead": {"type": "string", "pattern": "^(a+)+$"},
            "tag": {"type": "integer"},
        },
    }

    def check(part: Part, text: str) -> None:
        found: object = None
        refusal = ""
        try:
            found = validate_arguments(schema, text)
        except ArgumentsError as error:
            refusal = str(error)
        assert isinstance(found, dict) or 0 < len(refusal) < 2000
        part.outcomes["refused" if refusal else "an object"] += 1
        assert service_log.getvalue() == ""

    shapes = st.text(max_size=200) | st.integers(1, 5000).map(lambda depth: '{"a":' * depth)
    objects = st.dictionaries(st.sampled_from(["lead", "tag", "a"]), values, max_size=3).map(
        json.dumps
    )
    fuzz("templates, JSON of the model", 0.03, objects | shapes, check)
