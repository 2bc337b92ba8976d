"""`horizonctl alerts`: messages over real HTTP and to a real program, once a change."""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, update

from service.alerts.findings import Findings
from service.alerts.findings import failed_units as failed_units_of_this_host
from service.cli.main import main
from service.container import Container
from service.conversation.clock import utc_now
from service.settings import Settings, load_settings
from service.store.heartbeats import Heartbeat, Heartbeats
from service.store.models import ContactRow, ConversationRow, TurnRow
from service.store.redis_client import RedisStore
from tests.servers import is_alive
from tests.stack import ACCOUNT_SID, NUMBER, MakeStack, Stack, wait_until
from tests.unit.loopback_vendor import Answer, LoopbackVendor

Check = Callable[..., dict[str, Any]]


@pytest.fixture
def hook() -> Iterator[LoopbackVendor]:
    with LoopbackVendor() as vendor:
        yield vendor


@pytest.fixture
def failed_units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A systemctl that tells of these failed units, as systemd 252 does with --output=json."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def tell(*names: str, code: int = 0) -> None:
        rows = [{"unit": name, "load": "loaded", "active": "failed"} for name in names]
        program = folder / "systemctl"
        program.write_text(f"#!/bin/sh\ncat <<'END'\n{json.dumps(rows)}\nEND\nexit {code}\n")
        program.chmod(0o755)

    tell()
    return tell


@pytest.fixture
def stack(make_stack: MakeStack) -> Stack:
    stack = make_stack()
    stack.add_bot()
    return stack


@pytest.fixture
def check(
    stack: Stack,
    hook: LoopbackVendor,
    failed_units: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Check:
    """Runs `alerts check --json` as the timer does; a worker lives and a backup is new."""
    backup = tmp_path / "last-backup"
    backup.touch()
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    variables = dict(stack.variables) | {
        "PUBLIC_BASE_URL": "http://bots.example.test",
        "ALERT_URL": f"{hook.url}/hook?key=hidden",
        "ALERT_STATE_FILE": str(tmp_path / "home" / "alerts.json"),
        "ALERT_BACKUP_FILE": str(backup),
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    # This machine's own disks, memory and updates say nothing about the program.
    monkeypatch.setattr("service.alerts.host.look", _units_alone)
    beat(load_settings())

    def run(code: int = 0) -> dict[str, Any]:
        capsys.readouterr()
        ended = main(["alerts", "check", "--json"])
        said = capsys.readouterr()
        assert ended == code, said.out + said.err
        assert "hidden" not in said.out + said.err
        return dict(json.loads(said.out)) | {"err": said.err}

    return run


def _units_alone(findings: Findings, *_: object) -> None:
    failed_units_of_this_host(findings)


def beat(settings: Settings) -> None:
    """A worker's sign of life."""
    store = RedisStore(settings.redis_url, 2)
    Heartbeats(store).beat(Heartbeat("host:1", "r1", 8, 0, utc_now()))
    store.close()


def told(hook: LoopbackVendor) -> list[tuple[str, str]]:
    """Event and key of each message that came."""
    messages = [received.json for received in hook.received]
    return [(message["event"], f"{message['kind']}:{message['subject']}") for message in messages]


def test_nothing_is_sent_while_all_is_well(check: Check, hook: LoopbackVendor) -> None:
    report = check()

    assert (report["open"], report["new"], hook.received) == ({}, [], [])


def test_a_failed_unit_is_told_once_and_once_more_when_it_is_over(
    check: Check, hook: LoopbackVendor, failed_units: Callable[..., None]
) -> None:
    failed_units("horizonai-bots-backup.service", "horizonai-bots-alerts.service")
    check()
    check()
    failed_units()
    check()
    check()

    key = "unit:horizonai-bots-backup.service"
    assert told(hook) == [("firing", key), ("resolved", key)]
    firing, resolved = (received.json for received in hook.received)
    assert hook.received[0].headers["Content-Type"] == "application/json"
    assert "falló" in firing["text"]
    assert firing["title"].startswith("ALERTA: ")
    assert resolved["title"].startswith("RESUELTO: ")
    assert (resolved["since"], firing["domain"]) == (firing["since"], "bots.example.test")
    assert firing["id"] != resolved["id"]


@pytest.mark.parametrize(
    "refusal", [Answer(500), Answer(302, headers={"Location": "/other"}), Answer(ending="closed")]
)
def test_what_was_not_taken_is_sent_again_with_the_same_id_in_order(
    check: Check, hook: LoopbackVendor, failed_units: Callable[..., None], refusal: Answer
) -> None:
    hook.answer = refusal
    failed_units("nginx.service")
    failed = check(code=1)
    failed_units()
    check(code=1)
    first = hook.received[0].json["id"]
    tries = len(hook.received)
    hook.answer = Answer(204)
    after = check()

    assert "next check" in failed["err"]
    assert (failed["waiting"], tries) == (1, 2)
    assert (after["delivered"], after["waiting"]) == (2, 0)
    assert [received.json["event"] for received in hook.received[2:]] == ["firing", "resolved"]
    assert hook.received[2].json["id"] == first


def test_a_command_gets_the_json_without_the_services_secrets(
    check: Check,
    hook: LoopbackVendor,
    failed_units: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    program = tmp_path / "notify"
    program.write_text('#!/bin/sh\ncat >> "$1"\nenv > "$1.env"\n[ ! -e "$1.fail" ]\n')
    program.chmod(0o755)
    out = tmp_path / "got it"
    (tmp_path / "got it.fail").touch()
    monkeypatch.setenv("ALERT_COMMAND", f"{program} '{out}'")
    failed_units("nginx.service")

    failed = check(code=1)
    (tmp_path / "got it.fail").unlink()
    after = check()

    assert failed["failures"] == {"command": "ALERT_COMMAND ended with exit code 1"}
    assert (len(hook.received), after["waiting"]) == (1, 0), "the other channel has it already"
    lines = out.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["kind"] for line in lines] == ["unit", "unit"]
    environment = (tmp_path / "got it.env").read_text()
    assert "SECRET_KEY" not in environment
    assert "ALERT_URL" not in environment


def test_a_command_that_hangs_is_ended(
    check: Check,
    failed_units: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("service.alerts.channels.COMMAND_TIMEOUT_S", 2)
    pid = tmp_path / "pid"
    monkeypatch.setenv("ALERT_COMMAND", f"sh -c 'sleep 1000 & echo $! >{pid}; wait'")
    failed_units("nginx.service")

    report = check(code=1)

    assert "was ended" in report["failures"]["command"]
    wait_until(lambda: not is_alive(int(pid.read_text())), "the end of what the command started")


def test_each_new_dead_turn_is_told_and_the_end_when_none_is_left(
    check: Check, hook: LoopbackVendor
) -> None:
    container = Container(load_settings())
    stack = Stack(container.settings, container, *([None] * 3))  # type: ignore[arg-type]
    turns = [_dead_turn(stack, contact) for contact in ("+56922220001", "+56922220002")]
    _set_status(container, turns[1], "replied")
    check()
    check()
    _set_status(container, turns[1], "dead")
    check()
    for turn in turns:
        _set_status(container, turn, "replied")
    check()
    container.close()

    key = "dead_turn:bot_test"
    assert told(hook) == [("firing", key), ("firing", key), ("resolved", key)]
    assert [message.json["facts"].get("count") for message in hook.received[:2]] == [1, 2]
    assert "2 turnos muertos, 1 nuevos" in hook.received[1].json["text"]


def _dead_turn(stack: Stack, contact: str) -> str:
    """A row of a turn that died."""
    ident = contact[-1]
    of_bot = {"bot_id": "bot_test", "client_id": "bot_test"}
    address = f"whatsapp:{contact}"
    with stack.container.database.write() as connection:
        connection.execute(
            insert(ContactRow).values(id=f"c{ident}", identity=address, address=address, **of_bot)
        )
        connection.execute(
            insert(ConversationRow).values(
                id=f"v{ident}", contact_id=f"c{ident}", number="+56911110000", **of_bot
            )
        )
        connection.execute(
            insert(TurnRow).values(
                id=f"t{ident}", conversation_id=f"v{ident}", status="dead", ordinal=1, **of_bot
            )
        )
    return f"t{ident}"


def _set_status(container: Container, turn: str, status: str) -> None:
    with container.database.write() as connection:
        connection.execute(update(TurnRow).where(TurnRow.id == turn).values(status=status))


def test_an_old_queue_no_workers_and_an_old_backup_are_told(
    check: Check,
    hook: LoopbackVendor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DEBOUNCE_MS", "0")
    monkeypatch.setenv("ALERT_QUEUE_AGE_S", "0.2")
    container = Container(load_settings())
    stack = Stack(container.settings, container, *([None] * 3))  # type: ignore[arg-type]
    stack.send("hola")
    Heartbeats(container.redis).forget("host:1")
    old = time.time() - 40 * 3600
    os.utime(tmp_path / "last-backup", (old, old))
    wait_until(lambda: container.mailbox.depth().oldest_due_s > 0.2, "an old queue")
    check()
    container.redis.client.flushdb()
    container.close()
    beat(load_settings())
    (tmp_path / "last-backup").touch()
    check()

    keys = {"queue:all", "workers:all", "backup:last"}
    assert {key for event, key in told(hook) if event == "firing"} == keys
    assert {key for event, key in told(hook) if event == "resolved"} == keys
    texts = {message.json["kind"]: message.json["text"] for message in hook.received[:3]}
    assert "40 horas" in texts["backup"]


def test_stores_that_are_away_are_told_and_hide_what_nobody_can_see(
    check: Check, hook: LoopbackVendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load_settings()
    store = RedisStore(settings.redis_url, 2)
    Heartbeats(store).forget("host:1")
    check()
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:9/0")
    check()
    monkeypatch.setenv("REDIS_URL", settings.redis_url)
    check()
    store.close()

    assert told(hook) == [
        ("firing", "workers:all"),
        ("firing", "store:redis"),
        ("resolved", "store:redis"),
    ]


def test_what_cannot_be_watched_is_an_alert_of_its_own(
    check: Check, hook: LoopbackVendor, failed_units: Callable[..., None]
) -> None:
    failed_units("nginx.service")
    check()
    failed_units(code=1)
    check()
    failed_units("nginx.service")
    check()

    assert told(hook) == [
        ("firing", "unit:nginx.service"),
        ("firing", "unchecked:unit"),
        ("resolved", "unchecked:unit"),
    ]


def test_the_file_is_private_and_a_broken_one_is_put_aside(
    check: Check, hook: LoopbackVendor, failed_units: Callable[..., None], tmp_path: Path
) -> None:
    failed_units("nginx.service")
    check()
    file = tmp_path / "home" / "alerts.json"
    mode = stat.S_IMODE(file.stat().st_mode)
    file.write_text("{")

    report = check()

    assert mode == 0o600
    assert "could not be understood" in report["err"]
    assert told(hook) == [("firing", "unit:nginx.service")] * 2
    assert file.with_name("alerts.json.unreadable").exists()


def test_a_message_that_was_being_delivered_when_the_check_was_killed_comes_again(
    check: Check, hook: LoopbackVendor, failed_units: Callable[..., None]
) -> None:
    def killed(channel: object, message: object) -> None:
        raise SystemError

    failed_units("nginx.service")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("service.alerts.channels.Webhook.deliver", killed)
        with pytest.raises(SystemError):
            check()
    check()

    assert told(hook) == [("firing", "unit:nginx.service")]


def test_without_a_channel_the_command_says_what_to_set(
    check: Check, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("ALERT_URL")

    code = main(["alerts", "check"])

    assert code == 2
    assert "alert_url" in capsys.readouterr().err


def test_apprise_gets_the_address_in_a_file_and_not_as_an_argument(
    check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failed_units: Callable[..., None]
) -> None:
    program = tmp_path / "bin" / "apprise"
    program.write_text(
        '#!/bin/sh\necho "$@" > args\ncat > body\n'
        'while [ $# -gt 0 ]; do [ "$1" != --config ] || cat "$2" > config; shift; done\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("ALERT_URL", "mailto://ana:hidden@example.test")
    failed_units("nginx.service")

    check()

    assert (tmp_path / "config").read_text() == "mailto://ana:hidden@example.test\n"
    assert "hidden" not in (tmp_path / "args").read_text()
    assert "nginx.service" in (tmp_path / "body").read_text(encoding="utf-8")


def test_an_address_for_apprise_without_apprise_says_so(
    check: Check, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ALERT_URL", "slack://hidden/hidden/hidden")

    code = main(["alerts", "check"])
    said = capsys.readouterr().err

    assert code == 2
    assert "apt-get install apprise" in said
    assert "hidden" not in said


def test_a_test_message_says_which_channel_took_it(
    check: Check, hook: LoopbackVendor, capsys: pytest.CaptureFixture[str]
) -> None:
    arrived = main(["alerts", "test"])
    hook.answer = Answer(403)
    refused = main(["alerts", "test", "--json"])

    assert (arrived, refused) == (0, 1)
    assert hook.received[0].json["event"] == "test"
    assert "HTTP 403" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("last_success", "said"),
    [(None, "ninguna copia"), ("2026-01-01T00:00:00+00:00", "horas"), ("now", None)],
)
def test_of_the_state_of_the_role_backup_the_last_success_counts(
    check: Check, hook: LoopbackVendor, tmp_path: Path, last_success: str | None, said: str | None
) -> None:
    last = utc_now().isoformat() if last_success == "now" else last_success
    state = {"backup": {"status": "failed", "last_success": last, "error": "no"}}
    (tmp_path / "last-backup").write_text(json.dumps(state))

    check()

    texts = [message.json["text"] for message in hook.received]
    assert texts == [] if said is None else said in texts[0]


@pytest.fixture
def hourly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Vendors are asked at each check."""
    monkeypatch.setattr("service.alerts.vendors.LOOK_S", -1)


def test_a_model_that_is_shut_down_soon_is_told_and_that_no_bot_uses_it_any_more(
    check: Check, hook: LoopbackVendor, stack: Stack, hourly: None
) -> None:
    model = load_settings().openai_default_model
    day = utc_now().date() + timedelta(days=20)
    check()
    stack.openai.shutdown_dates[model] = (utc_now().date() + timedelta(days=90)).isoformat()
    check()
    stack.openai.shutdown_dates[model] = day.isoformat()
    check()
    check()
    stack.openai.shutdown_dates.clear()
    check()

    assert told(hook) == [("firing", f"model:{model}"), ("resolved", f"model:{model}")]
    text = hook.received[0].json["text"]
    assert f"se apaga el {day}" in text
    assert "bot_test" in text


def test_a_model_that_is_gone_is_told(
    check: Check, hook: LoopbackVendor, stack: Stack, hourly: None
) -> None:
    model = load_settings().openai_default_model
    stack.openai.models.discard(model)

    check()

    assert told(hook) == [("firing", f"model:{model}")]
    assert "ya no existe" in hook.received[0].json["text"]


def test_a_sender_that_is_offline_is_told_with_twilios_reason(
    check: Check, hook: LoopbackVendor, stack: Stack, hourly: None
) -> None:
    sid = stack.twilio.senders.add(f"whatsapp:{NUMBER}", account=ACCOUNT_SID)
    check()
    stack.twilio.senders.set_status(sid, "OFFLINE", (63020, "The business account is disabled."))
    check()
    check()
    stack.twilio.senders.set_status(sid, "ONLINE")
    check()

    assert told(hook) == [("firing", f"sender:{NUMBER}"), ("resolved", f"sender:{NUMBER}")]
    assert "The business account is disabled." in hook.received[0].json["text"]


def test_vendors_are_asked_once_an_hour_and_not_by_every_host(
    check: Check, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALERT_VENDORS", "false")
    check()
    unasked = len(stack.openai.requests)
    monkeypatch.setenv("ALERT_VENDORS", "true")
    check()
    check()

    assert (unasked, len(stack.openai.requests)) == (0, 1)


def test_a_vendor_that_cannot_be_asked_is_told_when_its_last_answer_is_old(
    check: Check,
    hook: LoopbackVendor,
    stack: Stack,
    hourly: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = load_settings().openai_default_model
    stack.openai.shutdown_dates[model] = utc_now().date().isoformat()
    check()
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    check()
    assert told(hook) == [("firing", f"model:{model}")], "the last answer counts"
    monkeypatch.setattr("service.alerts.vendors.MOST_OLD_S", -1)
    check()

    assert told(hook)[1:] == [("firing", "unchecked:model")]


@pytest.mark.parametrize("status", ["", "offline", "BANNED"])
def test_twilios_emulator_has_only_twilios_statuses(stack: Stack, status: str) -> None:
    with pytest.raises(ValueError, match="ONLINE"):
        stack.twilio.senders.add(f"whatsapp:{NUMBER}", status=status)
