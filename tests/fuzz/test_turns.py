"""What got past the door does not stop a worker: every odd message ends in a turn."""

from __future__ import annotations

from collections import Counter

from sqlalchemy import func, select

from service.store.models import MessageRow
from tests.fuzz.cases import Part, fuzz
from tests.fuzz.service import FuzzedService, Pairs
from tests.fuzz.test_webhook import messages

ENDED = {"replied", "silent", "dead"}


def test_every_accepted_message_ends_in_a_turn(fuzzed: FuzzedService) -> None:
    stack, accepted = fuzzed.stack, set()

    def check(part: Part, pairs: Pairs) -> None:
        part.signed += 1
        answer = fuzzed.post_signed(pairs)
        fuzzed.judge(part, answer.status_code, answer.text, answer.headers)
        if answer.status_code == 200:
            accepted.add(dict(pairs)["MessageSid"])

    part = fuzz("webhook, signed, answered", 0.01, messages(), check)
    with stack.worker():
        stack.wait_until_idle()

    found = Counter(turn["status"] for turn in stack.turns())
    assert set(found) <= ENDED
    part.outcomes.update(found)
    with stack.container.database.read() as connection:
        received = select(func.count()).where(MessageRow.direction == "in")
        assert connection.execute(received).scalar_one() == len(accepted)
    fuzzed.judge_log()
