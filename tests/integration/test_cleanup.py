"""What the cleanup removes, and what it never touches."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import func, select, update

from service.conversation.clock import utc_now
from service.store import keys
from service.store.cleanup import Cleanup, Removed
from service.store.models import Base, BotRow, ContactRow, ConversationRow, MessageRow, TurnRow
from tests.stack import Stack

YEAR = timedelta(days=365)


def age(stack: Stack) -> None:
    """Two years pass."""
    then = utc_now() - 2 * YEAR
    with stack.container.database.write() as connection:
        for row in (TurnRow, ConversationRow, ContactRow):
            connection.execute(update(row).values(updated_at=then))


def count(stack: Stack, row: type[Base]) -> int:
    with stack.container.database.read() as connection:
        return connection.scalar(select(func.count()).select_from(row)) or 0


def cleanup(stack: Stack, *, dry_run: bool = False) -> Cleanup:
    return Cleanup(stack.container.database, stack.container.redis, dry_run=dry_run)


def answer(stack: Stack, *texts: str) -> None:
    with stack.worker():
        for number, text in enumerate(texts, 1):
            stack.send(text)
            stack.wait_for_turns(number)
        stack.wait_until_idle()


def test_old_turns_go_with_all_that_was_theirs(stack: Stack) -> None:
    answer(stack, "hola", "adiós")
    age(stack)

    removed = cleanup(stack).turns(utc_now() - YEAR)

    assert removed == [
        Removed("turns", 2),
        Removed("messages", 4),
        Removed("conversations", 1),
        Removed("contacts", 1),
    ]
    assert [count(stack, row) for row in (TurnRow, MessageRow, ConversationRow, ContactRow)] == [
        0
    ] * 4


def test_young_turns_stay(stack: Stack) -> None:
    answer(stack, "hola")

    removed = cleanup(stack).turns(utc_now() - YEAR)

    assert {each.count for each in removed} == {0}
    assert count(stack, MessageRow) == 2


def test_a_dry_run_counts_and_removes_nothing(stack: Stack) -> None:
    answer(stack, "hola")
    age(stack)

    assert cleanup(stack, dry_run=True).turns(utc_now() - YEAR) == [Removed("turns", 1)]
    assert count(stack, MessageRow) == 2


def test_a_turn_that_still_runs_stays(stack: Stack) -> None:
    stack.send("hola")
    claim = stack.container.mailbox.claim(1)[0][0]
    stack.container.journal.open(claim)
    age(stack)

    cleanup(stack).turns(utc_now() - YEAR)

    assert [turn["status"] for turn in stack.turns()] == ["running"]


def test_who_has_opted_out_stays_known(stack: Stack) -> None:
    answer(stack, "BAJA")
    age(stack)

    cleanup(stack).turns(utc_now() - YEAR)

    assert (count(stack, TurnRow), count(stack, ContactRow)) == (0, 1)


def test_a_contact_who_comes_back_after_the_cleanup_is_answered(stack: Stack) -> None:
    answer(stack, "hola")
    age(stack)
    cleanup(stack).turns(utc_now() - YEAR)
    with stack.worker():
        stack.send("otra vez")
        replies = stack.wait_for_replies(2)
        stack.wait_until_idle()

    assert replies[-1] == "eco: otra vez"


def test_waiting_mail_is_no_orphan_and_a_state_without_mail_is_one(stack: Stack) -> None:
    waiting = stack.send("hola").conversation_id
    client = stack.container.redis.client
    client.hset(keys.conversation("cv_gone"), mapping={"client": "bot_test"})

    assert cleanup(stack, dry_run=True).redis_keys()[0] == Removed("states", 1)
    assert cleanup(stack).redis_keys()[0] == Removed("states", 1)
    assert client.exists(keys.conversation(waiting)) == 1
    assert client.exists(keys.conversation("cv_gone")) == 0


def test_aliases_of_a_deleted_bot_go(stack: Stack) -> None:
    client = stack.container.redis.client
    client.hset(keys.aliases("bot_test"), "i:x", "cv_x")
    assert cleanup(stack).redis_keys()[1] == Removed("aliases", 0)
    with stack.container.database.write() as connection:
        connection.execute(update(BotRow).values(deleted_at=utc_now()))

    assert cleanup(stack).redis_keys()[1] == Removed("aliases", 1)
