"""The backup tool on a host of stand-ins around a real Redis: taken, lost, restored, tried out."""

from __future__ import annotations

import fcntl
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ansible.backup_host import BackupHost, make_host
from tests.ansible.conftest import REPOSITORY
from tests.server_process import wait_until

RECONCILED: dict[str, Any] = {"trimmed": 1, "answered": 20, "left": 5, "unsettled": [], "lost": []}

locks = importlib.import_module("ansible.module_utils.horizon_lock")

IS_REQUIRED = os.environ.get("HORIZON_REQUIRE_RESTIC") == "1"
HAS_RESTIC = shutil.which("restic") is not None
SFTP_SERVER = os.environ.get("SFTP_SERVER", "/usr/lib/openssh/sftp-server")

pytestmark = [
    pytest.mark.servers,
    pytest.mark.skipif(
        shutil.which("redis-cli") is None and not IS_REQUIRED,
        reason="needs redis-server, redis-tools",
    ),
]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[BackupHost]:
    """With restic, or as much of a stand-in as a machine without it allows."""
    host = make_host(tmp_path, real_restic=HAS_RESTIC or IS_REQUIRED)
    yield host
    host.systemctl("stop", "redis-server.service")


@pytest.fixture(scope="module")
def first_backup(tmp_path_factory: pytest.TempPathFactory) -> tuple[BackupHost, Path]:
    """A host with one backup, and a copy of its folder: restic takes seconds to derive each key."""
    host = make_host(tmp_path_factory.mktemp("host"), real_restic=HAS_RESTIC or IS_REQUIRED)
    host.done("init")
    client = host.client()
    for n in range(50):
        client.rpush(f"hb:mb:{n}", "event")
    client.set("hb:session:1", "context", ex=3_600)
    (host.folder / "spool" / "1.msg").write_text("message")
    host.done("run")
    host.answer(restore_reconcile=RECONCILED)
    host.systemctl("stop", "redis-server.service")
    copy = tmp_path_factory.mktemp("copy") / "host"
    shutil.copytree(host.folder, copy)
    return host, copy


@pytest.fixture
def backed_up(first_backup: tuple[BackupHost, Path]) -> Iterator[BackupHost]:
    """A host with a repository, some data, and one backup of them."""
    host, copy = first_backup
    shutil.rmtree(host.folder)
    shutil.copytree(copy, host.folder)
    host.systemctl("start", "redis-server.service")
    host.client()
    yield host
    host.systemctl("stop", "redis-server.service")


def test_a_repository_is_made_once(host: BackupHost) -> None:
    assert [host.done("init"), host.done("init")] == [{"changed": True}, {"changed": False}]


def test_a_backup_has_everything_but_the_key_that_opens_it(backed_up: BackupHost) -> None:
    found = backed_up.folder / "found"
    snapshot = backed_up.done("snapshots")["snapshots"][-1]["id"]
    if (backed_up.folder / "bin" / "restic").exists():
        [held] = [path for path in (backed_up.folder / "repository").iterdir() if path.is_dir()]
        shutil.copytree(held, found)
    else:
        _restic(backed_up, "restore", snapshot, "--target", str(found))

    names = {path.name for path in found.rglob("*") if path.is_file()}
    env = next(found.rglob("env")).read_text()

    assert names == {
        *("redis.rdb", "env", "database.sqlite", "manifest.json", "1.msg", "bots.crt"),
    }
    assert "hidden-key" not in env
    assert 'DEBOUNCE_MS="800"' in env
    assert not (backed_up.folder / "backup" / "stage").exists()
    assert backed_up.state()["backup"]["status"] == "ok"


def test_lost_data_come_back_and_what_was_there_is_kept(backed_up: BackupHost) -> None:
    client = backed_up.client()
    client.flushall()
    client.set("hb:after", "the loss")
    (backed_up.folder / "horizon.db").write_text("another database")
    (backed_up.folder / "spool" / "1.msg").unlink()

    told = backed_up.done("restore")

    client = backed_up.client()
    assert sorted(client.scan_iter("hb:mb:*")) == sorted(f"hb:mb:{n}".encode() for n in range(50))
    assert client.ttl("hb:session:1") > 0
    assert client.config_get("appendonly") == {"appendonly": "yes"}
    assert (backed_up.folder / "horizon.db").read_text() == "rows of the database"
    assert (backed_up.folder / "spool" / "1.msg").read_text() == "message"
    kept = Path(told["kept"])
    assert (kept / "horizon.db").read_text() == "another database"
    assert (kept / "appendonlydir").is_dir()
    assert (told["redis_keys"], told["reconciled"]) == (51, RECONCILED)
    assert not (backed_up.folder / "backup" / "restoring").exists()


def test_workers_are_held_before_anything_starts_and_compared_after(backed_up: BackupHost) -> None:
    backed_up.done("restore")

    calls = [" ".join(call.split()[:2]) for call in backed_up.calls()]
    assert calls[1:] == [
        *("restore check", "restore hold", "restore load"),
        *("health --json", "restore reconcile"),
    ]
    hold = next(call for call in backed_up.calls() if call.startswith("restore hold"))
    assert "--backup-at 20" in hold


def test_the_keys_outlive_another_restart(backed_up: BackupHost) -> None:
    backed_up.client().flushall()
    backed_up.done("restore")

    backed_up.systemctl("restart", "redis-server.service")

    assert backed_up.client().dbsize() == 51


def test_a_backup_that_cannot_be_used_here_changes_nothing(backed_up: BackupHost) -> None:
    backed_up.answer(restore_check={"refused": "SECRET_KEY does not decrypt."})
    backed_up.client().set("hb:present", "1")

    told = backed_up.refused("restore")

    assert "SECRET_KEY does not decrypt" in told
    assert backed_up.client().get("hb:present") == b"1"
    assert "stop horizonai" not in (backed_up.folder / "systemctl.log").read_text()
    assert not (backed_up.folder / "backup" / "restoring").exists()


def test_an_unknown_snapshot_is_named_beside_the_known(backed_up: BackupHost) -> None:
    known = backed_up.done("snapshots")["snapshots"][0]["id"]

    told = backed_up.refused("restore", "--snapshot", "0000beef")

    assert "There is no snapshot 0000beef" in told
    assert known in told


def test_the_empty_backup_of_a_new_server_does_not_pass_for_the_lost_data(
    backed_up: BackupHost,
) -> None:
    (old,) = backed_up.done("snapshots")["snapshots"]
    backed_up.answer(bots=0)
    backed_up.done("run")
    _, empty = backed_up.done("snapshots")["snapshots"]
    backed_up.client().set("hb:present", 1)

    told = backed_up.refused("restore")

    assert f"The newest backup, {empty['id']}" in told
    assert f"has no bot; {old['id']}" in told
    assert f"-e snapshot={old['id']}" in told
    assert backed_up.client().get("hb:present") == b"1"
    backed_up.answer(restore_reconcile=RECONCILED)
    assert backed_up.done("restore", "--snapshot", empty["id"])["snapshot"] == empty["id"]


@pytest.mark.parametrize("command", ["init", "run", "restore", "drill", "snapshots"])
def test_a_wrong_password_is_said_with_its_remedy(backed_up: BackupHost, command: str) -> None:
    (backed_up.folder / "password").write_text("another password\n")

    told = backed_up.refused(command)

    assert "the password does not open" in told
    assert "vault_backup_password" in told


@pytest.mark.parametrize("command", ["restore", "drill"])
def test_without_a_backup_it_is_said_how_to_take_one(host: BackupHost, command: str) -> None:
    host.done("init")

    assert "ansible-playbook backup.yml" in host.refused(command)


def test_a_missing_repository_is_said(host: BackupHost) -> None:
    assert "there is no repository at" in host.refused("run")


def test_a_failed_backup_is_remembered_with_the_last_good_one(backed_up: BackupHost) -> None:
    before = backed_up.state()["backup"]["last_success"]
    backed_up.systemctl("stop", "redis-server.service")

    told = backed_up.refused("run")

    state = backed_up.state()["backup"]
    assert "Redis cannot be copied" in told
    assert (state["status"], state["last_success"]) == ("failed", before)
    assert "Redis cannot be copied" in state["error"]
    backed_up.systemctl("start", "redis-server.service")


def test_an_interrupted_restore_is_done_by_the_next(backed_up: BackupHost) -> None:
    backed_up.answer(restore_load={"refused": "No space left."}, restore_reconcile=RECONCILED)
    assert "No space left" in backed_up.refused("restore")
    assert (backed_up.folder / "backup" / "restoring").exists()
    assert "A restore has not come to its end" in backed_up.refused("run")

    backed_up.answer(restore_reconcile=RECONCILED)
    backed_up.done("restore")

    assert backed_up.client().dbsize() == 51
    assert (backed_up.folder / "horizon.db").read_text() == "rows of the database"
    assert not (backed_up.folder / "backup" / "restoring").exists()


def test_what_cannot_be_compared_leaves_the_workers_held_and_fails(backed_up: BackupHost) -> None:
    backed_up.answer(restore_reconcile={**RECONCILED, "unsettled": [["cv_1", "timeout"]]})

    ended = backed_up.tool("restore")

    assert ended.returncode == 1
    assert json.loads(ended.stdout)["reconciled"]["unsettled"] == [["cv_1", "timeout"]]
    assert "run `horizonctl restore reconcile`" in ended.stderr


def test_what_twilio_does_not_list_is_no_good_end(backed_up: BackupHost) -> None:
    backed_up.answer(restore_reconcile={**RECONCILED, "unlisted": [["bot_1", "20003"]]})

    ended = backed_up.tool("restore")

    assert ended.returncode == 1
    told = json.loads(ended.stdout)
    assert f"horizonctl restore hold --backup-at {told['taken_at']}" in ended.stderr
    assert "bot_1 (20003)" in ended.stderr


def test_age_of_answers_is_the_settings_or_the_commands(backed_up: BackupHost) -> None:
    backed_up.answer(restore_reconcile=RECONCILED)
    backed_up.done("restore", "--answer-max-age", "60")
    backed_up.done("restore")

    asked = [call for call in backed_up.calls() if call.startswith("restore reconcile")]
    assert ["--max-age 60" in call for call in asked] == [True, False]


def test_settings_that_differ_are_named_without_their_values(backed_up: BackupHost) -> None:
    (backed_up.folder / "env").write_text('REDIS_URL="redis://y"\nSECRET_KEY="new"\nNEW="1"\n')

    told = backed_up.done("restore")

    assert told["settings_that_differ"] == ["DEBOUNCE_MS", "NEW", "REDIS_URL"]


def test_a_drill_counts_and_leaves_nothing(backed_up: BackupHost) -> None:
    manifest = next(call for call in backed_up.calls() if call.startswith("backup bundle"))
    taken_at = manifest.split("--taken-at ")[1].split()[0]
    answer = {
        "taken_at": taken_at,
        "rows": 7,
        "redis_keys": 51,
        "redis_lasting_keys": 50,
        "answered_in_s": 0.2,
    }
    backed_up.answer(restore_drill=answer)
    told = backed_up.done("drill")
    backed_up.answer(restore_drill={**answer, "redis_lasting_keys": 12})
    refused = backed_up.refused("drill")

    assert told["rows"] == 7
    assert "Redis has loaded 12 lasting keys" in refused
    assert backed_up.state()["drill"]["status"] == "failed"
    assert not (backed_up.folder / "backup" / "drill").exists()


def test_options_reach_every_command_of_restic(host: BackupHost) -> None:
    if not (IS_REQUIRED or (HAS_RESTIC and Path(SFTP_SERVER).exists())):
        pytest.skip("needs restic, openssh-sftp-server")
    host.configure(
        repository=f"sftp:backup.invalid:{host.folder / 'repository'}",
        options=[f"sftp.command={SFTP_SERVER}"],
    )
    host.done("init")
    host.client().set("hb:present", "1")
    taken = host.done("run")
    host.client().flushall()
    host.answer(restore_reconcile=RECONCILED)

    known = host.done("snapshots")["snapshots"]
    host.done("restore")

    assert [each["id"] for each in known] == [taken["snapshot"]]
    assert host.client().get("hb:present") == b"1"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("unable to open config file: Stat: Access Denied.", "Stat: Access Denied."),
        ("unable to open config file: client.GetObject: no such host", "no such host"),
        ("unable to open config file: Lstat: permission denied", "permission denied"),
    ],
)
def test_repository_that_is_not_reached_is_not_made(host: BackupHost, said: str, told: str) -> None:
    """As restic told it of an S3 store without keys, without a network, and of a folder over SFTP."""
    restic_says(host, f"Warning: no such file or directory\nFatal: {said}")

    refused = host.refused("init")

    assert "The repository cannot be opened: " in refused
    assert refused.endswith(f"{told.rstrip('.')}.")
    assert "there is no repository" not in refused


@pytest.mark.parametrize(
    "said",
    [
        "unable to open config file: stat /b/config: no such file or directory",
        "unable to open config file: Lstat: file does not exist",
        "unable to open config file: Stat: The specified bucket does not exist",
        "unable to open config file: Stat: The specified key does not exist.",
        "repository does not exist: unable to open config file: stat /b/config: no such file",
    ],
)
def test_repository_that_is_not_there_is_told_as_that(host: BackupHost, said: str) -> None:
    restic_says(host, f"Fatal: {said}")

    assert "there is no repository at" in host.refused("run")


def test_two_at_once_are_refused(host: BackupHost) -> None:
    with open(host.folder / "backup" / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert "runs on this host already" in host.refused("run")


def test_a_restore_waits_for_no_deploy_and_touches_nothing(backed_up: BackupHost) -> None:
    lock = backed_up.folder / "lock"
    backed_up.configure(releases_lock=str(lock))
    with locks.alone(backed_up.folder, "A deploy"):
        told = backed_up.refused("restore")
        # A backup only reads.
        backed_up.done("run")
    assert told.startswith("Nothing was restored. A deploy runs on this host since ")
    assert "wait until it has ended" in told
    assert not (backed_up.folder / "backup" / "kept").exists()

    lock.write_text("")
    with open(lock) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert "A deploy runs on this host. Remedy" in backed_up.refused("restore")

    backed_up.answer(restore_reconcile=RECONCILED)
    backed_up.done("restore")


def test_a_deploy_is_told_of_the_restore(backed_up: BackupHost) -> None:
    """In the words of the lock that the modules read."""
    lock, saw = backed_up.folder / "lock", backed_up.folder / "saw"
    backed_up.configure(releases_lock=str(lock))
    stand_in = backed_up.folder / "slow" / "restic"
    stand_in.parent.mkdir()
    stand_in.write_text(
        f"#!/bin/sh\nflock --nonblock --conflict-exit-code 9 {lock} true\n"
        f"echo $? >{saw}\ncp {lock} {saw}.text\nexit 1\n"
    )
    stand_in.chmod(0o755)
    backed_up.environment["PATH"] = f"{stand_in.parent}:{backed_up.environment['PATH']}"

    backed_up.refused("restore")

    assert saw.read_text() == "9\n"
    told = locks.holder(saw.with_suffix(".text").read_text())
    assert told.startswith("A restore runs on this host since ")
    # It ends with the process.
    locks.check_free(backed_up.folder)


def test_what_outlives_a_killed_backup_keeps_the_next_one_out_until_it_ends(
    host: BackupHost,
) -> None:
    host.done("init")
    stand_in, place = host.folder / "slow" / "restic", host.folder / "pid"
    stand_in.parent.mkdir()
    stand_in.write_text(
        f"#!/bin/sh\necho $$ >{place}.new && mv {place}.new {place}\nexec sleep 60\n"
    )
    stand_in.chmod(0o755)
    quick = host.environment["PATH"]
    host.environment["PATH"] = f"{stand_in.parent}:{quick}"
    tool = subprocess.Popen(
        [
            sys.executable,
            "-P",
            "-m",
            "horizon_backup",
            "run",
            "--config",
            host.folder / "backup.json",
        ],
        env=host.environment,
        stdout=subprocess.DEVNULL,
    )
    wait_until(place.exists, "restic")
    tool.kill()
    tool.wait()
    host.environment["PATH"] = quick

    told = host.refused("run")
    os.kill(int(place.read_text()), signal.SIGKILL)
    wait_until(lambda: host.tool("run").returncode == 0, "the next backup")

    assert "runs on this host already: wait for it" in told
    assert not (host.folder / "backup" / "stage").exists()


def test_what_killed_runs_have_left_goes(backed_up: BackupHost) -> None:
    pack = backed_up.folder / "repository" / "data" / "00" / "0011-tmp-1"
    young = pack.with_name("0022-tmp-2")
    cache = backed_up.folder / "backup" / "cache" / "restic-check-cache-1"
    scratch = backed_up.folder / "tmp" / "hb-drill-1"
    for folder in (pack.parent, cache, scratch):
        folder.mkdir(parents=True, exist_ok=True)
    for file in (pack, young):
        file.write_text("half")
    os.utime(pack, (time.time() - 90_000,) * 2)
    backed_up.environment["TMPDIR"] = str(scratch.parent)
    backed_up.answer(restore_drill={"refused": "PostgreSQL does not start."})

    backed_up.done("run")
    backed_up.refused("drill")

    assert [path.exists() for path in (pack, young, cache, scratch)] == [False, True, False, False]


def restic_says(host: BackupHost, text: str) -> None:
    """Whatever restic is asked, it ends with this."""
    stand_in = host.folder / "saying" / "restic"
    stand_in.parent.mkdir()
    where = "Is there a repository at the following location?\nthere"
    stand_in.write_text(f"#!/bin/sh\ncat >&2 <<'END'\n{text}\n{where}\nEND\nexit 1\n")
    stand_in.chmod(0o755)
    host.environment["PATH"] = f"{stand_in.parent}:{host.environment['PATH']}"


def _restic(host: BackupHost, *words: str) -> None:
    environment = {
        **host.environment,
        "RESTIC_REPOSITORY": host.config["repository"],
        "RESTIC_PASSWORD_FILE": host.config["password_file"],
    }
    restic = shutil.which("restic")
    assert restic is not None
    subprocess.run([restic, *words], env=environment, check=True, capture_output=True)


def test_of_two_that_say_they_are_the_primary_the_followed_one_is_copied(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(REPOSITORY / "roles/backup/files")
    redis_copy = importlib.import_module("horizon_backup.redis_copy")
    told = {
        "a": "role:master\nconnected_slaves:0\n",
        "b": "role:master\nconnected_slaves:1\n",
        "c": "role:slave\nconnected_slaves:0\n",
    }
    monkeypatch.setattr(redis_copy, "_replication", lambda _, node: told[node])
    redis = redis_copy.Redis(nodes=("a", "b", "c"))

    assert redis_copy.primary(redis).host == "b"
    told["b"] = told["a"]
    with pytest.raises(redis_copy.ToolError, match="for certain"):
        redis_copy.primary(redis)


def test_of_a_clusters_redis_the_primary_is_copied(tmp_path: Path) -> None:
    host = make_host(tmp_path, real_restic=False)
    try:
        client = host.client()
        client.rpush("hb:mb:1", "event")
        redis = {**host.config["redis"], "local": False, "nodes": ["127.0.0.9", "127.0.0.1"]}
        host.configure(redis=redis)
        host.done("init")

        host.done("run")
        assert len(list((host.folder / "repository").rglob("redis.rdb"))) == 1
        assert "Redis runs on another host" in host.refused("restore")

        client.replicaof("127.0.0.9", 1)
        assert "None of 127.0.0.9, 127.0.0.1 is Redis's primary now" in host.refused("run")

        client.replicaof("NO", "ONE")
        host.configure(redis={**redis, "nodes": ["127.0.0.8", "127.0.0.9", "127.0.0.1"]})
        assert "(1 of 3 do)" in host.refused("run")
        client.close()
    finally:
        host.systemctl("stop", "redis-server.service")
