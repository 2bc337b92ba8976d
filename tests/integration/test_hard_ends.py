"""Opting out, handoff, caps and retries where they meet failures."""

from __future__ import annotations

import pytest
from sqlalchemy import update

from service.cli.dead import _retry
from service.conversation.event import Event
from service.conversation.policy import consent
from service.conversation.texts import texts_for
from service.demo.emulators.brains import ScriptedBrain
from service.demo.emulators.faults import Fault
from service.demo.emulators.replies import calls, text
from service.store.models import TurnRow
from tests.integration.test_crashes import crash
from tests.integration.test_vendor_failures import is_send, openai_error
from tests.stack import CONTACT, LEAD_ACTIONS, MakeStack, Stack, wait_until

APOLOGY = "Lo sentimos"


def twilio_error(code: int, status: int = 400) -> dict[str, object]:
    return {"code": code, "message": "about it", "status": status}


@pytest.fixture
def stack(make_stack: MakeStack) -> Stack:
    stack = make_stack(RETRY_BASE_S="0.01")
    stack.add_bot(texts={"apology": APOLOGY}, horizon_actions=LEAD_ACTIONS)
    return stack


def test_a_retry_sends_nothing_to_a_contact_who_opted_out_since(stack: Stack) -> None:
    stack.twilio.fail(Fault.status(400, twilio_error(63016)), times=1, match=is_send)
    with stack.worker():
        stack.send("hola")
        stack.wait_for_turns(1)
        stack.send("STOP")
        stack.wait_for_turns(2)
        stack.wait_until_idle()
        dead = stack.turns()[0]
        before = stack.replies()
        _retry(stack.container, dead["id"])
        wait_until(lambda: stack.turns()[-1]["runs"] == 2, "the turn to run again")
        stack.wait_until_idle()
    assert stack.replies() == before
    assert (stack.turns()[-1]["id"], stack.turns()[-1]["reason"]) == (dead["id"], "opted_out")


def test_an_opted_out_contact_gets_no_apology(stack: Stack) -> None:
    with stack.worker():
        stack.send("STOP")
        stack.wait_for_turns(1)
        stack.wait_until_idle()
    stack.send("hola")
    claim = stack.container.mailbox.claim(1)[0][0]
    stack.container.journal.open(claim)
    stack.container.mailbox.release(claim)
    with stack.container.database.write() as connection:
        connection.execute(update(TurnRow).where(TurnRow.status == "running").values(crashes=10))
    with stack.worker():
        stack.wait_for_turns(2)
    assert APOLOGY not in stack.replies()


def test_a_person_who_took_over_while_the_reply_waited_is_not_talked_over(
    make_stack: MakeStack,
) -> None:
    stack = make_stack()
    stack.add_bot(handoff={"source": "horizon"})
    fault = Fault.status(429, twilio_error(20429, 429), {"Retry-After": "1"})
    stack.twilio.fail(fault, times=1, match=is_send)
    with stack.worker():
        stack.send("hola")
        wait_until(lambda: any(is_send(r) for r in stack.twilio.requests), "first send")
        stack.horizon.control_modes[CONTACT] = "human"
        stack.wait_for_turns(1)
    assert stack.replies() == []
    assert stack.turns()[0]["reason"] == "handoff"


def test_a_word_without_letters_opts_nobody_out() -> None:
    texts = texts_for("es", {"opt_out_words": ["🛑"]})
    photo = Event("SM1", "message", "bot", 0, {"Body": "", "NumMedia": "1"})
    assert consent([photo], texts, False).talk


def test_the_time_of_an_outage_counts_for_nothing(stack: Stack) -> None:
    stack.openai.fail(Fault.status(500, openai_error("server_error")), times=2)
    stack.send("hola")
    claim = stack.container.mailbox.claim(1)[0][0]
    stack.container.runner(lambda task, after_s=0: None).run(claim)
    assert 0 < stack.turns()[0]["retry_s"] < 5
    with stack.worker():
        stack.wait_for_turns(1)
    assert [(turn["status"], turn["tries"]) for turn in stack.turns()] == [("replied", 2)]


def test_the_time_cap_of_a_turn_holds_inside_a_round(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first call of the round takes longer than a turn may."""
    over_s = stack.container.limits.max_turn_s + 1
    monkeypatch.setattr(
        "service.conversation.converse.monotonic", lambda: over_s if stack.horizon.requests else 0
    )
    many = calls([("get_lead", {"lead_id": str(n)}) for n in range(8)])
    stack.openai.brain = ScriptedBrain([many, text("listo")])
    with stack.worker():
        stack.send("hola")
        stack.wait_for_turns(1)
    outputs = [item["output"] for item in stack.model_inputs()[1] if "output" in item]
    assert len(outputs) == 8
    assert ["no time left" in output for output in outputs] == [False] + [True] * 7


def test_a_worker_killed_in_the_middle_of_parallel_calls_makes_each_once(
    make_stack: MakeStack,
) -> None:
    stack = make_stack()
    stack.add_bot(horizon_actions=LEAD_ACTIONS)
    three = calls([("create_lead", {"nombre": f"N{k}", "interes": "casa"}) for k in range(3)])
    stack.openai.brain = ScriptedBrain([three, text("listo")])
    stack.send("tres")
    crash(stack, "after:crm.call:2")
    with stack.worker():
        stack.wait_for_turns(1)
    assert sorted(lead["nombre"] for lead in stack.horizon.leads) == ["N0", "N1", "N2"]
    assert stack.replies() == ["listo"]
