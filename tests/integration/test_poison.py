"""Data that no store or vendor takes: each accepted message must still have its one end."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update

from service.cli.dead import _retry
from service.conversation.answer import Answerer
from service.conversation.clock import utc_now
from service.conversation.runner import TurnRunner
from service.demo.emulators import wire
from service.demo.emulators.brains import ScriptedBrain
from service.demo.emulators.faults import Fault
from service.demo.emulators.replies import calls, raw, text
from service.store import keys
from service.store.models import ConversationRow
from service.web.background import start_background
from tests.integration.test_vendor_failures import is_send, openai_error
from tests.stack import LEAD_ACTIONS, MakeStack, Stack, wait_until

APOLOGY = "Lo sentimos"


@pytest.fixture
def stack(make_stack: MakeStack) -> Stack:
    stack = make_stack(RETRY_BASE_S="0.01")
    stack.add_bot(texts={"apology": APOLOGY}, horizon_actions=LEAD_ACTIONS)
    return stack


@pytest.fixture(autouse=True)
def ascii_json(monkeypatch: pytest.MonkeyPatch) -> None:
    """The emulators write JSON as real servers do: a lone surrogate goes over the wire escaped."""

    class Escaping:
        def __getattr__(self, name: str) -> Any:
            return getattr(json, name)

        def dumps(self, value: Any, **options: Any) -> str:
            return json.dumps(value, **{**options, "ensure_ascii": True})

    monkeypatch.setattr(wire, "json", Escaping())


def response(output: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": "resp_1",
        "object": "response",
        "status": "completed",
        "model": "gpt-6-luna",
        "output": output,
        "usage": None,
    }


def call_item(n: int, lead: str = "1", status: str = "completed") -> dict[str, Any]:
    return {
        "type": "function_call",
        "id": f"fc_{n}",
        "call_id": f"call_{n}",
        "name": "get_lead",
        "arguments": json.dumps({"lead_id": lead}),
        "status": status,
    }


@pytest.mark.parametrize(
    "body",
    [
        b'"Jos\\ud83d"',
        b'"a\\u0000b"',
        b'{"nombre": "Jos\\ud83d"}',
        b'{"total": 123456789012345678901234567890}',
    ],
    ids=["surrogate", "nul", "surrogate in an object", "large number"],
)
def test_what_the_crm_says_can_always_be_kept(stack: Stack, body: bytes) -> None:
    stack.openai.brain = ScriptedBrain([calls([("get_lead", {"lead_id": "7"})]), text("listo")])
    stack.horizon.fail(Fault.status(200, body), times=1)
    with stack.worker():
        stack.send("uno")
        stack.wait_for_turns(1)
        stack.send("dos")
        stack.wait_for_turns(2)
    assert stack.replies() == ["listo", "eco: dos"]


@pytest.mark.parametrize("words", ["Jos\ud83d", "a\0b"], ids=["surrogate", "nul"])
def test_what_the_model_says_can_always_be_kept(stack: Stack, words: str) -> None:
    stack.openai.brain = ScriptedBrain([text(words)])
    with stack.worker():
        stack.send("uno")
        stack.wait_for_turns(1)
    assert [turn["status"] for turn in stack.turns()] == ["replied"]


def test_arguments_with_half_a_character_go_back_to_the_model(stack: Stack) -> None:
    lead = '{"lead_id": "Jos\ud83d"}'
    stack.openai.brain = ScriptedBrain([calls([("get_lead", lead)]), text("listo")])
    with stack.worker():
        stack.send("uno")
        stack.wait_for_turns(1)
    assert stack.replies() == ["listo"]


def test_an_unreadable_entry_in_a_mailbox_is_set_aside(stack: Stack) -> None:
    accepted = stack.send("uno")
    client = stack.container.redis.client
    client.lpush(keys.mailbox(accepted.conversation_id), b"garbage")
    with stack.worker():
        stack.wait_for_turns(1)
        stack.wait_until_idle()
    assert stack.replies() == ["eco: uno"]
    assert client.lrange(keys.UNREADABLE, 0, -1) == [b"garbage"]


def test_an_entry_of_the_spool_that_is_no_message_does_not_stop_the_replay(stack: Stack) -> None:
    spool = stack.container.spool
    spool.put(stack.message("uno"))
    (stack.settings.spool_dir / ("0" * 20 + ".msg")).write_bytes(b"[]")
    stopping = start_background(stack.container)
    try:
        wait_until(lambda: not spool, "empty spool")
    finally:
        stopping.set()
    assert stack.container.mailbox.depth().due == 1


def test_an_absurd_number_of_media_is_no_obstacle(stack: Stack) -> None:
    with stack.worker():
        stack.send("uno", NumMedia="9" * 5000)
        stack.wait_for_turns(1)
    assert stack.replies() == ["eco: uno"]


def test_a_long_error_code_of_the_messenger_ends_the_turn_once(stack: Stack) -> None:
    fault = Fault.status(400, {"code": "x" * 30, "message": "no"})
    stack.twilio.fail(fault, times=None, match=is_send)
    with stack.worker():
        stack.send("uno")
        stack.wait_for_turns(1)
    assert len([r for r in stack.twilio.requests if is_send(r)]) == 1


def test_a_call_id_that_comes_again_in_a_later_round_is_another_call(stack: Stack) -> None:
    rounds = [raw(response([call_item(0, lead)])) for lead in ("1", "2")]
    stack.openai.brain = ScriptedBrain([*rounds, text("listo")])
    with stack.worker():
        stack.send("uno")
        stack.wait_for_turns(1)
    assert [r.path for r in stack.horizon.requests] == ["/api/leads/1/", "/api/leads/2/"]
    assert stack.replies() == ["listo"]


def test_an_unfinished_call_beside_a_whole_one_is_not_sent_back(stack: Stack) -> None:
    both = raw(response([call_item(1), call_item(2, status="incomplete")]))
    stack.openai.brain = ScriptedBrain([both, text("listo")])
    with stack.worker():
        stack.send("uno")
        stack.wait_for_turns(1)
    assert stack.replies() == ["listo"]


def test_a_retried_turn_may_die_again_and_apologize_again_after_an_hour(stack: Stack) -> None:
    stack.openai.fail(Fault.status(429, openai_error("insufficient_quota")), times=2)
    with stack.worker():
        stack.send("uno")
        stack.wait_for_turns(1)
        stack.wait_until_idle()
        with stack.container.database.write() as connection:
            earlier = utc_now() - timedelta(hours=2)
            connection.execute(update(ConversationRow).values(apologized_at=earlier))
        assert _retry(stack.container, stack.turns()[0]["id"])["result"] == "queued"
        wait_until(lambda: len(stack.replies()) == 2, "second apology")
        stack.wait_until_idle()
    assert stack.replies() == [APOLOGY, APOLOGY]
    assert stack.turns()[0]["status"] == "dead"


def test_a_turn_whose_very_end_fails_does_not_hold_up_the_next(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, broken = Answerer.answer, [True]

    def fail_once(self: Answerer, *arguments: Any) -> Any:
        if broken:
            raise KeyError("planted")
        return answer(self, *arguments)

    def fail_too(*_: Any) -> None:
        broken.clear()
        raise KeyError("planted too")

    monkeypatch.setattr(Answerer, "answer", fail_once)
    monkeypatch.setattr(TurnRunner, "_try_later", fail_too)
    with stack.worker():
        stack.send("uno")
        stack.wait_for_turns(1)
        stack.send("dos")
        stack.wait_for_turns(2)
    assert [turn["status"] for turn in stack.turns()] == ["dead", "replied"]
