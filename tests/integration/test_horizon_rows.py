"""Whatever Horizon's table holds, its rows are bots or nothing: never an error, never a secret."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import text

from tests.integration.test_bots_api import NUMBER, Service, lite

__all__ = ["lite"]  # a fixture


def add_row(service: Service, number: str = NUMBER, **columns: Any) -> None:
    names = ["id", "twilio_phone_number", "status", *columns]
    values = {"id": 7, "twilio_phone_number": number, "status": "active", **columns}
    with service.database.write() as connection:
        connection.execute(text(f"CREATE TABLE gestion_whatsappbot ({', '.join(names)})"))
        marks = ", ".join(f":{name}" for name in names)
        connection.execute(text(f"INSERT INTO gestion_whatsappbot VALUES ({marks})"), values)  # noqa: S608 - names of this test


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("metadata", '{"n": 123456789012345678901234567890}'),
        ("metadata", '{"n": 1e999}'),
        ("metadata", '{"n": "half \\ud83d", "\\ud83d": 1}'),
        ("metadata", '{"a":' * 300 + "1" + "}" * 300),
        ("metadata", '{"a":' * 100_000),
        ("assistant_functions", '[{"name": "f", "parameters": {"n": 1e999}}]'),
        ("created_at", "23/11/2026 10:00"),
        ("updated_at", "0001-01-01T00:00:00"),
        ("updated_at", "9999-12-31T23:59:59-14:00"),
        ("name", "nul \0"),
        ("client_id", "two words"),
    ],
)
def test_a_row_with_odd_values_is_a_bot(lite: Service, column: str, value: str) -> None:
    add_row(lite, **{column: value})

    unsigned = lite.client().simulate_post(
        "/webhook/whatsapp",
        body="To=whatsapp%3A%2B56911111111&From=whatsapp%3A%2B56922222222&MessageSid=SM1&Body=x",
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    )
    refreshed = lite.client().simulate_post("/bots/hz_7/refresh")

    assert (unsigned.status_code, refreshed.status_code) == (403, 200)


def test_a_whole_number_beyond_64_bits_is_kept_as_text(lite: Service) -> None:
    add_row(lite, metadata='{"n": 123456789012345678901234567890}')

    data = lite.client().simulate_get("/bots/hz_7").json["data"]

    assert data["metadata"] == {"n": "123456789012345678901234567890"}


def test_a_time_that_is_none_is_left_out(lite: Service) -> None:
    add_row(lite, created_at="yesterday", updated_at="2026-11-23 10:00:00")

    data = lite.client().simulate_get("/bots/hz_7").json["data"]

    assert data["created_at"] is None
    assert datetime.fromisoformat(data["updated_at"]) == datetime(2026, 11, 23, 10)


@pytest.mark.parametrize("number", ["whatsapp:", " "])
def test_a_row_without_a_number_is_no_bot(lite: Service, number: str) -> None:
    add_row(lite, number=number)

    assert lite.client().simulate_get("/bots/hz_7").status_code == 404


def test_secrets_of_the_metadata_are_shown_at_no_depth(lite: Service) -> None:
    add_row(
        lite,
        metadata='{"twilio": {"auth_token": "in-clear"}, "crm": [{"apiKey": "in-clear"}], "ok": 1}',
    )

    answer = lite.client().simulate_get("/bots/hz_7")

    assert "in-clear" not in answer.text
    assert answer.json["data"]["metadata"] == {"twilio": {}, "crm": [{}], "ok": 1}
