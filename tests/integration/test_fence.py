"""The fence in SQL: whoever claimed a conversation earlier may write nothing of its turn any more."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from service.conversation.journal import FencedError
from service.conversation.turn import Outcome, Part, Step, Turn
from service.store.sql_journal import SqlJournal
from tests.stack import CONTACT, Stack

Write = Callable[[SqlJournal, Turn], object]

PART = Part("pt_stale", "reply", 0, f"whatsapp:{CONTACT}", "tarde")
WRITES: dict[str, Write] = {
    "save": lambda journal, turn: journal.save(turn, steps=[Step("reply", {})], new_parts=[PART]),
    "record_failure": lambda journal, turn: journal.record_failure(turn, "late", 1, 1),
    "die": lambda journal, turn: journal.die(turn, "late", "late", None),
    "finish": lambda journal, turn: journal.finish(turn, Outcome("replied", "late")),
}


@pytest.mark.parametrize("name", WRITES)
def test_an_older_claim_writes_nothing(stack: Stack, name: str) -> None:
    mailbox, journal = stack.container.mailbox, stack.container.journal
    stack.send("hola")
    first = mailbox.claim(1)[0][0]
    stale = journal.open(first).turn
    mailbox.release(first)
    current = journal.open(mailbox.claim(1)[0][0]).turn
    assert stale is not None
    assert current is not None

    with pytest.raises(FencedError):
        WRITES[name](journal, stale)

    turn = stack.turns()[0]
    assert (turn["status"], turn["tries"], turn["error"]) == ("running", 0, None)
    assert stack.container.turns.steps(current.id) == []
    assert stack.container.turns.parts(current.id) == []
    journal.save(current, steps=[Step("reply", {})])
    assert len(stack.container.turns.steps(current.id)) == 1
