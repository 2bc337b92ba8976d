"""cleanup.yml on a machine that has something to clean up."""

from __future__ import annotations

from conftest import MACHINE, answers
from machine import code_on, on, playbook

OLD = "touch -d '60 days ago'"
LEFT = (
    "/var/log/nginx/old.log.9.gz",
    "/var/lib/horizonai-bots/spool/.tmp-old",
    "/opt/horizonai-bots/incoming/broken",
)
KEPT = "/var/lib/horizonai-bots/spool/00000000000000000001.msg.corrupt"


def _litter() -> None:
    for file in (*LEFT, KEPT):
        on(
            MACHINE,
            f"mkdir -p $(dirname {file}) && head -c 3000000 /dev/zero >{file} && {OLD} {file}",
        )
    on(MACHINE, "mkdir -p /var/cache/apt/archives && touch /var/cache/apt/archives/x_1_all.deb")


def _there(file: str) -> bool:
    return code_on(MACHINE, f"test -e {file}") == 0


def test_a_dry_run_and_a_check_tell_what_would_go_and_leave_it() -> None:
    _litter()

    dry, check = playbook("cleanup.yml", dry_run=True), playbook("cleanup.yml", "--check")

    for run in (dry, check):
        assert run.code == 0, run.output
        assert "rotated logs: 1 would go, 3.0 MB" in run.output
    assert dry.changed == 0
    assert all(_there(file) for file in LEFT)


def test_what_nobody_needs_goes_and_the_rest_stays() -> None:
    run = playbook("cleanup.yml")

    assert run.code == 0, run.output
    print(run.output.partition("TASK [app : Summary")[2].partition("PLAY RECAP")[0])
    assert not any(_there(file) for file in LEFT)
    assert _there(KEPT)
    on(MACHINE, f"rm {KEPT}")
    assert answers()


def test_a_second_run_changes_nothing() -> None:
    run = playbook("cleanup.yml")

    assert (run.code, run.changed) == (0, 0), run.output


def test_the_nightly_retention_runs_within_its_sandbox() -> None:
    on(MACHINE, "systemctl start horizonai-bots-retention.service")

    assert on(MACHINE, "systemctl is-enabled horizonai-bots-retention.timer").strip() == "enabled"
    assert "turns: " in on(MACHINE, "journalctl -u horizonai-bots-retention --output=cat")


def test_a_turn_that_is_too_young_is_refused_with_what_to_do() -> None:
    run = playbook("cleanup.yml", app_cleanup_turn_days=2)

    assert run.code != 0
    assert "7" in run.output
