"""Playbooks that are killed in the middle, here and on the machine: the same command finishes the rest."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import DOMAIN, MACHINE, answers, ctl, told
from machine import Begun, Run, address_of, code_on, made, on, playbook, vendors, wait_for
from message import served_certificate, tell_vendor
from test_repair import FILES, TLS, UNITS

FOLDER = "/var/lib/horizonai-bots-backup"
REPOSITORY = "/var/backups/bots"
BALLAST = "/etc/letsencrypt/ballast"
RESTIC = (
    f"RESTIC_REPOSITORY={REPOSITORY} RESTIC_PASSWORD='{{password}}' "
    f"restic --no-lock --cache-dir {FOLDER}/cache"
)
DATABASE = "horizonai_bots"
PROGRAMS = "/usr/local/bin"
ROOT = "/opt/horizonai-bots"
REACHED = "/run/reached"
OF_ROOT = "/var/lib/horizonai-bots/of-root"


def _good(run: Run) -> str:
    assert run.code == 0, run.output
    return told(run.output)


def _nothing_is_left() -> None:
    """No unit has failed or waits, nothing of a killed process goes on, no temporary folder stays."""
    assert on(MACHINE, "systemctl list-units --failed --plain --no-legend").strip() == ""
    assert on(MACHINE, "systemctl list-jobs --no-legend | grep -w waiting || true") == ""
    strays = on(
        MACHINE,
        "ps -eo args | grep -E '^restic|bin/(pg_dump|certbot) |horizon_backup|hb-drill|"
        "service (clients|restore|backup|cleanup) ' | grep -v grep || true",
    )
    assert strays == ""
    # What a killed module of Ansible's was unpacked into is for cleanup.yml.
    left = on(
        MACHINE,
        "ls -d /tmp/hb-* /tmp/restic* /tmp/tmp* /root/.ansible/tmp/* /home/*/.ansible/tmp/* || true",
    )
    assert left == ""


# Clients


def _hooks(numbers: list[str]) -> dict[str, str]:
    with urllib.request.urlopen(f"{vendors()['twilio']}/_emulator/state", timeout=10) as answer:
        senders = json.load(answer)["senders"]
    hooks = {one["sender_id"]: (one["webhook"] or {}).get("callback_url") for one in senders}
    return {number: hooks[f"whatsapp:{number}"] or "" for number in numbers}


def _bots(numbers: list[str]) -> list[dict[str, Any]]:
    return [bot for bot in ctl("bots list") if bot["twilio_phone_number"] in numbers]


def test_clients_that_were_half_applied_are_finished(tmp_path: Path) -> None:
    numbers = [f"+5622888{n:04d}" for n in range(24)]
    twilio = vendors()["twilio"]
    for number in numbers:
        tell_vendor(twilio, "senders", {"sender_id": f"whatsapp:{number}"})
    clients = [
        {"nombre": f"Mitad {n:02d}", "numero": number, "instrucciones": "Responde breve."}
        for n, number in enumerate(numbers)
    ]
    (tmp_path / "clientes.json").write_text(json.dumps({"clientes": clients}))
    given = {
        "clientes_archivo": str(tmp_path / "clientes.json"),
        "clientes_carpeta": str(tmp_path / "clients"),
    }
    # Four are done, four are done at Twilio alone, then nobody gets an answer.
    senders = {"method": "POST", "path": "/v2/Channels/Senders/*"}
    for order in (
        {"kind": "delay", "seconds": 0, "times": 4},
        {"kind": "accept_then_hang", "times": 4},
        {"kind": "hang", "times": None},
    ):
        tell_vendor(twilio, "faults", senders | order)

    run = Begun("clientes.yml", **given)
    try:
        # Asked of the emulator alone: the apply gives up on one that does not answer, and goes on.
        wait_for(lambda: sum(map(bool, _hooks(numbers).values())) == 8, 120, "half of the clients")
        killed = run.kill(MACHINE, "-m service clients apply")
    finally:
        tell_vendor(twilio, "faults", {}, "DELETE")
    print(killed)
    assert 8 <= len(_bots(numbers)) < len(numbers)
    assert not (tmp_path / "clients").exists()

    again = playbook("clientes.yml", **given)
    third = playbook("clientes.yml", **given)

    _good(again)
    _good(third)
    assert third.changed == 0, third.output
    bots = _bots(numbers)
    assert sorted(bot["twilio_phone_number"] for bot in bots) == numbers
    assert all(hook.startswith(f"https://{DOMAIN}/") for hook in _hooks(numbers).values())
    assert {bot["assistant"]["version"] for bot in bots} == {1}
    assert len(list((tmp_path / "clients").glob("*.md"))) == len(numbers)
    assert len(list((tmp_path / "clients").iterdir())) == len(numbers)
    assert answers(numbers[0])
    assert answers(numbers[-1])
    _nothing_is_left()


# Backups


def _restic(words: str) -> str:
    return on(MACHINE, f"{RESTIC.format(password=made()['vault_backup_password'])} {words}")


def _snapshots() -> list[str]:
    return [one["id"] for one in json.loads(_restic("snapshots --json"))]


@contextmanager
def _much_to_upload() -> Iterator[None]:
    """What compresses to nothing less, new to the repository."""
    on(MACHINE, f"head -c 300000000 /dev/urandom >{BALLAST}")
    try:
        yield
    finally:
        on(MACHINE, f"rm {BALLAST}")


@contextmanager
def _locked_table() -> Iterator[None]:
    """Nobody reads the audit log, pg_dump neither."""
    psql = f"setpriv --reuid=postgres --clear-groups psql --quiet {DATABASE}"
    on(
        MACHINE,
        f"PGAPPNAME=holder setsid {psql} -c 'BEGIN; LOCK TABLE audit_log; SELECT pg_sleep(600)' "
        ">/dev/null 2>&1 &",
    )
    held = "SELECT 1 FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted"
    locked = f'{psql} --tuples-only -c "{held}"'
    try:
        wait_for(lambda: "1" in on(MACHINE, locked), 120, "lock")
        yield
    finally:
        end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'holder'"
        on(MACHINE, f'{psql} -c "{end}" >/dev/null')


def _pg_dump_waits() -> bool:
    psql = "setpriv --reuid=postgres --clear-groups psql --quiet --tuples-only --no-align"
    asked = (
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE application_name = 'pg_dump' AND wait_event_type = 'Lock'"
    )
    return on(MACHINE, f'{psql} {DATABASE} -c "{asked}"').strip() == "1"


def _backup_works() -> bool:
    return code_on(MACHINE, "pgrep -f '[h]orizon_backup|service backup [b]undle|^[r]estic'") == 0


def _is_finished_by_the_next(before: list[str]) -> None:
    """The same command takes a whole backup, and leaves as much as one that nobody disturbed."""
    _good(playbook("backup.yml"))

    (_,) = set(_snapshots()) - set(before)
    assert _restic("list locks").strip() == ""
    assert "no errors were found" in _restic("check")
    assert ctl("health")["backup"]["status"] == "ok"
    _nothing_is_left()


@pytest.fixture(scope="module")
def undisturbed() -> str:
    """What an uninterrupted backup and drill leave."""
    _good(playbook("backup.yml"))
    _good(playbook("restore-drill.yml"))
    return _kept()


def _kept() -> str:
    return on(MACHINE, f"ls -A {FOLDER} {FOLDER}/cache")


def test_a_backup_that_was_killed_while_the_database_is_copied(undisturbed: str) -> None:
    before = _snapshots()
    with _locked_table():
        run = Begun("backup.yml")
        wait_for(_pg_dump_waits, 120, "pg_dump at the lock")
        print(run.kill(MACHINE, "bin/pg_dump --snapshot"))
    assert code_on(MACHINE, f"test -e {FOLDER}/stage/redis.rdb") == 0
    assert _snapshots() == before

    _is_finished_by_the_next(before)
    assert _kept() == undisturbed


def test_a_backup_that_was_killed_while_it_is_uploaded(undisturbed: str) -> None:
    before = _snapshots()
    with _much_to_upload():
        run = Begun("backup.yml")
        print(run.kill(MACHINE, "^restic backup ", "--new", f"{REPOSITORY}/data/*/*"))
    assert _restic("list locks").strip() != ""
    assert _snapshots() == before

    _is_finished_by_the_next(before)
    assert _kept() == undisturbed


def test_a_backup_that_was_killed_while_the_repository_is_checked(undisturbed: str) -> None:
    before = _snapshots()
    run = Begun("backup.yml")
    print(run.kill(MACHINE, "^restic check", "--new", f"{REPOSITORY}/locks/*"))
    assert _restic("list locks").strip() != ""

    _is_finished_by_the_next(before)
    assert _kept() == undisturbed


def test_a_backup_whose_controller_went_away_goes_on_and_keeps_the_next_out() -> None:
    before = _snapshots()
    with _locked_table():
        run = Begun("backup.yml")
        wait_for(_pg_dump_waits, 120, "pg_dump at the lock")
        assert run.kill_here(), run.output

        refused = playbook("backup.yml")

    assert refused.code != 0
    assert "runs on this host already: wait for it" in told(refused.output), refused.output
    wait_for(lambda: not _backup_works(), 120, "the end of the backup")
    assert len(set(_snapshots()) - set(before)) == 1
    _is_finished_by_the_next(_snapshots())


def test_what_outlives_a_killed_tool_keeps_the_next_out(undisturbed: str) -> None:
    before = _snapshots()
    with _locked_table():
        run = Begun("backup.yml")
        wait_for(_pg_dump_waits, 120, "pg_dump at the lock")
        print(run.kill(MACHINE, "-m horizon_backup run", "--alone"))

        refused = playbook("backup.yml")

    assert "runs on this host already: wait for it" in told(refused.output), refused.output
    wait_for(lambda: not _backup_works(), 120, "the end of what outlived it")
    _is_finished_by_the_next(before)
    assert _kept() == undisturbed


@pytest.mark.parametrize("options", [(), ("--alone",)], ids=["with its servers", "alone"])
def test_a_drill_that_was_killed(undisturbed: str, options: tuple[str, ...]) -> None:
    run = Begun("restore-drill.yml")
    started = ("--new", "/tmp/hb-drill-*/postgresql.log")  # noqa: S108  # looked at
    print(run.kill(MACHINE, "horizon_backup drill|service restore drill", *started, *options))

    assert "a test message was answered" in _good(playbook("restore-drill.yml"))
    assert _restic("list locks").strip() == ""
    assert _kept() == undisturbed
    _nothing_is_left()
    assert answers()


# Cleanup

OLD = "20200101000000_old"
HALVES = {"releases": "release.json", "venvs": "pyvenv.cfg"}


@pytest.mark.parametrize("kind", HALVES)
def test_a_cleanup_that_was_killed_while_it_removes(kind: str) -> None:
    there = f"ls -A {ROOT}/releases {ROOT}/venvs {ROOT}/incoming"
    _good(playbook("cleanup.yml"))
    before = on(MACHINE, there)
    many = "seq -f f%.0f 60000 | xargs touch"
    on(
        MACHINE,
        f"mkdir {ROOT}/releases/{OLD} {ROOT}/venvs/{OLD} && cd {ROOT}/releases/{OLD} && {many} "
        f"&& echo '{{}}' >release.json && ln -s {ROOT}/venvs/{OLD} venv "
        f"&& cd {ROOT}/venvs/{OLD} && {many} && touch pyvenv.cfg",
    )

    run = Begun("cleanup.yml", app_keep_releases=1)
    half = ("--half", f"{ROOT}/{kind}/{OLD}", HALVES[kind])
    print(run.kill(MACHINE, f"^{ROOT}/state/lock$", *half))

    going = f"{ROOT}/incoming/.going-{OLD}"
    assert code_on(MACHINE, f"test -e {ROOT}/{kind}/{OLD}") != 0
    assert int(on(MACHINE, f"ls {going} | wc -l")) > 0
    assert answers()
    _good(playbook("cleanup.yml", app_keep_releases=1))
    third = playbook("cleanup.yml", app_keep_releases=1)

    assert (third.code, third.changed) == (0, 0), third.output
    assert on(MACHINE, there) == before
    _nothing_is_left()
    assert answers()


def test_what_killed_modules_have_left_goes_a_day_later() -> None:
    assert on(MACHINE, "ls -d /tmp/ansible_*_payload_*")
    on(MACHINE, "touch -d '2 days ago' /tmp/ansible_*_payload_*")

    _good(playbook("cleanup.yml"))

    assert code_on(MACHINE, "ls -d /tmp/ansible_*_payload_*") != 0


# Repair


@contextmanager
def _hanging(program: str, words: str) -> Iterator[None]:
    """The program hangs when it is called with these words, before it does anything."""
    pattern = words.replace(" ", "\\ ")
    script = (
        f'#!/bin/sh\ncase "$*" in {pattern}) touch {REACHED}; sleep 600;; esac\n'
        f'exec /usr/bin/{program} "$@"\n'
    )
    on(MACHINE, f"cat >{PROGRAMS}/{program} && chmod 755 {PROGRAMS}/{program}", stdin=script)
    try:
        yield
    finally:
        on(MACHINE, f"rm -f {PROGRAMS}/{program} {REACHED}")


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("chown", "--recursive *"),
        ("systemctl", "start postgresql.service"),
        ("systemctl", "restart nginx.service"),
    ],
)
def test_a_repair_that_was_killed_while_it_mends(program: str, words: str) -> None:
    on(MACHINE, f"rm -f {OF_ROOT}")
    for breaks in (*UNITS.values(), *FILES.values()):
        on(MACHINE, breaks)
    with _hanging(program, words):
        run = Begun("repair.yml")
        print(run.kill(MACHINE, f"{PROGRAMS}/{program} ", "--new", REACHED))

    mended = playbook("repair.yml")
    again = playbook("repair.yml")

    assert "Mended." in _good(mended)
    assert (again.code, again.changed) == (0, 0), again.output
    on(MACHINE, f"rm {OF_ROOT}")
    _nothing_is_left()
    assert answers()


def _served() -> str:
    return served_certificate(DOMAIN, address_of(MACHINE)).strip()


def test_a_repair_that_was_killed_between_a_renewal_and_its_use() -> None:
    """The new certificate is on the disk, and nginx was not told."""
    renewal = f"/etc/letsencrypt/renewal/{DOMAIN}.conf"
    short = "/run/short"
    on(
        MACHINE,
        f"cp {renewal} {renewal}.kept && sed -i '1i renew_before_expiry = 10000 days' {renewal} "
        f"&& openssl req -x509 -newkey rsa:2048 -nodes -days 3 -subj /CN={DOMAIN} -keyout {short}.key "
        f"-out {short}.crt 2>/dev/null && ln -sfn {short}.crt {TLS} "
        f"&& ln -sfn {short}.key {TLS.removesuffix('crt')}key",
    )
    before = _served()
    try:
        with _hanging("systemctl", "reload nginx.service"):
            run = Begun("repair.yml")
            print(run.kill(MACHINE, f"{PROGRAMS}/systemctl ", "--new", REACHED))
    finally:
        on(MACHINE, f"mv {renewal}.kept {renewal}")
    assert _served() == before
    assert "/live/" in on(MACHINE, f"readlink {TLS}")

    _good(playbook("repair.yml"))

    assert _served() != before
    assert _served() in on(MACHINE, f"cat {TLS}")
    again = playbook("repair.yml")
    assert (again.code, again.changed) == (0, 0), again.output
    _nothing_is_left()
    assert answers()
