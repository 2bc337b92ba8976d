"""`workers`: who runs the turns, and of which release."""

from __future__ import annotations

from service.cli.output import JsonFlag, print_json, print_table
from service.cli.session import session

_COLUMNS = ("id", "release", "threads", "busy", "at")


def workers(as_json: JsonFlag = False) -> None:
    """List the live workers of all hosts: those that can work and said so within 20 s."""
    with session() as container:
        found = container.heartbeats.live()
    if as_json:
        print_json({"workers": found})
    else:
        rows = ([getattr(beat, name) for name in _COLUMNS] for beat in found)
        print_table(_COLUMNS, rows, "No worker lives.")
