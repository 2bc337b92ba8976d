"""Clients as operators write them: Spanish fields, files, secrets apart, every problem told."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.ansible.conftest import REPOSITORY, load

COCINA = {"nombre": "La Cocina", "numero": "+15551234567"}


@pytest.fixture(scope="module")
def filters() -> ModuleType:
    return load("filter_plugins/horizon_clients.py")


@pytest.fixture(scope="module")
def sheets() -> ModuleType:
    return load("filter_plugins/horizon_client_sheets.py")


@pytest.mark.parametrize("name", ["Pizzería D'Angelo", 'El "Clavo"', "A$B`c`", "La Cocina"])
def test_sheet_names_the_client_so_that_shell_and_ansible_understand(
    sheets: ModuleType, name: str
) -> None:
    (sheet,) = sheets.sheets([{**report(), "name": name}], "bots1", "-i i")
    line = next(line for line in sheet["content"].splitlines() if "nuevo-cliente.yml" in line)
    words = shlex.split(line)
    value = next(word for word in words if word.startswith(("nombre=", '{"nombre"')))
    if value.startswith("{"):
        assert json.loads(value) == {"nombre": name}
        # As Ansible takes words apart.
        assert "'" not in value
    else:
        assert value == f"nombre={name}"


def test_fields_get_their_names_and_secrets_stand_apart(filters: ModuleType) -> None:
    given = {
        **COCINA,
        "modelo": "gpt-6-luna",
        "twilio_token": "secret",
        "pausado": "",
        "textos": None,
    }

    found = filters.declared(given, "/")

    assert found == {
        "clients": [
            {
                "name": "La Cocina",
                "twilio_phone_number": "+15551234567",
                "openai_model": "gpt-6-luna",
            }
        ],
        "secrets": {"+15551234567": {"twilio_auth_token": "secret"}},
        "problems": [],
    }


def test_every_field_of_a_client_is_one_of_rest(filters: ModuleType) -> None:
    from service.web.schemas import BotCreate

    named = {*filters.FIELDS.values(), *filters.SECRETS.values()} - {"sender"}

    assert named <= set(BotCreate.model_fields)


def test_the_playbooks_ask_for_every_field(filters: ModuleType) -> None:
    import yaml

    text = (REPOSITORY / "ansible/vars/clients.yml").read_text(encoding="utf-8")

    assert set(yaml.safe_load(text)["client_names"]) == set(filters.NAMES)


def test_a_number_that_yaml_took_for_a_whole_one_gets_its_plus_back(filters: ModuleType) -> None:
    (client,) = filters.declared({**COCINA, "numero": 15551234567}, "/")["clients"]

    assert client["twilio_phone_number"] == "+15551234567"


def test_what_is_missing_is_named_with_an_example(filters: ModuleType) -> None:
    problems = filters.declared({"nombre": "", "numero": None}, "/")["problems"]

    assert problems == [
        'the variable nombre is missing: say -e nombre="Restaurante La Cocina".',
        "the variable numero is missing: say -e numero=+15551234567.",
    ]


def test_instructions_come_from_a_file_beside(filters: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "prompt.txt").write_text("Eres la asistente.\n", encoding="utf-8")

    found = filters.declared({**COCINA, "instrucciones_archivo": "prompt.txt"}, str(tmp_path))

    assert found["clients"][0]["instructions"] == "Eres la asistente."


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"instrucciones_archivo": "none.txt"}, "cannot be read"),
        ({"instrucciones_archivo": "empty.txt"}, "is empty"),
        ({"instrucciones_archivo": "latin.txt"}, "is not UTF-8"),
        ({"instrucciones_archivo": "empty.txt", "instrucciones": "x"}, "not both"),
        ({"twilio": "false"}, "twilio must be manual"),
        ({"twilio": "manual", "configurar_twilio": False}, "not both"),
        ({"pausado": "maybe"}, "pausado must be true or false"),
        ({"telefono": "1"}, "there is no field telefono"),
    ],
    ids=str,
)
def test_what_cannot_be_used_is_told(
    filters: ModuleType, tmp_path: Path, given: dict[str, Any], said: str
) -> None:
    (tmp_path / "empty.txt").write_text(" \n", encoding="utf-8")
    (tmp_path / "latin.txt").write_bytes("ñandú".encode("latin-1"))

    found = filters.declared({**COCINA, **given}, str(tmp_path))

    assert said in found["problems"][0]
    assert found["clients"] == []


@pytest.mark.parametrize(
    ("given", "sender"),
    [
        ({"twilio": "manual"}, "manual"),
        ({"twilio": "auto"}, True),
        ({"configurar_twilio": "false"}, False),
    ],
    ids=str,
)
def test_who_sets_the_number_at_twilio_is_said_in_three_ways(
    filters: ModuleType, given: dict[str, Any], sender: Any
) -> None:
    assert filters.declared({**COCINA, **given}, "/")["clients"][0]["sender"] == sender


@pytest.mark.parametrize(
    ("word", "status"), [("true", "paused"), (True, "paused"), ("no", "active"), (False, "active")]
)
def test_paused_is_a_status(filters: ModuleType, word: Any, status: str) -> None:
    assert filters.declared({**COCINA, "pausado": word}, "/")["clients"][0]["status"] == status


def test_a_file_of_clients_tells_the_problems_of_all(filters: ModuleType) -> None:
    found = filters.all_declared({"clientes": [COCINA, {"nombre": "Andes"}, "x"]}, "/")

    assert len(found["clients"]) == 1
    assert [problem.partition(":")[0] for problem in found["problems"]] == [
        "client 2 (Andes)",
        "client 3",
    ]
    assert filters.all_declared({"clients": []}, "/")["problems"]


def report(**more: Any) -> dict[str, Any]:
    wanted = {
        "callback_url": "https://b.test/webhook/whatsapp#rc=3",
        "fallback_url": "https://b.test/webhook/whatsapp#rc=3",
        "status_callback_url": "https://b.test/webhook/whatsapp/status#rc=3",
    }
    sender: dict[str, Any] = {
        "state": "ok",
        "status": "ONLINE",
        "account": None,
        "sid": "XE1",
        "todo": [],
        "wanted": wanted,
    }
    return {
        "name": 'La "Cocina"',
        "number": "+15551234567",
        "client_id": "la-cocina",
        "bot_id": "bot_1",
        "model": "gpt-6-luna",
        "assistant_version": 2,
        "action": "none",
        "changes": [],
        "warnings": [],
        "sender": {**sender, **more},
    }


def test_a_sheet_tells_what_there_is_and_what_to_do(sheets: ModuleType) -> None:
    told = {**report(), "name": "La Cocina"}
    (sheet,) = sheets.sheets([told], "bots1", "-i inventories/mine")

    assert (sheet["client"], sheet["number"]) == ("la-cocina", "+15551234567")
    assert "Sus mensajes llegan a este servicio." in sheet["content"]
    assert "baja-cliente.yml -i inventories/mine -e numero=+15551234567" in sheet["content"]
    assert "https://b.test/webhook/whatsapp/status#rc=3" in sheet["content"]
    assert "{" not in sheet["content"]


def test_a_sheet_lists_what_is_left_to_do_at_twilio(sheets: ModuleType) -> None:
    missing = report(state="missing", sid=None, status=None)
    offline = report(state="changed", status="OFFLINE")

    first, second = sheets.sheets([missing, offline], "bots1", "-i i")

    assert "1. La cuenta de Twilio no tiene todavía el remitente +15551234567" in first["content"]
    assert "Create new sender" in first["content"]
    assert "todavía no existe" in first["content"]
    assert "Su estado en Twilio es OFFLINE" in second["content"]


def test_the_summary_counts_and_names_what_is_left(sheets: ModuleType) -> None:
    changed = {**report(state="changed"), "action": "update"}
    changed["changes"] = [{"field": "name", "before": "a", "after": "b"}]
    applied = {
        "clients": [changed, report(state="missing", todo=["Make it."])],
        "undeclared": ["+56911112222"],
    }

    lines = sheets.summary(applied, False)

    assert lines[0].startswith("2 clients: 0 made, 1 changed, 1 as declared. 1 numbers")
    assert any("name" in line for line in lines[1:])
    assert any("Make it." in line for line in lines)
    assert "+56911112222" in lines[-1]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("clientes:\n  - nombre: [a\n  x: : y\n", "is no YAML, line 3"),
        ("clientes:\n\t- nombre: a\n", "is no YAML, line 2"),
        ("nombre: \udcff", "is not UTF-8 text"),
        ("- nombre: a\n", "must hold a list under `clientes:`"),
        ("", "must hold a list under `clientes:`"),
        ("clientes: {nombre: a}", "must hold a list under `clientes:`"),
        ("clientes: [{nombre: A}]", 'client 1 (A): numero is missing: write numero: "+1'),
    ],
)
def test_a_file_that_declares_nothing_is_told_with_the_place(
    filters: ModuleType, text: str, sentence: str
) -> None:
    (problem,) = filters.of_file(text, "/there/mis-clientes.yml")["problems"]

    assert sentence in problem


TWICE = """\
clientes:
  - nombre: La Cocina
    numero: "+15551234567"
    numero: "+15551234568"
    textos: {error: Uno, error: Dos}
clientes:
  - nombre: Andes
    "numero": "+56912345678"
"""


def test_what_stands_there_twice_is_told_and_nothing_is_declared(filters: ModuleType) -> None:
    found = filters.of_file(TWICE, "/there/mis-clientes.yml")

    assert found["clients"] == []
    assert [problem.partition(":")[0] for problem in found["problems"]] == [
        "/there/mis-clientes.yml has `clientes` twice, line 6",
        "/there/mis-clientes.yml has `numero` twice, line 4",
        "/there/mis-clientes.yml has `error` twice, line 5",
    ]


def test_text_may_be_of_ansibles_own_kind(filters: ModuleType) -> None:
    class Text(str):
        """As a lookup returns it."""

    found = filters.of_file(Text(TWICE), "/there/mis-clientes.yml")

    assert len(found["problems"]) == 3


def test_an_alias_and_a_merged_key_are_not_twice(filters: ModuleType) -> None:
    text = """\
clientes:
  - &cocina {nombre: La Cocina, numero: "+15551234567", modelo: gpt-6-luna}
  - {<<: *cocina, nombre: Andes, numero: "+56912345678"}
"""

    found = filters.of_file(text, "/there/mis-clientes.yml")

    assert found["problems"] == []
    assert [client["openai_model"] for client in found["clients"]] == ["gpt-6-luna"] * 2


def test_what_stands_beside_the_clients_is_refused(filters: ModuleType) -> None:
    found = filters.all_declared({"clientes": [COCINA], "otros": 1, "cliente": []}, "/")

    assert found["clients"] == []
    assert found["problems"] == [
        "the file has otros, cliente beside `clientes:`, and nothing else may stand there."
    ]


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("nombre: [Lista]", "nombre"),
        ("nombre: yes", "nombre"),
        ("nombre: 2026-11-27", "nombre"),
        ("cliente_id: 0012", "cliente_id"),
        ("modelo: {a: b}", "modelo"),
        ("idioma: no", "idioma"),
        ("twilio_token: 0012", "twilio_token"),
        ("instrucciones_archivo: 1", "instrucciones_archivo"),
    ],
)
def test_what_is_no_text_is_not_made_one(filters: ModuleType, line: str, name: str) -> None:
    rest = "" if name == "nombre" else "nombre: La Cocina, "
    text = f"clientes: [{{{rest}numero: '+15551234567', {line}}}]"

    found = filters.of_file(text, "/there/mis-clientes.yml")

    assert found["clients"] == []
    where = "client 1" if name == "nombre" else "client 1 (La Cocina)"
    assert found["problems"] == [f"{where}: {name} must be text: put it in quotes."]


def test_a_number_that_yaml_reads_as_another_is_refused(filters: ModuleType) -> None:
    text = "clientes:\n- nombre: A\n  numero: {}\n"
    octal, *rest = filters.of_file(text.format("0123456701234"), "/c.yml")["problems"]

    assert octal.startswith("/c.yml has `numero: 0123456701234`, line 3")
    assert rest == []
    for fine in ("15551234567", "+15551234567", "'0012'"):
        assert filters.of_file(text.format(fine), "/c.yml")["problems"] == []


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("", "clientes_archivo is missing: say -e clientes_archivo=mis-clientes.yml"),
        (None, "clientes_archivo is missing: say -e clientes_archivo=mis-clientes.yml"),
        (".", "is a folder: name the file in it"),
        ("none.yml", "There is no file"),
    ],
)
def test_a_file_that_is_none_is_told(
    filters: ModuleType, tmp_path: Path, named: str | None, said: str
) -> None:
    (tmp_path / "there.yml").touch()

    assert said in filters.file_problem(named, str(tmp_path / (named or "")))
    assert filters.file_problem("there.yml", str(tmp_path / "there.yml")) == ""


def test_the_playbook_asks_for_its_file_before_it_reads_it() -> None:
    text = (REPOSITORY / "ansible/clientes.yml").read_text(encoding="utf-8")

    assert text.index("that: client_file_problem == ''") < text.index("tasks/client_check.yml")


def test_values_encrypted_one_by_one_are_told_with_what_to_do(filters: ModuleType) -> None:
    text = """\
clientes:
  - nombre: La Cocina
    numero: "+15551234567"
    twilio_token: !vault |
      $ANSIBLE_VAULT;1.1;AES256
      6162
"""

    (problem,) = filters.of_file(text, "/there/mis-clientes.yml")["problems"]

    assert problem.startswith("/there/mis-clientes.yml has an encrypted value, line 4: ")
    assert "encrypt the whole file: ansible-vault encrypt /there/mis-clientes.yml" in problem


def test_every_wrong_field_of_every_client_is_told_at_once(filters: ModuleType) -> None:
    first = {
        "nombre": ["Lista"],
        "telefono": "1",
        "cliente_id": 12,
        "instrucciones": "x",
        "instrucciones_archivo": "none.txt",
        "pausado": "maybe",
        "twilio_token": 5,
    }
    second = {**COCINA, "idioma": False, "informar_turnos": "perhaps"}

    found = filters.all_declared({"clientes": [first, second]}, "/there")

    said = "\n".join(found["problems"])
    assert len(found["problems"]) == 10
    for name in (
        "telefono",
        "numero",
        "instrucciones, not both",
        "nombre",
        "cliente_id",
        "pausado",
    ):
        assert any(p.startswith("client 1: ") and name in p for p in found["problems"]), name
    assert "client 1: the file of instrucciones_archivo cannot be read: /there/none.txt" in said
    assert "client 1: twilio_token must be text" in said
    assert "client 2 (La Cocina): idioma must be text: put it in quotes." in said
    assert "client 2 (La Cocina): informar_turnos must be true or false." in said
