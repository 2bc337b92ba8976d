"""`horizonctl import`: the bots of an older installation, from real stores."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
from cryptography.fernet import Fernet

from service.cli.main import main
from service.container import Container
from service.demo.emulators.openai import OpenAIEmulator
from service.settings import Settings, load_settings
from service.store import bots as bot_rows
from tests.stack import emulators

ACCOUNT, ENV_ACCOUNT = "AC" + "1" * 32, "AC" + "2" * 32
SECRETS = ("twilio-of-bot", "sk-of-bot", "crm-of-bot", "twilio-of-env", "sk-of-env", "crm-of-env")
ENV = f"""
# the older service's own
OPENAI_API_KEY="sk-of-env"
TWILIO_ACCOUNT_SID={ENV_ACCOUNT}
TWILIO_AUTH_TOKEN='twilio-of-env'
HORIZON_API_KEY=crm-of-env
LOG_LEVEL=DEBUG
FLASK_ENV=production
"""
FULL: dict[str, Any] = {
    "id": "bot-1",
    "name": "La Cocina",
    "twilio_phone_number": "whatsapp:+56911110001",
    "client_id": 7,
    "assistant_id": "asst_old",
    "openai_model": "gpt-6-luna",
    "instructions": "Toma reservas.",
    "twilio_account_sid": ACCOUNT,
    "openai_api_key": "sk-of-bot",
    "horizon_actions": [{"name": "reservar", "method": "post", "path": "/api/r/", "retries": 3}],
    "assistant_functions": json.dumps(
        [{"type": "function", "function": {"name": "reservar"}}, {"type": "file_search"}]
    ),
    "metadata": {
        "twilio_auth_token": "twilio-of-bot",
        "horizon_api_token": "crm-of-bot",
        "rubro": "r",
    },
    "thread_ttl": 60,
}
BARE = {"twilio_phone_number": "56911110002", "instructions": "Hola."}


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def bots(self) -> dict[str, dict[str, Any]]:
        return {bot["key"]: bot for bot in json.loads(self.out)["bots"]}


Ctl = Callable[..., Result]


@pytest.fixture
def openai() -> Iterator[OpenAIEmulator]:
    with emulators() as (openai, _, _):
        yield openai


@pytest.fixture
def ctl(
    database_url: str,
    redis_url: str,
    openai: OpenAIEmulator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Ctl:
    """`horizonctl` of the new installation; its Redis is the older one's too."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in {
        "SECRET_KEY": Fernet.generate_key().decode(),
        "PUBLIC_BASE_URL": "https://bots.example.test",
        "ADMIN_API_KEY": "a" * 40,
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "OPENAI_BASE_URL": f"{openai.url}/v1",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old.env").write_text(ENV)

    def run(*words: str) -> Result:
        capsys.readouterr()
        code = main(words)
        said = capsys.readouterr()
        return Result(code, said.out, said.err)

    return run


@pytest.fixture
def registry(redis_url: str) -> Iterator[Callable[..., None]]:
    """Puts entries into `bots:registry`."""
    with redis.Redis.from_url(redis_url) as server:

        def put(**entries: Any) -> None:
            for key, value in entries.items():
                raw = value if isinstance(value, bytes | str) else json.dumps(value)
                server.hset("bots:registry", key, raw)

        yield put


def secrets_of(number: str) -> dict[str, str | None]:
    """The bot's secrets in clear, with its account."""
    container = Container(load_settings())
    try:
        with container.database.read() as connection:
            row = bot_rows.active_by_number(connection, number)
        assert row is not None
        names = ("twilio_auth_token", "openai_api_key", "horizon_api_token")
        found = {
            name: None if row[name] is None else container.cipher.decrypt(row[name])
            for name in names
        }
        return found | {"twilio_account_sid": row["twilio_account_sid"]}
    finally:
        container.close()


def test_a_dry_run_shows_what_would_be_made_and_makes_nothing(
    ctl: Ctl, registry: Callable[..., None], redis_url: str
) -> None:
    registry(one=FULL, two=BARE)

    result = ctl("import", "--redis", redis_url, "--env", "old.env", "--dry-run", "--json")

    assert result.code == 0, result.err
    assert {key: bot["state"] for key, bot in result.bots.items()} == {
        "one": "would_create",
        "two": "would_create",
    }
    assert json.loads(ctl("bots", "list", "--json").out) == []


def test_bots_come_with_numbers_and_secrets_and_what_has_no_equivalent_is_told(
    ctl: Ctl, registry: Callable[..., None], redis_url: str
) -> None:
    registry(one=FULL, two=BARE)

    result = ctl("import", "--redis", redis_url, "--env", "old.env", "--json")
    shown = json.loads(ctl("bots", "show", "+56911110001", "--json").out)

    assert result.code == 0, result.err
    assert secrets_of("+56911110001") == {
        "twilio_auth_token": "twilio-of-bot",
        "openai_api_key": "sk-of-bot",
        "horizon_api_token": "crm-of-bot",
        "twilio_account_sid": ACCOUNT,
    }
    assert secrets_of("+56911110002") == {
        "twilio_auth_token": "twilio-of-env",
        "openai_api_key": "sk-of-env",
        "horizon_api_token": "crm-of-env",
        "twilio_account_sid": ENV_ACCOUNT,
    }
    assert (shown["name"], shown["client_id"]) == ("La Cocina", "7")
    assert (shown["openai_model"], shown["instructions"]) == ("gpt-6-luna", "Toma reservas.")
    assert shown["handoff"]["source"] == "horizon"
    assert shown["metadata"] == {
        "rubro": "r",
        "legacy_id": "bot-1",
        "legacy_assistant_id": "asst_old",
    }
    assert [action["method"] for action in shown["horizon_actions"]] == ["POST"]
    notes = " ".join(result.bots["one"]["notes"])
    for words in ("assistant_id asst_old", "retries", "file_search", "thread_ttl"):
        assert words in notes
    report = json.loads(result.out)
    assert report["settings_without_equivalent"] == ["FLASK_ENV"]
    assert report["settings_to_consider"] == ["LOG_LEVEL"]


def test_no_secret_is_ever_shown(ctl: Ctl, registry: Callable[..., None], redis_url: str) -> None:
    misplaced = BARE | {"twilio_phone_number": "+56911110003", "openai_api_key": "sk with spaces"}
    registry(one=FULL, two=BARE, three=misplaced)

    for words in (["--dry-run"], ["--json"], []):
        result = ctl("import", "--redis", redis_url, "--env", "old.env", *words)
        assert result.code == 1
        for secret in (*SECRETS, "sk with spaces"):
            assert secret not in result.out + result.err


def test_a_second_run_makes_nothing_and_touches_nothing(
    ctl: Ctl, registry: Callable[..., None], redis_url: str
) -> None:
    registry(one=FULL, two=BARE)
    first = ctl("import", "--redis", redis_url, "--env", "old.env", "--json")
    ctl("bots", "set", "+56911110001", "--name", "Cambiado aquí")
    before = ctl("bots", "list", "--json").out

    second = ctl("import", "--redis", redis_url, "--env", "old.env", "--json")

    assert (first.code, second.code) == (0, 0)
    assert {bot["state"] for bot in second.bots.values()} == {"present"}
    assert {key: bot["bot_id"] for key, bot in second.bots.items()} == {
        key: bot["bot_id"] for key, bot in first.bots.items()
    }
    assert ctl("bots", "list", "--json").out == before


def test_a_bad_entry_is_named_and_stops_no_other(
    ctl: Ctl, registry: Callable[..., None], redis_url: str
) -> None:
    registry(
        broken="{",
        binary=b"\xff\xfe",
        listed=[1],
        numberless={"name": "Nadie"},
        short=BARE | {"twilio_phone_number": "+12"},
        typed=BARE | {"twilio_phone_number": "+56911110004", "horizon_actions": "x"},
        relative=BARE
        | {"twilio_phone_number": "+56911110005", "horizon_actions": [{"name": "a", "path": "b"}]},
        gone=BARE | {"twilio_phone_number": "+56911110006", "status": "inactive"},
        good=BARE,
    )

    result = ctl("import", "--redis", redis_url, "--env", "old.env", "--json")

    assert result.code == 1
    states = {key: bot["state"] for key, bot in result.bots.items()}
    assert states.pop("good") == "created"
    assert states.pop("gone") == "inactive"
    assert set(states.values()) == {"refused"}
    reasons = {key: result.bots[key]["reason"] for key in states}
    for key, words in {
        "broken": "not JSON",
        "binary": "not UTF-8",
        "listed": "no JSON object",
        "numberless": "twilio_phone_number",
        "short": "E.164",
        "typed": "horizon_actions",
        "relative": "path",
    }.items():
        assert words in reasons[key], reasons[key]


@pytest.mark.parametrize(
    "off",
    [
        {"status": "paused"},
        {"status": " Suspendido "},
        {"is_active": "false"},
        {"is_active": 0},
        {"active": "0"},
        {"enabled": False},
        {"activo": "no"},
    ],
    ids=str,
)
def test_a_bot_that_was_switched_off_is_not_made(
    ctl: Ctl, registry: Callable[..., None], redis_url: str, off: dict[str, Any]
) -> None:
    registry(off=BARE | off)

    result = ctl("import", "--redis", redis_url, "--env", "old.env", "--json")

    assert result.bots["off"]["state"] == "inactive"


def test_a_status_and_a_switch_that_nobody_knows_are_named(
    ctl: Ctl, registry: Callable[..., None], redis_url: str
) -> None:
    registry(draft=BARE | {"status": "borrador", "is_active": "true", "con_menu": False})

    result = ctl("import", "--redis", redis_url, "--env", "old.env", "--json")

    notes = " ".join(result.bots["draft"]["notes"])
    assert "Its status 'borrador' is unknown here" in notes
    assert "| horizonctl bots set +56911110002 --file -" in notes
    assert "con_menu has no equivalent" in notes


def test_two_entries_of_one_number_that_differ_are_both_left_and_equal_ones_are_one_bot(
    ctl: Ctl, registry: Callable[..., None], redis_url: str
) -> None:
    other = FULL | {"twilio_phone_number": "+56911110001", "instructions": "Otra cosa."}
    twin = BARE | {"id": "by-number"}
    registry(one=FULL, other=other, two=BARE, twin=twin)

    result = ctl("import", "--redis", redis_url, "--env", "old.env", "--json")

    assert result.code == 1
    assert sorted(bot["state"] for bot in result.bots.values()) == ["created", "refused"]
    (refused,) = [bot for bot in result.bots.values() if bot["state"] == "refused"]
    assert "one, other" in refused["reason"]


def test_a_model_that_is_gone_is_refused_and_replaced_on_demand(
    ctl: Ctl, registry: Callable[..., None], redis_url: str
) -> None:
    registry(old=BARE | {"openai_model": "gpt-3.5-turbo-gone"})
    words = ("import", "--redis", redis_url, "--env", "old.env", "--json")

    refused = ctl(*words)
    dry = ctl(*words, "--dry-run")
    made = ctl(*words, "--model", "gpt-6-luna")

    assert (refused.code, dry.code, made.code) == (1, 1, 0)
    assert "--model" in refused.bots["old"]["reason"]
    assert "it takes gpt-6-luna" in " ".join(made.bots["old"]["notes"])


def test_rows_of_horizons_table_in_the_older_database_are_taken_and_complete_the_registry(
    ctl: Ctl, registry: Callable[..., None], redis_url: str, tmp_path: Path
) -> None:
    with sqlite3.connect(tmp_path / "old.db") as database:
        database.execute(
            "CREATE TABLE gestion_whatsappbot (id INTEGER, twilio_phone_number TEXT,"
            " assistant_instructions TEXT, metadata TEXT, status TEXT, updated_at TEXT)"
        )
        rows = [
            (1, "whatsapp:+56911110001", "de Horizon", "{}", "active", "2026-01-01T00:00:00"),
            (2, "+56911110009", "solo Horizon", "{}", "active", "2026-01-01T00:00:00"),
        ]
        database.executemany("INSERT INTO gestion_whatsappbot VALUES (?,?,?,?,?,?)", rows)
    database.close()
    (tmp_path / "old.env").write_text(ENV + f"DATABASE_URL=sqlite:///{tmp_path / 'old.db'}\n")
    registry(one={name: FULL[name] for name in FULL if name != "instructions"})

    result = ctl("import", "--redis", redis_url, "--env", "old.env", "--json")

    assert result.code == 0, result.err
    shown = [
        json.loads(ctl("bots", "show", number, "--json").out)["instructions"]
        for number in ("+56911110001", "+56911110009")
    ]
    assert shown == ["de Horizon", "solo Horizon"]


def test_a_bot_that_the_service_reads_from_horizons_table_is_left_to_horizon(
    ctl: Ctl, registry: Callable[..., None], redis_url: str
) -> None:
    container = Container(load_settings())
    with container.database.write() as connection:
        connection.exec_driver_sql(
            "CREATE TABLE gestion_whatsappbot (id INTEGER, twilio_phone_number TEXT)"
        )
        connection.exec_driver_sql("INSERT INTO gestion_whatsappbot VALUES (1, '+56911110002')")
    container.close()
    registry(two=BARE)

    result = ctl("import", "--redis", redis_url, "--json")

    assert (result.code, result.bots["two"]["state"]) == (0, "kept_by_horizon")
    assert json.loads(ctl("bots", "list", "--json").out) == []


def test_a_saved_registry_is_read_instead_of_redis(ctl: Ctl, tmp_path: Path) -> None:
    (tmp_path / "registry.json").write_text(json.dumps({"one": json.dumps(FULL)}))

    result = ctl("import", "--registry", "registry.json", "--env", "old.env", "--json")

    assert (result.code, result.bots["one"]["state"]) == (0, "created")


def test_sources_that_cannot_be_read_are_one_sentence(
    ctl: Ctl, registry: Callable[..., None], redis_url: str, tmp_path: Path
) -> None:
    (tmp_path / "bad.env").write_text(ENV + "DATABASE_URL=mysql://root:hidden@db/x\n")
    (tmp_path / "no.json").write_text("[]")
    registry(two=BARE)
    away = "redis://:hidden@127.0.0.1:9/0"

    nowhere = ctl("import")
    absent = ctl("import", "--redis", away)
    empty = ctl("import", "--redis", redis_url.replace("/0", "/1"))
    unsaved = ctl("import", "--registry", "no.json")
    half = ctl("import", "--redis", redis_url, "--env", "bad.env", "--json")

    assert (nowhere.code, absent.code, empty.code, unsaved.code, half.code) == (2, 1, 1, 1, 1)
    assert "--redis" in nowhere.err
    assert "check that it runs" in absent.err
    assert "bots:registry" in empty.err
    assert "registry.json" in unsaved.err
    assert half.bots["two"]["state"] == "created"
    assert "DATABASE_URL" in half.err
    assert "hidden" not in absent.err + half.err + half.out
