"""The load's judge finds what was lost, answered twice or sent to somebody else."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import pytest

from benchmarks.load_report import (
    Answer,
    Sent,
    await_answers,
    by_phase,
    figures,
    judge,
    read_marks,
)

ANA, LUIS = "+56910000001", "+56910000002"


def sent(number: int, sender: str = ANA, **changes: object) -> Sent:
    message = Sent(f"tk-0a1b2c3d-{number:06d}", f"SM{number}", sender, 100.0 + number, 0, 20, 200)
    return replace(message, **changes)  # type: ignore[arg-type] # names of its fields


def answer(*messages: Sent, to: str = ANA, words: str = "eco: mensaje") -> Answer:
    return Answer("SMx", to, " | ".join(f"{words} {message.token}" for message in messages))


def test_every_message_of_a_turn_counts_as_answered() -> None:
    first, second = sent(1), sent(2)

    judgement = judge([first, second], [answer(first, second)])

    assert judgement.is_clean


def test_acknowledged_message_in_no_reply_is_lost() -> None:
    first, second = sent(1), sent(2)

    judgement = judge([first, second], [answer(second)])

    assert judgement.lost == [first.token]
    assert not judgement.is_clean


@pytest.mark.parametrize("in_one_reply", [True, False])
def test_message_that_is_repeated_twice_was_answered_twice(in_one_reply: bool) -> None:
    first, second = sent(1), sent(2)
    answers = (
        [answer(first, second, first)] if in_one_reply else [answer(first, second), answer(first)]
    )

    judgement = judge([first, second], answers)

    assert judgement.twice == [first.token]
    assert not judgement.is_clean


def test_reply_to_somebody_else_is_misdirected() -> None:
    first = sent(1)

    judgement = judge([first], [answer(first, to=LUIS)])

    assert judgement.misdirected == [first.token]
    assert not judgement.is_clean


def test_apology_is_no_answer() -> None:
    first = sent(1)

    judgement = judge([first], [Answer("SMx", ANA, "Disculpa, ahora no puedo responder.")])

    assert judgement.lost == [first.token]
    assert judgement.without_token == 1


def test_unacknowledged_message_is_not_lost() -> None:
    refused, silent = sent(1, status=503, error="HTTP 503"), sent(2, status=None, error="Timeout")

    judgement = judge([refused, silent], [answer(silent)])

    assert judgement.is_clean
    assert judgement.unacknowledged_unanswered == [refused.token]
    assert judgement.unacknowledged_answered == [silent.token]


def test_answers_that_come_late_are_waited_for() -> None:
    first, second = sent(1), sent(2, LUIS)
    rounds = [[answer(first)], [answer(second, to=LUIS)]]
    inbox: list[Answer] = []

    def look(_contacts: Collection[str]) -> list[Answer]:
        if rounds:
            inbox.extend(rounds.pop(0))
        return inbox

    judgement = await_answers([first, second], look, deadline_s=10, settle_s=0)

    assert judgement.is_clean


def test_deadline_ends_the_wait_for_a_lost_message() -> None:
    first = sent(1)

    judgement = await_answers([first], lambda _contacts: [], deadline_s=0.1, settle_s=0)

    assert judgement.lost == [first.token]


def test_second_answer_that_comes_after_the_first_round_is_seen() -> None:
    first = sent(1)
    inbox: list[Answer] = []

    def look(_contacts: Collection[str]) -> list[Answer]:
        inbox.append(answer(first))
        return inbox

    judgement = await_answers([first], look, deadline_s=10, settle_s=0)

    assert judgement.twice == [first.token]


def test_figures_count_a_message_in_the_phase_that_had_begun_when_it_was_due() -> None:
    messages = [
        sent(1, ms=10),
        sent(2, ms=30),
        sent(3, ms=900),
        sent(4, status=None, error="ConnectionResetError: "),
    ]
    marks = read_marks("103 deploy\n101.5 warm\n104.5 never\n")
    judgement = judge(messages, [answer(messages[0]), answer(messages[1])])

    phases = by_phase(messages, marks, judgement)

    assert [row["phase"] for row in phases] == ["start", "warm", "deploy"]
    assert [row["sent"] for row in phases] == [1, 1, 2]
    assert [row["failed"] for row in phases] == [0, 0, 1]
    assert [row["slowest_ms"] for row in phases] == [10, 30, 900]
    assert [row["lost"] for row in phases] == [0, 0, 1]


def test_percentiles_are_of_acknowledged_messages() -> None:
    counted = figures([sent(number, ms=number) for number in range(1, 101)])

    assert (counted["p50_ms"], counted["p99_ms"], counted["slowest_ms"]) == (50, 99, 100)
    assert figures([])["slowest_ms"] is None


def test_phase_without_a_name_is_refused() -> None:
    with pytest.raises(ValueError, match="a time and a name"):
        read_marks("103\n")
