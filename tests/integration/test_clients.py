"""`horizonctl clients` on a running service: bots over REST, numbers at an emulated Twilio."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from service.demo.emulators.faults import Fault
from service.demo.emulators.twilio_senders import PATH as SENDERS_PATH
from tests.integration.test_cli import Ctl, Result, ctl
from tests.stack import ACCOUNT_SID, AUTH_TOKEN, MakeStack, Stack
from tests.web_thread import web

__all__ = ["ctl"]  # fixture

NUMBER = "+56226660001"
OTHER = "+56226660002"
BASE = "https://bots.example.test"
RETRIES = "#rc=3&rp=ct,rt,5xx&rt=4000&tt=15000"
COCINA = {
    "name": "Restaurante La Cocina",
    "twilio_phone_number": NUMBER,
    "instructions": "Eres la asistente de La Cocina.",
    "openai_model": "gpt-6-luna",
}


@dataclass
class Office:
    """An operator's commands, and what they are about."""

    stack: Stack
    ctl: Ctl
    folder: Path
    url: str

    def apply(self, *clients: dict[str, Any], check: bool = False) -> Result:
        file = self.folder / "clients.json"
        file.write_text(json.dumps({"clients": list(clients)}), encoding="utf-8")
        words = ("clients", "apply", str(file), "--json", *(("--check",) if check else ()))
        return self.ctl(*words)

    def one(self, client: dict[str, Any], check: bool = False) -> dict[str, Any]:
        result = self.apply(client, check=check)
        assert result.code == 0, result.err
        (report,) = result.json["clients"]
        assert result.json["changed"] == report["changed"]
        return dict(report)

    def bots(self) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = self.ctl("bots", "list", "--json").json
        return listed

    def changes_at_twilio(self) -> int:
        return sum(
            request.method != "GET" and request.path.startswith(SENDERS_PATH)
            for request in self.stack.twilio.requests
        )


@pytest.fixture
def database_url(request: pytest.FixtureRequest) -> str:
    """SQLite, unless a test names another: what differs between them is tried on both."""
    fixture = {"sqlite": "sqlite_url", "postgresql": "postgres_url"}
    url: str = request.getfixturevalue(fixture[getattr(request, "param", "sqlite")])
    return url


on_both = pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture
def stack(make_stack: MakeStack) -> Stack:
    return make_stack(TWILIO_ACCOUNT_SID=ACCOUNT_SID, TWILIO_AUTH_TOKEN=AUTH_TOKEN, DEBOUNCE_MS="0")


@pytest.fixture
def office(
    stack: Stack, ctl: Ctl, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Office]:
    for name, value in stack.variables.items():
        monkeypatch.setenv(name, value)
    with web(stack.container) as url:
        monkeypatch.setenv("HORIZONCTL_URL", url)
        yield Office(stack, ctl, tmp_path, url)


@on_both
def test_a_client_is_made_and_a_second_run_changes_nothing(office: Office) -> None:
    office.stack.twilio.senders.add(f"whatsapp:{NUMBER}", "https://old.example.test/hook")

    made = office.one(COCINA)
    again = office.one(COCINA)

    assert (made["action"], made["changed"], made["assistant_version"]) == ("create", True, 1)
    assert made["client_id"] == "restaurante-la-cocina"
    assert made["sender"]["state"] == "changed"
    assert (again["action"], again["changed"], again["changes"]) == ("none", False, [])
    assert (again["sender"]["state"], again["bot_id"]) == ("ok", made["bot_id"])
    assert office.changes_at_twilio() == 1
    webhook = office.stack.twilio.senders.webhook_of(f"whatsapp:{NUMBER}")
    assert webhook == {
        "callback_url": f"{BASE}/webhook/whatsapp{RETRIES}",
        "callback_method": "POST",
        "fallback_url": f"{BASE}/webhook/whatsapp{RETRIES}",
        "fallback_method": "POST",
        "status_callback_url": f"{BASE}/webhook/whatsapp/status{RETRIES}",
        "status_callback_method": "POST",
    }


def test_check_tells_and_touches_nothing(office: Office) -> None:
    office.stack.twilio.senders.add(f"whatsapp:{NUMBER}")

    new = office.one(COCINA, check=True)
    assert (new["action"], new["changed"], new["bot_id"]) == ("create", True, None)
    assert new["sender"]["state"] == "change"
    assert office.bots() == []
    made = office.one(COCINA)
    token = {"horizon_api_token": "a-secret-nobody-may-see"}
    changed = office.apply({**COCINA, "instructions": "Otra.", **token}, check=True)
    (report,) = changed.json["clients"]

    assert {change["field"] for change in report["changes"]} == {
        "assistant.instructions",
        "horizon_api_token",
    }
    assert report["assistant_version"] == 2
    assert "nobody-may-see" not in changed.out + changed.err
    assert office.bots()[0]["assistant"]["version"] == made["assistant_version"] == 1
    assert office.changes_at_twilio() == 1


def test_only_what_differs_is_changed(office: Office) -> None:
    office.stack.twilio.senders.add(f"whatsapp:{NUMBER}")
    secret = {"horizon_api_token": "the-token-of-horizon"}
    office.one({**COCINA, **secret, "timezone": "America/Lima"})

    changed = office.one({**COCINA, **secret, "instructions": "Otra."})
    same = office.one({**COCINA, **secret, "instructions": "Otra."})

    assert changed["changes"] == [
        {
            "field": "assistant.instructions",
            "before": "Eres la asistente de La Cocina.",
            "after": "Otra.",
        }
    ]
    assert not same["changed"]
    (bot,) = office.bots()
    assert (bot["timezone"], bot["assistant"]["version"]) == ("America/Lima", 2)


def test_a_number_of_another_client_is_refused(office: Office) -> None:
    office.stack.twilio.senders.add(f"whatsapp:{NUMBER}")
    office.one(COCINA)

    refused = office.apply({**COCINA, "name": "Pizzería Roma"})

    assert refused.code == 1
    assert "Nothing was changed" in refused.err
    assert "belongs to the client restaurante-la-cocina" in refused.err
    assert office.bots()[0]["name"] == "Restaurante La Cocina"
    renamed = office.one({**COCINA, "name": "La Cocina", "client_id": "restaurante-la-cocina"})
    assert [change["field"] for change in renamed["changes"]] == ["name"]


def test_a_second_client_of_the_same_name_is_refused(office: Office) -> None:
    office.one({**COCINA, "sender": False})

    refused = office.apply({**COCINA, "twilio_phone_number": OTHER})
    second = {**COCINA, "twilio_phone_number": OTHER, "client_id": "restaurante-la-cocina"}

    assert refused.code == 1
    assert "If both are the same client" in refused.err
    assert office.one({**second, "sender": False})["client_id"] == "restaurante-la-cocina"


def test_a_model_that_openai_does_not_have_changes_nothing(office: Office) -> None:
    office.stack.twilio.senders.add(f"whatsapp:{NUMBER}")

    refused = office.apply({**COCINA, "openai_model": "gpt-4"})

    assert refused.code == 1
    assert f"{NUMBER}, openai_model" in refused.err
    assert office.bots() == []
    assert office.changes_at_twilio() == 0


def test_a_missing_sender_is_told_with_what_to_do(office: Office) -> None:
    report = office.one(COCINA)

    todo = "\n".join(report["sender"]["todo"])
    assert report["sender"]["state"] == "missing"
    assert "Create new sender" in todo
    assert f"{BASE}/webhook/whatsapp{RETRIES}" in todo
    assert not office.one(COCINA)["changed"]
    office.stack.twilio.senders.add(f"whatsapp:{NUMBER}")
    assert office.one(COCINA)["sender"]["state"] == "changed"


def test_a_sender_of_another_account_is_not_ours(office: Office) -> None:
    office.stack.twilio.accounts["AC" + "2" * 32] = "token-of-the-second"
    office.stack.twilio.senders.add(f"whatsapp:{NUMBER}", account="AC" + "2" * 32)
    own = {"twilio_account_sid": "AC" + "2" * 32, "twilio_auth_token": "token-of-the-second"}

    assert office.one(COCINA)["sender"]["state"] == "missing"
    assert office.one({**COCINA, **own})["sender"]["state"] == "changed"


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (Fault.status(404, {"message": "Not Found"}), ("http_404", "Not Found", "Senders API")),
        (Fault.status(404, "<html>Not Found</html>"), ("http_404", "answered 404")),
        (Fault.status(302, ""), ("http_302", "proxy")),
        (
            Fault.status(400, {"code": 63100, "message": "Odd"}),
            ("63100", "Odd", "api/errors/63100"),
        ),
        (Fault.status(200, "no json"), ("bad_answer", "unreadable", "Run this again")),
        (Fault.status(500, ""), ("http_500", "Run this again")),
        (Fault.reset(), ("connection", "Run this again")),
    ],
    ids=["404", "404 of a proxy", "redirect", "code", "no json", "500", "reset"],
)
def test_what_twilio_answers_is_told_with_the_call_and_the_way_around(
    office: Office, fault: Fault, told: tuple[str, ...]
) -> None:
    office.stack.twilio.fail(
        fault, times=None, match=lambda request: request.path.startswith(SENDERS_PATH)
    )

    refused = office.apply(COCINA)

    assert (refused.code, office.bots()) == (1, [])
    for words in ("Nothing was changed", "GET /v2/Channels/Senders", "twilio=manual", *told):
        assert words in refused.err

    made = office.one({**COCINA, "sender": "manual"})

    assert (made["action"], made["sender"]["state"]) == ("create", "manual")
    assert any(made["sender"]["wanted"]["callback_url"] in step for step in made["sender"]["todo"])
    assert "console.twilio.com" in made["sender"]["todo"][0]


def test_twilio_is_not_asked_about_a_number_that_a_person_sets(office: Office) -> None:
    office.stack.twilio.senders.add(f"whatsapp:{NUMBER}")

    office.one({**COCINA, "sender": "manual"})

    assert not any(each.path.startswith(SENDERS_PATH) for each in office.stack.twilio.requests)
    assert office.one(COCINA)["sender"]["state"] == "changed"


def test_a_sender_that_is_offline_is_set_and_told(office: Office) -> None:
    office.stack.twilio.senders.add(f"whatsapp:{NUMBER}", status="OFFLINE")

    report = office.one(COCINA)

    assert report["sender"]["state"] == "changed"
    assert "OFFLINE" in report["sender"]["todo"][0]


def test_what_twilio_refuses_becomes_something_to_do_by_hand(office: Office) -> None:
    office.stack.twilio.senders.add(f"whatsapp:{NUMBER}")
    office.stack.twilio.fail(
        Fault.status(400, {"code": 63100, "message": "The sender is locked", "status": 400}),
        times=None,
        match=lambda request: request.method == "POST",
    )

    report = office.one(COCINA)

    assert report["sender"]["state"] == "refused"
    assert "The sender is locked" in report["sender"]["todo"][0]
    assert any("Use webhooks" in each for each in report["sender"]["todo"])


def test_wrong_credentials_of_twilio_change_nothing(office: Office) -> None:
    own = {"twilio_account_sid": "AC" + "9" * 32, "twilio_auth_token": "wrong"}

    refused = office.apply({**COCINA, **own})

    assert refused.code == 1
    assert "check twilio_account_sid and twilio_auth_token" in refused.err
    assert "wrong" not in refused.err
    assert office.bots() == []


def test_two_hundred_clients_are_made_at_once_and_nothing_the_second_time(office: Office) -> None:
    clients = [
        {**COCINA, "name": f"Cliente {n}", "twilio_phone_number": f"+5622777{n:04}"}
        for n in range(200)
    ]
    for client in clients:
        office.stack.twilio.senders.add(f"whatsapp:{client['twilio_phone_number']}")

    made = office.apply(*clients)
    again = office.apply(*clients)

    assert made.code == 0, made.err
    assert [each["action"] for each in made.json["clients"]] == ["create"] * 200
    assert not again.json["changed"]
    assert office.changes_at_twilio() == 200


def test_a_trial_shows_the_answer(office: Office) -> None:
    office.one({**COCINA, "sender": False})
    with office.stack.worker():
        shown = office.ctl("send-test", NUMBER, "Hola", "--trial", "--url", office.url)
        told = office.ctl("send-test", NUMBER, "Hola", "--trial", "--url", office.url, "--json")

    assert shown.code == 0, shown.err
    assert "eco: Hola" in shown.out
    turn = told.json["turn"]
    assert (turn["status"], turn["answer"]) == ("replied", "eco: Hola")
    assert not any("Messages" in request.path for request in office.stack.twilio.requests)
    assert office.ctl("send-test", NUMBER, "x", "--trial", "--from", OTHER).code == 2


def test_a_trial_that_nobody_answers_says_so(office: Office) -> None:
    office.one({**COCINA, "sender": False})

    silent = office.ctl("send-test", NUMBER, "Hola", "--trial", "--url", office.url, "--wait", "1")

    assert silent.code == 1
    assert "no worker has begun with it" in silent.err


def removal(office: Office, *words: str) -> Result:
    return office.ctl("clients", "remove", NUMBER, "--json", *words)


@on_both
def test_a_client_is_exported_and_removed(office: Office) -> None:
    office.stack.twilio.senders.add(f"whatsapp:{NUMBER}")
    made = office.one({**COCINA, "horizon_api_token": "the-token-of-horizon"})
    with office.stack.worker():
        office.ctl("send-test", NUMBER, "Hola", "--trial", "--url", office.url)
    file = office.folder / "data" / "cocina.jsonl.gz"

    would = removal(office, "--confirm", NUMBER, "--check")
    exported = office.ctl("clients", "export", NUMBER, str(file), "--json")
    refused = office.ctl("clients", "export", NUMBER, str(file))
    replaced = office.ctl("clients", "export", NUMBER, str(file), "--force")
    removed = removal(office, "--confirm", NUMBER)
    again = removal(office, "--confirm", NUMBER)

    assert (would.json["changed"], would.json["sender"]) == (True, "change")
    assert would.json["client_id"] == "restaurante-la-cocina"
    rows = [json.loads(line) for line in gzip.decompress(file.read_bytes()).splitlines()]
    assert exported.json["rows"]["messages"] == 2
    assert {row["table"] for row in rows} >= {"bots", "assistants", "turns", "messages", "parts"}
    assert not any("token" in name for name in rows[0] if name != "table")
    assert file.stat().st_mode & 0o777 == 0o600
    assert refused.code == 1
    assert "exists: name another file, or add --force" in refused.err
    assert replaced.code == 0
    assert (removed.json["changed"], removed.json["sender"]) == (True, "changed")
    webhook = office.stack.twilio.senders.webhook_of(f"whatsapp:{NUMBER}")
    assert [webhook[name] for name in webhook if name.endswith("url")] == ["", "", ""]
    assert office.bots() == []
    assert (again.code, again.json["changed"]) == (0, False)
    assert again.json["bot_id"] == made["bot_id"]


def test_a_removal_has_to_be_confirmed_and_to_be_of_a_client(office: Office) -> None:
    office.one({**COCINA, "sender": False})

    unconfirmed = removal(office, "--confirm", OTHER)
    unknown = office.ctl("clients", "remove", OTHER, "--confirm", OTHER)

    assert unconfirmed.code == 2
    assert f"--confirm {NUMBER}" in unconfirmed.err
    assert unknown.code == 1
    assert "No bot has or had the number" in unknown.err
    assert len(office.bots()) == 1


def test_a_sender_that_leads_elsewhere_is_left_alone(office: Office) -> None:
    elsewhere = "https://other.example.test/hook"
    office.one({**COCINA, "sender": False})
    office.stack.twilio.senders.add(f"whatsapp:{NUMBER}", elsewhere)

    assert removal(office, "--confirm", NUMBER).json["sender"] == "elsewhere"
    webhook = office.stack.twilio.senders.webhook_of(f"whatsapp:{NUMBER}")
    assert webhook["callback_url"] == elsewhere


def test_twilio_out_of_reach_removes_nothing(office: Office) -> None:
    office.stack.twilio.senders.add(f"whatsapp:{NUMBER}")
    office.one(COCINA)
    office.stack.twilio.fail(Fault.status(503), times=None)

    failed = removal(office, "--confirm", NUMBER)
    kept = removal(office, "--confirm", NUMBER, "--keep-sender")

    assert failed.code == 1
    assert "Nothing was removed" in failed.err
    assert kept.json["changed"]


def test_addresses_that_twilio_does_not_empty_are_left_to_a_person(office: Office) -> None:
    office.stack.twilio.senders.add(f"whatsapp:{NUMBER}")
    office.one(COCINA)
    office.stack.twilio.senders.refuse_empty_urls = True

    removed = removal(office, "--confirm", NUMBER)

    assert removed.json["sender"] == "refused"
    assert "empty the three addresses" in " ".join(removed.json["todo"])
    assert office.bots() == []


def test_a_service_that_does_not_answer_changes_nothing(
    stack: Stack, ctl: Ctl, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in stack.variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HORIZONCTL_URL", f"unix:{tmp_path / 'nobody.sock'}")

    refused = Office(stack, ctl, tmp_path, "").apply(COCINA)

    assert refused.code == 1
    assert "The service cannot be reached" in refused.err
    assert stack.twilio.requests == []
