"""The time of this host."""

from __future__ import annotations

from datetime import UTC, datetime


def utc_now() -> datetime:
    """Aware, in UTC."""
    return datetime.now(UTC)
