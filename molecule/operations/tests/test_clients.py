"""Clients come, change and go; the number at Twilio follows."""

from __future__ import annotations

import gzip
import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from conftest import DOMAIN, answers, ctl, told
from machine import Run, playbook, vendors
from message import tell_vendor

COCINA, ANDES = "+56226660201", "+56226660202"
HOOK = f"https://{DOMAIN}/webhook/whatsapp#rc=3"


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("controller")
    (folder / "prompt.txt").write_text("Eres el asistente del restaurante La Cocina.")
    for number in (COCINA, ANDES):
        tell_vendor(vendors()["twilio"], "senders", {"sender_id": f"whatsapp:{number}"})
    return folder


@pytest.fixture
def cocina(folder: Path) -> dict[str, Any]:
    return {
        "nombre": "Restaurante La Cocina",
        "numero": COCINA,
        "instrucciones_archivo": str(folder / "prompt.txt"),
        "clientes_carpeta": str(folder / "clients"),
    }


def _hook(number: str) -> str:
    with urllib.request.urlopen(f"{vendors()['twilio']}/_emulator/state", timeout=10) as answer:
        senders = json.load(answer)["senders"]
    (found,) = [one for one in senders if one["sender_id"] == f"whatsapp:{number}"]
    return str((found["webhook"] or {}).get("callback_url") or "")


def _bot(number: str) -> dict[str, Any] | None:
    found = [bot for bot in ctl("bots list") if bot["twilio_phone_number"] == number]
    return found[0] if found else None


def _good(run: Run) -> str:
    assert run.code == 0, run.output
    return told(run.output)


def test_a_client_is_added_by_one_command(cocina: dict[str, Any], folder: Path) -> None:
    looked = playbook("nuevo-cliente.yml", "--check", "--diff", **cocina)
    assert "would be made" in _good(looked)
    assert (_bot(COCINA), _hook(COCINA)) == (None, "")

    run = playbook("nuevo-cliente.yml", **cocina)

    assert "Answer: " in _good(run)
    assert _hook(COCINA).startswith(HOOK)
    assert answers(COCINA)
    assert "La Cocina" in (folder / "clients/restaurante-la-cocina.md").read_text()
    again = playbook("nuevo-cliente.yml", **cocina)
    _good(again)
    assert again.changed == 0, again.output


def test_a_second_client_is_added_beside_it(cocina: dict[str, Any]) -> None:
    other = cocina | {"nombre": "Inmobiliaria Andes", "numero": ANDES}

    _good(playbook("nuevo-cliente.yml", **other))

    assert answers(ANDES)
    assert answers(COCINA)


def test_a_change_is_shown_first_and_changes_only_that(
    cocina: dict[str, Any], folder: Path
) -> None:
    version = _bot(COCINA)
    (folder / "prompt.txt").write_text("Eres el asistente de La Cocina. Abrimos a las 13.")

    shown = _good(playbook("nuevo-cliente.yml", "--check", "--diff", **cocina))
    assert "Abrimos a las 13" in shown
    assert _bot(COCINA) == version
    said = _good(playbook("nuevo-cliente.yml", **cocina))

    assert "Changed: assistant.instructions." in said, said
    assert "assistant version 2" in said


def test_a_number_of_another_client_is_refused(cocina: dict[str, Any]) -> None:
    before = ctl("bots list")

    run = playbook("nuevo-cliente.yml", **(cocina | {"nombre": "Otra Cosa", "cliente_id": "otra"}))

    assert run.code != 0
    assert "belongs to the client" in told(run.output), run.output
    assert ctl("bots list") == before


def test_what_has_no_sender_yet_ends_in_steps_for_the_console(cocina: dict[str, Any]) -> None:
    number = "+56226660203"
    run = playbook("nuevo-cliente.yml", **(cocina | {"nombre": "Sin Número", "numero": number}))

    assert "To do at Twilio: " in _good(run)
    tell_vendor(vendors()["twilio"], "senders", {"sender_id": f"whatsapp:{number}"})
    again = playbook("nuevo-cliente.yml", **(cocina | {"nombre": "Sin Número", "numero": number}))
    assert "To do at Twilio: " not in _good(again)
    assert _hook(number).startswith(HOOK)


def test_a_client_leaves_with_its_data(cocina: dict[str, Any], folder: Path) -> None:
    where = {"numero": ANDES, "clientes_carpeta": cocina["clientes_carpeta"]}
    refused = playbook("baja-cliente.yml", **where)
    assert refused.code != 0
    assert "confirmar" in told(refused.output)
    assert _bot(ANDES) is not None

    _good(playbook("baja-cliente.yml", confirmar=ANDES, **where))

    assert (_bot(ANDES), _hook(ANDES)) == (None, "")
    (export,) = (folder / "clients").glob("*.jsonl.gz")
    lines = [json.loads(line) for line in gzip.decompress(export.read_bytes()).splitlines()]
    assert {"bots", "conversations", "messages"} <= {line["table"] for line in lines}
    assert answers(COCINA)


def test_two_hundred_clients_are_one_file(folder: Path) -> None:
    numbers = [f"+5622777{n:04d}" for n in range(200)]
    clients = [
        {"nombre": f"Cliente {n:03d}", "numero": number, "instrucciones": "Responde breve."}
        for n, number in enumerate(numbers)
    ]
    for number in numbers:
        tell_vendor(vendors()["twilio"], "senders", {"sender_id": f"whatsapp:{number}"})
    file = folder / "clients.json"
    file.write_text(json.dumps({"clientes": clients}))
    given = {"clientes_archivo": str(file), "clientes_carpeta": str(folder / "many")}

    first = playbook("clientes.yml", **given)
    second = playbook("clientes.yml", **given)

    _good(first)
    _good(second)
    print(f"200 clients: {first.seconds:.1f} s, again {second.seconds:.1f} s")
    assert second.changed == 0, second.output
    assert len(list((folder / "many").glob("*.md"))) == 200
    assert _hook(numbers[199]).startswith(HOOK)
    assert answers(numbers[199])
