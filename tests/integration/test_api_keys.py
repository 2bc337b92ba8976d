"""A key belongs to administrators or to one client with a well-formed id."""

from __future__ import annotations

import hashlib

import pytest
from sqlalchemy import insert

from service.store.models import ApiKeyRow
from tests.integration.test_bots_api import Service, lite

__all__ = ["lite"]  # a fixture


@pytest.mark.parametrize("client_id", ["", " ", "two words", "x" * 81, "a/b", "ñandú", "acme\n"])
def test_a_malformed_client_gets_no_key(lite: Service, client_id: str) -> None:
    with pytest.raises(ValueError, match="client's id"):
        lite.api_keys.create("key", client_id, "test")

    assert lite.api_keys.all() == []


@pytest.mark.parametrize("name", ["", "x" * 201, "nul \0", "half \ud800"])
def test_a_name_that_no_store_keeps_is_refused(lite: Service, name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        lite.api_keys.create(name, "acme", "test")


def test_a_key_of_the_empty_client_opens_nothing(lite: Service) -> None:
    with lite.database.write() as connection:
        key_hash = hashlib.sha256(b"old-key").hexdigest()
        connection.execute(
            insert(ApiKeyRow).values(id="key_1", name="old", key_hash=key_hash, client_id="")
        )

    answer = lite.client("old-key").simulate_get("/metrics", headers={"X-Forwarded-For": "1.2.3.4"})

    assert answer.status_code == 401
