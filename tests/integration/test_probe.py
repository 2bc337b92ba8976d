"""`horizonctl probe` and `web --probe`: a release is proven without touching what is live."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlencode

import pytest
import redis
from sqlalchemy import text
from twilio.request_validator import RequestValidator

from service.demo.emulators.phone import inbound_form
from service.probe import SCRIPT, ProbeError, check_redis
from service.store.database import Database
from service.store.redis_client import RedisStore
from tests.server_process import PATIENCE_S
from tests.stack import ACCOUNT_SID, AUTH_TOKEN, CONTACT, NUMBER, Stack, wait_until
from tests.web_process import ROOT, WebProcess

# What is refused before SQL is asked, or has nothing to do with it.
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

COMMAND = re.compile(r"redis\.call\('([A-Z]+)'")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose path is short enough for sockets."""
    with TemporaryDirectory(prefix="hb-") as name:
        yield Path(name)


def command(*options: str) -> list[str]:
    return [sys.executable, "-m", "service", "probe", *options]


def environment(stack: Stack, root: Path = ROOT, **changes: str) -> dict[str, str]:
    return {**os.environ, **stack.variables, **changes, "PYTHONPATH": str(root)}


def probe(
    stack: Stack, folder: Path, *options: str, root: Path = ROOT, **changes: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command("--dir", str(folder), "--timeout", str(PATIENCE_S), *options),
        env=environment(stack, root, **changes),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S * PATIENCE_S,
        check=False,
    )


def changed_release(folder: Path, module: str, line: str) -> Path:
    """A copy of this release in which a module ends with this line."""
    release = folder / "release"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "service", release / "service", ignore=ignored)
    with (release / module).open("a") as source:
        source.write(f"\n{line}\n")
    return release


def failure(result: subprocess.CompletedProcess[str]) -> str:
    """The one sentence of a probe that failed."""
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.count("\n") == 1
    assert result.stderr.endswith(".\n")
    return result.stderr


def keys_of(stack: Stack) -> list[Any]:
    client: redis.Redis = stack.container.redis.client
    keys: list[Any] = client.keys("*")
    return sorted(keys)


def test_a_release_that_works_passes_and_leaves_nothing(stack: Stack, folder: Path) -> None:
    spool = stack.settings.spool_dir
    before = keys_of(stack)
    metrics = sorted(stack.settings.metrics_folder.iterdir())

    result = probe(stack, folder, "--release", "r7", "--json")

    assert result.returncode == 0, result.stderr
    answer = json.loads(result.stdout)
    assert (answer["release"], answer["works"]) == ("r7", True)
    assert list(folder.iterdir()) == []
    assert keys_of(stack) == before
    assert list(spool.glob("*.msg")) == []
    assert sorted(stack.settings.metrics_folder.iterdir()) == metrics
    assert processes_that_name(str(folder)) == []


@on_sqlite
def test_redis_that_is_away_is_named(stack: Stack, folder: Path) -> None:
    result = probe(stack, folder, REDIS_URL="redis://127.0.0.1:9/0")

    assert "REDIS_URL" in failure(result)


@on_sqlite
@pytest.mark.parametrize(
    "rules",
    [
        ("~hb:*", "&hb:*", "+@all", "-zadd"),
        ("~other:*", "&hb:*", "+@all"),
        ("~hb:*", "&other", "+@all"),
        ("~hb:*", "&hb:*", "+@all", "-@scripting"),
    ],
    ids=["a-command", "keys", "channels", "scripts"],
)
def test_redis_that_refuses_what_scripts_need_is_named(
    stack: Stack, rules: tuple[str, ...]
) -> None:
    admin = stack.container.redis.client
    admin.execute_command("ACL", "SETUSER", "limited", "reset", "on", ">secret", *rules)
    store = RedisStore(stack.settings.redis_url.replace("redis://", "redis://limited:secret@"), 4)

    with pytest.raises(ProbeError, match="Redis refuses"):
        check_redis(store)

    store.close()
    admin.execute_command("ACL", "DELUSER", "limited")
    assert [key for key in keys_of(stack) if b"probe" in key] == []


@on_sqlite
def test_a_user_of_redis_with_only_our_keys_is_enough(stack: Stack, folder: Path) -> None:
    admin = stack.container.redis.client
    rules = ("~hb:*", "&hb:*", "+@all", "-@admin", "-@dangerous")
    admin.execute_command("ACL", "SETUSER", "limited", "reset", "on", ">secret", *rules)
    url = stack.settings.redis_url.replace("redis://", "redis://limited:secret@")

    result = probe(stack, folder, REDIS_URL=url)

    admin.execute_command("ACL", "DELUSER", "limited")
    assert result.returncode == 0, result.stderr


def test_a_schema_that_is_behind_names_the_upgrade(stack: Stack, folder: Path) -> None:
    database = Database(stack.settings.sqlalchemy_url)
    with database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))
    database.close()

    assert "horizonctl db upgrade" in failure(probe(stack, folder))


@on_sqlite
def test_a_web_process_that_dies_at_its_start_gives_its_last_error(
    stack: Stack, folder: Path
) -> None:
    (folder / "file").write_text("no folder")

    result = probe(stack, folder, SPOOL_DIR=str(folder / "file" / "spool"))

    assert "SPOOL_DIR: the folder" in failure(result)


@on_sqlite
def test_settings_that_are_not_right_are_named(stack: Stack, folder: Path) -> None:
    assert "SECRET_KEY: " in failure(probe(stack, folder, SECRET_KEY="short"))


@on_sqlite
@pytest.mark.parametrize("module", ["service/worker.py", "service/web/openapi.py"])
def test_a_release_that_lacks_a_package_is_refused(
    stack: Stack, folder: Path, tmp_path: Path, module: str
) -> None:
    release = changed_release(tmp_path, module, "import a_package_of_tomorrow")

    result = probe(stack, folder, root=release)

    assert "a_package_of_tomorrow" in failure(result)


@on_sqlite
def test_a_web_process_that_is_too_slow_is_named(
    stack: Stack, folder: Path, tmp_path: Path
) -> None:
    release = changed_release(
        tmp_path, "service/web/application.py", "import threading; threading.Event().wait()"
    )

    result = probe(stack, folder, "--timeout", "1", root=release)

    assert "--timeout" in failure(result)
    assert processes_that_name(str(folder)) == []


@on_sqlite
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_web_process_ends_with_the_probe(
    stack: Stack, folder: Path, number: signal.Signals
) -> None:
    with subprocess.Popen(
        command("--dir", str(folder)), env=environment(stack), start_new_session=True
    ) as process:
        wait_until(lambda: len(processes_that_name(str(folder))) > 1, "web process")
        process.send_signal(number)
        process.wait(PATIENCE_S)

    wait_until(lambda: not processes_that_name(str(folder)), "end of the web process")
    assert number == signal.SIGKILL or list(folder.iterdir()) == []


def test_a_probe_takes_no_message(stack: Stack, folder: Path) -> None:
    path = folder / "p.sock"
    form = inbound_form(ACCOUNT_SID, NUMBER, CONTACT, "hola")
    url = f"{stack.settings.public_base_url}/webhook/whatsapp"
    headers = {
        "Content-Type": "application/x-www-form-urlencoded",
        "X-Twilio-Signature": RequestValidator(AUTH_TOKEN).compute_signature(url, form),
    }
    body = urlencode(form).encode()
    before = keys_of(stack)
    with WebProcess(stack.variables, "--probe", "--bind", f"unix:{path}") as web:
        web.private = path
        web.wait_until_ready()

        signed, _ = web.ask("/webhook/whatsapp", body=body, headers=headers)
        headers.pop("X-Twilio-Signature")
        unsigned, _ = web.ask("/webhook/whatsapp", body=body, headers=headers)
        # A thread in the background would have listened, and written, since its start.
        client: redis.Redis = stack.container.redis.client
        assert client.client_list(_type="pubsub") == []
        assert web.stop() == 0

    assert keys_of(stack) == before
    assert (signed, unsigned) == (503, 403)
    assert list(stack.settings.spool_dir.glob("*.msg")) == []


def test_the_probes_script_uses_every_command_of_the_stores_scripts() -> None:
    used = {
        name
        for path in (ROOT / "service" / "store").rglob("*.py")
        for name in COMMAND.findall(path.read_text(encoding="utf-8"))
    }

    assert len(used) > 15
    assert set(COMMAND.findall(SCRIPT)) == used


def processes_that_name(word: str) -> list[int]:
    """The processes that have it in their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if word.encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found
