"""The checker finds what is planted, and nothing in a run that kept every promise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from tests.chaos.checker import check
from tests.chaos.record import Delivered, Effect, Part, Record, Sent, Taken, Turn

CONTACT, OTHER = "+56911", "+56922"


def token(n: int) -> str:
    return f"tk-0a-{n:06d}"


def good() -> Record:
    """Two contacts; two turns of the first one, the earlier with two parts, and a dead turn."""
    sent = [
        Sent(token(1), "SM1", "bot", CONTACT, 1.0, 1.1),
        Sent(token(2), "SM2", "bot", CONTACT, 1.2, 1.3),
        Sent(token(3), "SM3", "bot", CONTACT, 9.0, 9.1),
        Sent(token(4), "SM4", "bot", OTHER, 2.0, 2.1),
        Sent(token(5), "SM5", "bot", OTHER, 3.0, None, 4),
        Sent(token(6), "SM6", "bot", OTHER, 4.0, None, 4),
    ]
    turns = [
        Turn("t1", "c1", 1, "replied"),
        Turn("t2", "c1", 2, "replied"),
        Turn("t3", "c2", 1, "dead", "tries"),
        Turn("t4", "c2", 2, "replied"),
    ]
    taken = [
        Taken("bot", "SM1", "t1", 1),
        Taken("bot", "SM2", "t1", 2),
        Taken("bot", "SM3", "t2", 3),
        Taken("bot", "SM4", "t3", 4),
        Taken("bot", "SM5", "t4", 5),
    ]
    parts = [
        Part("t1", "reply", 1, CONTACT, f"{token(1)} {token(2)}", "OUT1"),
        Part("t1", "reply", 2, CONTACT, f"2 of 2 {token(2)}", "OUT2"),
        Part("t2", "reply", 1, CONTACT, token(3), "OUT3"),
        Part("t3", "apology", 1, OTHER, "Lo siento", "OUT4"),
        Part("t4", "reply", 1, OTHER, token(5), "OUT5"),
    ]
    delivered = [Delivered(part.sid or "", part.to, part.body) for part in parts]
    effects = [Effect(token(1), "lead"), Effect(token(1), "visit"), Effect(token(3), "lead")]
    return Record(sent, turns, taken, parts, delivered, effects)


def found(record: Record) -> set[str]:
    return {name for name, findings in check(record).items() if findings}


def without(items: Sequence[Any], index: int) -> list[Any]:
    return [item for n, item in enumerate(items) if n != index]


def swapped(items: Sequence[Any], one: int, other: int) -> list[Any]:
    mixed = list(items)
    mixed[one], mixed[other] = mixed[other], mixed[one]
    return mixed


def test_a_run_that_kept_every_promise_has_no_finding() -> None:
    assert found(good()) == set()


def test_a_message_in_no_turn_is_lost() -> None:
    record = good()
    assert "lost" in found(replace(record, taken=without(record.taken, 2)))


def test_a_turn_that_never_ended_is_a_loss() -> None:
    record = good()
    turns = [*record.turns[:1], replace(record.turns[1], status="running"), *record.turns[2:]]
    assert "lost" in found(replace(record, turns=turns))


def test_a_reply_that_twilio_never_got_is_a_loss() -> None:
    record = good()
    assert {"lost", "never sent"} <= found(replace(record, delivered=without(record.delivered, 2)))


def test_a_reply_that_forgets_a_message_is_a_loss() -> None:
    record = good()
    parts = [*record.parts[:2], replace(record.parts[2], body="nada"), *record.parts[3:]]
    delivered = [Delivered(part.sid or "", part.to, part.body) for part in parts]
    assert found(replace(record, parts=parts, delivered=delivered)) == {"lost"}


def test_a_message_that_was_not_acknowledged_may_be_lost() -> None:
    assert found(replace(good(), sent=without(good().sent, 5))) == set()


def test_a_message_in_two_turns_is_found() -> None:
    record = good()
    assert "answered twice" in found(
        replace(record, taken=[*record.taken, Taken("bot", "SM1", "t2", 9)])
    )


@pytest.mark.parametrize("n", [1, 5])
def test_a_second_answer_is_found_also_for_an_unacknowledged_message(n: int) -> None:
    record = good()
    to = CONTACT if n == 1 else OTHER
    turns = [*record.turns, Turn("t9", "c1" if n == 1 else "c2", 9, "replied")]
    part = Part("t9", "reply", 1, to, f"otra vez {token(n)}", "OUT9")
    assert found(
        replace(
            record,
            turns=turns,
            parts=[*record.parts, part],
            delivered=[*record.delivered, Delivered("OUT9", to, part.body)],
        )
    ) == {"answered twice"}


def test_an_answer_to_somebody_else_is_found() -> None:
    record = good()
    parts = [*record.parts[:2], replace(record.parts[2], to=OTHER), *record.parts[3:]]
    delivered = [Delivered(part.sid or "", part.to, part.body) for part in parts]
    assert "answered twice" in found(replace(record, parts=parts, delivered=delivered))


def test_a_part_that_was_sent_twice_is_found() -> None:
    record = good()
    again = Delivered("OUT99", CONTACT, record.delivered[0].body)
    assert "sent twice" in found(replace(record, delivered=[*record.delivered, again]))


def test_an_apology_that_was_sent_twice_is_found() -> None:
    record = good()
    again = Delivered("OUT98", OTHER, "Lo siento")
    assert found(replace(record, delivered=[*record.delivered, again])) == {"sent twice"}


def test_one_sid_for_two_parts_is_found() -> None:
    record = good()
    parts = [*record.parts[:1], replace(record.parts[1], sid="OUT1"), *record.parts[2:]]
    assert {"sent twice", "never sent"} & found(replace(record, parts=parts))


def test_parts_in_the_wrong_order_are_found() -> None:
    record = good()
    assert found(replace(record, delivered=swapped(record.delivered, 0, 1))) == {
        "parts out of order"
    }


def test_turns_in_the_wrong_order_are_found() -> None:
    record = good()
    assert found(replace(record, delivered=swapped(record.delivered, 1, 2))) == {
        "parts out of order"
    }


def test_a_message_that_overtook_an_earlier_one_is_found() -> None:
    record = good()
    taken = [
        replace(record.taken[0], turn_id="t2", position=9),
        *record.taken[1:2],
        replace(record.taken[2], turn_id="t1", position=1),
        *record.taken[3:],
    ]
    assert "messages out of order" in found(replace(record, taken=taken))


def test_a_swap_within_one_turn_is_found() -> None:
    record = good()
    taken = [replace(record.taken[0], position=2), replace(record.taken[1], position=1)]
    assert found(replace(record, taken=[*taken, *record.taken[2:]])) == {"messages out of order"}


def test_messages_that_were_under_way_at_once_have_no_order() -> None:
    record = good()
    sent = [record.sent[0], replace(record.sent[1], begun_at=1.05), *record.sent[2:]]
    taken = [replace(record.taken[0], position=2), replace(record.taken[1], position=1)]
    assert found(replace(record, sent=sent, taken=[*taken, *record.taken[2:]])) == set()


def test_a_repeated_effect_is_found() -> None:
    record = good()
    assert found(replace(record, effects=[*record.effects, Effect(token(3), "lead")])) == {
        "repeated effects"
    }


@pytest.mark.parametrize(
    "left", [{"redis_keys": ["hb:mb:c1"]}, {"spool_files": ["0001.msg"]}], ids=["Redis", "spool"]
)
def test_what_is_left_over_is_found(left: dict[str, Any]) -> None:
    assert found(replace(good(), **left)) == {"left over"}


def test_a_run_that_proved_hardly_anything_is_found() -> None:
    """A service that takes nothing loses nothing either."""
    record = good()
    sent = [replace(message, acked_at=None) for message in record.sent]

    assert found(replace(record, sent=sent)) == {"hardly acknowledged"}
    assert "hardly acknowledged" in found(Record((), (), (), (), (), ()))


def test_an_answer_that_is_neither_200_nor_503_is_found() -> None:
    assert found(replace(good(), answers={"200": 5, "503": 1, "502": 1, "timeout": 1})) == set()
    assert found(replace(good(), answers={"500": 1})) == {"wrong answers"}
    assert found(replace(good(), answers={"403": 1})) == {"wrong answers"}
    assert found(replace(good(), answers={"no TwiML": 1})) == {"wrong answers"}
