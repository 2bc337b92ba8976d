"""A client's key reaches nothing of another client, on every route that the application has."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import falcon.inspect
import falcon.testing
import pytest
from sqlalchemy import text

from service.app import create_app
from tests.stack import MakeStack, Stack

MINE, OTHERS = "client_one", "client_two"
OTHER_NUMBER = "+56911110009"

PUBLIC = {
    ("GET", "/webhook/whatsapp"),
    ("POST", "/webhook/whatsapp"),
    ("POST", "/webhook/whatsapp/status"),
    ("GET", "/health"),
    ("GET", "/health/db"),
    ("GET", "/health/ready"),
    ("GET", "/openapi.json"),
}
"""They look at no key: signed by Twilio, or with nothing of any client in their answers."""
ADMIN = {("GET", "/metrics")}
OF_ONE_CLIENT = {("GET", "/bots"), ("POST", "/bots")}
"""They show and make what belongs to the key's own client."""
FAR = {"X-Forwarded-For": "203.0.113.9"}
BODIES: tuple[Any, ...] = (
    {"name": "taken over"},
    {"client_id": MINE},
    {"twilio_auth_token": "mine", "openai_base_url": "https://evil.example"},
    {"assistant_updates": {"instructions": "mine"}},
    {},
    {"no_such_field": 1},
)


@pytest.fixture
def stack(make_stack: MakeStack) -> Stack:
    stack = make_stack()
    stack.add_bot("bot_mine", client_id=MINE)
    stack.add_bot("bot_others", OTHER_NUMBER, client_id=OTHERS, name="Nombre ajeno")
    return stack


@pytest.fixture
def app(stack: Stack) -> Any:
    return create_app(stack.container)


def routes(app: Any) -> Iterator[tuple[str, str]]:
    for route in falcon.inspect.inspect_routes(app):
        for method in route.methods:
            if not method.internal:
                yield method.method, route.path


def client(stack: Stack, app: Any, client_id: str | None) -> falcon.testing.TestClient:
    _, key = stack.container.api_keys.create("test", client_id, "test")
    return falcon.testing.TestClient(app, headers={"Authorization": f"Bearer {key}", **FAR})


def everything(stack: Stack) -> dict[str, list[Any]]:
    tables = ("bots", "assistants", "audit_log")
    with stack.container.database.read() as connection:
        return {
            table: [tuple(row) for row in connection.execute(text(f"SELECT * FROM {table}"))]  # noqa: S608 # fixed names
            for table in tables
        }


def told(answer: falcon.testing.Result) -> tuple[int, str]:
    """What an answer tells, without the id of the request."""
    return answer.status_code, re.sub(r'"request_id":"[^"]*"', "", answer.text)


def test_every_route_says_who_may_use_it(app: Any) -> None:
    """A new route has to be put into one of the groups, and is tested with its group."""
    of_one_bot = {route for route in routes(app) if "{bot_id}" in route[1]}

    assert set(routes(app)) == PUBLIC | ADMIN | OF_ONE_CLIENT | of_one_bot
    assert not of_one_bot & (PUBLIC | ADMIN | OF_ONE_CLIENT)


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer x",
        "Basic YTpi",
        "Bearer hk_" + "A" * 43,
        "bearer null",
    ],
)
def test_every_route_that_is_not_public_wants_a_key(app: Any, authorization: str | None) -> None:
    headers = FAR if authorization is None else {**FAR, "Authorization": authorization}
    asked = falcon.testing.TestClient(app, headers=headers)

    statuses = {
        (method, path): asked.simulate_request(
            method, path.format(bot_id="bot_others"), json={"name": "x"}
        ).status_code
        for method, path in routes(app)
        if (method, path) not in PUBLIC
    }

    assert len(statuses) >= 8
    assert set(statuses.values()) == {401}, statuses


@pytest.mark.parametrize("client_id", [MINE, "client_tw", "client_two.", "CLIENT_TWO", "two"])
def test_a_bot_of_another_client_is_as_if_it_were_not_there(
    stack: Stack, app: Any, client_id: str
) -> None:
    asked = client(stack, app, client_id)
    before = everything(stack)
    of_one_bot = [route for route in routes(app) if "{bot_id}" in route[1]]
    assert of_one_bot

    for method, path in of_one_bot:
        for body in BODIES if method in ("POST", "PUT", "PATCH") else (None,):
            others = asked.simulate_request(method, path.format(bot_id="bot_others"), json=body)
            nobodys = asked.simulate_request(method, path.format(bot_id="bot_nobody"), json=body)
            assert told(others) == told(nobodys), (method, path, body)
            assert others.status_code in (404, 422), (method, path, body)
            assert "Nombre ajeno" not in others.text

    assert everything(stack) == before


def test_the_list_shows_only_the_keys_own_client(stack: Stack, app: Any) -> None:
    admin, mine = client(stack, app, None), client(stack, app, MINE)
    cursor = admin.simulate_get("/bots", params={"limit": 1}).json["next_cursor"]
    asked: tuple[Mapping[str, Any], ...] = (
        {},
        {"client_id": OTHERS},
        {"client_id": ""},
        {"number": OTHER_NUMBER},
        {"client_id": OTHERS, "number": OTHER_NUMBER},
        {"cursor": cursor},
        {"limit": 200, "client_id": [MINE, OTHERS]},
    )

    for params in asked:
        answer = mine.simulate_get("/bots", params=dict(params))
        assert answer.status_code in (200, 422), params
        assert "bot_others" not in answer.text, params
    assert "bot_others" in admin.simulate_get("/bots").text


def test_a_bot_is_made_and_moved_within_the_keys_own_client_only(stack: Stack, app: Any) -> None:
    mine = client(stack, app, MINE)
    wanted = {"name": "A", "twilio_phone_number": "+56933330000", "client_id": OTHERS}
    before = everything(stack)

    assert mine.simulate_post("/bots", json=wanted).status_code == 403
    assert mine.simulate_put("/bots/bot_mine", json={"client_id": OTHERS}).status_code == 403
    number_of_another = {"twilio_phone_number": OTHER_NUMBER}
    assert mine.simulate_put("/bots/bot_mine", json=number_of_another).status_code == 409

    assert everything(stack) == before


def test_routes_of_administrators_refuse_a_clients_key(stack: Stack, app: Any) -> None:
    mine = client(stack, app, MINE)
    for method, path in ADMIN:
        assert mine.simulate_request(method, path).status_code == 403
        assert client(stack, app, None).simulate_request(method, path).status_code == 200


def test_public_routes_tell_nothing_of_any_client(stack: Stack, app: Any) -> None:
    asked = falcon.testing.TestClient(app, headers=FAR)
    for method, path in PUBLIC:
        answer = asked.simulate_request(method, path)
        for word in ("bot_others", "Nombre ajeno", OTHERS, OTHER_NUMBER, OTHER_NUMBER[1:]):
            assert word not in answer.text, (method, path)
