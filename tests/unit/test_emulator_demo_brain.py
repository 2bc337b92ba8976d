"""The demonstration's model: what the restaurant and the agency say."""

from __future__ import annotations

import json
from typing import Any

import pytest

from service.demo.emulators.brains import ScriptedBrain
from service.demo.emulators.personalities import demo_brain
from service.demo.emulators.replies import Reply, text

RESTAURANT = "Eres el asistente del restaurante La Cocina. Responde con amabilidad."
AGENCY = "Eres el asistente de Inmobiliaria Andes. Registra a los clientes."
CREATE = {
    "type": "function",
    "name": "create_lead",
    "parameters": {
        "type": "object",
        "properties": {
            "nombre": {"type": "string"},
            "interes": {"type": "string"},
            "presupuesto": {"type": ["integer", "null"]},
            "nota": {"type": "string"},
        },
        "required": ["nombre", "interes", "presupuesto"],
    },
}
GET = {
    "type": "function",
    "name": "get_lead",
    "parameters": {"type": "object", "properties": {"lead_id": {"type": "integer"}}},
}
TOOLS = [CREATE, GET]


def said(role: str, words: str) -> dict[str, Any]:
    return {"role": role, "content": words}


def ask(instructions: str, *items: Any, **more: Any) -> Reply:
    messages = [said("user", item) if isinstance(item, str) else item for item in items]
    return demo_brain({"instructions": instructions, "input": messages, **more})


def answered(name: str, output: object) -> list[dict[str, Any]]:
    return [
        {"type": "function_call", "call_id": "call_1", "name": name, "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_1", "output": json.dumps(output)},
    ]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("¡Hola!", "asistente de La Cocina"),
        ("me mandas el menú?", "Pastel de choclo"),
        ("la carta por favor", "Pastel de choclo"),
        ("¿cuál es el horario?", "de 13:00 a 23:00"),
        ("llueve mucho", "«llueve mucho»"),
    ],
)
def test_restaurant_knows_its_things(words: str, expected: str) -> None:
    assert expected in ask(RESTAURANT, words).text


def test_english_instructions_get_english_answers() -> None:
    reply = ask("You are the assistant of the restaurant La Cocina.", "hello")

    assert "Hello! I am the assistant of La Cocina" in reply.text


def test_other_instructions_get_a_pleasant_echo() -> None:
    assert "«quiero flores»" in ask("Eres el asistente de una florería", "quiero flores").text


def test_file_without_words_is_acknowledged() -> None:
    image = {"role": "user", "content": [{"type": "input_image", "image_url": "data:"}]}

    assert "Recibí tu archivo" in ask(RESTAURANT, image).text


@pytest.mark.parametrize(
    ("words", "name", "interest"),
    [
        (
            "me llamo Ana y busco un departamento en Ñuñoa",
            "Ana",
            "un departamento en Ñuñoa",
        ),
        (
            "Hola, soy Luis Soto. Quiero comprar una casa en Maipú.",
            "Luis Soto",
            "una casa en Maipú",
        ),
        ("busco una oficina y me llamo eva", "Eva", "una oficina"),
    ],
)
def test_agency_registers_a_name_with_an_interest(words: str, name: str, interest: str) -> None:
    reply = ask(AGENCY, words, tools=TOOLS)

    assert [call.name for call in reply.calls] == ["create_lead"]
    assert reply.calls[0].arguments == {"nombre": name, "interes": interest, "presupuesto": None}


def test_agency_collects_name_and_interest_over_several_turns() -> None:
    history = ["Hola, me llamo Ana", said("assistant", "¿Qué buscas?"), "busco una casa"]

    reply = ask(AGENCY, *history, tools=TOOLS)

    assert reply.calls[0].arguments == {"nombre": "Ana", "interes": "una casa", "presupuesto": None}


def test_agency_asks_for_what_is_missing() -> None:
    assert "tu nombre" in ask(AGENCY, "busco una casa", tools=TOOLS).text
    assert "Mucho gusto, Ana" in ask(AGENCY, "me llamo Ana", tools=TOOLS).text


@pytest.mark.parametrize("output", [{"id": 7}, {"status": 201, "body": {"id": 7}}])
def test_agency_tells_the_number_of_a_new_lead(output: object) -> None:
    reply = ask(AGENCY, "me llamo Ana y busco casa", *answered("create_lead", output), tools=TOOLS)

    assert reply.text.startswith("¡Listo, Ana! Registré tu solicitud con el número 7.")


def test_agency_admits_a_lead_that_was_not_made() -> None:
    items = answered("create_lead", {"error": "resultado desconocido"})

    assert "No pude confirmar" in ask(AGENCY, "me llamo Ana y busco casa", *items).text


@pytest.mark.parametrize(
    "earlier", [[], [said("developer", "create_lead → {'id': 3}"), said("assistant", "listo")]]
)
def test_agency_looks_up_a_request_by_its_number(earlier: list[dict[str, Any]]) -> None:
    words = "¿cuál es el estado de mi solicitud?" if earlier else "estado de mi solicitud 3"

    reply = ask(AGENCY, *earlier, words, tools=TOOLS)

    assert [(call.name, call.arguments) for call in reply.calls] == [("get_lead", {"lead_id": 3})]


def test_agency_tells_the_state_from_the_tool() -> None:
    items = answered("get_lead", {"id": 3, "estado": "visita agendada"})

    reply = ask(AGENCY, "estado de mi solicitud 3", *items, tools=TOOLS)

    assert reply.text == "Tu solicitud 3 está en estado: visita agendada."


def test_agency_does_not_find_what_the_tool_does_not() -> None:
    items = answered("get_lead", {"detail": "No encontrado."})

    assert "No encontré" in ask(AGENCY, "estado de mi solicitud 3", *items, tools=TOOLS).text


def test_agency_calls_nothing_that_is_not_offered() -> None:
    words = "me llamo Ana y busco una casa"

    assert ask(AGENCY, words).calls == ()
    assert ask(AGENCY, words, tools=TOOLS, tool_choice="none").calls == ()


def test_script_ends_in_what_comes_then() -> None:
    brain = ScriptedBrain([text("uno"), lambda _: text("dos")])
    request = {"input": "hola"}

    assert [brain(request).text for _ in range(3)] == ["uno", "dos", "eco: hola"]
    assert brain.seen == [request] * 3


def test_echo_repeats_whatever_was_written_in_this_turn() -> None:
    reply = ask("Eco: repite.", "hola", said("assistant", "eco: hola"), "el menú", "gracias")

    assert reply == text("eco: el menú | gracias")


def test_echo_is_only_for_instructions_that_begin_with_the_word() -> None:
    assert "eco:" not in ask("Eres de una tienda eco de Ñuñoa.", "hola").text
