"""The steps of docs/cluster.md, from one server with SQLite to three, while messages come in."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from conftest import OLD, A, B
from evidence import asked, collect, is_done
from machine import made, on, playbook, wait_for
from steady_load import Load

from tests.chaos.checker import check

LONGEST_COPY_S = 120.0
LONGEST_SILENCE_S = 8.0
SETTLE_S = 120


@contextmanager
def downtime(load: Load, name: str, longest_s: float) -> Iterator[None]:
    """What the block costs at most, without an acknowledgement."""
    since = time.time()
    yield
    time.sleep(5)
    silence = load.silence_s(since, time.time() - 0.5)
    print(f"{name}: {silence:.1f} s without an acknowledgement")
    assert silence <= longest_s


def test_sqlite_becomes_postgresql(load: Load) -> None:
    time.sleep(10)
    run = playbook(
        "site.yml", "--tags", "postgresql", inventory="before.yml", postgresql_enabled=True
    )
    assert run.code == 0, run.output
    with downtime(load, "copy into PostgreSQL", LONGEST_COPY_S):
        on(OLD, "systemctl stop horizonai-bots.socket horizonai-bots.service")
        password = made()["vault_postgresql_password"]
        told = on(
            OLD,
            f"PGPASSWORD={password} horizonctl db copy settings "
            "postgresql://horizonai_bots@127.0.0.1/horizonai_bots",
        )
        print(told)
        run = playbook("site.yml", inventory="before.yml", postgresql_enabled=True)
        assert run.code == 0, run.output


def test_one_server_becomes_three(load: Load) -> None:
    with downtime(load, "three instead of one", LONGEST_SILENCE_S):
        run = playbook("site.yml")
    assert run.code == 0, run.output
    assert playbook("site.yml").changed == 0
    units = on(OLD, "systemctl list-units --plain --no-legend 'horizonai-bots*@*'")
    assert units == "", units
    for machine in (A, B):
        assert "horizonai-bots@" in on(machine, "systemctl list-units 'horizonai-bots@*'")


def test_nothing_that_was_acknowledged_is_lost_or_answered_twice(load: Load) -> None:
    load.end()
    wait_for(lambda: is_done(A), SETTLE_S, "everything is answered")

    found = check(collect(A, load.sent, load.answers))

    # Twilio gives a message up after 15 s; those of the copy's time were never acknowledged.
    rows = {name: broken for name, broken in found.items() if broken}
    assert rows == {}
    assert on(OLD, "ls /var/lib/horizonai-bots/spool | grep -c msg || true").strip() == "0"
    assert asked(B)["turns"]
