"""Turns of a bot that only Horizon's config endpoint knows, after Redis has forgotten it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import falcon.testing
import pytest

from service.app import create_app
from service.container import Container
from tests.stack import ACCOUNT_SID, AUTH_TOKEN, MakeStack, Stack

NUMBER = "+56944440000"


@pytest.fixture
def stack(make_stack: MakeStack) -> Stack:
    stack = make_stack()
    stack.horizon.configs[NUMBER] = {
        "id": 77,
        "client_id": "hz-client",
        "twilio_phone_number": NUMBER,
        "twilio_account_sid": ACCOUNT_SID,
        "twilio_auth_token": AUTH_TOKEN,
        "assistant_instructions": "x",
        "metadata": {"twilio_auth_token": AUTH_TOKEN},
    }
    return stack


@pytest.fixture
def started_since(stack: Stack) -> Iterator[Stack]:
    """The same service with a worker process that has not seen the bot."""
    container = Container(stack.settings)
    yield replace(stack, container=container)
    container.close()


def bot_id(stack: Stack) -> str:
    bot = stack.container.directory.find(NUMBER)
    assert bot is not None
    return bot.id


def test_a_message_that_was_spooled_while_redis_was_lost_is_answered(
    stack: Stack, started_since: Stack
) -> None:
    spooled = stack.message("hola", number=NUMBER, bot_id=bot_id(stack))
    stack.container.redis.client.flushall()
    stack.container.mailbox.accept(spooled)

    with started_since.worker():
        turns = started_since.wait_for_turns(1)

    assert [(turn["status"], turn["reason"]) for turn in turns] == [("replied", "answered")]


def test_a_bot_is_not_taken_for_deleted_while_redis_is_suspect(
    stack: Stack, started_since: Stack
) -> None:
    stack.send("hola", number=NUMBER, bot_id=bot_id(stack))
    claim = started_since.container.mailbox.claim(1)[0][0]
    # As after a command of another thread that timed out.
    started_since.container.redis._suspect_until = time.monotonic() + 3600

    started_since.container.runner(lambda task, after_s=0: None).run(claim)

    assert [turn["reason"] for turn in started_since.turns()] != ["bot_deleted"]


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/bots/B/refresh"), ("GET", "/bots/hz_B"), ("DELETE", "/bots/hz_B")],
)
def test_an_id_that_leads_to_no_number_is_not_found_and_no_outage(
    stack: Stack, method: str, path: str
) -> None:
    client = falcon.testing.TestClient(create_app(stack.container))
    key = {"Authorization": f"Bearer {stack.settings.admin_api_key}"}

    answer = client.simulate_request(method, path, headers=key)

    assert (answer.status_code, answer.json["type"]) == (404, "/problems/bot-not-found")
    assert "number" in answer.json["detail"]
