"""Filter: what a restore tells of messages that no backup has, one line each."""

from __future__ import annotations

from typing import Any


def lost_lines(lost: list[dict[str, Any]]) -> list[str]:
    """`lost` as `horizonctl restore reconcile` lists them, oldest first."""
    return [_line(each) for each in sorted(lost, key=lambda each: str(each["received_at"]))]


def _line(message: dict[str, Any]) -> str:
    words = [
        "the contact was written to afterwards" if message["answered"] else "nobody has answered",
        *(["it asks not to be written to again: obey that by hand"] if message["opt_out"] else []),
    ]
    at = str(message["received_at"])[:19].replace("T", " ")
    return (
        f"{at}, {message['contact']} to {message['number']} ({message['sid']}): {', '.join(words)}"
    )


class FilterModule:
    """What playbooks use."""

    def filters(self) -> dict[str, Any]:
        return {"horizon_lost_lines": lost_lines}
