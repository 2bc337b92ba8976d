"""`horizonctl` on real stores, and against a running service."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from cryptography.fernet import Fernet

from service.cli.main import main
from service.conversation.event import Event, encode
from service.conversation.mailbox import Inbound
from service.demo.emulators.faults import Fault
from service.settings import Settings
from service.store.redis_client import RedisStore
from service.store.redis_mailbox import RedisMailbox
from tests.server_process import PATIENCE_S, free_port
from tests.stack import Stack, wait_until

ROOT = Path(__file__).parents[2]
NUMBER = "+56226660009"
TOKEN = "twilio-token-nobody-may-see"
NO_QUOTA = {
    "error": {"message": "no", "type": "error", "param": None, "code": "insufficient_quota"}
}
NOWHERE = "redis://127.0.0.1:9/0"


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Ctl = Callable[..., Result]


@pytest.fixture
def ctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ctl:
    """Runs a command in this process, as a shell without settings would."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> Result:
        capsys.readouterr()
        code = main(words)
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return run


@pytest.fixture
def service_environment(
    sqlite_url: str, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ctl: Ctl
) -> dict[str, str]:
    """Settings of a service with a migrated database, in the environment."""
    variables = {
        "SECRET_KEY": Fernet.generate_key().decode(),
        "PUBLIC_BASE_URL": "https://bots.example.test",
        "ADMIN_API_KEY": "a" * 40,
        "DATABASE_URL": sqlite_url,
        "REDIS_URL": redis_url,
        "SPOOL_DIR": str(tmp_path / "spool"),
        "METRICS_DIR": str(tmp_path / "metrics"),
        "WEB_WORKERS": "1",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return variables


@pytest.fixture
def bot(service_environment: dict[str, str], ctl: Ctl, tmp_path: Path) -> dict[str, Any]:
    """A bot that was made with `bots add`."""
    (tmp_path / "bot.json").write_text(
        json.dumps({"name": "Prueba", "openai_model": "gpt-6-luna", "client_id": "prueba"})
    )
    (tmp_path / "token").write_text(TOKEN + "\n")
    words = ("--file", "bot.json", "--number", NUMBER, "--twilio-auth-token-file", "token")
    result = ctl("bots", "add", *words, "--json")
    assert result.code == 0, result.err
    added: dict[str, Any] = result.json
    return added


def test_db_current_fails_before_the_upgrade_and_succeeds_after_it(
    service_environment: dict[str, str],
    ctl: Ctl,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path / 'new.db'}")

    before = ctl("db", "current", "--json")
    upgrade = ctl("db", "upgrade", "--json")
    after = ctl("db", "current", "--json")

    assert (before.code, before.json["current"], before.json["state"]) == (1, None, "empty")
    assert (upgrade.code, upgrade.json["changed"]) == (0, True)
    assert (after.code, after.json["runs"], after.json["state"]) == (0, True, "at head")


def test_a_command_without_tables_names_db_upgrade(
    service_environment: dict[str, str],
    ctl: Ctl,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path / 'new.db'}")

    result = ctl("bots", "list")

    assert (result.code, result.out) == (1, "")
    assert "horizonctl db upgrade" in result.err


def test_a_database_that_is_down_is_one_sentence(
    service_environment: dict[str, str], ctl: Ctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:9/nothing")

    result = ctl("conversations", "list")

    assert result.code == 1
    assert "DATABASE_URL" in result.err
    assert result.err.count("\n") == 1


def test_a_bot_is_added_from_a_file_options_and_a_secret_file(bot: dict[str, Any]) -> None:
    assert bot["name"] == "Prueba"
    assert bot["twilio_phone_number"] == NUMBER
    assert bot["twilio_auth_token"] == {"set": True}


def test_no_command_shows_a_secret(bot: dict[str, Any], ctl: Ctl) -> None:
    shown = [
        ctl("bots", "show", bot["id"]),
        ctl("bots", "show", NUMBER, "--json"),
        ctl("bots", "list"),
        ctl("bots", "list", "--json"),
    ]

    assert [result.code for result in shown] == [0, 0, 0, 0]
    assert not any(TOKEN in result.out + result.err for result in shown)
    assert all(bot["id"] in result.out for result in shown)


def test_a_secret_comes_from_the_environment(
    bot: dict[str, Any], ctl: Ctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOT_HORIZON_API_TOKEN", "horizon-secret")

    result = ctl("bots", "set", bot["id"], "--json")

    assert result.json["horizon_api_token"] == {"set": True}


def test_a_second_bot_with_the_number_is_refused(bot: dict[str, Any], ctl: Ctl) -> None:
    result = ctl("bots", "add", "--name", "Otro", "--number", NUMBER)

    assert result.code == 1
    assert result.err == f"Another bot has the number {NUMBER}.\n"


def test_a_malformed_number_is_named_with_its_field(
    service_environment: dict[str, str], ctl: Ctl
) -> None:
    result = ctl("bots", "add", "--name", "Otro", "--number", "whatsapp:+56912345678")

    assert result.code == 1
    assert result.err.startswith("twilio_phone_number: ")


def test_a_new_model_makes_the_next_version_of_the_assistant(bot: dict[str, Any], ctl: Ctl) -> None:
    result = ctl("bots", "set", NUMBER, "--model", "gpt-6.2-sol", "--json")

    assert result.json["assistant"]["version"] == 2
    assert result.json["openai_model"] == "gpt-6.2-sol"


def test_a_field_can_be_cleared(bot: dict[str, Any], ctl: Ctl) -> None:
    result = ctl("bots", "set", bot["id"], "--clear", "twilio_auth_token", "--json")

    assert result.json["twilio_auth_token"] == {"set": False}


def test_a_removed_bot_is_gone(bot: dict[str, Any], ctl: Ctl) -> None:
    removed = ctl("bots", "remove", bot["id"], "--yes")
    shown = ctl("bots", "show", bot["id"])

    assert removed.code == 0
    assert shown.code == 1
    assert "no such bot" in shown.err


def test_a_bot_is_not_removed_unasked(
    bot: dict[str, Any], ctl: Ctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open(os.devnull) as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        refused = ctl("bots", "remove", bot["id"])

    assert refused.code == 2
    assert ctl("bots", "show", bot["id"]).code == 0


def test_a_key_is_made_listed_and_revoked(service_environment: dict[str, str], ctl: Ctl) -> None:
    made = ctl("key", "create", "--name", "panel", "--client", "prueba", "--json").json
    listed = ctl("key", "list", "--json")
    revoked = ctl("key", "revoke", made["id"])
    again = ctl("key", "revoke", made["id"])

    assert made["key"].startswith("hk_")
    assert made["key"] not in listed.out
    assert [(key["id"], key["client_id"]) for key in listed.json] == [(made["id"], "prueba")]
    assert (revoked.code, again.code) == (0, 1)


def test_a_new_key_is_the_only_thing_on_standard_output(
    service_environment: dict[str, str], ctl: Ctl
) -> None:
    result = ctl("key", "create", "--name", "root", "--admin")

    assert result.out.startswith("hk_")
    assert result.out.count("\n") == 1


@pytest.mark.parametrize("client", ["", "a b", "x" * 81])
def test_a_key_of_no_client_is_refused(
    service_environment: dict[str, str], ctl: Ctl, client: str
) -> None:
    result = ctl("key", "create", "--name", "panel", "--client", client)

    assert (result.code, result.out) == (2, "")
    assert result.err.count("\n") == 1
    assert ctl("key", "list", "--json").json == []


@pytest.mark.parametrize("name", ["", "x" * 201, "a\0b"])
def test_a_key_with_an_impossible_name_is_refused(
    service_environment: dict[str, str], ctl: Ctl, name: str
) -> None:
    result = ctl("key", "create", "--name", name, "--admin")

    assert (result.code, result.out) == (2, "")
    assert result.err.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"name": "A\\u0000"}', "name: It has a NUL"),
        ('{"name": "' + "x" * 201 + '"}', "name: "),
        ('{"name": "A", "metadata": {"\\u0000": 1}}', "metadata: It has a NUL"),
        ('{"name": "A\\ud800"}', "is not JSON"),
        ('{"metadata": ' + '{"a":' * 60 + "1" + "}" * 61, "metadata: It is nested deeper"),
    ],
    ids=["nul", "long", "nul-in-a-name", "half-a-surrogate-pair", "deep"],
)
def test_what_rest_refuses_is_refused_in_a_file_too(
    service_environment: dict[str, str], ctl: Ctl, tmp_path: Path, text: str, words: str
) -> None:
    (tmp_path / "bot.json").write_text(text)

    result = ctl("bots", "add", "--file", "bot.json", "--number", NUMBER)

    assert result.code == 1
    assert words in result.err
    assert "Traceback" not in result.err


def test_a_secret_of_the_environment_that_is_no_text_is_refused(
    service_environment: dict[str, str], ctl: Ctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOT_OPENAI_API_KEY", "sk-\udcff")

    result = ctl("bots", "add", "--name", "Otro", "--number", NUMBER)

    assert result.code == 1
    assert result.err.startswith("openai_api_key: ")


def test_removing_and_revoking_answer_in_json(bot: dict[str, Any], ctl: Ctl) -> None:
    key_id = ctl("key", "create", "--name", "panel", "--admin", "--json").json["id"]

    revoked = ctl("key", "revoke", key_id, "--json")
    removed = ctl("bots", "remove", bot["id"], "--yes", "--json")

    assert revoked.json == {"id": key_id, "revoked": True}
    assert removed.json == {"id": bot["id"], "removed": True}


def test_a_conversation_is_listed_and_shown(stack: Stack, ctl: Ctl, as_stack: None) -> None:
    with stack.worker():
        stack.send("hola")
        stack.wait_for_turns(1)
        stack.wait_until_idle()

    listed = ctl("conversations", "list", "--json").json
    shown = ctl("conversations", "show", listed[0]["id"], "--json").json

    assert len(listed) == 1
    assert [message["text"] for message in shown["messages"]] == ["hola", "eco: hola"]
    assert "eco: hola" in ctl("conversations", "show", listed[0]["id"]).out
    assert ctl("conversations", "show", "cv_none").code == 1


def test_a_dead_turn_is_listed_and_runs_once_more(stack: Stack, ctl: Ctl, as_stack: None) -> None:
    stack.openai.fail(Fault.status(429, NO_QUOTA), times=1)
    with stack.worker():
        stack.send("hola")
        stack.wait_for_turns(1)
        stack.wait_until_idle()
        dead = ctl("dead", "list", "--json").json

        retried = ctl("dead", "retry", "--all", "--json")

        wait_until(lambda: stack.turns()[0]["status"] == "replied", "reply")
        stack.wait_until_idle()
    assert [turn["reason"] for turn in dead] == ["insufficient_quota"]
    assert retried.json == [{"turn": dead[0]["id"], "result": "queued"}]
    assert stack.replies()[-1] == "eco: hola"
    assert ctl("dead", "list", "--json").json == []


def test_a_retry_that_waits_is_not_queued_twice(stack: Stack, ctl: Ctl, as_stack: None) -> None:
    stack.openai.fail(Fault.status(429, NO_QUOTA), times=1)
    with stack.worker():
        stack.send("hola")
        stack.wait_for_turns(1)
        stack.wait_until_idle()
    turn_id = stack.turns()[0]["id"]

    first = ctl("dead", "retry", turn_id, "--json")
    second = ctl("dead", "retry", turn_id, "--json")

    assert (first.code, first.json[0]["result"]) == (0, "queued")
    assert (second.code, second.json[0]["result"]) == (0, "already_queued")


def test_an_unknown_turn_is_not_retried(service_environment: dict[str, str], ctl: Ctl) -> None:
    result = ctl("dead", "retry", "tn_none")

    assert result.code == 1
    assert "no such turn" in result.out


@pytest.mark.parametrize(
    "words",
    [("dead", "list"), ("dead", "retry", "--all"), ("conversations", "list"), ("bots", "list")],
    ids=" ".join,
)
def test_a_client_that_never_was_is_no_empty_answer(
    service_environment: dict[str, str], ctl: Ctl, words: tuple[str, ...]
) -> None:
    result = ctl(*words, "--client", "nope")

    assert result.code == 1
    assert "There is no client nope" in result.err


def test_redis_that_is_down_is_one_sentence(
    stack: Stack, ctl: Ctl, as_stack: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.openai.fail(Fault.status(429, NO_QUOTA), times=1)
    with stack.worker():
        stack.send("hola")
        stack.wait_for_turns(1)
    monkeypatch.setenv("REDIS_URL", NOWHERE)

    result = ctl("dead", "retry", "--all")

    assert result.code == 1
    assert "REDIS_URL" in result.err
    assert result.err.count("\n") == 1


def test_a_command_goes_to_its_conversation_wherever_an_alias_leads(redis_url: str) -> None:
    store = RedisStore(redis_url, 4)
    mailbox = RedisMailbox(store, 0, 10, 60)
    first = mailbox.accept(_message("one", "whatsapp:+1", "whatsapp:CL.a")).conversation_id
    # The number is now another person's: what names only the number would go to that one.
    mailbox.accept(_message("two", "whatsapp:+1", "whatsapp:CL.b"))
    event = Event("retry-1", "retry", "bot_a", 0, {"turn": "tn_1"})

    is_new = mailbox.command(
        first, Event("retry-1", "retry", "bot_a", 0, event.fields, encode(event)), "client", "+56"
    )

    claims, _ = mailbox.claim(2)
    store.close()
    waiting = {claim.conversation_id: [event.id for event in claim.events] for claim in claims}
    assert is_new
    assert waiting[first] == ["one", "retry-1"]


def test_health_and_send_test_of_a_running_service(
    bot: dict[str, Any], ctl: Ctl, service_environment: dict[str, str]
) -> None:
    with _Web(service_environment) as url:
        health = ctl("health", "--url", url, "--json")
        sent = ctl("send-test", NUMBER, "hola", "--from", "+56900000001", "--url", url, "--json")
        unknown = ctl("send-test", "+56999999999", "hola", "--from", "+56900000001", "--url", url)

    assert (health.code, health.json["status"]) == (0, "ok")
    assert (sent.code, sent.json["status"]) == (0, 200)
    assert sent.json["ms"] > 0
    assert unknown.code == 1
    store = RedisStore(service_environment["REDIS_URL"], 2)
    depth = RedisMailbox(store, 0, 10, 60).depth()
    store.close()
    assert depth.due == 1


def test_a_signature_for_another_address_is_refused_and_explained(
    bot: dict[str, Any],
    ctl: Ctl,
    service_environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with _Web(service_environment) as url:
        monkeypatch.setenv("PUBLIC_BASE_URL", "https://other.example.test")
        result = ctl("send-test", NUMBER, "hola", "--from", "+56900000001", "--url", url)

    assert result.code == 1
    assert "PUBLIC_BASE_URL" in result.err


def test_health_of_a_degraded_service_exits_with_1(
    ctl: Ctl, service_environment: dict[str, str]
) -> None:
    with _Web({**service_environment, "REDIS_URL": NOWHERE}) as url:
        result = ctl("health", "--url", url, "--json")

    assert (result.code, result.json["redis"]) == (1, "down")


@pytest.fixture
def as_stack(stack: Stack, ctl: Ctl, monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings of the stack in the environment."""
    for name, value in stack.variables.items():
        monkeypatch.setenv(name, value)


def _message(sid: str, sender: str, external_id: str) -> Inbound:
    fields = {"Body": sid, "From": sender, "ExternalUserId": external_id}
    event = Event(sid, "message", "bot_a", 0, fields)
    event = Event(sid, "message", "bot_a", 0, fields, encode(event))
    return Inbound(event, "client", "+56", sender, external_id)


class _Web:
    """`horizonctl web` on a free port, until the end of the block."""

    def __init__(self, variables: dict[str, str]) -> None:
        self._bind = f"127.0.0.1:{free_port()}"
        self._environment = {**os.environ, **variables, "PYTHONPATH": str(ROOT)}

    def __enter__(self) -> str:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "service", "web", "--bind", self._bind],
            env=self._environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        url = f"http://{self._bind}"
        wait_until(lambda: _answers(url), "answer of the web process")
        return url

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        assert self._process.wait(PATIENCE_S) == 0


def _answers(url: str) -> bool:
    try:
        with requests.Session() as session:
            session.trust_env = False
            session.get(f"{url}/health/db", timeout=PATIENCE_S)
    except requests.RequestException:
        return False
    return True
