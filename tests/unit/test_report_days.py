"""A day of the reports is one of the operator's time zone, also when the clock is moved."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from service.monitoring.days import day, last_days

SANTIAGO = ZoneInfo("America/Santiago")


def test_the_last_day_is_the_one_of_the_time_zone_and_not_of_utc() -> None:
    # 01:30 in UTC is still the evening before in Chile.
    days = last_days(SANTIAGO, 2, datetime(2026, 11, 26, 1, 30, tzinfo=UTC))

    assert [one.date for one in days] == [date(2026, 11, 24), date(2026, 11, 25)]
    assert days[-1].start == datetime(2026, 11, 25, 3, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("of", "hours"),
    [(date(2026, 9, 6), 23), (date(2026, 4, 4), 25), (date(2026, 11, 26), 24)],
    ids=["clock moved forward at midnight", "clock moved back at midnight", "as always"],
)
def test_a_day_has_as_many_hours_as_it_has(of: date, hours: int) -> None:
    assert day(SANTIAGO, of).end - day(SANTIAGO, of).start == timedelta(hours=hours)


def test_days_follow_each_other_without_a_gap() -> None:
    days = last_days(SANTIAGO, 366, datetime(2026, 11, 26, 12, 0, tzinfo=UTC))

    assert len(days) == 366
    assert all(before.end == after.start for before, after in pairwise(days))
