"""The steps of docs/cluster.md, from one server with SQLite to three, while messages come in."""

from __future__ import annotations

import time

from conftest import OLD, A, B
from evidence import asked, broken, settled
from machine import made, on, playbook, typed
from steady_load import Load, event

LONGEST_COPY_S = 600.0


def test_sqlite_becomes_postgresql(load: Load) -> None:
    time.sleep(10)
    run = playbook(
        "site.yml", "--tags", "postgresql", inventory="before.yml", postgresql_enabled=True
    )
    assert run.code == 0, run.output
    with event(load, "copy into PostgreSQL", LONGEST_COPY_S):
        on(OLD, "systemctl stop horizonai-bots.socket horizonai-bots.service")
        password = made()["vault_postgresql_password"]
        told = typed(
            OLD,
            f"export PGPASSWORD={password}; sudo --preserve-env=PGPASSWORD horizonctl db copy settings "
            "postgresql://horizonai_bots@127.0.0.1/horizonai_bots",
        )
        print(told)
        run = playbook("site.yml", inventory="before.yml", postgresql_enabled=True)
        assert run.code == 0, run.output


def test_the_server_goes_on_when_the_new_hosts_fail(load: Load) -> None:
    with event(load, "new hosts with a wrong setting"):
        run = playbook("site.yml", app_settings={"DEBOUNCE_MS": "soon"})
    assert run.code != 0, run.output
    assert f"{OLD} goes on answering by itself: {A}, {B} cannot" in " ".join(run.output.split())
    assert "horizonai-bots@" in on(OLD, "systemctl list-units 'horizonai-bots@*'")


def test_one_server_becomes_three(load: Load) -> None:
    with event(load, "three instead of one"):
        run = playbook("site.yml")
    assert run.code == 0, run.output
    assert playbook("site.yml").changed == 0
    units = on(OLD, "systemctl list-units --plain --no-legend 'horizonai-bots*@*'")
    assert units == "", units
    for machine in (A, B):
        assert "horizonai-bots@" in on(machine, "systemctl list-units 'horizonai-bots@*'")


def test_nothing_that_was_acknowledged_is_lost_or_answered_twice(load: Load) -> None:
    record = settled(A, load)

    # Twilio gives a message up after 15 s; those of the copy's time were never acknowledged.
    assert broken(record) == {}
    assert on(OLD, "ls /var/lib/horizonai-bots/spool | grep -c msg || true").strip() == "0"
    assert asked(B)["turns"]
