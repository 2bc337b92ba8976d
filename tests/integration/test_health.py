"""Health and metrics answer with all their fields whatever SQL does."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text

from tests.integration.test_bots_api import Service, lite, service

__all__ = ["lite", "service"]  # fixtures

FIELDS = {"status", "db", "redis", "spool", "spooled", "queue", "version", "release"}


def without_tables(service: Service) -> Service:
    with service.database.write() as connection:
        connection.execute(text("ALTER TABLE turns RENAME TO turns_away"))
    return service


def test_health_has_all_its_fields_before_the_migrations(service: Service) -> None:
    answer = without_tables(service).client().simulate_get("/health")

    assert (answer.status_code, answer.json["db"]) == (200, "up")
    assert answer.json.keys() == FIELDS
    assert answer.json["queue"]["dead"] is None


def test_metrics_are_given_before_the_migrations(service: Service) -> None:
    answer = without_tables(service).client().simulate_get("/metrics")

    assert answer.status_code == 200
    assert "horizon_redis_up 1.0" in answer.text
    assert "horizon_dead_turns" not in answer.text


def test_a_damaged_database_is_a_database_that_is_down(lite: Service) -> None:
    lite.database.close()
    file = Path(str(lite.database.engine.url.database))
    for path in file.parent.glob(f"{file.name}-*"):
        path.unlink()
    file.write_bytes(b"This is no database." * 100)

    health = lite.client().simulate_get("/health")
    bots = lite.client().simulate_get("/bots")

    assert (health.status_code, health.json["db"]) == (200, "down")
    assert bots.status_code == 503


@pytest.mark.parametrize("client_id", ["acme", "admin"])
def test_the_metrics_are_refused_to_a_clients_key_from_elsewhere(
    lite: Service, client_id: str
) -> None:
    answer = lite.scoped(client_id).simulate_get("/metrics", headers={"X-Forwarded-For": "1.2.3.4"})

    assert answer.status_code == 403
