"""The module of Redis's users and settings, and what the role lets the service's user do."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redis
import yaml
from redis.exceptions import NoPermissionError

from tests.ansible.modules import ROOT, load_module
from tests.servers import RealRedis, _redis_binary

module = load_module("horizon_redis")

PASSWORD = "app-p@ss/w:rd+%20"
OTHER_PASSWORD = "another-password"
USERS = yaml.safe_load((ROOT / "roles/redis/vars/main.yml").read_text())["redis_users"]
RULES: Mapping[str, str] = {
    "horizon" if "{{" in user["name"] else user["name"]: user["rules"] for user in USERS
}


class Server(RealRedis):
    """A Redis with an ACL file, as the role's unit starts it."""

    def __init__(self) -> None:
        super().__init__()
        self.acl_file = self.folder / "users.acl"
        self.acl_file.write_text("")

    def _command(self) -> list[str | Path]:
        return [*super()._command(), "--aclfile", str(self.acl_file)]

    def _answers(self) -> bool:
        with self.client() as client:
            try:
                return bool(client.ping())
            except redis.AuthenticationError:
                return True
            except redis.ConnectionError:
                return False

    def as_user(self, name: str, password: str) -> redis.Redis:
        return redis.Redis(port=self.port, username=name, password=password, decode_responses=True)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/redis-server").symlink_to(_redis_binary())
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    server = Server()
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def run(server: Server, tmp_path: Path) -> Any:
    """Runs the module; keywords change the role's wishes."""

    def run_once(*, check_mode: bool = False, app_password: str = PASSWORD, **config: str) -> Any:
        lines = {"port": str(server.port), "bind": "127.0.0.1", "aclfile": str(server.acl_file)}
        config_file = tmp_path / "ours.conf"
        config_file.write_text(
            "".join(f"{name} {value}\n" for name, value in {**lines, **config}.items())
        )
        passwords = {"horizon": app_password, "default": None}
        users = [
            {"name": name, "rules": rules, "password": passwords.get(name, f"{name}-password")}
            for name, rules in RULES.items()
        ]
        ansible = SimpleNamespace(
            params={
                "config_file": str(config_file),
                "admin_file": str(tmp_path / "admin"),
                "users": users,
                "owner": "root",
            },
            check_mode=check_mode,
            set_owner_if_different=lambda _path, _owner, changed: changed,
            set_group_if_different=lambda _path, _owner, changed: changed,
            set_mode_if_different=lambda _path, _mode, changed: changed,
            atomic_move=os.replace,
        )
        done = module.Run(ansible)
        done.run()
        return done

    return run_once


@pytest.fixture
def prepared(server: Server, run: Any) -> Server:
    """The server with the role's users, as after its first restart."""
    run()
    server.stop()
    server.start()
    return server


def test_settings_are_read_as_redis_reads_them() -> None:
    text = '# a comment with "quotes\n\nsave ""\nbind 127.0.0.1 -::1\nMaxMemory 64mb\n'

    assert module.read_config(text) == {
        "save": "",
        "bind": "127.0.0.1 -::1",
        "maxmemory": "64mb",
    }


@pytest.mark.parametrize(
    ("wanted", "held", "same"),
    [
        ("64mb", "67108864", True),
        ("64M", "64000000", True),
        ("64mb", "64000000", False),
        ("yes", "yes", True),
        ("127.0.0.1", "127.0.0.1 -::1", False),
    ],
)
def test_sizes_are_compared_in_bytes(wanted: str, held: str, same: bool) -> None:
    assert module.same_value(wanted, held) is same


def test_first_run_keeps_the_data_and_asks_for_a_restart(server: Server, run: Any) -> None:
    with server.client() as client:
        client.config_set("appendonly", "no")
        client.set("hb:earlier", "kept")

    done = run()

    assert done.restart == ["Redis does not know its users yet"]
    with server.client() as client:
        assert client.config_get("appendonly")["appendonly"] == "yes"
    server.kill()
    server.start()
    with server.as_user("horizon", PASSWORD) as client:
        assert client.get("hb:earlier") == "kept"


def test_second_run_changes_nothing(prepared: Server, run: Any) -> None:
    done = run()

    assert (done.changes, done.restart) == ([], [])


def test_files_that_redis_rewrote_are_not_changed_back(prepared: Server, run: Any) -> None:
    admin = (Path(run().module.params["admin_file"])).read_text().strip()
    with prepared.as_user("admin", admin) as client:
        client.execute_command("ACL", "SETUSER", "sentinel", "on", ">words", "+ping")
        client.execute_command("ACL", "SAVE")

    done = run()

    assert (done.changes, done.restart) == ([], [])
    assert "user sentinel" in prepared.acl_file.read_text()


def test_changed_password_and_setting_are_live_without_a_restart(
    prepared: Server, run: Any
) -> None:
    done = run(app_password=OTHER_PASSWORD, maxmemory="64mb")

    assert done.restart == []
    with prepared.as_user("horizon", OTHER_PASSWORD) as client:
        assert client.info("memory")["maxmemory"] == 64 * 1024 * 1024
    with prepared.as_user("horizon", PASSWORD) as client, pytest.raises(redis.AuthenticationError):
        client.ping()


def test_check_mode_tells_and_changes_nothing(prepared: Server, run: Any) -> None:
    before = prepared.acl_file.read_text()

    done = run(check_mode=True, app_password=OTHER_PASSWORD, maxmemory="64mb")

    assert len(done.changes) == 3
    assert prepared.acl_file.read_text() == before
    with prepared.as_user("horizon", PASSWORD) as client:
        assert client.info("memory")["maxmemory"] == 0


def test_setting_that_cannot_be_changed_live_asks_for_a_restart(prepared: Server, run: Any) -> None:
    done = run(databases="3")

    assert done.restart == ["databases cannot be changed while Redis runs"]


def test_no_password_stands_in_the_file_of_users(prepared: Server) -> None:
    text = prepared.acl_file.read_text()

    assert PASSWORD not in text
    assert text.count("#") == 4


def test_service_can_do_whatever_it_does_with_redis(prepared: Server) -> None:
    url = f"redis://horizon:app-p%40ss%2Fw%3Ard%2B%2520@127.0.0.1:{prepared.port}/0"

    done = subprocess.run(
        [sys.executable, ROOT / "molecule/redis/as_service.py"],
        env={**os.environ, "REDIS_URL": url},
        capture_output=True,
        text=True,
        timeout=300,
    )

    assert (done.stdout, done.stderr) == ("served\n", "")


@pytest.mark.parametrize(
    "command",
    [
        "FLUSHALL",
        "FLUSHDB",
        "KEYS *",
        "GET other",
        "SET other 1",
        "PUBLISH other 1",
        "CONFIG GET dir",
        "ACL LIST",
        "SHUTDOWN",
        "SCRIPT FLUSH",
        "CLIENT KILL ID 1",
        "REPLICAOF NO ONE",
    ],
)
def test_service_can_do_nothing_else(prepared: Server, command: str) -> None:
    with prepared.as_user("horizon", PASSWORD) as client, pytest.raises(NoPermissionError):
        client.execute_command(*command.split())


def test_script_is_held_to_the_same_keys(prepared: Server) -> None:
    with (
        prepared.as_user("horizon", PASSWORD) as client,
        pytest.raises(redis.ResponseError, match=r"(?i)acl|permission"),
    ):
        client.eval("return redis.call('GET', 'other')", 0)


def test_nobody_is_let_in_without_a_password(prepared: Server) -> None:
    with prepared.client() as client, pytest.raises(redis.AuthenticationError):
        client.ping()
