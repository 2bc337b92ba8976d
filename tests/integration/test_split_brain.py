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
from tests.stack import Stack, settings_of

CONTACTS = [f"+5692222{n:04d}" for n in range(12)]


@pytest.fixture
def other_side(stack: Stack) -> Iterator[Stack]:
    """The same service, vendors and database on another Redis."""
    with RealRedis() as server:
        variables = {**stack.variables, "REDIS_URL": server.url}
        container = Container(settings_of(variables))
        yield replace(stack, container=container, variables=variables)
        container.close()


def test_workers_on_both_sides_answer_each_message_once(stack: Stack, other_side: Stack) -> None:
    """Each turn takes a while, so that both sides are in its middle together."""
    stack.openai.model_delay_s = 0.3
    for contact in CONTACTS:
        message = stack.message("uno", from_=contact)
        for side in (stack, other_side):
            side.container.mailbox.accept(message)

    with capture_logs() as logs, stack.worker(), other_side.worker():
        stack.wait_for_turns(len(CONTACTS), 60)
        for side in (stack, other_side):
            side.wait_until_idle(60)
        # Since then each side has been told something of its own.
        stack.send("dos", from_=CONTACTS[0])
        other_side.send("tres", from_=CONTACTS[0])
        stack.wait_for_turns(len(CONTACTS) + 2, 60)
        for side in (stack, other_side):
            side.wait_until_idle(60)

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
