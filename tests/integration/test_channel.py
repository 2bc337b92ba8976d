"""A listener hears what is said, and notices when there is nobody left to say anything."""

from __future__ import annotations

from collections.abc import Iterator
from time import monotonic

import pytest
import redis

from service.store import channel as module
from service.store.channel import Channel
from service.store.redis_client import RedisStore
from tests.server_process import PATIENCE_S
from tests.servers import RealRedis
from tests.stack import wait_until

NAME = "hb:test"


@pytest.fixture
def store(redis_url: str) -> Iterator[RedisStore]:
    store = RedisStore(redis_url, 4)
    yield store
    store.close()


def hear_until_it_fails(channel: Channel) -> None:
    deadline = monotonic() + PATIENCE_S
    while monotonic() < deadline:
        channel.hear(0.05)


def test_what_is_said_is_heard_and_known_to_be_all(store: RedisStore) -> None:
    with store.channel(NAME) as channel:
        before = monotonic()
        store.client.publish(NAME, "hola")
        heard: list[bytes] = []

        def complete() -> bool:
            said = channel.hear(0.05)
            if said is not None:
                heard.append(said)
            return channel.complete_until > before

        wait_until(complete, "an answer to the ping")
        assert heard == [b"hola"]


def test_a_server_that_says_nothing_any_more_is_left(
    store: RedisStore, redis_server: RealRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PING_S", 0.1)
    monkeypatch.setattr(module, "SILENT_S", 0.5)
    with store.channel(NAME) as channel:
        channel.hear(0.05)
        redis_server.pause()
        with pytest.raises(redis.TimeoutError, match="nothing was heard"):
            hear_until_it_fails(channel)
    redis_server.resume()


def test_a_channel_that_cannot_be_opened_gives_its_connection_back() -> None:
    store = RedisStore("redis://127.0.0.1:1/0", 1)
    for _ in range(3):
        with pytest.raises(redis.ConnectionError, match="refused"), store.channel(NAME):
            pass
    store.close()
