"""Everything that can be lost is lost under load, one after another, in one stream of messages."""

from __future__ import annotations

import json
import time

import yaml
from conftest import (
    BALANCER,
    NEW,
    REDIS,
    WEB1,
    WEB2,
    WORK,
    cut,
    info_period_ms,
    join,
    make_primary,
    primary,
    sentinels,
)
from evidence import broken, settled
from installed import left_to_do, listeners_beyond_loopback
from machine import EPHEMERAL, address_of, on, playbook, start, stop, typed, wait_for
from steady_load import Load, event
from versions import Versions

PORTS = {
    BALANCER: {80, 443, 5432, 6379, 26379},
    WEB1: {8000, 6379, 26379},
    WEB2: {8000},
    WORK: {6379, 26379},
}
REPOSITORY = {
    "app_repository": str(EPHEMERAL / "repository"),
    "app_build_folder": str(EPHEMERAL / "builds"),
}


def with_new_host(*parts: str) -> tuple[str, str]:
    """The words that add it to these groups."""
    file = EPHEMERAL / f"new-{'-'.join(parts)}.yml"
    file.write_text(yaml.safe_dump({part: {"hosts": {NEW: None}} for part in parts}))
    return "-i", str(file)


def release_of(machine: str) -> str:
    return on(machine, "basename $(readlink /opt/horizonai-bots/current)").strip()


def test_nothing_listens_wider_than_it_must() -> None:
    for machine, ports in PORTS.items():
        assert listeners_beyond_loopback(machine) == {22, *ports}, machine


def test_the_balancer_stands_a_killed_web_host(load: Load) -> None:
    time.sleep(5)
    with event(load, "web host killed"):
        stop(WEB1)
        time.sleep(15)
    with event(load, "web host back"):
        start(WEB1)


def test_a_killed_worker_host_interrupts_nothing(load: Load) -> None:
    with event(load, "host of web and workers killed"):
        stop(WEB2)
        time.sleep(15)
    with event(load, "it is back"):
        start(WEB2)


def test_another_redis_takes_over(load: Load) -> None:
    make_primary(WORK)
    with event(load, "host of Redis's primary and of workers killed"):
        stop(WORK)
        wait_for(lambda: primary() != WORK, 120, "another primary")
        time.sleep(10)
    with event(load, "it is back"):
        start(WORK)
        time.sleep(10)
    assert primary() != WORK


def test_a_run_after_the_fail_over_changes_nothing(load: Load) -> None:
    now = primary()
    # Told by its unit: one of them has just been started.
    assert {info_period_ms(machine) for machine in REDIS} == {1000}
    with event(load, "site.yml after the fail-over"):
        run = playbook("site.yml")
    assert (run.code, run.changed) == (0, 0), run.output
    assert primary() == now


def test_a_version_is_deployed_to_all_hosts(load: Load, versions: Versions) -> None:
    version = versions.next_good("second")
    with event(load, "deploy"):
        run = playbook("deploy.yml", version=version, **REPOSITORY)
    assert run.code == 0, run.output
    for machine in (WEB1, WEB2, WORK):
        assert release_of(machine).endswith(version[:12])
    assert " down;" not in on(BALANCER, "cat /etc/nginx/horizonai-bots-upstream.conf")


def test_a_bad_version_leaves_every_host_in_the_balancer(load: Load, versions: Versions) -> None:
    bad = versions.change(
        "bad-import", "service/web/webhook.py", "import falcon\n", "import falcon, nowhere\n"
    )
    before = release_of(WEB1)
    with event(load, "bad deploy"):
        run = playbook("deploy.yml", version=bad, **REPOSITORY)
    assert run.code != 0, run.output
    assert release_of(WEB1) == before
    assert " down;" not in on(BALANCER, "cat /etc/nginx/horizonai-bots-upstream.conf")


def test_a_host_is_added_and_removed(load: Load, versions: Versions) -> None:
    more = with_new_host("web", "workers", "redis")
    with event(load, "host added"):
        run = playbook("site.yml", *more, **REPOSITORY, app_version=versions.good)
    assert run.code == 0, run.output
    assert address_of(NEW) in on(BALANCER, "cat /etc/nginx/horizonai-bots-upstream.conf")
    beats = json.loads(typed(WEB2, "sudo horizonctl workers --json"))["workers"]
    assert any(str(beat["id"]).startswith(f"{NEW}:") for beat in beats)
    assert sentinels(BALANCER) == 4

    make_primary(NEW, (*REDIS, NEW))
    more = with_new_host("web", "workers")
    with event(load, "its Redis dropped from the inventory"):
        run = playbook("site.yml", *more, "--tags", "preflight")
    assert run.code != 0, run.output
    assert f"{NEW} is not in the group redis any more" in " ".join(run.output.split())

    with event(load, "its Redis removed, the primary"):
        named = with_new_host("web", "workers", "redis")
        run = playbook("site.yml", *named, "--limit", NEW, state="absent", part="redis")
        assert run.code == 0, run.output
        run = playbook("site.yml", *more)
        assert run.code == 0, run.output
    assert primary() in REDIS
    assert {sentinels(machine) for machine in REDIS} == {3}
    assert listeners_beyond_loopback(NEW) == {22, 8000}

    with event(load, "host removed"):
        run = playbook("site.yml", *more, "--limit", NEW, state="absent")
        assert run.code == 0, run.output
        # As after a run that was interrupted.
        again = playbook("site.yml", *more, "--limit", NEW, state="absent")
        assert again.code == 0, again.output
        assert playbook("site.yml").code == 0
    assert address_of(NEW) not in on(BALANCER, "cat /etc/nginx/horizonai-bots-upstream.conf")
    assert on(NEW, "ls /opt/horizonai-bots 2>/dev/null || true") == ""


def test_a_primary_that_its_sentinels_do_not_reach_is_replaced(load: Load) -> None:
    """The web hosts still reach it."""
    make_primary(WORK)
    with event(load, "primary cut off from the other Redis hosts"):
        cut(WORK, BALANCER, WEB1)
        wait_for(lambda: primary() != WORK, 120, "another primary")
        time.sleep(10)
        join(WORK)
        time.sleep(10)


def test_a_web_host_cut_off_with_the_old_primary_acknowledges_nothing(load: Load) -> None:
    """The machines of the balancer and of WEB1 have two of three Sentinels; WEB2 stays with WORK."""
    make_primary(WORK)
    with event(load, "web host and primary cut off together"):
        for machine in (WORK, WEB2):
            cut(machine, WEB1, BALANCER)
        wait_for(lambda: primary() != WORK, 120, "another primary")
        time.sleep(10)
        for machine in (WORK, WEB2):
            join(machine)
        time.sleep(10)


def test_nothing_is_lost_and_nothing_is_answered_twice(load: Load) -> None:
    record = settled(WEB1, load)

    assert broken(record) == {}
    assert all(message.acked_at is not None for message in load.sent)


def test_every_host_is_well_at_the_end(load: Load) -> None:
    run = playbook("repair.yml", mend=False, app_repair_from_outside=False)

    # The domain of a scenario is no real one, and a machine of the tests may see nothing of the internet.
    known = ("domain", "certificate", "names outside", "time synchronization", "memory")
    assert left_to_do(run, *known) == [], run.output
