"""Days of the operator's time zone, as ranges of time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo


@dataclass(frozen=True, slots=True)
class Day:
    """A local day: from `start` on, before `end`, both in UTC; 23 or 25 hours where the clock is moved."""

    date: date
    start: datetime
    end: datetime


def day(zone: ZoneInfo, of: date) -> Day:
    """A date as it is in the time zone."""
    return Day(of, _midnight(zone, of), _midnight(zone, of + timedelta(days=1)))


def last_days(zone: ZoneInfo, count: int, now: datetime) -> list[Day]:
    """`count` days, the oldest first; the last one is the day of `now`."""
    today = now.astimezone(zone).date()
    return [day(zone, today - timedelta(days=back)) for back in reversed(range(count))]


def _midnight(zone: ZoneInfo, of: date) -> datetime:
    # Where midnight itself is skipped, fold 0 gives the very moment at which the clock is moved.
    return datetime.combine(of, time.min, zone).astimezone(UTC)
