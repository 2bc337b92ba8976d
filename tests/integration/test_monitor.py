"""`horizonctl stats`, `logs`, `search`, `server` and `monitor`, at a terminal and without one."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from service.cli.main import main
from service.conversation.clock import utc_now
from tests.figures_data import add_turn
from tests.server_process import PATIENCE_S
from tests.stack import MakeStack, Stack

ROOT = Path(__file__).parents[2]
NOWHERE = "redis://127.0.0.1:9/0"
LINE = {"event": "turn_ended", "level": "info", "timestamp": "2026-11-26T12:00:00Z"}

Ctl = Callable[..., tuple[int, str, str]]

# What a screen shows comes from the commands, which are tried on both.
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def service(make_stack: MakeStack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Stack:
    """A service whose settings are in the environment, with two clients and what they wrote today."""
    stack = make_stack(REPORT_TIMEZONE="UTC", PUBLIC_BASE_URL="http://bots.example.test")
    stack.add_bot(client_id="cocina")
    stack.add_bot("bot_b", "+56911110002", client_id="taller")
    now = utc_now()
    add_turn(stack.container.database, "cocina", now, bot_id="bot_test", texts=("Hola bebé",))
    add_turn(stack.container.database, "taller", now, bot_id="bot_b", status="dead", model="own")
    for name, value in stack.variables.items():
        monkeypatch.setenv(name, value)
    return stack


@pytest.fixture
def ctl(capsys: pytest.CaptureFixture[str]) -> Ctl:
    def run(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(words)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A journal with two lines of different bots, and a systemd without units: their programs."""
    folder = tmp_path / "bin"
    folder.mkdir()
    lines = [json.dumps(LINE | {"bot_id": bot}) for bot in ("bot_test", "bot_b")]
    (folder / "lines").write_text("\n".join(lines) + "\n")
    programs = {
        "journalctl": f"#!/bin/sh\ncase $* in *--since*--until*|*--lines*) cat {folder}/lines ;; esac\n",
        "systemctl": "#!/bin/sh\n[ $1 = list-units ] && echo '[]' || exit 1\n",
    }
    for name, text in programs.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def test_stats_shows_every_client(service: Stack, ctl: Ctl) -> None:
    code, out, _ = ctl("stats")

    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[1:3]] == ["cocina", "taller"]
    assert "100.0%" in out
    assert "in UTC" in out


def test_stats_as_json_holds_clients_and_usage(service: Stack, ctl: Ctl) -> None:
    code, out, _ = ctl("stats", "--json", "--days", "3")
    found = json.loads(out)

    assert code == 0
    assert found["timezone"] == "UTC"
    cocina, taller = found["clients"]
    assert (cocina["received"], cocina["turns"]["replied"], cocina["error_rate"]) == (1, 1, 0.0)
    assert cocina["queue"] == {"due": 0, "leased": 0, "late_s": 0.0}
    assert (taller["state"], taller["turns"]["dead"]) == ("failing", 1)
    usage = {day["client_id"]: day for day in found["usage"]}
    assert usage["cocina"]["cost_usd"] == pytest.approx(0.000114)
    assert (usage["taller"]["cost_usd"], usage["taller"]["unpriced_models"]) == (None, ["own"])


def test_stats_of_one_client_is_its_detail(service: Stack, ctl: Ctl) -> None:
    code, out, _ = ctl("stats", "--client", "cocina")

    assert code == 0
    assert "median answer time" in out
    assert "bot_test" in out
    assert "taller" not in out


def test_usage_names_the_models_without_a_price(service: Stack, ctl: Ctl) -> None:
    code, out, err = ctl("stats", "--days", "7")

    assert code == 0
    assert "unknown" in out
    assert "total" in out
    assert err == "No price is known of own: put it into MODEL_PRICES.\n"


@pytest.mark.parametrize(
    "words",
    [("stats",), ("logs",), ("search", "hola"), ("monitor", "--once")],
    ids=lambda words: words[0],
)
def test_an_unknown_client_is_a_sentence(service: Stack, ctl: Ctl, words: tuple[str, ...]) -> None:
    code, out, err = ctl(*words, "--client", "nadie")

    assert (code, out) == (1, "")
    assert err == "There is no client nadie: `horizonctl stats` shows all.\n"


def test_the_log_of_a_client_is_that_of_its_bots(service: Stack, ctl: Ctl, journal: Path) -> None:
    code, out, err = ctl("logs", "--client", "cocina")

    assert (code, err) == (0, "")
    assert out == "2026-11-26 12:00:00 info     turn_ended bot_id=bot_test\n"


def test_the_log_as_it_is(service: Stack, ctl: Ctl, journal: Path) -> None:
    code, out, _ = ctl("logs", "--json")

    assert code == 0
    assert [json.loads(line)["bot_id"] for line in out.splitlines()] == ["bot_test", "bot_b"]


def test_a_search_finds_messages_and_says_that_the_log_could_not_be_read(
    service: Stack, ctl: Ctl, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    code, out, err = ctl("search", "BEBÉ")

    assert code == 0
    assert "Hola bebé" in out
    assert "The log was not searched. There is no journalctl" in err


def test_a_search_of_the_log_alone_fails_when_it_cannot_be_read(
    service: Stack, ctl: Ctl, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    assert ctl("search", "x", "--only", "logs")[0] == 1


def test_a_search_in_the_log(service: Stack, ctl: Ctl, journal: Path) -> None:
    code, out, _ = ctl("search", "TURN_ended", "--json", "--client", "taller")
    found = json.loads(out)

    assert code == 0
    assert [line["bot_id"] for line in found["logs"]] == ["bot_b"]
    assert (found["messages"], found["logs_unread"]) == ([], None)


def test_the_server_tells_what_is_wrong(service: Stack, ctl: Ctl, journal: Path) -> None:
    code, out, _ = ctl("server", "--json")
    found = json.loads(out)

    assert code == 1
    assert (found["database"], found["redis"], found["units"]) == (True, True, [])
    assert found["memory_total"] > found["memory_available"] > 0
    assert found["faults"] == [
        "No worker lives: systemctl status horizonai-bots",
        "1 dead turns wait: horizonctl dead list",
    ]


def test_a_server_without_redis_is_shown_all_the_same(
    service: Stack, ctl: Ctl, journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", NOWHERE)

    code, out, _ = ctl("monitor", "--json")
    found = json.loads(out)

    assert code == 0
    assert (found["server"]["redis"], found["server"]["queue"]) == (False, None)
    assert [client["queue"] for client in found["stats"]["clients"]] == [None, None]


def test_monitor_without_a_terminal_looks_once(service: Stack, ctl: Ctl, journal: Path) -> None:
    code, out, _ = ctl("monitor")

    assert code == 0
    assert "cocina" in out
    assert "load" in out
    assert "! No worker lives" in out


class Terminal:
    """`horizonctl monitor` at a terminal of its own."""

    def __init__(self, environment: dict[str, str], *words: str) -> None:
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 160, 0, 0))
        self.before = termios.tcgetattr(theirs)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "service", "monitor", "--interval", "0.5", *words],
            cwd=ROOT,
            env=environment | {"TERM": "xterm-256color"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        self._theirs, self._ours = theirs, ours
        self.printed = ""

    def wait_for(self, text: str, timeout_s: float = PATIENCE_S) -> None:
        """Read until this is printed, and forget what was read."""
        deadline = time.monotonic() + timeout_s
        while text not in self.printed:
            assert time.monotonic() < deadline, f"no {text!r} in {self.printed[-3000:]!r}"
            if select.select([self._ours], [], [], 0.1)[0]:
                self.printed += os.read(self._ours, 65_536).decode(errors="replace")
        self.printed = ""

    def press(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def end(self) -> int:
        """The exit code; the terminal's settings have to be those from before."""
        deadline = time.monotonic() + PATIENCE_S
        while self.process.poll() is None and time.monotonic() < deadline:
            if select.select([self._ours], [], [], 0.1)[0]:
                with suppress(OSError):
                    os.read(self._ours, 65_536)
        assert self.process.poll() is not None, "it did not end"
        assert termios.tcgetattr(self._theirs)[:4] == self.before[:4]
        return self.process.returncode

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._ours)
        os.close(self._theirs)


@pytest.fixture
def terminal(service: Stack, journal: Path) -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def start(**variables: str) -> Terminal:
        # Its width is the terminal's own, whatever these tests run in.
        inherited = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
        opened.append(Terminal({**inherited, **variables}))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


@on_sqlite
def test_the_screen_shows_each_view_and_ends_with_q(terminal: Callable[..., Terminal]) -> None:
    screen = terminal()
    screen.wait_for("cocina")
    for key, text in (
        ("2", "median answer time"),
        ("3", "turn_ended"),
        ("4", "Press /"),
        ("5", "USD (estimate)"),
        ("6", "Press t"),
        ("7", "Press b"),
        ("8", "No worker lives"),
        ("1", "last message"),
    ):
        screen.press(key)
        screen.wait_for(text)

    screen.press("q")

    assert screen.end() == 0


@on_sqlite
def test_the_arrows_choose_a_client_and_enter_shows_it(terminal: Callable[..., Terminal]) -> None:
    screen = terminal()
    screen.wait_for("taller")

    screen.press("\x1b[B")
    screen.press("\r")
    screen.wait_for("1 dead; 0 open now")

    screen.press("q")
    assert screen.end() == 0


@on_sqlite
def test_words_are_asked_for_and_found(terminal: Callable[..., Terminal]) -> None:
    screen = terminal()
    screen.wait_for("cocina")

    screen.press("/")
    screen.wait_for("Look for:")
    screen.press("bebé\n")
    screen.wait_for("1 messages")

    screen.process.send_signal(signal.SIGINT)
    assert screen.end() == 0


@on_sqlite
def test_a_backup_where_there_is_none_says_what_to_do(terminal: Callable[..., Terminal]) -> None:
    screen = terminal()
    screen.wait_for("cocina")

    screen.press("7")
    screen.wait_for("Press b")
    screen.press("b")
    screen.wait_for("Make a backup now?")
    screen.press("y\n")
    screen.wait_for("ansible-playbook backup.yml")

    screen.press("q")
    assert screen.end() == 0


@on_sqlite
def test_on_a_server_the_screen_ends_with_the_code_that_asks_for_a_backup(
    terminal: Callable[..., Terminal],
) -> None:
    screen = terminal(HORIZONCTL_BACKUP_CODE="75")
    screen.wait_for("cocina")

    screen.press("b")
    screen.wait_for("Make a backup now?")
    screen.press("y\n")

    assert screen.end() == 75


@on_sqlite
def test_while_the_database_is_away_the_screen_says_so_and_obeys_keys(
    terminal: Callable[..., Terminal],
) -> None:
    screen = terminal(DATABASE_URL="postgresql://nobody@127.0.0.1:9/nothing")
    screen.wait_for("The database cannot be used")

    screen.press("q")

    assert screen.end() == 0
