"""What is wrong is told once when it begins and once when it is over."""

from __future__ import annotations

import json
from typing import Any

from conftest import MACHINE
from machine import on, typed, wait_for

UNIT = "horizonai-bots-backup.service"
FILE = "/var/lib/horizonai-bots/alerted"
BROKEN = "/run/systemd/system/horizonai-bots-backup.service.d"


def _told(subject: str) -> list[str]:
    messages: list[dict[str, Any]] = [
        json.loads(line) for line in on(MACHINE, f"cat {FILE} || true").splitlines()
    ]
    return [message["event"] for message in messages if message["subject"] == subject]


def test_a_test_message_arrives() -> None:
    on(MACHINE, f"rm -f {FILE}")
    typed(MACHINE, "sudo horizonctl alerts test")

    assert '"event": "test"' in on(MACHINE, f"cat {FILE}").replace('":"', '": "')


def test_a_failed_unit_is_told_once_and_once_when_it_is_over() -> None:
    broken = "[Service]\nExecStart=\nExecStart=false\n"
    on(MACHINE, f"mkdir -p {BROKEN} && cat >{BROKEN}/broken.conf", stdin=broken)
    on(MACHINE, f"systemctl daemon-reload; systemctl start {UNIT} || true")
    try:
        wait_for(lambda: bool(_told(UNIT)), 120, "alert")
        # Two more checks by the timer's own command: nothing new is wrong.
        typed(MACHINE, "sudo horizonctl alerts check; sudo horizonctl alerts check")
        assert _told(UNIT) == ["firing"]
    finally:
        on(MACHINE, f"rm -r {BROKEN}; systemctl daemon-reload; systemctl start {UNIT}")

    wait_for(lambda: len(_told(UNIT)) > 1, 120, "end of the alert")
    assert _told(UNIT) == ["firing", "resolved"]
