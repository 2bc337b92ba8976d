"""What an operator does to a server that is answering, in the order of a bad week."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time

from conftest import DOMAIN, ECHO, MACHINE, NUMBER, Load
from installed import add_bot
from machine import (
    EPHEMERAL,
    ROOT,
    SCENARIO,
    Run,
    address_of,
    made,
    on,
    playbook,
    typed,
    vendors,
    wait_for,
)
from message import send, wait_for_reply
from versions import Versions

TWILIO_GIVES_UP_MS = 15_000
# A bad version is waited for in vain, however fast the machine is.
IN_VAIN_S = 20
KILL_WHO_HOLDS_THE_LOCK = """
for process in /proc/[0-9]*; do
    if ls -l "$process/fd" 2>/dev/null | grep -q horizonai-bots/state/lock; then
        kill -KILL "${process#/proc/}"
    fi
done
"""
REPOSITORY = {
    # A copy of this one, to which the tests add good and bad versions.
    "app_repository": str(EPHEMERAL / "repository"),
    "app_build_folder": str(EPHEMERAL / "builds"),
}


def running() -> str:
    """The release that serves, as its own health says it."""
    return str(json.loads(typed(MACHINE, "sudo horizonctl health --json"))["release"])


def units() -> list[str]:
    text = on(
        MACHINE, "systemctl list-units --plain --no-legend 'horizonai-bots*@*' | cut -d' ' -f1"
    )
    return sorted(text.split())


def deploy(version: str, *arguments: str, **extra: object) -> Run:
    return playbook("deploy.yml", *arguments, version=version, **REPOSITORY, **extra)


def assert_taken_back(run: Run, reason: str, before: tuple[str, list[str]]) -> None:
    assert run.code != 0, run.output
    words = " ".join(run.output.split())
    assert re.search(reason, words), run.output
    assert (running(), units()) == before


def state() -> tuple[str, list[str]]:
    return running(), units()


def test_new_server_answers() -> None:
    add_bot(MACHINE, NUMBER, ECHO)
    secrets = made()

    status, contact = send(
        *(DOMAIN, address_of(MACHINE), NUMBER, "Hola", secrets["vault_twilio_auth_token"]),
        *(secrets["vault_twilio_account_sid"], None),
    )

    assert status == 200
    assert wait_for_reply(vendors()["twilio"], contact)


def test_rollback_with_nothing_to_go_back_to_says_so(load: Load, versions: Versions) -> None:
    load.phase("rollback without a predecessor")
    before = state()

    run = playbook("rollback.yml")

    assert_taken_back(run, "There is no earlier good release on this host to go back to", before)


def test_good_version_is_deployed(load: Load, versions: Versions) -> None:
    load.phase("good deploy")
    version = versions.next_good("second")

    run = deploy(version)

    assert run.code == 0, run.output
    assert running().endswith(version[:12])
    print(f"deploy with an unchanged lock, drain included: {run.seconds:.1f} s")


def test_same_version_again_changes_nothing(load: Load, versions: Versions) -> None:
    load.phase("same version again")
    before = state()

    run = deploy(versions.good)

    assert (run.code, run.changed) == (0, 0), run.output
    assert state() == before
    assert "runs already, nothing was done" in run.output


def test_version_that_fails_to_import_is_taken_back(load: Load, versions: Versions) -> None:
    load.phase("bad import")
    before = state()
    bad = versions.change(
        "bad-import", "service/web/webhook.py", "import falcon\n", "import falcon, nowhere\n"
    )

    assert_taken_back(deploy(bad), "was taken back: its probe failed: .*nowhere", before)


def test_version_whose_migration_fails_is_taken_back(load: Load, versions: Versions) -> None:
    load.phase("bad migration")
    before = state()
    schema = typed(MACHINE, "sudo horizonctl db current --json")
    bad = versions.migration("bad-migration", fails=True)

    assert_taken_back(deploy(bad), "its migration failed, and the database is as it was", before)
    assert typed(MACHINE, "sudo horizonctl db current --json") == schema


def test_version_that_is_never_ready_is_taken_back(load: Load, versions: Versions) -> None:
    load.phase("never ready")
    before = state()
    bad = versions.change(
        "never-ready",
        "service/web/health.py",
        "ready = accepts and schema is not None and schema.runs",
        # The probe has no such socket.
        "import glob\n        ready = not glob.glob(f'/run/horizonai-bots/web-{self._release}*')",
    )

    run = deploy(bad, app_ready_timeout_s=IN_VAIN_S)

    assert_taken_back(run, f"its web was not ready within {IN_VAIN_S} s: HTTP 503", before)


def test_version_whose_worker_dies_is_taken_back(load: Load, versions: Versions) -> None:
    load.phase("worker dies")
    before = state()
    bad = versions.change(
        "worker-dies",
        "service/worker.py",
        "        pool = ThreadPoolExecutor(self._threads + self._reserve",
        "        raise RuntimeError('no worker today')\n"
        "        pool = ThreadPoolExecutor(self._threads + self._reserve",
    )

    assert_taken_back(
        deploy(bad), "horizonai-bots-worker@.* died at start: .*no worker today", before
    )


def test_version_whose_worker_is_silent_is_taken_back(load: Load, versions: Versions) -> None:
    load.phase("silent worker")
    before = state()
    bad = versions.change(
        "silent-worker",
        "service/worker.py",
        "        self._able.wait()\n        was_told",
        "        self._stopping.wait()\n        was_told",
    )

    run = deploy(bad, app_heartbeat_timeout_s=IN_VAIN_S)

    assert_taken_back(run, f"sent no heartbeat within {IN_VAIN_S} s", before)


def test_version_whose_packages_do_not_match_is_refused(load: Load, versions: Versions) -> None:
    load.phase("bad lock")
    before = state()
    lock = (versions.folder / "service/requirements.txt").read_text(encoding="utf-8")
    digests = re.search(
        r"(?m)^falcon==.*\\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\\n|\n))+)", lock
    )
    assert digests is not None
    bad = versions.change(
        "bad-lock", "service/requirements.txt", digests[1], f"    --hash=sha256:{'0' * 64}\n"
    )

    assert_taken_back(deploy(bad), "the virtual environment cannot be made.*falcon", before)


def test_interrupted_deploy_is_finished_by_the_next_run(load: Load, versions: Versions) -> None:
    load.phase("interrupted deploy")
    version = versions.next_good("third")
    process = subprocess.Popen(
        [
            *("ansible-playbook", "deploy.yml", "-i", str(SCENARIO / "inventory/hosts.yml")),
            *("-e", json.dumps({"version": version} | REPOSITORY)),
        ],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    wait_for(lambda: any(version[:12] in unit for unit in units()), 120, "the new release starts")
    # The controller goes away, and so does what it runs on the host.
    process.send_signal(signal.SIGKILL)
    on(MACHINE, KILL_WHO_HOLDS_THE_LOCK)
    process.wait()
    assert running()

    run = deploy(version)

    assert run.code == 0, run.output
    assert running().endswith(version[:12])
    assert all(version[:12] in unit for unit in units())


def test_rollback_goes_back_and_marks_the_bad_one(load: Load, versions: Versions) -> None:
    load.phase("rollback")
    left = running()

    run = playbook("rollback.yml")

    assert run.code == 0, run.output
    assert running() != left
    print(f"rollback: {run.seconds:.1f} s")
    again = deploy(left.partition("_")[2])
    assert_taken_back(again, "was marked bad at", state())
    assert playbook("rollback.yml", release=left).code != 0


def test_migration_that_leaves_the_running_release_behind_is_not_made(
    load: Load, versions: Versions
) -> None:
    load.phase("migration that forbids the running release")
    before = state()
    schema = on(MACHINE, "horizonctl db current --json")
    bad = versions.migration("left-behind", forbids_older=True)

    assert_taken_back(deploy(bad), "Nothing was migrated", before)
    assert on(MACHINE, "horizonctl db current --json") == schema


def test_rollback_across_a_migration_that_forbids_it_is_refused(
    load: Load, versions: Versions
) -> None:
    load.phase("migration that forbids going back")
    old = running()
    # The first bears the release that runs; the second bears the first, and not the one before.
    for name in ("added-schema", "new-schema"):
        run = deploy(versions.migration(name))
        assert run.code == 0, run.output
    before = state()

    assert_taken_back(
        playbook("rollback.yml", release=old), "cannot run on the database's schema", before
    )


def test_changed_setting_is_applied_by_overlap(load: Load, versions: Versions) -> None:
    load.phase("changed setting")
    release = running()

    run = playbook("site.yml", app_web_threads=6)

    assert run.code == 0, run.output
    assert running() == release
    assert any(f"{release}:2" in unit for unit in units())


def test_setting_that_breaks_the_service_is_put_back(load: Load, versions: Versions) -> None:
    load.phase("broken setting")
    before = state()
    settings = on(MACHINE, "sha256sum /etc/horizonai-bots/env")

    nowhere = "redis://127.0.0.1:6399/0"
    run = playbook("site.yml", "--tags", "app", app_web_threads=6, app_redis_url=nowhere)

    assert_taken_back(run, "Redis", before)
    assert on(MACHINE, "sha256sum /etc/horizonai-bots/env") == settings


def test_no_message_was_failed_lost_or_answered_twice(load: Load) -> None:
    load.phase("after")
    time.sleep(5)
    load.end()

    table, found = load.checked()

    print(table)
    assert found["failed"] == 0
    assert found["acknowledged"] == found["sent"] > 0
    assert found["check"]["lost"] == []
    assert found["check"]["twice"] == []
    assert found["slowest_ms"] < TWILIO_GIVES_UP_MS
