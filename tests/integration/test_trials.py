"""Test messages of an operator: the whole way, an answer that reaches nobody, and nothing that counts."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import falcon.testing
import pytest
from sqlalchemy import func, select

from service.app import create_app
from service.conversation.clock import utc_now
from service.conversation.event import conversation_id, turn_id
from service.conversation.trial import ADDRESS_PREFIX, new_address
from service.demo.emulators.brains import ScriptedBrain
from service.demo.emulators.faults import Fault
from service.demo.emulators.phone import inbound_form
from service.demo.emulators.replies import calls, text
from service.store.models import UsageRow
from service.web.trial_mark import FIELD, TrialMarks
from tests.integration.test_webhook import Door
from tests.stack import ACCOUNT_SID, CONTACT, LEAD_ACTIONS, NUMBER, MakeStack, Stack, wait_until

NO_QUOTA = {
    "error": {"message": "no", "type": "error", "param": None, "code": "insufficient_quota"}
}


def trial_form(stack: Stack, body: str = "hola", address: str | None = None) -> dict[str, str]:
    form = inbound_form(ACCOUNT_SID, NUMBER, CONTACT, body)
    form.pop("WaId", None)
    form["From"] = address or new_address()
    form[FIELD] = TrialMarks(stack.settings.secret_key).mark(form)
    return form


def ended(stack: Stack, form: dict[str, str]) -> dict[str, Any]:
    """The trial's turn once it has ended, and its conversation."""
    conversation = conversation_id("bot_test", form["From"])
    turn = turn_id(conversation, form["MessageSid"])

    def status() -> str:
        found = stack.container.turns.turn(turn)
        return "running" if found is None else str(found["status"])

    wait_until(lambda: status() != "running", "end of the trial")
    return stack.container.turns.conversation(conversation) or {}


def counters(stack: Stack) -> dict[str, float]:
    """Every counter of messages, turns, tokens and stages."""
    _ = stack.container.metrics
    # Imported earlier it would count in memory instead of in the folder's files.
    from prometheus_client.parser import text_string_to_metric_families

    answer = falcon.testing.TestClient(create_app(stack.container)).simulate_get(
        "/metrics", remote_addr="127.0.0.1"
    )
    assert answer.status_code == 200, answer.text
    families = text_string_to_metric_families(answer.text)
    return {
        f"{sample.name}{sorted(sample.labels.items())}": sample.value
        for family in families
        for sample in family.samples
        if family.type in ("counter", "histogram")
    }


def door_of(stack: Stack) -> Door:
    return Door(stack, falcon.testing.TestClient(create_app(stack.container)))


def test_a_trial_is_answered_journaled_and_handed_to_nobody(stack: Stack) -> None:
    form = trial_form(stack)
    with stack.worker():
        assert door_of(stack).post(form).status_code == 200
        held = ended(stack, form)

    (turn,) = held["turns"]
    (part,) = stack.container.turns.parts(turn["id"])
    assert (turn["status"], turn["reason"]) == ("replied", "answered")
    assert [each["text"] for each in held["messages"]] == ["hola", "eco: hola"]
    assert part["sid"].startswith("trial:")
    assert stack.twilio.requests == []


def test_a_trial_does_not_count(stack: Stack) -> None:
    before = counters(stack)
    form = trial_form(stack)
    with stack.worker():
        door_of(stack).post(form)
        ended(stack, form)
        stack.wait_until_idle()

    with stack.container.database.read() as connection:
        assert connection.scalar(select(func.count()).select_from(UsageRow)) == 0
    assert counters(stack) == before


def test_a_dead_trial_is_no_dead_turn(stack: Stack) -> None:
    form = trial_form(stack)
    stack.openai.fail(Fault.status(429, NO_QUOTA), times=None)
    with stack.worker():
        door_of(stack).post(form)
        (turn,) = ended(stack, form)["turns"]

    assert (turn["status"], turn["reason"]) == ("dead", "insufficient_quota")
    assert stack.container.turns.dead_count() == 0
    assert stack.container.turns.dead() == []
    assert stack.twilio.requests == []


def test_a_search_finds_what_contacts_wrote_and_no_trial(stack: Stack) -> None:
    form = trial_form(stack)
    with stack.worker():
        door_of(stack).post(form)
        door_of(stack).post()
        stack.wait_for_turns(2)
        ended(stack, form)

    now = utc_now()
    found = stack.container.message_search.find("hola", now - timedelta(hours=1), now)

    assert [each["address"] for each in found] == [f"whatsapp:{CONTACT}"] * 2


def test_a_message_of_a_contact_counts_beside_trials(stack: Stack) -> None:
    before = counters(stack)
    with stack.worker():
        door_of(stack).post(trial_form(stack))
        door_of(stack).post()
        stack.wait_for_replies(1)
        stack.wait_for_turns(2)
        stack.wait_until_idle()

    key = "horizon_turns_total[('reason', 'answered'), ('status', 'replied')]"
    after = counters(stack)
    assert after[key] - before.get(key, 0) == 1


@pytest.mark.parametrize(
    "change",
    [
        {FIELD: ""},
        {FIELD: "0" * 64},
        {"Body": "otra cosa"},
        {"From": ADDRESS_PREFIX + "0" * 24},
        {"MessageSid": "SM" + "0" * 32},
        {"From": f"whatsapp:{CONTACT}"},
        {"ExternalUserId": "whatsapp:CL.abc"},
    ],
    ids=lambda change: next(iter(change)) + str(len(next(iter(change.values())))),
)
def test_a_mark_that_does_not_hold_is_refused_with_a_good_signature(
    stack: Stack, change: dict[str, str]
) -> None:
    # The post signs the changed form with the bot's token: its client could do as much.
    answer = door_of(stack).post({**trial_form(stack), **change})

    assert answer.status_code == 403
    assert stack.container.mailbox.depth().due == 0


def test_an_address_of_trials_without_a_mark_is_refused(stack: Stack) -> None:
    form = trial_form(stack)
    del form[FIELD]

    assert door_of(stack).post(form).status_code == 403
    assert door_of(stack).post(door_of(stack).form(ExternalUserId=new_address())).status_code == 403


def test_a_mark_of_an_older_key_holds(make_stack: MakeStack) -> None:
    stack = make_stack()
    stack.add_bot()
    form = trial_form(stack)
    older = stack.settings.secret_key[0]
    del form[FIELD]

    rotated = TrialMarks(["another key of the same length", older])
    form[FIELD] = TrialMarks([older]).mark(form)

    assert rotated.fault(form) is None
    assert TrialMarks(["another key of the same length"]).fault(form) is not None


def test_a_trial_changes_nothing_at_the_crm_and_asks_nobody_for_control(
    make_stack: MakeStack,
) -> None:
    stack = make_stack()
    stack.add_bot(horizon_actions=LEAD_ACTIONS, report_turns=True, handoff={"source": "horizon"})
    both = [("create_lead", {"nombre": "Ana", "interes": "casa"}), ("get_lead", {"lead_id": "1"})]
    stack.openai.brain = ScriptedBrain([calls(both), text("listo")])
    form = trial_form(stack)
    with stack.worker():
        door_of(stack).post(form)
        held = ended(stack, form)
        stack.wait_until_idle()

    asked = [(request.method, request.path) for request in stack.horizon.requests]
    assert asked == [("GET", "/api/leads/1/")]
    notes = [each["text"] for each in held["messages"] if each["direction"] == "note"]
    assert "test message" in notes[0]


def test_a_paused_bot_keeps_messages_and_says_nothing(stack: Stack) -> None:
    stack.add_bot("bot_paused", "+56911110001", status="paused")
    with stack.worker():
        stack.send("hola", number="+56911110001", bot_id="bot_paused")
        (turn,) = stack.wait_for_turns(1)

    assert (turn["status"], turn["reason"]) == ("silent", "paused")
    assert stack.twilio.requests == []
    assert stack.openai.requests == []
