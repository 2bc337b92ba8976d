"""What operators declare of clients: read whole, refused with every fault, ids made of names."""

from __future__ import annotations

from typing import Any

import pytest

from service.clients.declaration import MAX_CLIENTS, DeclarationError, read, slug

COCINA = {"name": "Restaurante La Cocina", "twilio_phone_number": "+15551234567"}
ANDES = {"name": "Inmobiliaria Andes", "twilio_phone_number": "+56912345678"}


def faults_of(*clients: Any) -> list[str]:
    with pytest.raises(DeclarationError) as caught:
        read({"clients": list(clients)})
    return [str(fault) for fault in caught.value.faults]


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("Restaurante La Cocina", "restaurante-la-cocina"),
        ("  Peluquería Ñandú & Cía. ", "peluqueria-nandu-cia"),
        ("a" * 80, "a" * 60),
        ("料理", ""),
    ],
)
def test_an_id_is_made_of_the_name(name: str, made: str) -> None:
    assert slug(name) == made


def test_a_name_without_latin_letters_has_an_id_of_its_number() -> None:
    (declared,) = read({"clients": [{**COCINA, "name": "料理"}]})

    assert declared.client_id == "client-15551234567"


def test_a_client_is_read_with_its_defaults() -> None:
    (declared,) = read({"clients": [{**COCINA, "instructions": "Ayuda.", "language": None}]})

    assert (declared.client_id, declared.client_id_given) == ("restaurante-la-cocina", False)
    assert declared.sender_setup == "api"
    assert "language" not in declared.creation
    assert declared.update["language"] is None
    assert "twilio_phone_number" not in declared.update


def test_every_fault_of_every_client_is_told() -> None:
    faults = faults_of(
        {"name": "Sin número"},
        {**COCINA, "twilio_phone_number": "15551234567"},
        {**ANDES, "nmae": "x", "sender": "yes"},
        "no object",
    )

    assert faults[0] == "Sin número, twilio_phone_number: It is required."
    assert "E.164" in faults[1]
    assert any("+56912345678, nmae" in fault for fault in faults)
    assert any("+56912345678, sender" in fault for fault in faults)
    assert faults[-1] == "client 4: It must be an object with fields."


def test_a_number_that_stands_there_twice_is_refused() -> None:
    (fault,) = faults_of(COCINA, {**ANDES, "twilio_phone_number": "+15551234567"})

    assert "both have this number" in fault


def test_two_clients_of_one_name_need_ids() -> None:
    second = {**COCINA, "twilio_phone_number": "+15551234568"}
    (fault,) = faults_of(COCINA, second)
    named = [{**each, "client_id": "la-cocina"} for each in (COCINA, second)]

    assert "client_id: restaurante-la-cocina" in fault
    assert [each.client_id for each in read({"clients": named})] == ["la-cocina"] * 2


@pytest.mark.parametrize(
    "document",
    [None, [], {}, {"clients": {}}, {"clients": []}, {"clients": [COCINA], "more": 1}],
    ids=str,
)
def test_what_is_no_list_of_clients_is_refused(document: Any) -> None:
    with pytest.raises(DeclarationError, match="The declaration"):
        read(document)


def test_too_many_clients_and_what_no_store_keeps_are_refused() -> None:
    deep: Any = {}
    for _ in range(60):
        deep = {"a": deep}

    assert faults_of({**COCINA, "metadata": deep}) == [
        "+15551234567: It has a NUL character or is nested too deep."
    ]
    assert "one run takes" in faults_of(*[COCINA] * (MAX_CLIENTS + 1))[0]
