"""The few words of Redis's protocol that a deploy speaks, against a real server."""

from __future__ import annotations

import importlib
from collections.abc import Iterator

import pytest
import redis

client = importlib.import_module("ansible.module_utils.horizon_redis_client")


@pytest.fixture
def url(redis_url: str) -> Iterator[str]:
    with redis.Redis.from_url(redis_url) as server:
        rights = {"keys": ["*"], "commands": ["+get", "+select"]}
        server.acl_setuser("reader", enabled=True, passwords=["+a b/c"], **rights)
        server.set("hb:x", "größer\r\n")
        yield redis_url
        server.acl_deluser("reader")


def test_key_is_read_with_its_line_breaks(url: str) -> None:
    with client.Redis(url) as connection:
        assert connection.get("hb:x").decode() == "größer\r\n"
        assert connection.get("hb:missing") is None


def test_user_and_password_may_be_quoted(url: str) -> None:
    with client.Redis(url.replace("redis://", "redis://reader:a%20b%2Fc@")) as connection:
        assert connection.get("hb:x") is not None


def test_refusal_is_redis_own_word(url: str) -> None:
    with pytest.raises(client.RedisError, match="WRONGPASS"):
        client.Redis(url.replace("redis://", "redis://reader:wrong@"))


def test_server_that_is_away_is_an_oserror() -> None:
    with pytest.raises(OSError, match="refused"):
        client.Redis("redis://127.0.0.1:1/0")
