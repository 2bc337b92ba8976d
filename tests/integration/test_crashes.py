"""A worker killed with SIGKILL after each row of the journal's table, and one that was only paused."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from service.conversation.clock import utc_now
from service.demo.emulators.brains import ScriptedBrain
from service.demo.emulators.replies import calls, text
from service.store.database import sqlite_path
from tests.integration import crashing_worker
from tests.server_process import PATIENCE_S
from tests.stack import LEAD_ACTIONS, MakeStack, Stack, wait_until

ROOT = Path(__file__).parents[2]
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload([crashing_worker.__name__])


@pytest.fixture
def stack(make_stack: MakeStack) -> Stack:
    stack = make_stack()
    stack.add_bot(horizon_actions=LEAD_ACTIONS)
    return stack


@contextmanager
def child_worker(stack: Stack, log: Path = Path(os.devnull)) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "service", "worker"],
            env={**os.environ, **stack.variables},
            cwd=ROOT,
            stdout=out,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def stop_outside_of_transactions(process: subprocess.Popen[bytes], stack: Stack) -> None:
    """Another of its threads may write just now, and would hold SQLite's only lock."""

    def stopped() -> bool:
        process.send_signal(signal.SIGSTOP)
        if not stack.container.database.is_sqlite or is_writable(stack.settings.sqlalchemy_url):
            return True
        process.send_signal(signal.SIGCONT)
        return False

    wait_until(stopped, "a worker that holds no lock")


def is_writable(url: str) -> bool:
    with closing(sqlite3.connect(sqlite_path(url), timeout=0, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return False
        return True


def crash(stack: Stack, point: str) -> None:
    """Run a worker until it has killed itself there, and let its leases run out."""
    process = FORKS.Process(target=crashing_worker.work, args=(point, dict(stack.variables)))
    process.start()
    process.join(PATIENCE_S)
    ended = process.exitcode
    process.kill()
    assert ended == -signal.SIGKILL
    stack.expire_leases()


@pytest.mark.parametrize(
    ("point", "asked"),
    [
        ("before:journal.open:1", 1),
        ("after:journal.open:1", 1),
        ("after:model.respond:1", 2),
        ("before:journal.save:1", 2),
        ("after:journal.save:1", 1),
        ("after:messenger.send:1", 1),
        ("before:messenger.send:1", 1),
        ("after:journal.finish:1", 1),
        ("before:mailbox.acknowledge:1", 1),
        ("after:mailbox.acknowledge:1", 1),
    ],
)
def test_a_killed_turn_is_answered_exactly_once(stack: Stack, point: str, asked: int) -> None:
    stack.send("hola")
    crash(stack, point)
    with stack.worker():
        stack.wait_for_turns(1)
        stack.wait_until_idle()
    assert stack.replies() == ["eco: hola"]
    assert [turn["status"] for turn in stack.turns()] == ["replied"]
    assert len(stack.model_inputs()) == asked


@pytest.mark.parametrize(
    ("point", "effects", "told"),
    [
        ("after:journal.save:1", 1, '"id":1'),
        ("after:journal.save:2", 0, "result is unknown"),
        ("after:crm.call:1", 1, "result is unknown"),
        ("after:journal.save:3", 1, '"id":1'),
    ],
    ids=["model's answer", "tool's intent", "tool's effect", "tool's result"],
)
def test_a_killed_tool_call_has_its_effect_at_most_once(
    stack: Stack, point: str, effects: int, told: str
) -> None:
    create = calls([("create_lead", {"nombre": "Ana", "interes": "casa"})])
    stack.openai.brain = ScriptedBrain([create, text("listo")])
    stack.send("soy Ana")
    crash(stack, point)
    with stack.worker():
        stack.wait_for_turns(1)
    assert len(stack.horizon.effects) == effects
    assert stack.replies() == ["listo"]
    output = next(item for item in stack.model_inputs()[-1] if item.get("output"))["output"]
    assert told in output


def test_a_worker_killed_between_two_parts_sends_each_once_and_in_order(stack: Stack) -> None:
    long = "\n\n".join(f"Párrafo {n}: " + "palabra " * 150 for n in range(3)).strip()
    stack.openai.brain = ScriptedBrain([text(long)])
    stack.send("cuéntame")
    crash(stack, "after:messenger.send:2")
    with stack.worker():
        stack.wait_for_turns(1)
    assert " ".join(" ".join(stack.replies()).split()) == " ".join(long.split())


def test_messages_after_a_crash_wait_for_the_next_turn(stack: Stack) -> None:
    stack.send("uno")
    crash(stack, "after:journal.open:1")
    stack.send("dos")
    with stack.worker():
        stack.wait_for_turns(2)
    assert stack.replies() == ["eco: uno", "eco: dos"]


def test_a_paused_worker_is_fenced_off(stack: Stack, tmp_path: Path) -> None:
    zombie_log = tmp_path / "zombie.log"
    with child_worker(stack, zombie_log) as zombie:
        with stack.held_model():
            stack.send("hola")
            stack.wait_for_calls()
            stop_outside_of_transactions(zombie, stack)
        stack.expire_leases()
        with stack.worker():
            stack.wait_for_turns(1)
            zombie.send_signal(signal.SIGCONT)
            wait_until(lambda: "fenced_off" in zombie_log.read_text(), "the zombie's late end")
            stack.send("otra vez")
            stack.wait_for_turns(2)
            stack.wait_until_idle()
    assert stack.replies() == ["eco: hola", "eco: otra vez"]
    assert [turn["status"] for turn in stack.turns()] == ["replied", "replied"]


def test_a_turn_that_always_kills_its_worker_dies_after_ten_crashes(stack: Stack) -> None:
    stack.send("hola")
    stack.container.directory.find("+56911110000")
    mailbox, journal = stack.container.mailbox, stack.container.journal
    for _ in range(11):
        claims, _ = mailbox.claim(1)
        journal.open(claims[0])
        stack.expire_leases()
        assert expire(stack)
    with stack.worker():
        stack.wait_for_turns(1)
    assert [(t["status"], t["reason"]) for t in stack.turns()] == [("dead", "crashes")]


def expire(stack: Stack) -> bool:
    """Let a claim that takes nothing put what has run out back among the due ones."""
    stack.container.mailbox.claim(0)
    return stack.container.mailbox.depth().due == 1


def test_handing_back_counts_nothing(stack: Stack) -> None:
    stack.send("hola")
    mailbox, journal = stack.container.mailbox, stack.container.journal
    for _ in range(12):
        claims, _ = mailbox.claim(1)
        journal.open(claims[0])
        assert mailbox.release(claims[0])
    with stack.worker():
        stack.wait_for_turns(1)
    assert stack.replies() == ["eco: hola"]


def test_a_worker_that_is_stopped_hands_its_turns_back(make_stack: MakeStack) -> None:
    stack = make_stack(WORKER_DRAIN_S="0.2")
    stack.add_bot()
    with child_worker(stack) as process, stack.held_model():
        stack.send("hola")
        stack.wait_for_calls()
        process.terminate()
        assert process.wait(PATIENCE_S) == 0
    with stack.worker():
        stack.wait_for_turns(1)
    assert stack.replies() == ["eco: hola"]
    assert stack.turns()[0]["tries"] == 0


def test_an_open_turn_that_redis_has_forgotten_is_taken_up(stack: Stack) -> None:
    stack.send("hola")
    crash(stack, "after:journal.open:1")
    stack.container.redis.client.flushall()
    for conversation in stack.container.journal.abandoned(utc_now(), limit=10):
        assert stack.container.mailbox.revive(*conversation)
    with stack.worker():
        stack.wait_for_turns(1)
    assert stack.replies() == ["eco: hola"]
