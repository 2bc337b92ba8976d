"""The REST interface of bots on a real database and a real Redis."""

from __future__ import annotations

import base64
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import falcon
import falcon.inspect
import falcon.testing
import pytest
from cryptography.fernet import Fernet
from sqlalchemy import select, text

from service.app import create_app
from service.container import Container
from service.integrations.openai_model import ModelCheck
from service.settings import Settings
from service.store import keys
from service.store.models import AuditRow, Base, BotRow
from service.web.errors import install_error_handlers
from service.web.openapi import document
from tests.server_process import PATIENCE_S
from tests.servers import RealRedis

ADMIN_KEY = "admin-key-of-at-least-32-characters"
NUMBER = "+56911111111"
OTHER = "+56922222222"
WITH_LOOK_AHEAD = {"type": "object", "properties": {"rut": {"type": "string", "pattern": "(?=a)b"}}}
WITH_FOREIGN_REFERENCE = {
    "type": "object",
    "properties": {"rut": {"$ref": "https://example.com/rut.json"}},
}


@dataclass
class FakeModels:
    """Answers what it is told and remembers what it was asked."""

    answer: ModelCheck = field(default_factory=lambda: ModelCheck("ok"))
    asked: list[tuple[str | None, str | None, str]] = field(default_factory=list)

    def check_model(self, api_key: str | None, base_url: str | None, model: str) -> ModelCheck:
        self.asked.append((api_key, base_url, model))
        return self.answer


class Service:
    """The parts that the application needs, and a client with the administrator's key."""

    def __init__(self, database_url: str, redis_url: str, folder: Path) -> None:
        secret_key = Fernet.generate_key().decode()
        self.settings = Settings(
            secret_key=(secret_key,),
            public_base_url="https://bots.example.com",
            admin_api_key=ADMIN_KEY,
            _env_file=None,
        )
        url = database_url.replace("postgresql://", "postgresql+psycopg2://")
        self.settings = self.settings.model_copy(
            update={
                "database_url": url,
                "redis_url": redis_url,
                "spool_dir": folder / "spool",
                "metrics_dir": folder / "metrics",
            }
        )
        container = Container(self.settings)
        self.models = FakeModels()
        container.__dict__["model"] = self.models
        self.database, self.redis = container.database, container.redis
        Base.metadata.create_all(self.database.engine)
        self.cipher, self.directory = container.cipher, container.directory
        self.api_keys, self.bots = container.api_keys, container.bots
        self.app = create_app(container)

    def client(self, key: str = ADMIN_KEY) -> falcon.testing.TestClient:
        return falcon.testing.TestClient(self.app, headers={"Authorization": f"Bearer {key}"})

    def scoped(self, client_id: str) -> falcon.testing.TestClient:
        return self.client(self.api_keys.create("test", client_id, "test")[1])

    def audit(self) -> list[tuple[str, str, str]]:
        query = select(AuditRow.actor, AuditRow.action, AuditRow.object_id).order_by(AuditRow.id)
        with self.database.read() as connection:
            return [tuple(row) for row in connection.execute(query)]  # type: ignore[misc] # 3 columns


@pytest.fixture
def service(database_url: str, redis_url: str, tmp_path: Path) -> Iterator[Service]:
    service = Service(database_url, redis_url, tmp_path)
    yield service
    service.redis.close()
    service.database.close()


@pytest.fixture
def lite(sqlite_url: str, redis_url: str, tmp_path: Path) -> Iterator[Service]:
    """For what does not depend on the database."""
    service = Service(sqlite_url, redis_url, tmp_path)
    yield service
    service.redis.close()
    service.database.close()


def wanted(**fields: Any) -> dict[str, Any]:
    return {"name": "Acme", "twilio_phone_number": NUMBER, **fields}


def create(client: falcon.testing.TestClient, **fields: Any) -> dict[str, Any]:
    answer = client.simulate_post("/bots/", json=wanted(**fields))
    assert answer.status_code == 201, answer.text
    data: dict[str, Any] = answer.json["data"]
    return data


def fields_of(answer: falcon.testing.Result) -> set[str]:
    return {error["field"] for error in answer.json["errors"]}


def test_a_created_bot_has_version_1_of_its_assistant_and_shows_no_secret(
    service: Service,
) -> None:
    answer = service.client().simulate_post(
        "/bots/", json=wanted(twilio_auth_token="s3cret", instructions="Vende pan.")
    )

    data = answer.json["data"]
    assert answer.status_code == 201
    assert answer.headers["location"] == f"/bots/{data['id']}"
    assert re.fullmatch(r"bot_[0-9a-f]{20}", data["id"])
    assert data["client_id"] == data["id"]
    assert (data["assistant"]["version"], data["assistant"]["instructions"]) == (1, "Vende pan.")
    assert data["assistant"]["model"] == service.settings.openai_default_model
    assert data["twilio_auth_token"] == {"set": True}
    assert data["openai_api_key"] == {"set": False}
    assert "s3cret" not in answer.text


def test_a_created_bot_is_found_by_its_number_at_once(service: Service) -> None:
    service.directory.find(NUMBER)

    data = create(service.client(), twilio_auth_token="s3cret")

    bot = service.directory.find(NUMBER)
    assert bot is not None
    assert (bot.id, bot.twilio_auth_token) == (data["id"], "s3cret")


@pytest.mark.parametrize("path", ["/bots", "/bots/"])
def test_addresses_work_with_and_without_a_trailing_slash(lite: Service, path: str) -> None:
    assert lite.client().simulate_get(path).json == {"data": [], "next_cursor": None}


def test_a_second_active_bot_with_the_number_is_a_conflict(service: Service) -> None:
    create(service.client())

    answer = service.client().simulate_post("/bots/", json=wanted())

    assert answer.status_code == 409
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["type"] == "/problems/number-taken"


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"twilio_phone_number": f"whatsapp:{NUMBER}"}, "twilio_phone_number"),
        ({"twilio_phone_number": "56911111111"}, "twilio_phone_number"),
        ({"twilio_phone_number": "+999123456789"}, "twilio_phone_number"),
        ({"twilio_phone_number": 5}, "twilio_phone_number"),
        ({"colour": "red"}, "colour"),
        ({"assistant_id": "asst_1"}, "assistant_id"),
        ({"assistant_config": {"temperature": 3}}, "assistant_config.temperature"),
        ({"report_turns": "yes"}, "report_turns"),
        ({"timezone": "America/Nowhere"}, "timezone"),
        ({"timezone": "../etc/passwd"}, "timezone"),
        ({"language": "pt"}, "language"),
        ({"horizon_base_url": "https://127.0.0.1"}, "horizon_base_url"),
        ({"openai_base_url": "http://example.com"}, "openai_base_url"),
        (
            {"horizon_actions": [{"name": "a", "method": "GET", "path": "x"}]},
            "horizon_actions.0.path",
        ),
        ({"assistant_functions": [{"name": "a"}, {"name": "a"}]}, "assistant_functions"),
        (
            {"assistant_functions": [{"name": "a", "parameters": {"type": "nothing"}}]},
            "assistant_functions.0.parameters",
        ),
        (
            {"assistant_functions": [{"name": "a", "parameters": WITH_LOOK_AHEAD}]},
            "assistant_functions.0.parameters",
        ),
        (
            {"assistant_functions": [{"name": "a", "parameters": WITH_FOREIGN_REFERENCE}]},
            "assistant_functions.0.parameters",
        ),
        ({"metadata": {"twilio_auth_token": "x"}}, "metadata"),
        ({"metadata": {"crm": [{"authToken": "x"}]}}, "metadata"),
        ({"assistant_config": {"metadata": {"api_key": "x"}}}, "assistant_config.metadata"),
        ({"assistant_config": {"tools": [{}]}}, "assistant_config.tools.0.type"),
        ({"assistant_config": {"tools": [{"type": "function"}]}}, "assistant_config.tools.0"),
        (
            {"assistant_config": {"tools": [{"type": "function", "name": "a b"}]}},
            "assistant_config.tools.0",
        ),
        (
            {"assistant_config": {"tools": [{"type": "mcp", "authorization": "x"}]}},
            "assistant_config.tools.0",
        ),
        (
            {"assistant_config": {"tools": [{"type": "mcp", "headers": {"X-Any": "x"}}]}},
            "assistant_config.tools.0",
        ),
        ({"texts": {"opt_out_words": ["BAJA", "\U0001f44d"]}}, "texts.opt_out_words.1"),
        ({"texts": {"opt_in_words": ["!!"]}}, "texts.opt_in_words.0"),
        ({"openai_base_url": "https://x..com"}, "openai_base_url"),
        ({"horizon_base_url": "https://[::1"}, "horizon_base_url"),
        ({"metadata": {"a": "nul \0"}}, "metadata.a"),
        ({"metadata": {"a": 10**30}}, "metadata.a"),
        ({"instructions": "a", "assistant_config": {"instructions": "b"}}, "instructions"),
    ],
)
def test_a_wrong_field_is_named(lite: Service, fields: dict[str, Any], wrong: str) -> None:
    answer = lite.client().simulate_post("/bots", json=wanted(**fields))

    assert answer.status_code == 422
    assert fields_of(answer) == {wrong}
    assert answer.json["request_id"] == answer.headers["x-request-id"]


def test_a_problem_never_repeats_the_value_that_was_sent(lite: Service) -> None:
    answer = lite.client().simulate_post("/bots", json=wanted(openai_api_key="sk geheim"))

    assert fields_of(answer) == {"openai_api_key"}
    assert "geheim" not in answer.text


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"", "application/json", 400),
        (b"{", "application/json", 400),
        (b"[]", "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b'{"name": NaN}', "application/json", 400),
        (b"\xff", "application/json", 400),
        (b"name=x", "application/x-www-form-urlencoded", 415),
        (b'"' + b"x" * 1_000_001 + b'"', "application/json", 413),
    ],
)
def test_a_body_that_is_no_json_object_is_refused(
    lite: Service, body: bytes, content_type: str, status: int
) -> None:
    answer = lite.client().simulate_post("/bots", body=body, content_type=content_type)

    assert (answer.status_code, answer.json["status"]) == (status, status)


def test_nulls_of_a_new_bot_are_the_same_as_not_named(lite: Service) -> None:
    data = create(
        lite.client(),
        client_id=None,
        instructions=None,
        texts=None,
        handoff=None,
        assistant_functions=None,
        assistant_config={"instructions": "Vende pan.", "name": None},
    )

    assert data["instructions"] == "Vende pan."
    assert data["assistant"]["name"] == "Acme"


def test_a_change_keeps_what_it_does_not_name(service: Service) -> None:
    data = create(
        service.client(), texts={"apology": "Perdón."}, twilio_auth_token="t", metadata={"a": 1}
    )

    answer = service.client().simulate_put(
        f"/bots/{data['id']}", json={"name": "Acme 2", "texts": {"no_answer": "¿Cómo?"}}
    )

    changed = answer.json["data"]
    assert changed["name"] == "Acme 2"
    assert (changed["texts"]["apology"], changed["texts"]["no_answer"]) == ("Perdón.", "¿Cómo?")
    assert (changed["metadata"], changed["twilio_auth_token"]) == ({"a": 1}, {"set": True})
    assert changed["assistant"]["version"] == 1
    assert changed["revision"] == 2


def test_null_clears_a_field(service: Service) -> None:
    data = create(
        service.client(), twilio_auth_token="t", language="en", openai_model="gpt-6.2-sol"
    )

    answer = service.client().simulate_put(
        f"/bots/{data['id']}",
        json={"twilio_auth_token": None, "language": None, "openai_model": None},
    )

    changed = answer.json["data"]
    assert changed["twilio_auth_token"] == {"set": False}
    assert changed["language"] == "es"
    assert changed["openai_model"] == service.settings.openai_default_model


@pytest.mark.parametrize("name", ["name", "twilio_phone_number", "client_id"])
def test_what_a_bot_must_have_is_not_cleared(lite: Service, name: str) -> None:
    data = create(lite.client())

    answer = lite.client().simulate_put(f"/bots/{data['id']}", json={name: None})

    assert fields_of(answer) == {name}


@pytest.mark.parametrize(
    "change",
    [
        {"assistant_updates": {"instructions": "Nuevo."}},
        {"assistant_config": {"instructions": "Nuevo."}},
        {"instructions": "Nuevo."},
    ],
)
def test_a_changed_assistant_is_its_next_version_and_the_old_one_stays(
    service: Service, change: dict[str, Any]
) -> None:
    data = create(service.client(), instructions="Viejo.", assistant_config={"temperature": 0.5})

    service.client().simulate_put(f"/bots/{data['id']}", json=change)

    versions = service.client().simulate_get(f"/bots/{data['id']}/assistants/").json["data"]
    assert [(v["version"], v["instructions"]) for v in versions] == [(2, "Nuevo."), (1, "Viejo.")]
    assert {v["id"] for v in versions} == {data["assistant"]["id"]}
    assert [v["temperature"] for v in versions] == [0.5, 0.5]


def test_naming_the_same_values_changes_nothing(service: Service) -> None:
    data = create(service.client(), instructions="Igual.", openai_api_key="sk-1")

    answer = service.client().simulate_put(
        f"/bots/{data['id']}",
        json={"instructions": "Igual.", "name": "Acme", "openai_api_key": "sk-1"},
    )

    assert (answer.json["data"]["revision"], answer.json["data"]["assistant"]["version"]) == (1, 1)


def test_two_changes_at_once_lose_no_version(service: Service) -> None:
    data = create(service.client())
    count = 8
    barrier = threading.Barrier(count)

    def change(n: int) -> int:
        barrier.wait(PATIENCE_S)
        answer = service.client().simulate_put(
            f"/bots/{data['id']}", json={"instructions": f"Número {n}."}
        )
        status: int = answer.status_code
        return status

    with ThreadPoolExecutor(count) as pool:
        statuses = list(pool.map(change, range(count)))

    versions = service.client().simulate_get(f"/bots/{data['id']}/assistants").json["data"]
    assert statuses == [200] * count
    assert [v["version"] for v in versions] == list(range(count + 1, 0, -1))
    bot = service.directory.find(NUMBER)
    assert bot is not None
    assert bot.assistant.instructions == versions[0]["instructions"]


def test_a_model_that_openai_does_not_have_is_refused(lite: Service) -> None:
    lite.models.answer = ModelCheck("unknown", "OpenAI has no model gpt-0.")

    answer = lite.client().simulate_post("/bots", json=wanted(openai_api_key="sk-1"))

    assert answer.status_code == 422
    assert answer.json["errors"] == [
        {"field": "openai_model", "message": "OpenAI has no model gpt-0."}
    ]
    assert lite.client().simulate_get("/bots").json["data"] == []


def test_a_model_that_cannot_be_checked_is_saved_with_a_warning(lite: Service) -> None:
    lite.models.answer = ModelCheck("unchecked", "The server did not answer.")

    answer = lite.client().simulate_post("/bots", json=wanted(openai_api_key="sk-1"))

    assert answer.status_code == 201
    assert [warning["field"] for warning in answer.json["warnings"]] == ["openai_model"]


def test_the_model_is_checked_again_only_when_it_could_matter(lite: Service) -> None:
    data = create(lite.client(), openai_api_key="sk-1", openai_model="m-1")
    path = f"/bots/{data['id']}"

    for change in ({"name": "x"}, {"instructions": "y"}, {"openai_model": "m-2"}):
        lite.client().simulate_put(path, json=change)

    assert lite.models.asked == [("sk-1", None, "m-1"), ("sk-1", None, "m-2")]


def test_without_any_key_no_model_is_checked(lite: Service) -> None:
    create(lite.client(), openai_base_url="https://llm.example.com")

    assert lite.models.asked == []


def test_what_will_not_do_what_was_meant_is_warned_of(lite: Service) -> None:
    answer = lite.client().simulate_post(
        "/bots",
        json=wanted(
            assistant_functions=[{"type": "function", "function": {"name": "lead"}}],
            metadata={"legacy_assistant_id": "asst_1"},
        ),
    )

    assert {warning["field"] for warning in answer.json["warnings"]} == {
        "assistant_functions",
        "metadata.legacy_assistant_id",
    }


def test_a_deleted_bot_is_gone_and_frees_its_number_but_its_row_stays(service: Service) -> None:
    data = create(service.client(), twilio_auth_token="t")
    path = f"/bots/{data['id']}"

    answer = service.client().simulate_delete(path)

    assert answer.json["data"] == {"id": data["id"], "deleted": True}
    assert service.client().simulate_get(path).status_code == 404
    assert service.directory.find(NUMBER) is None
    create(service.client())
    with service.database.read() as connection:
        query = select(BotRow.status, BotRow.twilio_auth_token).where(BotRow.id == data["id"])
        assert tuple(connection.execute(query).one()) == ("deleted", None)


def test_changing_the_number_moves_the_bot(service: Service) -> None:
    data = create(service.client())

    service.client().simulate_put(f"/bots/{data['id']}", json={"twilio_phone_number": OTHER})

    bot = service.directory.find(OTHER)
    assert bot is not None
    assert bot.id == data["id"]
    assert service.directory.find(NUMBER) is None


def test_pages_hold_every_bot_once_in_order(service: Service) -> None:
    created = [
        create(service.client(), twilio_phone_number=f"+5691111111{n}")["id"] for n in range(5)
    ]

    seen, cursor = [], ""
    while cursor is not None:
        answer = service.client().simulate_get("/bots", params={"limit": 2, "cursor": cursor}).json
        seen += [bot["id"] for bot in answer["data"]]
        cursor = answer["next_cursor"]

    assert seen == created


def test_the_list_is_filtered_by_client_and_number(service: Service) -> None:
    create(service.client(), client_id="one")
    create(service.client(), client_id="two", twilio_phone_number=OTHER)

    by_client = service.client().simulate_get("/bots", params={"client_id": "one"}).json["data"]
    by_number = service.client().simulate_get("/bots", params={"number": OTHER}).json["data"]

    assert [bot["client_id"] for bot in by_client] == ["one"]
    assert [bot["client_id"] for bot in by_number] == ["two"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("limit", "0"), ("limit", "x"), ("cursor", "x"), ("number", "\0"), ("client_id", "a b")],
)
def test_a_wrong_parameter_is_named(lite: Service, name: str, value: str) -> None:
    answer = lite.client().simulate_get("/bots", params={name: value})

    assert answer.status_code == 422
    assert fields_of(answer) == {name}


@pytest.mark.parametrize("header", [None, "Basic eDp5", "Bearer ", "Bearer hk_unknown"])
def test_without_a_known_key_nothing_is_told(lite: Service, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header}

    answer = falcon.testing.TestClient(lite.app).simulate_get("/bots", headers=headers)

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_a_revoked_key_is_refused(service: Service) -> None:
    key, key_text = service.api_keys.create("test", None, "test")
    assert service.client(key_text).simulate_get("/bots").status_code == 200

    service.api_keys.revoke(key.id, "test")

    assert service.client(key_text).simulate_get("/bots").status_code == 401


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("PUT", ""),
        ("DELETE", ""),
        ("POST", "/refresh"),
        ("GET", "/assistants"),
    ],
)
def test_a_clients_key_does_not_see_the_bots_of_others(
    lite: Service, method: str, path: str
) -> None:
    data = create(lite.client(), client_id="other")

    answer = lite.scoped("mine").simulate_request(
        method, f"/bots/{data['id']}{path}", json={"name": "x"} if method == "PUT" else None
    )

    assert answer.status_code == 404
    assert lite.client().simulate_get(f"/bots/{data['id']}").json["data"]["name"] == "Acme"


def test_a_clients_key_creates_its_own_bots_and_lists_only_them(lite: Service) -> None:
    create(lite.client(), client_id="other", twilio_phone_number=OTHER)
    mine = lite.scoped("mine")

    data = create(mine)

    assert data["client_id"] == "mine"
    assert [bot["id"] for bot in mine.simulate_get("/bots").json["data"]] == [data["id"]]
    assert mine.simulate_get("/bots", params={"client_id": "other"}).json["data"] == []


def test_a_clients_key_does_not_create_for_another_client(lite: Service) -> None:
    answer = lite.scoped("mine").simulate_post("/bots", json=wanted(client_id="other"))

    assert answer.status_code == 403


def test_a_clients_key_does_not_give_its_bot_away(lite: Service) -> None:
    mine = lite.scoped("mine")
    data = create(mine)

    answer = mine.simulate_put(f"/bots/{data['id']}", json={"client_id": "other"})

    assert answer.status_code == 403


def test_every_change_is_in_the_audit_log(lite: Service) -> None:
    data = create(lite.client())
    lite.client().simulate_put(f"/bots/{data['id']}", json={"name": "x"})
    lite.client().simulate_delete(f"/bots/{data['id']}")

    assert lite.audit() == [
        ("admin", "bot.create", data["id"]),
        ("admin", "bot.update", data["id"]),
        ("admin", "bot.delete", data["id"]),
    ]


def test_a_change_that_fails_leaves_no_trace(lite: Service) -> None:
    create(lite.client(), twilio_phone_number=OTHER)
    data = create(lite.client())
    before = lite.audit()

    answer = lite.client().simulate_put(
        f"/bots/{data['id']}", json={"twilio_phone_number": OTHER, "instructions": "x"}
    )

    versions = lite.client().simulate_get(f"/bots/{data['id']}/assistants").json["data"]
    assert answer.status_code == 409
    assert (len(versions), lite.audit()) == (1, before)


def test_refreshing_restores_what_redis_lost_and_tells_the_source(lite: Service) -> None:
    data = create(lite.client())
    lite.redis.client.flushall()

    answer = lite.client().simulate_post(f"/bots/{data['id']}/refresh/")

    assert (answer.json["source"], answer.json["data"]["id"]) == ("database", data["id"])
    assert lite.redis.client.get(keys.bot(NUMBER))


@pytest.mark.parametrize("bot_id", ["hz_7", "7"])
def test_a_bot_of_horizon_is_refreshed_by_either_id_and_not_changed_here(
    lite: Service, bot_id: str
) -> None:
    with lite.database.write() as connection:
        connection.execute(
            text(
                "CREATE TABLE gestion_whatsappbot"
                " (id INTEGER, twilio_phone_number TEXT, status TEXT, openai_api_key TEXT)"
            )
        )
        connection.execute(
            text("INSERT INTO gestion_whatsappbot VALUES (7, :number, 'active', 'sk-1')"),
            {"number": NUMBER},
        )

    refreshed = lite.client().simulate_post(f"/bots/{bot_id}/refresh")
    changed = lite.client().simulate_put("/bots/hz_7", json={"name": "x"})

    assert refreshed.json["source"] == "horizon_database"
    assert refreshed.json["data"]["id"] == "hz_7"
    assert "sk-1" not in refreshed.text
    assert (changed.status_code, changed.json["type"]) == (409, "/problems/read-only-bot")


@pytest.mark.parametrize("bot_id", ["bot_none", "hz_none", "%00", "x" * 200])
def test_a_bot_that_is_not_there_is_404(service: Service, bot_id: str) -> None:
    client = service.client()

    statuses = [
        client.simulate_get(f"/bots/{bot_id}").status_code,
        client.simulate_put(f"/bots/{bot_id}", json={}).status_code,
        client.simulate_delete(f"/bots/{bot_id}").status_code,
        client.simulate_post(f"/bots/{bot_id}/refresh").status_code,
    ]

    assert statuses == [404] * 4


def test_a_change_while_redis_is_away_is_saved_with_a_warning(
    lite: Service, redis_server: RealRedis
) -> None:
    data = create(lite.client())
    redis_server.stop()

    answer = lite.client().simulate_put(f"/bots/{data['id']}", json={"name": "Acme 2"})

    assert (answer.status_code, answer.json["data"]["name"]) == (200, "Acme 2")
    assert "Redis" in answer.json["warnings"][0]["message"]


def test_without_sql_the_answer_is_503_with_a_time_to_come_back(lite: Service) -> None:
    with lite.database.write() as connection:
        connection.execute(text("ALTER TABLE bots RENAME TO away"))

    answer = lite.client().simulate_get("/bots")

    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"
    assert answer.json["type"] == "/problems/unavailable"


def test_an_unknown_address_is_a_problem_document(lite: Service) -> None:
    answer = lite.client().simulate_get("/nothing")

    assert (answer.status_code, answer.json["type"]) == (404, "/problems/not-found")


class Broken:
    """A resource with a fault of ours in it."""

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        raise RuntimeError("text that nobody may read")


@pytest.mark.parametrize(
    ("path", "content_type"),
    [("/broken", "application/problem+json"), ("/webhook/broken", "text/xml; charset=utf-8")],
)
def test_a_fault_of_ours_shows_nothing_of_itself(path: str, content_type: str) -> None:
    app = falcon.App()
    install_error_handlers(app)
    app.add_route(path, Broken())

    answer = falcon.testing.TestClient(app).simulate_get(path)

    assert (answer.status_code, answer.headers["content-type"]) == (500, content_type)
    assert "nobody may read" not in answer.text


def test_a_sane_request_id_is_echoed_and_another_is_replaced(lite: Service) -> None:
    sane = lite.client().simulate_get("/bots", headers={"X-Request-ID": "abc-12345678"})
    bad = lite.client().simulate_get("/bots", headers={"X-Request-ID": "<script>alert</script>"})

    assert sane.headers["x-request-id"] == "abc-12345678"
    assert re.fullmatch(r"[0-9a-f]{24}", bad.headers["x-request-id"])


def test_openapi_describes_exactly_the_routes(lite: Service) -> None:
    routed = {
        (method.method, route.path)
        for route in falcon.inspect.inspect_routes(lite.app)
        for method in route.methods
        if not method.internal
    }

    described = {
        (method.upper(), path)
        for path, operations in lite.client().simulate_get("/openapi.json").json["paths"].items()
        for method in operations
        if method != "parameters"
    }

    assert described == routed


def test_openapi_examples_are_accepted(lite: Service) -> None:
    paths = document(lite.settings.public_base_url)["paths"]
    new = paths["/bots"]["post"]["requestBody"]["content"]["application/json"]["example"]
    change = paths["/bots/{bot_id}"]["put"]["requestBody"]["content"]["application/json"]["example"]

    created = lite.client().simulate_post("/bots", json=new)
    changed = lite.client().simulate_put(f"/bots/{created.json['data']['id']}", json=change)

    assert (created.status_code, created.json["warnings"]) == (201, [])
    assert changed.status_code == 200


@pytest.mark.parametrize("inner", ["1e999", "[" * 60 + "]" * 60, '"\\u0000"'])
def test_a_fault_under_an_unprintable_name_is_named(lite: Service, inner: str) -> None:
    body = f'{{"name": "A", "twilio_phone_number": "{NUMBER}", "metadata": {{"\\ud800": {inner}}}}}'

    answer = lite.client().simulate_post(
        "/bots", body=body, headers={"Content-Type": "application/json"}
    )

    assert answer.status_code == 422
    assert all((field or "").startswith("metadata") for field in fields_of(answer))


def test_a_request_that_is_wrong_everywhere_is_answered_shortly(lite: Service) -> None:
    answer = lite.client().simulate_post(
        "/bots", json=wanted(metadata={"x" * 100_000: ["\0"] * 5_000})
    )

    assert answer.status_code == 422
    assert len(answer.json["errors"]) == 100
    assert len(answer.text) < 100_000


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_a_forged_cursor_is_named(service: Service, time: str) -> None:
    cursor = base64.urlsafe_b64encode(f"{time}|x".encode()).decode()

    answer = service.client().simulate_get("/bots", params={"cursor": cursor})

    assert answer.status_code == 422
    assert fields_of(answer) == {"cursor"}


def test_numbers_and_properties_named_like_secrets_are_kept(lite: Service) -> None:
    tool = {
        "type": "function",
        "name": "f",
        "parameters": {"properties": {"token": {"type": "string"}}},
    }

    data = create(
        lite.client(),
        metadata={"max_tokens": 5, "secretaria": "Ana"},
        assistant_config={"tools": [tool]},
    )

    assert data["metadata"] == {"max_tokens": 5, "secretaria": "Ana"}
    assert data["assistant"]["tools"] == [tool]


def test_a_null_assistant_config_is_the_same_as_none(lite: Service) -> None:
    data = create(lite.client(), assistant_config=None, instructions="Vende pan.")

    answer = lite.client().simulate_put(
        f"/bots/{data['id']}", json={"assistant_config": None, "assistant_updates": None}
    )

    assert answer.status_code == 200
    assert answer.json["data"]["assistant"] == data["assistant"]


def test_an_own_model_server_without_a_key_is_warned_of(lite: Service) -> None:
    answer = lite.client().simulate_post(
        "/bots", json=wanted(openai_base_url="https://llm.example")
    )

    assert answer.status_code == 201
    assert [warning["field"] for warning in answer.json["warnings"]] == ["openai_api_key"]


def test_openapi_tells_what_the_filters_of_the_list_look_like(lite: Service) -> None:
    parameters = document(lite.settings.public_base_url)["paths"]["/bots"]["get"]["parameters"]

    patterns = {parameter["name"]: parameter["schema"].get("pattern") for parameter in parameters}
    assert patterns["client_id"] == "^[A-Za-z0-9._-]{1,80}$"
    assert patterns["number"] == r"^\+[0-9]{1,17}$"
