"""The figures of clients, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import event, text

from service.conversation.trial import new_address
from service.monitoring.prices import Prices
from service.monitoring.report import Report
from service.store import id_ranges
from service.store.client_queues import ClientQueues
from service.store.database import Database
from service.store.figures import Figures
from service.store.id_ranges import around
from service.store.message_search import MessageSearch
from service.store.models import MessageRow
from service.store.redis_client import RedisStore
from tests.figures_data import add_turn

SANTIAGO = ZoneInfo("America/Santiago")
NOON = datetime(2026, 11, 26, 15, 0, tzinfo=UTC)
"""Noon in Chile."""
MIDNIGHT = datetime(2026, 11, 26, 3, 0, tzinfo=UTC)
NOWHERE = "redis://127.0.0.1:9/0"


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.close()


@pytest.fixture
def report(database: Database, redis_url: str) -> Iterator[Report]:
    store = RedisStore(redis_url, 4)
    yield Report(Figures(database), ClientQueues(store), SANTIAGO, Prices(), lambda: NOON)
    store.close()


def test_today_begins_at_midnight_of_the_time_zone(database: Database, report: Report) -> None:
    add_turn(database, "cocina", MIDNIGHT - timedelta(seconds=1))
    add_turn(database, "cocina", MIDNIGHT + timedelta(seconds=3), texts=("uno", "dos"))

    (client,) = report.today()

    assert (client.received, client.sent, client.turns.replied) == (2, 1, 1)


def test_a_client_has_its_own_figures(database: Database, report: Report) -> None:
    for minute in range(3):
        add_turn(database, "cocina", NOON - timedelta(minutes=9 - minute), waited_s=2 + minute)
    add_turn(database, "cocina", NOON - timedelta(minutes=1), status="dead", answer=None)
    add_turn(database, "taller", NOON - timedelta(minutes=5), status="silent")
    add_turn(database, "taller", NOON - timedelta(minutes=2), status="running")

    cocina, taller = report.today()

    assert (cocina.client_id, cocina.turns.dead, cocina.turns.error_rate) == ("cocina", 1, 0.25)
    assert cocina.median_answer_s == pytest.approx(3, abs=0.01)
    assert cocina.last_message_at == NOON - timedelta(minutes=1, seconds=2)
    assert (taller.turns.silent, taller.turns.open, taller.turns.error_rate) == (1, 1, 0.0)
    assert taller.median_answer_s is None


def test_one_client_alone_is_asked_for(database: Database, report: Report) -> None:
    add_turn(database, "cocina", NOON - timedelta(minutes=1))
    add_turn(database, "taller", NOON - timedelta(minutes=1))

    assert [client.client_id for client in report.today("taller")] == ["taller"]
    assert [day.client_id for day in report.usage(1, "taller")] == ["taller"]


def test_a_client_that_was_silent_today_has_its_last_message(
    database: Database, report: Report
) -> None:
    long_ago = NOON - timedelta(days=40)
    add_turn(database, "cocina", long_ago, bot_id="hz_7")

    (client,) = report.today()

    assert (client.received, client.turns.ended, client.turns.error_rate) == (0, 0, None)
    assert client.last_message_at == long_ago - timedelta(seconds=2)
    assert [bot.id for bot in client.bots] == ["hz_7"]


def test_usage_is_by_day_and_client_with_its_cost(database: Database, report: Report) -> None:
    add_turn(database, "cocina", NOON - timedelta(days=9))
    add_turn(database, "cocina", NOON - timedelta(days=1), model="gpt-nobody-knows")
    add_turn(database, "cocina", NOON - timedelta(minutes=1))
    add_turn(database, "cocina", NOON)

    today, yesterday = report.usage(7)

    assert (today.date, today.received, today.turns.ended) == (date(2026, 11, 26), 2, 2)
    assert (today.tokens.input, today.tokens.cached, today.tokens.output) == (2000, 800, 200)
    # 1,200 fresh and 800 cached tokens in, 200 out, at 0.10, 0.01 and 0.50 USD a million
    assert today.cost.usd == Decimal("0.000228")
    assert (yesterday.date, yesterday.cost.text) == (date(2026, 11, 25), "unknown")
    assert [day.date.day for day in report.usage(30)] == [26, 25, 17]
    assert len(report.usage(1)) == 1


def test_a_turn_that_was_run_again_by_an_operator_is_in_no_answer_time(
    database: Database, report: Report
) -> None:
    add_turn(database, "cocina", NOON - timedelta(minutes=1), waited_s=3000, runs=2)

    (client,) = report.today()

    assert (client.turns.replied, client.median_answer_s) == (1, None)


def test_a_trial_is_in_no_figure(database: Database, report: Report) -> None:
    add_turn(database, "cocina", NOON - timedelta(hours=1))
    trial: dict[str, Any] = {"contact": "t", "address": new_address()}
    add_turn(database, "cocina", NOON - timedelta(minutes=1), texts=("a", "b"), **trial)
    add_turn(database, "cocina", NOON - timedelta(minutes=1), status="dead", **trial)
    add_turn(database, "cocina", NOON, status="running", **trial)

    (client,) = report.today()
    (day,) = report.usage(1)

    assert (client.received, client.sent, client.turns.ended, client.turns.open) == (1, 1, 1, 0)
    assert client.median_answer_s == pytest.approx(2, abs=0.01)
    assert client.last_message_at == NOON - timedelta(hours=1, seconds=2)
    assert (day.received, day.turns.ended, day.tokens.input) == (1, 1, 1000)
    assert Figures(database).last_messages(["cocina"]) == {
        "cocina": NOON - timedelta(hours=1, seconds=2)
    }


def test_while_redis_is_away_the_queues_are_unknown(database: Database) -> None:
    add_turn(database, "cocina", NOON)
    store = RedisStore(NOWHERE, 1)
    report = Report(Figures(database), ClientQueues(store), SANTIAGO, Prices(), lambda: NOON)

    (client,) = report.today()

    assert (client.queue, client.received) == (None, 1)


def test_the_first_id_of_a_time_is_found_by_halving(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(id_ranges, "NEAR", 0)
    for minute in range(50):
        add_turn(database, "cocina", NOON + timedelta(minutes=minute), answer=None, model=None)

    with database.read() as connection:
        before, at, behind = (
            around(connection, MessageRow, NOON + timedelta(minutes=minutes, seconds=-2))
            for minutes in (-5, 20, 500)
        )
        ids = list(connection.scalars(text("SELECT id FROM messages ORDER BY id")))

    assert [before, at, behind] == [(id_, id_) for id_ in (ids[0], ids[20], ids[-1] + 1)]


def test_messages_of_long_ago_are_not_read(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(id_ranges, "NEAR", 0)
    database = Database(sqlite_url)
    for hours in range(40):
        add_turn(database, "cocina", NOON - timedelta(hours=100 - hours))
    add_turn(database, "cocina", NOON - timedelta(minutes=1))
    statements: list[tuple[str, tuple[object, ...]]] = []

    @event.listens_for(database.engine, "before_cursor_execute")
    def _note(_c: object, _k: object, sql: str, parameters: object, *_rest: object) -> None:
        if "count" in sql and "messages" in sql:
            statements.append((sql, tuple(parameters)))  # type: ignore[arg-type]

    day = (MIDNIGHT, MIDNIGHT + timedelta(days=1))
    (counts_in, _out) = sorted(Figures(database).messages(day), key=lambda one: one.direction)
    sql, parameters = statements[0]
    with database.read() as connection:
        plan = [
            row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", parameters)
        ]
        newest = connection.scalar(text("SELECT max(id) FROM messages"))
    database.close()

    assert counts_in.count == 1
    assert any("messages USING INTEGER PRIMARY KEY" in step for step in plan), plan
    assert newest is not None
    assert newest - 1 in parameters


def test_words_are_found_in_any_case_with_what_like_would_take_for_a_pattern(
    database: Database,
) -> None:
    add_turn(database, "taller", NOON - timedelta(days=30), texts=("camión",))
    add_turn(database, "cocina", NOON - timedelta(minutes=1), texts=("El CAMIÓN lleva 50%",))
    add_turn(database, "taller", NOON, texts=("un camión de 500 kilos",))
    search = MessageSearch(database)
    between = (NOON - timedelta(days=7), NOON + timedelta(minutes=1))

    def clients(words: str, client_id: str | None = None) -> list[str]:
        return [row["client_id"] for row in search.find(words, *between, client_id)]

    assert clients("camión") == ["taller", "cocina"]
    assert clients("Camión", "cocina") == ["cocina"]
    assert clients("50%") == ["cocina"]
    assert clients("nada") == []
