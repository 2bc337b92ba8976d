"""The bot directory on a real database and a real Redis."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import text, update

from service.conversation.clock import utc_now
from service.conversation.outage import OutageError
from service.conversation.ports import TransientError
from service.settings import Settings
from service.store import bots, keys
from service.store.database import Database
from service.store.directory import (
    BotDirectory,
    DirectoryUnavailableError,
    TooManyLookupsError,
)
from service.store.models import Base
from service.store.redis_client import RedisStore
from service.store.secrets import Cipher
from tests.server_process import PATIENCE_S, wait_until
from tests.servers import RealRedis

NUMBER = "+56911111111"
OTHER = "+56922222222"
SERVICE = "MG" + "0" * 32
KEY = Fernet.generate_key().decode()


class FakeHorizon:
    """Horizon's config endpoint: answers what it is told and counts the calls."""

    def __init__(self) -> None:
        self.configs: dict[str, Mapping[str, Any]] = {}
        self.is_down = False
        self.calls = 0

    def fetch_config(self, number: str) -> Mapping[str, Any] | None:
        self.calls += 1
        if self.is_down:
            raise TransientError("timeout", "no answer")
        return self.configs.get(number)


class World:
    """The stores of one test, and directories as separate processes would have them."""

    def __init__(self, database_url: str, redis_url: str) -> None:
        url = database_url.replace("postgresql://", "postgresql+psycopg2://")
        self.database = Database(url)
        Base.metadata.create_all(self.database.engine)
        self.redis = RedisStore(redis_url, 8)
        self.cipher = Cipher([KEY])
        self.horizon = FakeHorizon()
        self.settings = Settings(
            secret_key=(KEY,),
            public_base_url="https://bots.example.com",
            admin_api_key="a" * 32,
            horizon_base_url="https://crm.example.com",
            horizon_api_key="operator",
            _env_file=None,
        )

    def directory(self, ttl_s: float = 60) -> BotDirectory:
        return BotDirectory(
            self.database, self.redis, self.cipher, self.settings, self.horizon, ttl_s
        )

    def add(self, bot_id: str = "bot_1", number: str = NUMBER, **values: Any) -> None:
        row = {
            "id": bot_id,
            "client_id": "acme",
            "name": "Acme",
            "twilio_phone_number": number,
            "assistant_id": f"asst_{bot_id}",
            "twilio_auth_token": self.cipher.encrypt("token-in-clear"),
            **values,
        }
        with self.database.write() as connection:
            bots.insert_bot(connection, row)
            bots.insert_assistant(
                connection,
                {"id": f"asst_{bot_id}", "version": 1, "bot_id": bot_id, "name": "Acme"},
            )

    def change(self, bot_id: str = "bot_1", **values: Any) -> None:
        with self.database.write() as connection:
            connection.execute(update(bots.BOTS).where(bots.BOTS.c.id == bot_id).values(**values))

    def delete(self, bot_id: str = "bot_1") -> None:
        self.change(bot_id, deleted_at=utc_now(), status="deleted")

    def add_to_horizon(self, **values: Any) -> None:
        row = {
            "id": 7,
            "client_id": None,
            "twilio_phone_number": NUMBER,
            "assistant_instructions": "Vende casas.",
            "openai_api_key": "sk-in-clear",
            "horizon_actions": json.dumps([{"name": "lead", "method": "post", "path": "/leads/"}]),
            "assistant_functions": json.dumps([{"function": {"name": "lead", "parameters": {}}}]),
            "metadata": json.dumps({"horizon_api_token": "hz-in-clear", "city": "Lima"}),
            "status": "active",
            **values,
        }
        columns = ", ".join(f"{name} {'INTEGER' if name == 'id' else 'TEXT'}" for name in row)
        marks = ", ".join(f":{name}" for name in row)
        with self.database.write() as connection:
            connection.execute(text(f"CREATE TABLE gestion_whatsappbot ({columns})"))
            connection.execute(text(f"INSERT INTO gestion_whatsappbot VALUES ({marks})"), row)  # noqa: S608

    def break_sql(self) -> None:
        with self.database.write() as connection:
            connection.execute(text("ALTER TABLE bots RENAME TO bots_away"))


@pytest.fixture
def world(database_url: str, redis_url: str) -> Iterator[World]:
    world = World(database_url, redis_url)
    yield world
    world.redis.close()
    world.database.close()


@pytest.fixture
def sqlite_world(sqlite_url: str, redis_url: str) -> Iterator[World]:
    """For what does not depend on the database."""
    world = World(sqlite_url, redis_url)
    yield world
    world.redis.close()
    world.database.close()


def is_unknown(directory: BotDirectory) -> bool:
    """Whether the number is said to have no bot; False also while nobody can say."""
    try:
        return directory.find(NUMBER) is None
    except OutageError:
        return False


def wait_for(condition: Callable[[], bool]) -> None:
    wait_until(condition, "the condition")


def test_a_bot_of_the_own_table_is_found_with_its_secrets_decrypted(world: World) -> None:
    world.add()

    bot = world.directory().find(NUMBER)

    assert bot is not None
    assert (bot.id, bot.client_id, bot.twilio_auth_token) == ("bot_1", "acme", "token-in-clear")
    assert bot.assistant.model == world.settings.openai_default_model


def test_redis_keeps_the_record_without_any_secret_in_clear(sqlite_world: World) -> None:
    sqlite_world.add_to_horizon()

    sqlite_world.directory().find(NUMBER)

    raw = sqlite_world.redis.client.get(keys.bot(NUMBER))
    assert raw
    assert b"in-clear" not in raw


def test_a_second_process_takes_the_record_from_redis(sqlite_world: World) -> None:
    sqlite_world.add()
    sqlite_world.directory().find(NUMBER)
    sqlite_world.break_sql()

    bot = sqlite_world.directory().find(NUMBER)

    assert bot is not None
    assert bot.twilio_auth_token == "token-in-clear"


def test_a_bot_of_horizons_table_is_found_and_its_fields_are_understood(world: World) -> None:
    world.add_to_horizon()

    bot = world.directory().find(NUMBER)

    assert bot is not None
    assert (bot.id, bot.client_id, bot.assistant.id) == ("hz_7", "hz_7", "asst_hz_7")
    assert (bot.openai_api_key, bot.horizon_api_token) == ("sk-in-clear", "hz-in-clear")
    assert bot.metadata == {"city": "Lima"}
    assert [(action.name, action.method) for action in bot.actions] == [("lead", "POST")]
    assert bot.functions[0]["name"] == "lead"
    assert bot.handoff.source == "horizon"


def test_an_inactive_bot_of_horizons_table_is_none(world: World) -> None:
    world.add_to_horizon(status="Inactivo")

    assert world.directory().find(NUMBER) is None


def test_horizons_endpoint_is_asked_last_and_its_envelope_is_opened(sqlite_world: World) -> None:
    sqlite_world.horizon.configs[NUMBER] = {"data": {"id": 9, "assistant_model": "m", "new": 1}}

    bot = sqlite_world.directory().find(NUMBER)

    assert bot is not None
    assert (bot.id, bot.number, bot.assistant.model) == ("hz_9", NUMBER, "m")


def test_an_unknown_number_is_remembered_and_asked_for_once(sqlite_world: World) -> None:
    directory = sqlite_world.directory()

    answers = [directory.find(NUMBER) for _ in range(10)]

    assert answers == [None] * 10
    assert sqlite_world.horizon.calls == 1


def test_publishing_a_bot_clears_the_memory_of_its_unknown_number(sqlite_world: World) -> None:
    directory = sqlite_world.directory()
    directory.find(NUMBER)
    sqlite_world.add()

    directory.load("bot_1")

    found = sqlite_world.directory().find(NUMBER)
    assert found is not None
    assert found.id == "bot_1"
    assert sqlite_world.redis.client.get(keys.no_bot(NUMBER)) is None


def test_more_than_five_unknown_numbers_a_second_are_too_many(
    sqlite_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it happens in one second, however long that takes."""
    monkeypatch.setattr("service.store.bot_cache.time.time", lambda: 1.0)
    directory = sqlite_world.directory()

    def ask_many() -> None:
        for n in range(20):
            directory.find(f"+5699{n:07}")

    with pytest.raises(TooManyLookupsError):
        ask_many()
    monkeypatch.undo()
    assert sqlite_world.horizon.calls == 5


def test_a_failing_horizon_means_unavailable_not_unknown(sqlite_world: World) -> None:
    sqlite_world.horizon.is_down = True

    with pytest.raises(DirectoryUnavailableError):
        sqlite_world.directory().find(NUMBER)
    assert sqlite_world.redis.client.get(keys.no_bot(NUMBER)) is None


def test_the_only_bot_of_a_messaging_service_takes_its_other_numbers(world: World) -> None:
    world.add(twilio_messaging_service_sid=SERVICE)

    found = [world.directory().find(OTHER, SERVICE) for _ in range(2)]

    assert [bot.id for bot in found if bot] == ["bot_1", "bot_1"]


def test_a_messaging_service_of_two_bots_decides_nothing(world: World) -> None:
    world.add(twilio_messaging_service_sid=SERVICE)
    world.directory().find(OTHER, SERVICE)
    world.add("bot_2", "+56933333333", twilio_messaging_service_sid=SERVICE)
    directory = world.directory()
    directory.load("bot_2")

    assert directory.find(OTHER, SERVICE) is None


def test_an_old_copy_serves_while_redis_is_stopped(
    sqlite_world: World, redis_server: RealRedis
) -> None:
    sqlite_world.add()
    directory = sqlite_world.directory(ttl_s=0)
    directory.find(NUMBER)
    sqlite_world.break_sql()
    redis_server.stop()

    bot = directory.find(NUMBER)

    assert bot is not None
    assert bot.id == "bot_1"


def test_without_redis_a_bot_unknown_to_the_process_comes_from_sql(
    sqlite_world: World, redis_server: RealRedis
) -> None:
    sqlite_world.add()
    redis_server.stop()

    bot = sqlite_world.directory().find(NUMBER)

    assert bot is not None
    assert bot.id == "bot_1"


def test_without_redis_horizon_is_spared_and_nothing_is_called_unknown(
    sqlite_world: World, redis_server: RealRedis
) -> None:
    redis_server.stop()

    with pytest.raises(DirectoryUnavailableError):
        sqlite_world.directory().find(NUMBER)
    assert sqlite_world.horizon.calls == 0


def test_changing_the_number_forgets_the_old_one_in_every_process(world: World) -> None:
    world.add()
    changing, other = world.directory(), world.directory(ttl_s=0)
    changing.find(NUMBER)
    other.find(NUMBER)
    world.change(twilio_phone_number=OTHER, revision=2)

    changing.load("bot_1")

    moved = other.find(OTHER)
    assert moved is not None
    assert moved.number == OTHER
    assert other.find(NUMBER) is None
    assert changing.find(NUMBER) is None


def test_a_deleted_bot_is_found_nowhere_and_an_older_record_does_not_return(world: World) -> None:
    world.add()
    directory, late = world.directory(), world.directory()
    bot = directory.find(NUMBER)
    old_record = late.load("bot_1")
    world.delete()
    assert bot is not None
    assert old_record is not None

    directory.forget(bot.number, bot.id)
    late.publish(old_record)

    assert world.directory().find(NUMBER) is None
    assert world.directory().by_id("bot_1") is None


def test_an_older_revision_does_not_replace_a_newer_one_in_redis(world: World) -> None:
    world.add()
    slow, fast = world.directory(), world.directory()
    old_record = slow.load("bot_1")
    world.change(name="Acme 2", revision=2)
    fast.load("bot_1")
    assert old_record is not None

    slow.publish(old_record)

    bot = world.directory().find(NUMBER)
    assert bot is not None
    assert bot.name == "Acme 2"


def test_the_number_of_a_deleted_bot_serves_a_new_one(world: World) -> None:
    world.add()
    directory = world.directory()
    bot = directory.find(NUMBER)
    assert bot is not None
    world.delete()
    directory.forget(bot.number, bot.id)
    world.add("bot_2")

    directory.load("bot_2")

    found = world.directory().find(NUMBER)
    assert found is not None
    assert found.id == "bot_2"


@pytest.mark.parametrize("prepare", [World.add, World.add_to_horizon], ids=["own", "horizon"])
def test_a_bot_is_found_by_its_id(world: World, prepare: Callable[[World], None]) -> None:
    prepare(world)
    bot_id = "bot_1" if prepare is World.add else "hz_7"

    bot = world.directory().by_id(bot_id)

    assert bot is not None
    assert (bot.id, bot.number) == (bot_id, NUMBER)


def test_a_stale_bot_is_reloaded_when_sql_has_a_newer_revision(sqlite_world: World) -> None:
    sqlite_world.add()
    directory = sqlite_world.directory()
    bot = directory.find(NUMBER)
    sqlite_world.change(name="Acme 2", revision=2)
    assert bot is not None

    current = directory.reload_if_stale(bot, 2)

    assert current is not None
    assert current.name == "Acme 2"


def test_a_stale_bot_that_sql_has_deleted_is_none(sqlite_world: World) -> None:
    sqlite_world.add()
    directory = sqlite_world.directory()
    bot = directory.find(NUMBER)
    sqlite_world.delete()
    assert bot is not None

    assert directory.reload_if_stale(bot, None) is None


def test_a_bot_of_horizon_is_never_stale_by_our_revision(sqlite_world: World) -> None:
    sqlite_world.add_to_horizon()
    directory = sqlite_world.directory()
    bot = directory.find(NUMBER)
    assert bot is not None

    assert directory.reload_if_stale(bot, None) is bot


def test_a_bot_of_horizons_endpoint_is_not_deleted_because_its_number_is_unknown(
    sqlite_world: World,
) -> None:
    sqlite_world.horizon.configs[NUMBER] = {"id": 9}

    with pytest.raises(DirectoryUnavailableError, match="number is not known"):
        sqlite_world.directory().by_id("hz_9")


def test_a_bot_of_horizons_endpoint_is_found_by_its_id_and_number(sqlite_world: World) -> None:
    sqlite_world.horizon.configs[NUMBER] = {"id": 9}

    bot = sqlite_world.directory().by_id("hz_9", NUMBER)

    assert bot is not None
    assert bot.id == "hz_9"


def test_a_bot_that_horizons_endpoint_no_longer_has_is_none(sqlite_world: World) -> None:
    sqlite_world.horizon.configs[NUMBER] = {"id": 9}
    directory = sqlite_world.directory()
    directory.find(NUMBER)
    sqlite_world.horizon.configs.clear()

    assert directory.load("hz_9", NUMBER) is None
    assert directory.by_id("hz_9", NUMBER) is None


def test_a_deletion_at_horizons_endpoint_that_redis_missed_is_made_up_for(
    sqlite_world: World, redis_server: RealRedis
) -> None:
    sqlite_world.horizon.configs[NUMBER] = {"id": 9}
    directory = sqlite_world.directory()
    directory.find(NUMBER)
    sqlite_world.horizon.configs.clear()
    redis_server.stop()
    directory.load("hz_9", NUMBER)
    redis_server.start()
    stop = threading.Event()
    listener = threading.Thread(target=directory.listen_forever, args=(stop,))

    listener.start()

    try:
        wait_for(lambda: is_unknown(sqlite_world.directory()))
    finally:
        stop.set()
        listener.join(PATIENCE_S)


def test_refreshing_tells_the_source(sqlite_world: World) -> None:
    sqlite_world.add_to_horizon()

    refreshed = sqlite_world.directory().refresh("hz_7")

    assert refreshed is not None
    assert (refreshed[0].id, refreshed[1]) == ("hz_7", "horizon_database")


def test_another_process_hears_of_a_change(sqlite_world: World) -> None:
    sqlite_world.add()
    listening, changing = sqlite_world.directory(), sqlite_world.directory()
    listening.find(NUMBER)
    stop = threading.Event()
    thread = threading.Thread(target=listening.listen_forever, args=(stop,))
    thread.start()
    try:
        wait_for(lambda: sqlite_world.redis.client.pubsub_numsub(keys.BOTS_CHANGED)[0][1] == 1)
        sqlite_world.change(name="Acme 2", revision=2)

        changing.load("bot_1")

        wait_for(lambda: (bot := listening.find(NUMBER)) is not None and bot.name == "Acme 2")
    finally:
        stop.set()
        thread.join(PATIENCE_S)


def test_a_change_made_while_redis_was_away_is_published_when_it_is_back(
    sqlite_world: World, redis_server: RealRedis
) -> None:
    sqlite_world.add()
    changing = sqlite_world.directory()
    changing.find(NUMBER)
    # The cache was filled a moment ago, so only this one change is made up for.
    sqlite_world.redis.client.set(keys.BOTS_WARMED, "1")
    redis_server.stop()
    sqlite_world.change(name="Acme 2", revision=2)
    changing.load("bot_1")
    stop = threading.Event()
    thread = threading.Thread(target=changing.listen_forever, args=(stop,))
    thread.start()
    try:
        redis_server.start()

        wait_for(lambda: b"Acme 2" in (sqlite_world.redis.client.get(keys.bot(NUMBER)) or b""))
    finally:
        stop.set()
        thread.join(PATIENCE_S)


def test_a_bot_deleted_while_redis_was_away_is_forgotten_when_it_is_back(
    sqlite_world: World, redis_server: RealRedis
) -> None:
    sqlite_world.add()
    changing = sqlite_world.directory()
    changing.find(NUMBER)
    redis_server.stop()
    sqlite_world.delete()
    changing.forget(NUMBER, "bot_1")
    stop = threading.Event()
    thread = threading.Thread(target=changing.listen_forever, args=(stop,))
    thread.start()
    try:
        redis_server.start()

        wait_for(lambda: b"deleted" in (sqlite_world.redis.client.get(keys.bot(NUMBER)) or b""))
    finally:
        stop.set()
        thread.join(PATIENCE_S)


def test_warming_fills_an_empty_redis_with_every_own_bot(world: World) -> None:
    for n in range(3):
        world.add(f"bot_{n}", f"+5691111111{n}")

    world.directory().warm()

    assert all(world.redis.client.get(keys.bot(f"+5691111111{n}")) for n in range(3))


@pytest.mark.parametrize("number", ["", "+", "whatsapp:+1", "+569\x00", "CL.abc", "+" + "1" * 40])
def test_what_is_no_number_has_no_bot_and_is_not_looked_up(
    sqlite_world: World, number: str
) -> None:
    assert sqlite_world.directory().find(number, "MG\x00") is None
    assert sqlite_world.horizon.calls == 0


def test_an_unreadable_secret_is_unavailable_and_does_not_show(sqlite_world: World) -> None:
    sqlite_world.add(twilio_auth_token=Cipher([Fernet.generate_key().decode()]).encrypt("hidden"))

    with pytest.raises(DirectoryUnavailableError) as raised:
        sqlite_world.directory().find(NUMBER)

    assert "SECRET_KEY" in str(raised.value)
    assert "hidden" not in str(raised.value)


def test_while_changes_are_heard_a_known_bot_is_not_asked_for_again(sqlite_world: World) -> None:
    sqlite_world.add()
    hearing = sqlite_world.directory(ttl_s=0)
    stop = threading.Event()
    thread = threading.Thread(target=hearing.listen_forever, args=(stop,))
    thread.start()
    try:
        wait_for(lambda: hearing._copies.heard_until > 0)
        hearing.find(NUMBER)
        hearing.find(NUMBER)
        before = sqlite_world.redis.client.info("commandstats")["cmdstat_get"]["calls"]
        for _ in range(50):
            assert hearing.find(NUMBER) is not None
        after = sqlite_world.redis.client.info("commandstats")["cmdstat_get"]["calls"]
        assert after == before
        sqlite_world.change(name="Otro", revision=2)
        sqlite_world.directory().refresh("bot_1")
        wait_for(lambda: (bot := hearing.find(NUMBER)) is not None and bot.name == "Otro")
    finally:
        stop.set()
        thread.join()


def test_copies_are_asked_for_again_when_redis_answers_no_ping(
    sqlite_world: World, redis_server: RealRedis
) -> None:
    sqlite_world.add()
    hearing = sqlite_world.directory(ttl_s=0)
    stop = threading.Event()
    thread = threading.Thread(target=hearing.listen_forever, args=(stop,))
    thread.start()
    try:
        wait_for(lambda: hearing._copies.heard_until > 0)
        hearing.find(NUMBER)
        redis_server.pause()
        wait_for(lambda: not hearing._copies.is_fresh(hearing._copies.by_number[NUMBER]))
    finally:
        redis_server.resume()
        stop.set()
        thread.join()
