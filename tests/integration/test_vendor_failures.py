"""What a vendor's failure does to a turn: tried again, told to the model, or dead and visible."""

from __future__ import annotations

from typing import Any

import pytest

from service.conversation.converse import Converser
from service.conversation.event import Event, encode
from service.conversation.mailbox import Inbound
from service.demo.emulators.brains import ScriptedBrain
from service.demo.emulators.faults import Fault
from service.demo.emulators.replies import calls, failed, text
from tests.server_process import PATIENCE_S
from tests.stack import CONTACT, LEAD_ACTIONS, NUMBER, MakeStack, Stack, wait_until

# The vendors' failures are the same on either database; what a turn keeps of them is tested on both by
# test_turn.py, test_crashes.py and test_poison.py.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

APOLOGY = "Lo sentimos"
PATIENT = str(PATIENCE_S)
"""A vendor that is only slow, on a slow machine, is waited for."""


def openai_error(code: str, kind: str = "error") -> dict[str, Any]:
    return {"error": {"message": f"about {code}", "type": kind, "param": None, "code": code}}


@pytest.fixture
def stack(make_stack: MakeStack) -> Stack:
    stack = make_stack(
        OPENAI_TIMEOUT_S=PATIENT, TWILIO_TIMEOUT_S=PATIENT, HORIZON_TIMEOUT_S=PATIENT
    )
    stack.add_bot(texts={"apology": APOLOGY}, horizon_actions=LEAD_ACTIONS)
    return stack


@pytest.fixture
def hasty_stack(make_stack: MakeStack) -> Stack:
    """It gives up a vendor that hangs after three seconds, and a very slow one with it: what it does
    then may happen more than once."""
    stack = make_stack(OPENAI_TIMEOUT_S="3", TWILIO_TIMEOUT_S="3", HORIZON_TIMEOUT_S="3")
    stack.add_bot(texts={"apology": APOLOGY}, horizon_actions=LEAD_ACTIONS)
    return stack


@pytest.mark.parametrize(
    "fault",
    [
        Fault.status(429, openai_error("rate_limit_exceeded"), {"Retry-After": "0"}),
        Fault.status(500, openai_error("server_error")),
        Fault.status(503, openai_error("server_error")),
        Fault.reset(),
    ],
    ids=["429", "500", "503", "reset"],
)
def test_a_transient_failure_of_the_model_is_tried_again(stack: Stack, fault: Fault) -> None:
    stack.openai.fail(fault, times=2)
    with stack.worker():
        stack.send("hola")
        stack.wait_for_turns(1)
    assert stack.replies() == ["eco: hola"]
    assert stack.turns()[0]["tries"] == 2


def test_a_model_that_hangs_is_given_up_and_tried_again(hasty_stack: Stack) -> None:
    hasty_stack.openai.fail(Fault.hang(), times=1)
    with hasty_stack.worker():
        hasty_stack.send("hola")
        hasty_stack.wait_for_turns(1)
    assert hasty_stack.replies() == ["eco: hola"]
    assert hasty_stack.turns()[0]["tries"] >= 1


def test_a_response_that_failed_at_http_200_is_tried_again(stack: Stack) -> None:
    stack.openai.brain = ScriptedBrain([failed("server_error", "sorry"), text("ya")])
    with stack.worker():
        stack.send("hola")
        stack.wait_for_turns(1)
    assert stack.replies() == ["ya"]


def test_a_used_up_quota_ends_the_turn_with_an_apology(stack: Stack) -> None:
    stack.openai.fail(Fault.status(429, openai_error("insufficient_quota")), times=1)
    with stack.worker():
        stack.send("hola")
        stack.wait_for_turns(1)
        stack.wait_until_idle()
    turn = stack.turns()[0]
    assert (turn["status"], turn["reason"], turn["tries"]) == ("dead", "insufficient_quota", 0)
    assert stack.replies() == [APOLOGY]


def test_a_failure_that_lasts_ends_the_turn_after_six_tries(stack: Stack) -> None:
    stack.openai.fail(Fault.status(500, openai_error("server_error")), times=None)
    with stack.worker():
        stack.send("hola")
        stack.wait_for_turns(1)
        stack.wait_until_idle()
    turn = stack.turns()[0]
    assert (turn["status"], turn["tries"]) == ("dead", 6)
    assert stack.replies() == [APOLOGY]


def test_later_messages_go_on_after_a_dead_turn_and_one_apology_an_hour_is_sent(
    stack: Stack,
) -> None:
    stack.openai.fail(Fault.status(429, openai_error("insufficient_quota")), times=2)
    with stack.worker():
        for turn, body in enumerate(("uno", "dos", "tres"), 1):
            stack.send(body)
            stack.wait_for_turns(turn)
    assert stack.replies() == [APOLOGY, "eco: uno | dos | tres"]
    assert [turn["status"] for turn in stack.turns()] == ["dead", "dead", "replied"]


def test_a_dead_turn_is_retried_as_the_newest(stack: Stack) -> None:
    stack.openai.fail(Fault.status(429, openai_error("insufficient_quota")), times=1)
    with stack.worker():
        stack.send("uno")
        stack.wait_for_turns(1)
        stack.send("dos")
        stack.wait_for_turns(2)
        dead = stack.turns()[0]
        fields = {"turn": dead["id"], "From": f"whatsapp:{CONTACT}"}
        event = Event("retry-1", "retry", "bot_test", 0, fields)
        event = Event(event.id, "retry", "bot_test", 0, fields, encode(event))
        inbound = Inbound(event, "bot_test", NUMBER, f"whatsapp:{CONTACT}")
        stack.container.mailbox.accept(inbound)
        wait_until(lambda: len(stack.replies()) == 3, "reply to the retried turn")
        stack.wait_until_idle()
    assert stack.replies() == [APOLOGY, "eco: uno | dos", "eco: uno"]
    newest = stack.turns()[-1]
    assert (newest["id"], newest["status"], newest["runs"]) == (dead["id"], "replied", 2)
    roles = [(item["role"], item["content"]) for item in stack.model_inputs()[-1]]
    assert roles == [("user", "dos"), ("assistant", "eco: uno | dos"), ("user", "uno")]


def test_twilios_429_is_sent_again(stack: Stack) -> None:
    body = {"code": 20429, "message": "Too many requests", "status": 429}
    stack.twilio.fail(Fault.status(429, body), times=2, match=is_send)
    with stack.worker():
        stack.send("hola")
        stack.wait_for_turns(1)
    assert stack.replies() == ["eco: hola"]


@pytest.mark.parametrize(
    "fault",
    [Fault.accept_then_hang(), Fault.accept_then_reset(), Fault.accept_then_status(500)],
    ids=["hang", "reset", "500"],
)
def test_a_send_that_was_accepted_but_not_answered_is_not_repeated(
    hasty_stack: Stack, fault: Fault
) -> None:
    stack = hasty_stack
    stack.twilio.fail(fault, times=1, match=is_send)
    with stack.worker():
        stack.send("hola")
        stack.wait_for_turns(1)
        stack.wait_until_idle()
    assert stack.replies() == ["eco: hola"]
    assert stack.turns()[0]["status"] == "replied"


@pytest.mark.parametrize("fault", [Fault.hang(), Fault.status(500)], ids=["hang", "500"])
def test_a_send_that_was_never_taken_is_repeated_after_its_grace(
    hasty_stack: Stack, fault: Fault
) -> None:
    stack = hasty_stack
    stack.twilio.fail(fault, times=1, match=is_send)
    with stack.worker():
        stack.send("hola")
        stack.wait_for_turns(1)
    assert stack.replies() == ["eco: hola"]


def test_the_same_words_sent_before_are_not_taken_for_the_uncertain_part(
    hasty_stack: Stack,
) -> None:
    stack = hasty_stack
    stack.openai.brain = ScriptedBrain([text("sí"), text("sí")])
    with stack.worker():
        stack.send("¿uno?")
        stack.wait_for_turns(1)
        stack.twilio.fail(Fault.hang(), times=1, match=is_send)
        stack.send("¿dos?")
        stack.wait_for_turns(2)
    assert stack.replies() == ["sí", "sí"]


def test_a_permanent_error_of_twilio_ends_the_turn_without_apology(stack: Stack) -> None:
    stack.twilio.refuse(CONTACT, 63016)
    with stack.worker():
        stack.send("hola")
        stack.wait_for_turns(1)
    turn = stack.turns()[0]
    assert (turn["status"], turn["reason"]) == ("dead", "63016")
    assert len([r for r in stack.twilio.requests if is_send(r)]) == 1


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (Fault.status(422, {"nombre": ["Este campo es inválido."]}), "Este campo es inválido."),
        (Fault.status(500, {"detail": "boom"}), "It is not certain"),
        (Fault.hang(), "result is unknown"),
        (Fault.accept_then_hang(), "result is unknown"),
    ],
    ids=["422", "500", "hang", "accepted"],
)
def test_the_crms_failure_is_told_to_the_model_and_a_post_is_never_repeated(
    make_stack: MakeStack, fault: Fault, told: str
) -> None:
    hangs = fault.kind.endswith("hang")
    stack = make_stack(HORIZON_TIMEOUT_S="0.5" if hangs else PATIENT)
    stack.add_bot(horizon_actions=LEAD_ACTIONS)
    create = calls([("create_lead", {"nombre": "Ana", "interes": "casa"})])
    stack.openai.brain = ScriptedBrain([create, text("veré")])
    stack.horizon.fail(fault, times=1)
    with stack.worker():
        stack.send("soy Ana")
        stack.wait_for_turns(1)
    output = next(item for item in stack.model_inputs()[1] if item.get("output"))["output"]
    assert told in output
    assert len([r for r in stack.horizon.requests if r.method == "POST"]) == 1
    assert stack.replies() == ["veré"]


def test_a_post_with_an_idempotency_key_is_repeated_with_the_same_key(
    make_stack: MakeStack,
) -> None:
    stack = make_stack(HORIZON_TIMEOUT_S=PATIENT)
    stack.add_bot(horizon_actions=[{**LEAD_ACTIONS[0], "idempotency": "key"}])
    create = calls([("create_lead", {"nombre": "Ana", "interes": "casa"})])
    stack.openai.brain = ScriptedBrain([create, text("listo")])
    stack.horizon.fail(Fault.accept_then_reset(), times=1)
    with stack.worker():
        stack.send("soy Ana")
        stack.wait_for_turns(1)
    posts = [r for r in stack.horizon.requests if r.method == "POST"]
    assert len(posts) == 2
    assert len(stack.horizon.leads) == 1


def test_a_get_that_fails_once_is_repeated(stack: Stack) -> None:
    stack.openai.brain = ScriptedBrain([calls([("get_lead", {"lead_id": "7"})]), text("no está")])
    stack.horizon.fail(Fault.status(500), times=1)
    with stack.worker():
        stack.send("mi solicitud 7")
        stack.wait_for_turns(1)
    output = next(item for item in stack.model_inputs()[1] if item.get("output"))["output"]
    assert "No encontrado" in output


def test_a_fault_of_the_service_itself_ends_the_turn_visibly(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise KeyError("planted")

    monkeypatch.setattr(Converser, "reply", broken)
    with stack.worker():
        stack.send("hola")
        stack.wait_for_turns(1)
    turn = stack.turns()[0]
    assert (turn["status"], turn["error"]) == ("dead", "internal: KeyError")


def is_send(request: Any) -> bool:
    return bool(request.method == "POST" and request.path.endswith("/Messages.json"))


def test_opting_out_holds_although_its_confirmation_cannot_be_sent(stack: Stack) -> None:
    stack.twilio.refuse(CONTACT, 63016)
    with stack.worker():
        stack.send("STOP")
        stack.wait_for_turns(1)
        stack.send("hola")
        stack.wait_for_turns(2)
    assert [turn["status"] for turn in stack.turns()] == ["dead", "silent"]
    assert stack.model_inputs() == []


def test_a_retried_turns_notes_stand_once_in_the_conversation(stack: Stack) -> None:
    stack.twilio.refuse(CONTACT, 63016)
    stack.openai.brain = ScriptedBrain([calls([("get_lead", {"lead_id": "7"})]), text("no está")])
    with stack.worker():
        stack.send("mi solicitud 7")
        stack.wait_for_turns(1)
        stack.wait_until_idle()
        stack.twilio.allow(CONTACT)
        turn = stack.turns()[0]
        event = Event("retry-1", "retry", "bot_test", 0, {"turn": turn["id"]})
        event = Event(event.id, "retry", "bot_test", 0, event.fields, encode(event))
        stack.container.mailbox.command(turn["conversation_id"], event, "bot_test", NUMBER)
        stack.wait_for_replies(1)
        stack.wait_until_idle()
    said = stack.container.turns.conversation(turn["conversation_id"])
    assert said is not None
    assert [message["direction"] for message in said["messages"]] == ["in", "note", "out"]
