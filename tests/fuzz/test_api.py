"""Every operation of /openapi.json, with every kind of key, with what it describes and what it does not."""

from __future__ import annotations

import itertools
from typing import Any

import falcon.inspect
import pytest
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode, openapi
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from sqlalchemy import update

from service.store.api_keys import Caller
from service.store.models import BotRow
from tests.fuzz.cases import Part, fuzz
from tests.fuzz.service import OTHER_NUMBER, FuzzedService

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
]
KEYS = ("no key", "admin key", "client key")
SHARE = 0.3
FAR = {"X-Forwarded-For": "203.0.113.9"}


def operations(fuzzed: FuzzedService) -> list[APIOperation[Any, Any, Any, Any]]:
    schema = openapi.from_wsgi("/openapi.json", fuzzed.app)
    # Otherwise it leaves out the address that it has read the document from.
    schema.location = None
    return [result.ok() for result in schema.get_all_operations() if isinstance(result, Ok)]


header_values = st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=70).filter(
    lambda text: text == text.strip()
)
more_headers = st.fixed_dictionaries(
    {},
    optional={
        "X-Request-ID": header_values,
        "Accept": header_values,
        "If-None-Match": header_values,
        "X-Forwarded-For": st.sampled_from(["203.0.113.9", "127.0.0.1", "::1", "nonsense"]),
    },
)


def cases_of(operation: APIOperation[Any, Any, Any, Any]) -> st.SearchStrategy[Any]:
    """As it is described; where it has anything to get wrong, wrong half of the time."""
    cases = operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
    if operation.body or operation.query or operation.path_parameters:
        cases |= operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)
    return st.tuples(cases, more_headers)


def test_every_route_is_fuzzed(fuzzed: FuzzedService) -> None:
    routed = {
        (method.method, route.path)
        for route in falcon.inspect.inspect_routes(fuzzed.app)
        for method in route.methods
        if not method.internal
    }

    found = {(operation.method.upper(), operation.path) for operation in operations(fuzzed)}

    assert found == routed


@pytest.mark.parametrize("key", KEYS)
def test_no_operation_ends_in_a_server_error(fuzzed: FuzzedService, key: str) -> None:
    every = operations(fuzzed)
    numbers = itertools.count()
    for operation in every:
        target = itertools.cycle(["bot_test", "bot_other", None])

        def check(
            part: Part,
            drawn: tuple[Case[Any], dict[str, str]],
            operation: APIOperation[Any, Any, Any, Any] = operation,
            target: Any = target,
        ) -> None:
            case, sent = drawn
            bot_id = next(target)
            if bot_id is not None and "bot_id" in operation.path:
                case.path_parameters["bot_id"] = bot_id
            if isinstance(case.body, dict) and bot_id is not None:
                # Generated ones are of no country, and nothing behind that check would be reached.
                case.body["twilio_phone_number"] = f"+5693{next(numbers):07}"
            if fuzzed.keys[key]:
                sent = {**sent, "Authorization": f"Bearer {fuzzed.keys[key]}"}
            response = case.call(headers=sent)
            fuzzed.judge(part, response.status_code, response.text, flat(response.headers))
            case.validate_response(response, checks=CHECKS)
            if bot_id is not None and operation.method.lower() == "delete":
                revive(fuzzed, bot_id, f"+5693{next(numbers):07}")

        fuzz(f"API, {key}", SHARE / len(KEYS) / len(every), cases_of(operation), check)

    if key != "admin key":
        untouched = fuzzed.stack.container.bots.get(Caller("test"), "bot_other")
        assert (untouched["number"], untouched["revision"]) == (OTHER_NUMBER, 1)


def flat(headers: Any) -> dict[str, str]:
    """Headers of `requests`, or schemathesis's lists of values, as one text each."""
    return {
        name: value if isinstance(value, str) else ", ".join(value)
        for name, value in headers.items()
    }


def revive(fuzzed: FuzzedService, bot_id: str, number: str) -> None:
    """Undo a deletion, so that the next case finds the bot."""
    values = {"status": "active", "deleted_at": None, "twilio_phone_number": number}
    deleted = (BotRow.id == bot_id, BotRow.status == "deleted")
    with fuzzed.stack.container.database.write() as connection:
        connection.execute(update(BotRow).where(*deleted).values(**values))


bodies = st.binary(max_size=300) | st.text(max_size=300).map(str.encode)
content_types = st.sampled_from(
    ["application/json", "application/json; charset=utf-16", "text/plain", "", "application/JSON"]
)
authorizations = st.sampled_from(["Bearer ", "bearer", "Basic ", "Bearer  ", ""]).flatmap(
    lambda scheme: st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=40).map(
        scheme.__add__
    )
)
targets = st.sampled_from(
    [
        ("POST", "/bots"),
        ("PUT", "/bots/bot_test"),
        ("GET", "/bots"),
        ("DELETE", "/bots/bot_none"),
        ("POST", "/bots/bot_test/refresh"),
        ("GET", "/metrics"),
        ("PATCH", "/bots"),
        ("PUT", "/health"),
    ]
)


def test_any_bytes_and_any_authorization_never_end_in_a_server_error(fuzzed: FuzzedService) -> None:
    def check(part: Part, sent: tuple[Any, bytes, str, str, bool]) -> None:
        (method, path), body, content_type, authorization, known = sent
        if known:
            authorization = f"Bearer {fuzzed.keys['admin key']}"
        answer = fuzzed.client.simulate_request(
            method,
            path,
            body=body,
            headers={"Content-Type": content_type, "Authorization": authorization, **FAR},
        )
        fuzzed.judge(part, answer.status_code, answer.text, answer.headers)

    fuzz(
        "API, any bytes",
        0.02,
        st.tuples(targets, bodies, content_types, authorizations, st.booleans()),
        check,
    )
