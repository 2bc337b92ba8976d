"""A run can be replayed, and no kind of fault is forgotten."""

from __future__ import annotations

from service.demo.emulators.faults import fault_from_json
from tests.chaos.schedule import QUIET_S, schedule


def test_same_seed_and_duration_make_the_same_schedule() -> None:
    assert schedule(7, 120, 8) == schedule(7, 120, 8)
    assert schedule(7, 120, 8) != schedule(8, 120, 8)


def test_two_minutes_hold_every_kind_and_leave_start_and_end_alone() -> None:
    faults = schedule(1, 120, 8)

    assert len({fault.kind for fault in faults}) >= 30
    assert min(fault.at_s for fault in faults) > QUIET_S
    assert max(fault.ends_s for fault in faults) <= 120 - QUIET_S


def test_faults_of_different_lanes_meet() -> None:
    faults = [fault for fault in schedule(1, 120, 8) if fault.lasts_s]

    assert any(
        one.at_s < other.at_s < one.ends_s for one in faults for other in faults if one != other
    )


def test_emulators_understand_every_order() -> None:
    for fault in schedule(3, 600, 8):
        if "order" in fault.details:
            fault_from_json(fault.details["order"])
