"""Health and metrics answer with all their fields whatever SQL does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from falcon.testing import TestClient
from sqlalchemy import text

from service.app import create_app
from service.container import Container
from service.conversation.clock import utc_now
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


@pytest.mark.parametrize(
    ("state", "told", "status"),
    [
        (None, "none yet", "degraded"),
        ({"backup": {"status": "ok", "last_success": "NOW"}}, "ok", "ok"),
        (
            {"backup": {"status": "failed", "last_success": "NOW", "error": "full"}},
            "failed",
            "degraded",
        ),
        (
            {"backup": {"status": "ok", "last_success": "2026-01-01T00:00:00+00:00"}},
            "late",
            "degraded",
        ),
        ("no object", "failed", "degraded"),
    ],
)
def test_a_backup_that_is_missing_failed_or_late_is_told(
    lite: Service, tmp_path: Path, state: object, told: str, status: str
) -> None:
    file = tmp_path / "state.json"
    if state is not None:
        file.write_text(json.dumps(state).replace("NOW", utc_now().isoformat()))
    container = Container(lite.settings.model_copy(update={"backup_state_file": file}))

    answer = TestClient(create_app(container)).simulate_get("/health")
    container.close()

    assert (answer.status_code, answer.json["status"]) == (200, status)
    assert answer.json["backup"]["status"] == told
