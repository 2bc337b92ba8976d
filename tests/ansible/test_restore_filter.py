"""Messages that no backup has are told in one line each."""

from __future__ import annotations

from tests.ansible.conftest import load

MESSAGE = {
    "sid": "SM1",
    "bot_id": "bot_1",
    "number": "+56226660001",
    "contact": "+56912345678",
    "received_at": "2026-11-27T05:12:33+00:00",
    "answered": False,
    "opt_out": True,
}


def test_each_is_a_line_with_what_to_do_the_oldest_first() -> None:
    older = MESSAGE | {"sid": "SM0", "received_at": "2026-11-27T05:12:32+00:00"}
    older |= {"answered": True, "opt_out": False}

    told = load("filter_plugins/horizon_restore.py").lost_lines([MESSAGE, older])

    assert told == [
        "2026-11-27 05:12:32, +56912345678 to +56226660001 (SM0): the contact was written to afterwards",
        "2026-11-27 05:12:33, +56912345678 to +56226660001 (SM1): nobody has answered, it asks not to be "
        "written to again: obey that by hand",
    ]
