"""Whole turns: order, coalescing, duplicates, context, tools, opting out, handoff."""

from __future__ import annotations

from collections.abc import Callable

from service.demo.emulators.brains import ScriptedBrain
from service.demo.emulators.replies import calls, empty, incomplete, refusal, text
from service.store.aliases import restore_aliases
from tests.stack import LEAD_ACTIONS, MakeStack, Stack, wait_until


def test_a_message_is_answered_once(stack: Stack) -> None:
    with stack.worker():
        stack.send("hola")
        replies = stack.wait_for_replies(1)
        stack.wait_until_idle()
    assert replies == ["eco: hola"]
    assert [turn["status"] for turn in stack.turns()] == ["replied"]


def test_second_delivery_of_a_message_is_dropped(stack: Stack) -> None:
    message = stack.message("hola")
    first = stack.container.mailbox.accept(message)
    second = stack.container.mailbox.accept(message)
    assert (first.duplicate, second.duplicate) == (False, True)
    with stack.worker():
        stack.wait_for_replies(1)
        stack.wait_until_idle()
    assert stack.replies() == ["eco: hola"]


def test_a_message_that_comes_again_after_redis_forgot_it_is_not_answered_again(
    stack: Stack,
) -> None:
    message = stack.message("hola")
    stack.container.mailbox.accept(message)
    with stack.worker():
        stack.wait_for_turns(1)
        stack.wait_until_idle()
        stack.container.redis.client.flushall()
        assert not stack.container.mailbox.accept(message).duplicate
        stack.wait_until_idle()
    assert stack.replies() == ["eco: hola"]
    assert len(stack.turns()) == 1


def test_a_burst_becomes_one_turn_in_order(make_stack: MakeStack) -> None:
    stack = make_stack()
    stack.add_bot()
    for body in ("uno", "dos", "tres"):
        stack.send(body)
    with stack.worker():
        stack.wait_for_turns(1)
        stack.wait_until_idle()
    assert stack.replies() == ["eco: uno | dos | tres"]


def test_messages_during_a_turn_become_the_next_one(stack: Stack) -> None:
    with stack.worker():
        with stack.held_model():
            stack.send("uno")
            stack.wait_for_calls()
            stack.send("dos")
            stack.send("tres")
        stack.wait_for_turns(2)
    assert stack.replies() == ["eco: uno", "eco: dos | tres"]


def test_two_conversations_run_in_parallel(stack: Stack) -> None:
    with stack.worker():
        with stack.held_model():
            stack.send("hola", from_="+56922220001")
            stack.send("hola", from_="+56922220002")
            stack.wait_for_calls(2)
        stack.wait_for_turns(2)


def test_the_next_turn_knows_what_was_said(stack: Stack) -> None:
    with stack.worker():
        stack.send("me llamo Ana")
        stack.wait_for_turns(1)
        stack.send("¿cómo me llamo?")
        stack.wait_for_turns(2)
    assert stack.model_inputs()[1] == [
        {"role": "user", "content": "me llamo Ana"},
        {"role": "assistant", "content": "eco: me llamo Ana"},
        {"role": "user", "content": "¿cómo me llamo?"},
    ]


def test_the_context_is_rebuilt_from_sql_when_redis_has_lost_it(stack: Stack) -> None:
    with stack.worker():
        stack.send("me llamo Ana")
        stack.wait_for_turns(1)
        stack.wait_until_idle()
        stack.container.redis.client.flushall()
        stack.send("¿cómo me llamo?")
        stack.wait_for_turns(2)
    assert [item["content"] for item in stack.model_inputs()[1]] == [
        "me llamo Ana",
        "eco: me llamo Ana",
        "¿cómo me llamo?",
    ]


def test_an_action_is_called_and_its_result_goes_back_to_the_model(make_stack: MakeStack) -> None:
    stack = make_stack()
    stack.add_bot(horizon_actions=LEAD_ACTIONS)
    stack.openai.brain = ScriptedBrain(
        [calls([("create_lead", {"nombre": "Ana", "interes": "casa"})]), text("Listo, Ana")]
    )
    with stack.worker():
        stack.send("soy Ana y busco casa")
        replies = stack.wait_for_replies(1)
        stack.wait_for_turns(1)
    assert replies == ["Listo, Ana"]
    assert [(lead["nombre"], lead["telefono"]) for lead in stack.horizon.leads] == [
        ("Ana", "+56922220000")
    ]
    outputs = [
        item for item in stack.model_inputs()[1] if item.get("type") == "function_call_output"
    ]
    assert '"id":1' in outputs[0]["output"]


def test_wrong_arguments_call_nothing_and_the_model_is_told(make_stack: MakeStack) -> None:
    stack = make_stack()
    stack.add_bot(horizon_actions=LEAD_ACTIONS)
    stack.openai.brain = ScriptedBrain([calls([("create_lead", {"nombre": "Ana"})]), text("ok")])
    with stack.worker():
        stack.send("hola")
        stack.wait_for_turns(1)
    assert stack.horizon.effects == []
    outputs = [
        item for item in stack.model_inputs()[1] if item.get("type") == "function_call_output"
    ]
    assert "interes" in outputs[0]["output"]


def test_the_round_cap_ends_with_a_call_without_tools(make_stack: MakeStack) -> None:
    stack = make_stack()
    stack.add_bot(horizon_actions=LEAD_ACTIONS)
    again = calls([("get_lead", {"lead_id": "1"})])
    stack.openai.brain = ScriptedBrain([again] * 8 + [text("no lo logré")])
    with stack.worker():
        stack.send("hola")
        stack.wait_for_turns(1)
    bodies = [r.body for r in stack.openai.requests if r.path.endswith("/responses")]
    assert stack.replies() == ["no lo logré"]
    assert [body.get("tool_choice") for body in bodies] == [None] * 8 + ["none"]


def test_each_end_of_the_model_has_a_reply(make_stack: MakeStack) -> None:
    stack = make_stack()
    stack.add_bot(texts={"no_answer": "¿Cómo dices?"})
    stack.openai.brain = ScriptedBrain(
        [
            empty(),
            refusal("No puedo ayudar con eso"),
            incomplete("max_output_tokens", "La respuesta es"),
            incomplete("content_filter", "algo"),
        ]
    )
    with stack.worker():
        for turn in range(4):
            stack.send(f"pregunta {turn}")
            stack.wait_for_turns(turn + 1)
    assert stack.replies() == [
        "¿Cómo dices?",
        "No puedo ayudar con eso",
        "La respuesta es",
        "¿Cómo dices?",
    ]
    assert [turn["reason"] for turn in stack.turns()] == [
        "empty",
        "refusal",
        "incomplete",
        "incomplete",
    ]


def test_a_long_reply_goes_out_in_parts_in_order(stack: Stack) -> None:
    long = "\n\n".join(f"Párrafo {n}: " + "palabra " * 100 for n in range(5)).strip()
    stack.openai.brain = ScriptedBrain([text(long)])
    with stack.worker():
        stack.send("cuéntame todo")
        stack.wait_for_turns(1)
    replies = stack.replies()
    assert len(replies) > 1
    assert all(len(reply) <= 1600 for reply in replies)
    assert " ".join(" ".join(replies).split()) == " ".join(long.split())


def test_opting_out_is_confirmed_once_and_silences_the_bot(stack: Stack) -> None:
    with stack.worker():
        for turn, body in enumerate(("Baja.", "hola", "STOP", "alta", "hola de nuevo"), 1):
            stack.send(body)
            stack.wait_for_turns(turn)
    replies = stack.replies()
    assert len(replies) == 3
    assert "ALTA" in replies[0]
    assert replies[2] == "eco: hola de nuevo"
    assert [turn["status"] for turn in stack.turns()] == [
        "replied",
        "silent",
        "silent",
        "replied",
        "replied",
    ]


def test_a_person_who_took_over_silences_the_bot(make_stack: MakeStack) -> None:
    stack = make_stack()
    stack.add_bot(handoff={"source": "horizon"})
    stack.horizon.control_modes["+56922220000"] = "human"
    with stack.worker():
        stack.send("hola")
        stack.wait_for_turns(1)
    assert stack.replies() == []
    assert stack.model_inputs() == []
    assert [(turn["status"], turn["reason"]) for turn in stack.turns()] == [("silent", "handoff")]


def test_a_person_who_takes_over_during_the_turn_stops_the_reply(make_stack: MakeStack) -> None:
    stack = make_stack()
    stack.add_bot(handoff={"source": "horizon"})
    with stack.worker():
        with stack.held_model():
            stack.send("hola")
            stack.wait_for_calls()
            stack.horizon.control_modes["+56922220000"] = "human"
        stack.wait_for_turns(1)
    assert stack.replies() == []


def test_the_bots_setting_decides_when_horizon_cannot_be_asked(make_stack: MakeStack) -> None:
    stack = make_stack()
    stack.horizon.stop()
    stack.add_bot("bot_a", "+56911110001", handoff={"source": "horizon"})
    stack.add_bot("bot_b", "+56911110002", handoff={"source": "horizon", "on_failure": "silent"})
    with stack.worker():
        stack.send("hola", bot_id="bot_a", number="+56911110001")
        stack.send("hola", bot_id="bot_b", number="+56911110002")
        stack.wait_for_turns(2)
    assert stack.replies() == ["eco: hola"]


def test_a_message_without_text_reaches_the_assistant_as_a_description(stack: Stack) -> None:
    with stack.worker():
        stack.send("", NumMedia="1", MediaContentType0="image/jpeg", MessageType="image")
        stack.wait_for_turns(1)
    assert "image/jpeg" in stack.model_inputs()[0][0]["content"]


def test_a_contact_without_a_visible_number_is_answered_where_it_wrote_from(stack: Stack) -> None:
    with stack.worker():
        stack.send("hola", from_="whatsapp:CL.abc123", ExternalUserId="whatsapp:CL.abc123")
        stack.wait_for_turns(1)
    assert stack.replies("whatsapp:CL.abc123") == ["eco: hola"]


def test_a_contact_keeps_its_conversation_when_its_number_becomes_hidden(stack: Stack) -> None:
    known = "whatsapp:CL.abc123"
    first = stack.send("uno")
    both = stack.send("dos", ExternalUserId=known)
    hidden = stack.send("tres", from_=known, ExternalUserId=known)
    assert first.conversation_id == both.conversation_id == hidden.conversation_id


def test_a_hidden_number_keeps_its_conversation_after_a_loss_of_redis(stack: Stack) -> None:
    known = "whatsapp:CL.abc123"
    with stack.worker():
        first = stack.send("uno", ExternalUserId=known)
        stack.wait_for_turns(1)
        stack.wait_until_idle()
    stack.container.redis.client.flushall()
    assert restore_aliases(stack.container.database, stack.container.redis) == 1
    assert restore_aliases(stack.container.database, stack.container.redis) == 0
    hidden = stack.send("dos", from_=known, ExternalUserId=known)
    assert hidden.conversation_id == first.conversation_id


def test_a_number_that_passes_to_another_person_starts_another_conversation(stack: Stack) -> None:
    first = stack.send("uno", ExternalUserId="whatsapp:CL.one")
    second = stack.send("dos", ExternalUserId="whatsapp:CL.two")
    assert first.conversation_id != second.conversation_id


def test_the_time_of_the_bot_is_in_the_instructions(make_stack: MakeStack) -> None:
    stack = make_stack()
    stack.add_bot(instructions="Eres un bot.", timezone="Asia/Tokyo")
    with stack.worker():
        stack.send("hola")
        stack.wait_for_turns(1)
    sent = next(r.body for r in stack.openai.requests if r.path.endswith("/responses"))
    assert sent["instructions"].startswith("Eres un bot.")
    assert "(Asia/Tokyo)" in sent["instructions"]


def test_turns_are_reported_when_the_bot_asks_for_it(make_stack: MakeStack) -> None:
    stack = make_stack()
    stack.add_bot(report_turns=True)
    with stack.worker():
        stack.send("hola")
        wait_until(lambda: stack.horizon.events, "report")
    assert stack.horizon.events[0]["datos"]["status"] == "replied"


def test_two_clients_bots_share_nothing_of_the_same_contact(make_stack: MakeStack) -> None:
    stack = make_stack()
    stack.horizon.tokens |= {"token-a": "client-a", "token-b": "client-b"}
    stack.twilio.accounts |= {"AC" + "a" * 32: "auth-a", "AC" + "b" * 32: "auth-b"}
    numbers = {"a": "+56911110001", "b": "+56911110002"}
    for name, number in numbers.items():
        stack.add_bot(
            f"bot_{name}",
            number,
            instructions=f"Soy {name}",
            horizon_actions=LEAD_ACTIONS,
            horizon_api_token=f"token-{name}",
            openai_api_key=f"sk-{name}",
            twilio_account_sid="AC" + name * 32,
            twilio_auth_token=f"auth-{name}",
        )
    create = calls([("create_lead", {"nombre": "Ana", "interes": "secreto de a"})])
    stack.openai.brain = ScriptedBrain([create, text("listo")])
    with stack.worker():
        stack.send("secreto de a", bot_id="bot_a", number=numbers["a"])
        stack.wait_for_turns(1)
        stack.send("¿qué sabes de mí?", bot_id="bot_b", number=numbers["b"])
        stack.wait_for_turns(2)
    asked = [r for r in stack.openai.requests if r.path.endswith("/responses")]
    assert [r.headers["authorization"] for r in asked] == ["Bearer sk-a"] * 2 + ["Bearer sk-b"]
    assert "secreto" not in str(asked[2].body)
    assert [lead["interes"] for lead in stack.horizon.leads] == ["secreto de a"]
    assert {r.headers["authorization"] for r in stack.horizon.requests} == {"Bearer token-a"}
    sent = [r for r in stack.twilio.requests if r.path.endswith("/Messages.json")]
    assert [(r.path.split("/")[3][-1], r.body["From"]) for r in sent] == [
        ("a", f"whatsapp:{numbers['a']}"),
        ("b", f"whatsapp:{numbers['b']}"),
    ]


def test_typing_is_shown_when_the_answer_takes_a_while(stack: Stack) -> None:
    sid = "SM" + "1" * 32
    stack.send("hola", sid=sid)
    with stack.worker():
        with stack.held_model():
            wait_until(lambda: stack.twilio.typing, "typing")
        stack.wait_for_replies(1)
    assert list(stack.twilio.typing) == [sid]


def test_a_quick_answer_shows_no_typing_after_it(stack: Stack) -> None:
    later: list[Callable[[], None]] = []
    stack.send("hola")
    claim = stack.container.mailbox.claim(1)[0][0]

    stack.container.runner(lambda task, after_s=0: later.append(task)).run(claim)
    for task in later:
        task()

    assert len(later) == 1
    assert stack.replies() == ["eco: hola"]
    assert list(stack.twilio.typing) == []
