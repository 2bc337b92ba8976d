"""The Horizon emulator: configurations, control mode, events and leads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests

from service.demo.emulators.faults import Fault
from service.demo.emulators.horizon import HorizonEmulator
from tests.server_process import PATIENCE_S

LEAD = {"nombre": "Ana", "interes": "una casa", "telefono": "+56911112222"}


@pytest.fixture
def emulator() -> Iterator[HorizonEmulator]:
    with HorizonEmulator({"token-a": "a", "token-b": "b"}) as running:
        yield running


def call(
    emulator: HorizonEmulator,
    method: str,
    path: str,
    body: Any = None,
    *,
    token: str | None = "token-a",
    key: str | None = None,
) -> requests.Response:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    if key:
        headers["Idempotency-Key"] = key
    return requests.request(
        method, emulator.url + path, json=body, headers=headers, timeout=PATIENCE_S
    )


@pytest.mark.parametrize("token", [None, "wrong"])
def test_unknown_token_is_refused(emulator: HorizonEmulator, token: str | None) -> None:
    answer = call(emulator, "GET", "/api/leads/", token=token)

    assert answer.status_code == 401
    assert "detail" in answer.json()


def test_configuration_is_found_by_number(emulator: HorizonEmulator) -> None:
    emulator.configs["+15550001111"] = {"assistant_model": "gpt-6-luna"}

    found = call(emulator, "GET", "/api/bot/config/?phone=%2B15550001111")
    unknown = call(emulator, "GET", "/api/bot/config/?phone=%2B15550002222")

    assert found.json() == {"assistant_model": "gpt-6-luna"}
    assert (unknown.status_code, unknown.json()) == (404, {"detail": "No encontrado."})


def test_control_mode_is_bot_until_a_person_takes_over(emulator: HorizonEmulator) -> None:
    path = "/api/bot/control-status/?telefono=%2B56911112222"
    before = call(emulator, "GET", path).json()
    emulator.control_modes["+56911112222"] = "human"

    assert before == {"control_mode": "bot"}
    assert call(emulator, "GET", path).json() == {"control_mode": "human"}
    assert call(emulator, "GET", "/api/bot/control-status/").status_code == 422


def test_events_are_kept(emulator: HorizonEmulator) -> None:
    event = {"tipo": "turno", "phone": "+15550001111", "lead_id": None, "datos": {"n": 1}}

    answer = call(emulator, "POST", "/api/bot/eventos/", event)

    assert answer.status_code == 201
    assert emulator.events == [{"id": 1, **event}]
    assert call(emulator, "POST", "/api/bot/eventos/", {}).json()["tipo"] == [
        "Este campo es requerido."
    ]


def test_lead_lives_from_post_to_delete(emulator: HorizonEmulator) -> None:
    created = call(emulator, "POST", "/api/leads/", LEAD)
    path = f"/api/leads/{created.json()['id']}/"
    patched = call(emulator, "PATCH", path, {"estado": "visita"}).json()
    replaced = call(emulator, "PUT", path, {**LEAD, "nombre": "Eva"}).json()
    fetched = call(emulator, "GET", path).json()
    listed = call(emulator, "GET", "/api/leads/").json()
    deleted = call(emulator, "DELETE", path)

    assert (created.status_code, created.json()["id"], created.json()["estado"]) == (
        201,
        1,
        "nuevo",
    )
    assert patched["estado"] == "visita"
    assert replaced == fetched
    assert fetched["nombre"] == "Eva"
    assert listed == {"count": 1, "results": [fetched]}
    assert deleted.status_code == 204
    assert call(emulator, "GET", path).status_code == 404


@pytest.mark.parametrize(
    ("body", "faults"),
    [
        ({}, {"nombre": ["Este campo es requerido."], "interes": ["Este campo es requerido."]}),
        ({"nombre": " ", "interes": "x"}, {"nombre": ["Este campo no puede estar en blanco."]}),
        (
            {"nombre": "Ana", "interes": 3},
            {"interes": ["Esta no es una cadena de texto válida."]},
        ),
    ],
)
def test_wrong_lead_is_refused(
    emulator: HorizonEmulator, body: dict[str, Any], faults: dict[str, list[str]]
) -> None:
    answer = call(emulator, "POST", "/api/leads/", body)

    assert (answer.status_code, answer.json()) == (422, faults)
    assert emulator.effects == []


def test_lead_of_another_client_is_not_found(emulator: HorizonEmulator) -> None:
    call(emulator, "POST", "/api/leads/", LEAD)

    assert call(emulator, "GET", "/api/leads/1/", token="token-b").status_code == 404
    assert call(emulator, "DELETE", "/api/leads/1/", token="token-b").status_code == 404
    assert call(emulator, "GET", "/api/leads/", token="token-b").json()["count"] == 0


def test_repeated_key_gets_the_same_lead(emulator: HorizonEmulator) -> None:
    first = call(emulator, "POST", "/api/leads/", LEAD, key="turn:call").json()
    again = call(emulator, "POST", "/api/leads/", LEAD, key="turn:call").json()
    other = call(emulator, "POST", "/api/leads/", LEAD, key="turn:other").json()
    foreign = call(emulator, "POST", "/api/leads/", LEAD, key="turn:call", token="token-b").json()

    assert [first["id"], again["id"], other["id"], foreign["id"]] == [1, 1, 2, 3]
    assert [effect.idempotency_key for effect in emulator.effects] == [
        "turn:call",
        "turn:other",
        "turn:call",
    ]


def test_without_idempotency_a_repeated_key_makes_a_second_lead() -> None:
    with HorizonEmulator({"token-a": "a"}, idempotency=False) as emulator:
        for _ in range(2):
            call(emulator, "POST", "/api/leads/", LEAD, key="turn:call")

        assert [lead["id"] for lead in emulator.leads] == [1, 2]


def test_effect_happens_although_its_answer_is_lost(emulator: HorizonEmulator) -> None:
    emulator.fail(Fault.accept_then_reset())
    with pytest.raises(requests.ConnectionError):
        call(emulator, "POST", "/api/leads/", LEAD, key="k")

    again = call(emulator, "POST", "/api/leads/", LEAD, key="k")

    assert (again.status_code, again.json()["id"]) == (201, 1)
    assert len(emulator.effects) == 1


def test_wrong_methods_types_and_paths_are_refused(emulator: HorizonEmulator) -> None:
    no_slash = call(emulator, "POST", "/api/leads", LEAD)
    method = call(emulator, "DELETE", "/api/leads/")
    form = requests.post(
        f"{emulator.url}/api/leads/",
        data={"nombre": "Ana"},
        headers={"Authorization": "Bearer token-a"},
        timeout=PATIENCE_S,
    )

    assert [answer.status_code for answer in (no_slash, method, form)] == [404, 405, 415]


def test_crm_is_set_and_seen_over_http(emulator: HorizonEmulator) -> None:
    control = f"{emulator.url}/_emulator"
    orders: list[tuple[str, dict[str, Any]]] = [
        ("tokens", {"token": "token-c", "client": "c"}),
        ("configs", {"phone": "+15550001111", "config": {"status": "active"}}),
        ("control", {"telefono": "+56911112222", "control_mode": "human"}),
        ("idempotency", {"enabled": False}),
    ]
    for path, body in orders:
        requests.post(f"{control}/{path}", json=body, timeout=PATIENCE_S).raise_for_status()
    call(emulator, "POST", "/api/leads/", LEAD, token="token-c")

    state = requests.get(f"{control}/state", timeout=PATIENCE_S).json()

    assert state["clients"] == ["a", "b", "c"]
    assert state["control_modes"] == {"+56911112222": "human"}
    assert state["configs"] == {"+15550001111": {"status": "active"}}
    assert state["idempotency"] is False
    assert [effect["client"] for effect in state["effects"]] == ["c"]
