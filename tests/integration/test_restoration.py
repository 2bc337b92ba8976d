"""A restored service answers nobody twice and forgets nobody: the backup is older than the answers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import delete, insert, select

from service.conversation.event import encode
from service.conversation.mailbox import Claim
from service.demo.emulators.brains import ScriptedBrain
from service.demo.emulators.faults import Fault
from service.demo.emulators.replies import text
from service.restoring import Reconciled, reconcile
from service.store.models import Base
from service.store.redis_mailbox import RedisMailbox
from tests.integration.test_crashes import crash
from tests.stack import NUMBER, MakeStack, Stack, wait_until

HOUR = timedelta(hours=1)


class Backup:
    """Redis's keys and SQL's rows of one moment, Redis first."""

    def __init__(self, stack: Stack) -> None:
        self.at = datetime.now(UTC)
        client = stack.container.redis.client
        self._keys = {key: client.dump(key) or b"" for key in client.scan_iter("hb:*")}
        with stack.container.database.read() as connection:
            self._rows = {
                table: [dict(row) for row in connection.execute(select(table)).mappings()]
                for table in Base.metadata.sorted_tables
            }

    def restore(self, stack: Stack) -> None:
        """As after a loss of everything; the workers are held."""
        client = stack.container.redis.client
        client.flushall()
        for key, value in self._keys.items():
            client.restore(key, 0, value)
        with stack.container.database.write() as connection:
            for table in reversed(Base.metadata.sorted_tables):
                connection.execute(delete(table))
            for table, rows in self._rows.items():
                if rows:
                    connection.execute(insert(table), rows)
        stack.container.hold.place("restore", self.at)


@pytest.fixture
def stack(make_stack: MakeStack) -> Stack:
    stack = make_stack(LEASE_S="30")
    stack.add_bot()
    return stack


def contact(n: int) -> str:
    return f"+5692222{n:04d}"


def ask(stack: Stack, n: int, body: str = "", **options: str) -> str:
    """A contact writes; Twilio and the mailbox have it. The conversation."""
    inbound = stack.message(body or f"pregunta {n}", from_=contact(n), **options)
    stack.twilio.remember(inbound.event.fields)
    return stack.container.mailbox.accept(inbound).conversation_id


def ask_long_ago(stack: Stack, n: int, age: timedelta) -> str:
    inbound = stack.message(f"pregunta {n}", from_=contact(n))
    at_ms = int((time.time() - age.total_seconds()) * 1000)
    event = replace(inbound.event, at_ms=at_ms)
    event = replace(event, raw=encode(event))
    return stack.container.mailbox.accept(replace(inbound, event=event)).conversation_id


def keep_from_workers(stack: Stack, conversations: Sequence[str]) -> list[Claim]:
    """As if no worker came to them in time."""
    claims = [stack.container.mailbox.take(conversation) for conversation in conversations]
    return [claim for claim in claims if claim is not None]


def settle(stack: Stack, backup: Backup, max_age: timedelta = HOUR) -> Reconciled:
    found = reconcile(stack.container, backup.at, max_age)
    assert not found.unsettled
    stack.container.hold.lift()
    return found


def answer(stack: Stack, turns: int) -> None:
    with stack.worker():
        stack.wait_for_turns(turns)


def all_replies(stack: Stack, contacts: range) -> list[list[str]]:
    return [stack.replies(contact(n)) for n in contacts]


def test_what_was_answered_after_the_backup_is_not_answered_again_and_the_rest_once(
    stack: Stack,
) -> None:
    for n in range(20):
        ask(stack, n)
    pending = [ask(stack, n) for n in range(20, 25)]
    backup = Backup(stack)
    assert len(keep_from_workers(stack, pending)) == 5
    answer(stack, 20)
    answered = all_replies(stack, range(20))

    backup.restore(stack)
    found = settle(stack, backup)
    with stack.worker():
        stack.wait_for_turns(25)
        stack.wait_until_idle()

    assert (found.answered, found.left, found.dead, found.lost) == (20, 5, 0, [])
    assert all_replies(stack, range(20)) == answered == [[f"eco: pregunta {n}"] for n in range(20)]
    assert all_replies(stack, range(20, 25)) == [[f"eco: pregunta {n}"] for n in range(20, 25)]


def test_workers_that_are_held_claim_nothing_while_messages_are_accepted(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims: list[tuple[Sequence[Claim], float]] = []
    claim = RedisMailbox.claim

    def noted(*arguments: Any) -> tuple[Sequence[Claim], float]:
        claims.append(claim(*arguments))
        return claims[-1]

    stack.container.hold.place("restore")
    monkeypatch.setattr(RedisMailbox, "claim", noted)
    with stack.worker():
        ask(stack, 1)
        asked = len(claims)
        wait_until(lambda: len(claims) >= asked + 2, "a worker that asks for work twice")
        assert [list(found) for found, _ in claims] == [[]] * len(claims)
        assert stack.turns() == []
        assert stack.container.mailbox.depth().held
        monkeypatch.undo()
        stack.container.hold.lift()
        stack.wait_for_turns(1)
    assert stack.replies(contact(1)) == ["eco: pregunta 1"]


def test_what_the_backup_knows_as_answered_is_only_trimmed(stack: Stack) -> None:
    ask(stack, 1)
    redis_first = Backup(stack)
    answer(stack, 1)
    backup = Backup(stack)
    backup._keys = redis_first._keys

    backup.restore(stack)
    found = settle(stack, backup)

    assert (found.trimmed, found.answered, found.left) == (1, 0, 0)
    assert stack.container.mailbox.conversations() == []
    assert stack.replies(contact(1)) == ["eco: pregunta 1"]


def test_the_answer_that_went_out_is_what_the_model_reads_next(stack: Stack) -> None:
    stack.openai.brain = ScriptedBrain([text("Abrimos a las nueve."), text("Sí.")])
    ask(stack, 1, "¿cuándo abren?")
    backup = Backup(stack)
    answer(stack, 1)

    backup.restore(stack)
    settle(stack, backup)
    ask(stack, 1, "¿también el lunes?")
    answer(stack, 2)

    told = [item["content"] for item in stack.model_inputs()[-1]]
    assert told == ["¿cuándo abren?", "Abrimos a las nueve.", "¿también el lunes?"]
    assert [turn["reason"] for turn in stack.turns()] == ["restored", "answered"]


def test_what_is_too_old_becomes_a_dead_turn_without_an_apology(stack: Stack) -> None:
    ask_long_ago(stack, 1, timedelta(minutes=90))
    ask(stack, 1, "¿hola?")
    backup = Backup(stack)

    backup.restore(stack)
    found = settle(stack, backup)
    answer(stack, 2)

    assert (found.dead, found.left) == (1, 1)
    assert [(turn["status"], turn["reason"]) for turn in stack.turns()] == [
        ("dead", "restored"),
        ("replied", "answered"),
    ]
    # The model reads what was not answered, too.
    assert stack.replies(contact(1)) == ["eco: pregunta 1 | ¿hola?"]


def test_a_reply_of_several_parts_is_one_answer_and_what_came_after_it_is_answered(
    stack: Stack,
) -> None:
    long = "\n\n".join(f"Párrafo {n}: " + "palabra " * 150 for n in range(3)).strip()
    stack.openai.brain = ScriptedBrain([text(long), text("Hasta luego.")])
    conversation = ask(stack, 1, "cuéntame")
    crash(stack, "after:journal.open:1")
    ask(stack, 1, "adiós")
    backup = Backup(stack)
    stack.container.redis.client.zadd("hb:leases", {conversation: 1})
    answer(stack, 1)
    sent = len(stack.replies(contact(1)))

    backup.restore(stack)
    found = reconcile(stack.container, backup.at, HOUR)

    # The model's second answer may have gone out too before the worker was stopped.
    assert sent in (3, 4)
    assert (found.answered, found.left) == ((1, 1) if sent == 3 else (2, 0))
    stack.container.hold.lift()
    with stack.worker():
        stack.wait_for_turns(2)
        stack.wait_until_idle()
    assert stack.replies(contact(1))[3:] == ["Hasta luego."]


@pytest.mark.parametrize("point", ["after:journal.save:1", "after:messenger.send:1"])
def test_an_open_turn_whose_reply_is_journaled_is_compared_by_its_text(
    stack: Stack, point: str
) -> None:
    ask(stack, 1)
    crash(stack, point)
    backup = Backup(stack)
    is_sent = len(stack.replies(contact(1))) == 1

    backup.restore(stack)
    found = settle(stack, backup)
    with stack.worker():
        stack.wait_for_turns(1)
        stack.wait_until_idle()

    assert (found.answered, found.left) == ((1, 0) if is_sent else (0, 1))
    assert stack.replies(contact(1)) == ["eco: pregunta 1"]
    assert [turn["status"] for turn in stack.turns()] == ["replied"]


def test_an_open_turn_that_redis_has_forgotten_is_settled_too(stack: Stack) -> None:
    ask(stack, 1)
    crash(stack, "after:journal.open:1")
    backup = Backup(stack)
    stack.container.redis.client.delete("hb:leases")
    backup._keys = {}

    backup.restore(stack)
    found = settle(stack, backup)
    answer(stack, 1)

    assert found.left == 1
    assert stack.replies(contact(1)) == ["eco: pregunta 1"]


def test_who_opted_out_after_the_backup_stays_opted_out(stack: Stack) -> None:
    ask(stack, 1, "BAJA")
    backup = Backup(stack)
    answer(stack, 1)
    confirmation = stack.replies(contact(1))

    backup.restore(stack)
    settle(stack, backup)
    ask(stack, 1, "hola")
    answer(stack, 2)

    assert stack.replies(contact(1)) == confirmation
    assert [turn["status"] for turn in stack.turns()] == ["replied", "silent"]


def test_a_turn_that_failed_after_the_backup_is_dead_and_can_be_retried(stack: Stack) -> None:
    stack.openai.fail(Fault.status(400), times=1)
    ask(stack, 1)
    backup = Backup(stack)
    answer(stack, 1)
    apology = stack.replies(contact(1))
    assert len(apology) == 1

    backup.restore(stack)
    found = settle(stack, backup)

    assert found.dead == 1
    assert [turn["status"] for turn in stack.turns()] == ["dead"]
    assert stack.replies(contact(1)) == apology


def test_messages_that_no_backup_has_are_listed(stack: Stack) -> None:
    backup = Backup(stack)
    ask(stack, 1)
    ask(stack, 2, "BAJA")
    answer(stack, 2)
    missed = stack.message("¿están?", from_=contact(3))
    stack.twilio.remember(missed.event.fields)

    backup.restore(stack)
    found = settle(stack, backup)

    told = [(lost.contact, lost.number, lost.answered, lost.opt_out) for lost in found.lost]
    assert told == [
        (f"whatsapp:{contact(1)}", NUMBER, True, False),
        (f"whatsapp:{contact(2)}", NUMBER, True, True),
        (f"whatsapp:{contact(3)}", NUMBER, False, False),
    ]


def test_while_twilio_is_away_nothing_is_decided_and_another_run_does_it(stack: Stack) -> None:
    ask(stack, 1)
    ask(stack, 2)
    backup = Backup(stack)
    answer(stack, 2)
    backup.restore(stack)

    stack.twilio.fail(Fault.status(503), times=20)
    found = reconcile(stack.container, backup.at, HOUR)
    assert [code for _, code in found.unsettled] == ["20503", "20503"]
    stack.twilio.clear_faults()
    again = settle(stack, backup)
    with stack.worker():
        stack.wait_until_idle()

    assert again.answered == 2
    assert all_replies(stack, range(1, 3)) == [["eco: pregunta 1"], ["eco: pregunta 2"]]


def test_what_twilio_refuses_to_compare_becomes_a_dead_turn(stack: Stack) -> None:
    ask(stack, 1)
    backup = Backup(stack)
    backup.restore(stack)
    stack.twilio.accounts.clear()

    found = settle(stack, backup)

    assert (found.dead, found.left) == (1, 0)
    assert "list cannot be read" in stack.turns()[0]["error"]
    assert found.unlisted == [("bot_test", "20003")]


def test_comparing_twice_changes_nothing(stack: Stack) -> None:
    ask(stack, 1)
    ask(stack, 2)
    backup = Backup(stack)
    keep_from_workers(stack, [ask(stack, 2, "otra")])
    answer(stack, 1)
    backup.restore(stack)

    first = reconcile(stack.container, backup.at, HOUR)
    again = reconcile(stack.container, backup.at, HOUR)

    assert (first.answered, first.left) == (1, 1)
    assert (again.answered, again.trimmed, again.left) == (0, 0, 1)
