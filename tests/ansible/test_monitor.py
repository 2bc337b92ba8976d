"""monitor.yml: tables of all hosts, also of those that tell nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.ansible.conftest import REPOSITORY, load

SERVER: dict[str, Any] = {
    "load": [0.5, 0.4, 0.3],
    "cpus": 2,
    "memory_total": 2**31,
    "memory_available": 2**30,
    "disks": [{"folder": "/", "total": 100, "free": 20}],
    "queue": {"due": 3, "leased": 1, "oldest_due_s": 0.0, "workers": 2},
    "dead_turns": 0,
    "certificates": [{"domain": "bots.example.com", "days": 61}],
    "faults": ["No worker lives: systemctl status horizonai-bots"],
}
CLIENT: dict[str, Any] = {
    "client_id": "cocina",
    "state": "ok",
    "received": 12,
    "sent": 10,
    "last_message_at": "2026-11-26T12:00:00+00:00",
    "error_rate": 0.25,
    "median_answer_s": 3.21,
}
DAY: dict[str, Any] = {
    "date": "2026-11-26",
    "client_id": "cocina",
    "received": 12,
    "sent": 10,
    "turns": {"replied": 9, "silent": 1, "dead": 2},
    "tokens": {"input": 1000, "cached": 0, "output": 50, "reasoning": 0},
    "cost_usd": None,
}
LOOK = {"server": SERVER, "stats": {"clients": [CLIENT]}}


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    return load("filter_plugins/horizon_monitor.py")


def answered(value: object) -> dict[str, Any]:
    return {"rc": 0, "stdout": json.dumps(value), "stderr": ""}


def test_the_tables_hold_hosts_clients_and_faults(tables: ModuleType) -> None:
    text = tables.monitor_tables({"bots1": answered(LOOK)})

    hosts, clients, faults = text.split("\n\n")
    assert " ".join(hosts.splitlines()[1].split()) == "bots1 0.50/2 1024/2048 MB 80% 3 2 0 61 days"
    assert clients.splitlines()[1].split()[:5] == ["bots1", "cocina", "ok", "12", "10"]
    assert clients.endswith("25.0%   3.2 s")
    assert faults == "bots1: No worker lives: systemctl status horizonai-bots"


def test_hosts_of_one_service_tell_its_clients_once(tables: ModuleType) -> None:
    looks = {host: answered(LOOK) for host in ("web1", "web2")}
    usages = {host: answered({"usage": [DAY]}) for host in looks}

    assert tables.monitor_tables(looks, usages).count("cocina") == 4
    one = tables.monitor_tables(looks, usages, True)
    assert one.count("cocina") == 2
    assert one.count("web2") == 2


def test_usage_of_one_service_comes_from_the_first_host_that_answers(tables: ModuleType) -> None:
    silent = {"unreachable": True, "msg": "no route to host"}
    looks = {"web1": silent, "web2": answered(LOOK), "web3": answered(LOOK)}
    usages = {
        "web1": silent,
        "web2": answered({"usage": [DAY]}),
        "web3": answered({"usage": [DAY]}),
    }

    rows = [row.split() for row in tables.monitor_tables(looks, usages, True).splitlines()]

    assert [row[0] for row in rows if DAY["date"] in row] == ["web2"]


def test_what_a_host_does_not_know_is_a_dash(tables: ModuleType) -> None:
    unknown: dict[str, Any] = {
        "queue": None,
        "dead_turns": None,
        "memory_total": None,
        "certificates": [],
    }
    text = tables.monitor_tables(
        {"bots1": answered({"server": SERVER | unknown, "stats": {"clients": []}})}
    )

    assert text.splitlines()[1].split() == ["bots1", "0.50/2", "-", "80%", "-", "-", "-", "-"]


def test_usage_with_an_unknown_cost_says_so(tables: ModuleType) -> None:
    usages = {"bots1": answered({"usage": [DAY]})}

    text = tables.monitor_tables({"bots1": answered(LOOK)}, usages)

    assert "bots1  2026-11-26  cocina  12  10   12     1000       50          unknown" in text


@pytest.mark.parametrize(
    ("look", "sentence"),
    [
        ({"unreachable": True, "msg": "no route\nmore"}, "it cannot be reached: no route"),
        ({"rc": 1, "stderr": "Redis?\n", "stdout": ""}, "it could not be looked at: Redis?"),
        ({"rc": 2, "msg": "No such file"}, "it could not be looked at: No such file"),
        ({"rc": 0, "stdout": "nonsense"}, "its answer is no JSON"),
    ],
)
def test_a_host_that_tells_nothing_is_named_with_the_reason(
    tables: ModuleType, look: dict[str, Any], sentence: str
) -> None:
    looks = {"bots1": answered(LOOK), "bots2": look}

    assert tables.monitor_silent(looks) == ["bots2"]
    assert f"bots2: {sentence}" in tables.monitor_tables(looks)


def test_a_client_lives_on_some_host_only(tables: ModuleType) -> None:
    strange = {"rc": 1, "stdout": "", "stderr": "There is no client cocina: …"}

    assert tables.monitor_silent({"bots1": answered(LOOK), "bots2": strange}) == []
    assert tables.monitor_silent({"bots1": strange, "bots2": strange}) == ["bots1", "bots2"]


def test_the_playbook_shows_what_answers_and_fails_for_what_does_not(tmp_path: Path) -> None:
    (tmp_path / "answers").write_text(json.dumps(LOOK | {"usage": [DAY]}))
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_text(f"#!/bin/sh\ncat {tmp_path}/answers\n")
    bad.write_text("#!/bin/sh\necho 'No release runs here yet.' >&2\nexit 2\n")
    for program in (good, bad):
        program.chmod(0o755)
    (tmp_path / "hosts.yml").write_text(
        f"""horizon:
  vars:
    ansible_connection: local
    ansible_become: false
    ansible_python_interpreter: {sys.executable}
  hosts:
    bots1:
      monitor_program: {good}
    bots2:
      monitor_program: {bad}
"""
    )

    done = subprocess.run(
        [
            Path(sys.executable).parent / "ansible-playbook",
            "monitor.yml",
            *("-i", tmp_path / "hosts.yml"),
            *("-e", "days=3"),
        ],
        cwd=REPOSITORY,
        env={**os.environ, "ANSIBLE_HOME": str(tmp_path / "home"), "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
    )

    assert done.returncode != 0
    assert "bots1  cocina  ok     12  10" in done.stdout
    assert "2026-11-26  cocina  12  10" in done.stdout
    assert "bots2: it could not be looked at: No release runs here yet." in done.stdout
    assert "bots2 could not be looked at" in done.stdout
    assert "changed=0" in done.stdout
    assert "changed=1" not in done.stdout
