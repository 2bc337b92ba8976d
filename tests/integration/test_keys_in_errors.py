"""A key that a vendor repeats in its error reaches no answer, no log and no dead turn."""

from __future__ import annotations

import falcon.testing
import pytest

from service.app import create_app
from service.demo.emulators.faults import Fault
from service.demo.emulators.openai import REFUSED_KEY
from tests.stack import MakeStack


def test_a_refused_key_is_in_no_log_and_no_dead_turn(
    make_stack: MakeStack, capfd: pytest.CaptureFixture[str]
) -> None:
    stack = make_stack()
    stack.add_bot(openai_api_key=REFUSED_KEY)

    with stack.worker():
        stack.send("hola")
        turns = stack.wait_for_turns(1)

    logged = "".join(capfd.readouterr())
    assert [turn["status"] for turn in turns] == ["dead"]
    assert "turn_dead" in logged
    assert REFUSED_KEY not in logged + str(stack.container.turns.dead())


@pytest.mark.parametrize("status", [400, 401, 403, 500])
def test_the_operators_key_is_not_answered_to_a_client(make_stack: MakeStack, status: int) -> None:
    stack = make_stack(OPENAI_API_KEY="operators-own-words")
    _, key = stack.container.api_keys.create("k", "acme", "test")
    words = {"error": {"message": "Invalid key operators-own-words", "code": "operators-own-words"}}
    stack.openai.fail(Fault.status(status, words), times=1)

    answer = falcon.testing.TestClient(create_app(stack.container)).simulate_post(
        "/bots",
        json={"name": "A", "twilio_phone_number": "+56933330000"},
        headers={"Authorization": f"Bearer {key}"},
    )

    assert answer.status_code == 201
    assert [warning["field"] for warning in answer.json["warnings"]] == ["openai_model"]
    assert "operators-own-words" not in answer.text
