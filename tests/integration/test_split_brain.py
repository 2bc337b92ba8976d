"""Two Redis that both take themselves for the primary, a worker at each, and one database.

The fence is on the conversation's row in SQL, so no lease has to be true for a reply to be sent once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from service.container import Container
from tests.servers import RealRedis
from tests.stack import MakeStack, Stack, settings_of

CONTACTS = [f"+5692222{n:04d}" for n in range(12)]


@pytest.fixture
def stack(make_stack: MakeStack) -> Stack:
    """Leases are lost all the time, more often even on a slow machine: none has to hold."""
    stack = make_stack(LEASE_S="1")
    stack.add_bot()
    return stack


@pytest.fixture
def other_side(stack: Stack) -> Iterator[Stack]:
    """The same service, vendors and database on another Redis."""
    with RealRedis() as server:
        variables = {**stack.variables, "REDIS_URL": server.url}
        container = Container(settings_of(variables))
        yield replace(stack, container=container, variables=variables)
        container.close()


def test_workers_on_both_sides_answer_each_message_once(stack: Stack, other_side: Stack) -> None:
    """Both sides are in the middle of the same turns: each has eight in flight, of twelve."""
    for contact in CONTACTS:
        message = stack.message("uno", from_=contact)
        for side in (stack, other_side):
            side.container.mailbox.accept(message)

    with capture_logs() as logs, stack.worker(), other_side.worker():
        with stack.held_model():
            stack.wait_for_calls(16)
        stack.wait_for_turns(len(CONTACTS))
        for side in (stack, other_side):
            side.wait_until_idle()
        # Since then each side has been told something of its own.
        stack.send("dos", from_=CONTACTS[0])
        other_side.send("tres", from_=CONTACTS[0])
        stack.wait_for_turns(len(CONTACTS) + 2)
        for side in (stack, other_side):
            side.wait_until_idle()

    assert "fenced_off" in {log["event"] for log in logs}
    for contact in CONTACTS[1:]:
        assert stack.replies(contact) == ["eco: uno"]
    first, *others = stack.replies(CONTACTS[0])
    assert (first, sorted(others)) == ("eco: uno", ["eco: dos", "eco: tres"])
    assert {turn["status"] for turn in stack.turns()} == {"replied"}


def test_a_turn_that_ended_on_one_side_is_only_trimmed_on_the_other(
    stack: Stack, other_side: Stack
) -> None:
    message = stack.message("hola")
    for side in (stack, other_side):
        side.container.mailbox.accept(message)
    with stack.worker():
        stack.wait_for_turns(1)

    with other_side.worker():
        other_side.wait_until_idle()

    assert stack.replies() == ["eco: hola"]
    assert len(stack.turns()) == 1
    assert len(stack.openai.requests) == 1
