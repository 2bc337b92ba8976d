"""Files that horizonctl's words name, typed by a person with sudo in a home that others may not enter."""

from __future__ import annotations

import json
from typing import Any

from conftest import MACHINE, answers, ctl
from machine import code_on, on, reached, type_in, typed

FERRETERIA, BOTICA = "+56226660401", "+56226660402"
HOME = f"/home/{reached(MACHINE)['ansible_user']}"


def put(name: str, text: str) -> None:
    typed(MACHINE, f"cat >{name}", stdin=text)


def bot(number: str) -> dict[str, Any]:
    (found,) = [each for each in ctl("bots list") if each["twilio_phone_number"] == number]
    return dict(found)


def test_the_home_is_closed_to_the_service() -> None:
    assert typed(MACHINE, "pwd; umask; stat --format %a .").split() == [HOME, "0077", "700"]
    assert code_on(MACHINE, f"runuser -u horizonai-bots -- test -x {HOME}") != 0


def test_a_bot_is_made_and_changed_from_files() -> None:
    put("bot.json", json.dumps({"name": "El Clavo", "twilio_phone_number": FERRETERIA}))
    put("instrucciones.txt", "Eres el asistente de la ferretería.")
    put("token", "0123456789abcdef0123456789abcdef")
    given = "--instructions-file instrucciones.txt --horizon-api-token-file token"

    typed(MACHINE, f"sudo horizonctl bots add --file bot.json {given}")
    put("cambio.json", json.dumps({"name": "Ferretería El Clavo"}))
    typed(MACHINE, f"sudo horizonctl bots set {FERRETERIA} --file ~/cambio.json")

    assert bot(FERRETERIA)["name"] == "Ferretería El Clavo"
    assert "ferretería" in typed(MACHINE, f"sudo horizonctl bots show {FERRETERIA} --json")
    assert answers(FERRETERIA)


def test_clients_are_made_from_a_file() -> None:
    client = {
        "name": "Botica",
        "twilio_phone_number": BOTICA,
        "instructions": "Responde en pocas frases.",
    }
    put("clientes.json", json.dumps({"clients": [client]}))

    typed(MACHINE, "sudo horizonctl clients apply clientes.json --check")
    typed(MACHINE, "sudo horizonctl clients apply clientes.json")

    assert bot(BOTICA)["name"] == "Botica"


def test_an_export_belongs_to_the_person_alone() -> None:
    typed(MACHINE, f"sudo horizonctl clients export {FERRETERIA} datos.jsonl.gz")

    person = reached(MACHINE)["ansible_user"]
    assert typed(MACHINE, "stat --format '%U %a' datos.jsonl.gz").split() == [person, "600"]
    lines = typed(MACHINE, "zcat datos.jsonl.gz").splitlines()
    assert {json.loads(line)["table"] for line in lines} >= {"bots"}
    again = type_in(MACHINE, f"sudo horizonctl clients export {FERRETERIA} datos.jsonl.gz")
    assert "exists" in again.stdout + again.stderr
    assert again.returncode != 0


def test_what_the_person_may_not_read_is_not_read() -> None:
    secret = "/etc/horizonai-bots/env"
    assert on(MACHINE, f"cat {secret}") != ""

    refused = type_in(
        MACHINE, f"sudo horizonctl bots set {FERRETERIA} --instructions-file {secret}"
    )

    assert refused.returncode != 0
    assert "Permission denied" in refused.stdout + refused.stderr
