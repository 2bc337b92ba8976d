"""Opting out and in, and when to try again."""

from __future__ import annotations

import pytest

from service.conversation.event import Event
from service.conversation.policy import Consent, TurnLimits, consent, retry_delay_s
from service.conversation.texts import texts_for

TEXTS = texts_for("es", {})


def events(*bodies: str) -> list[Event]:
    return [Event(str(n), "message", "bot", 0, {"Body": body}) for n, body in enumerate(bodies)]


@pytest.mark.parametrize(
    ("bodies", "opted_out", "expected"),
    [
        (["hola"], False, Consent(False, False, True)),
        (["STOP"], False, Consent(True, True, False)),
        (["baja."], False, Consent(True, True, False)),
        (["¡Bája!"], False, Consent(True, True, False)),
        (["hola", "STOP"], False, Consent(True, True, False)),
        (["quiero dar de baja mi plan"], False, Consent(False, False, True)),
        (["STOP"], True, Consent(True, False, False)),
        (["hola"], True, Consent(True, False, False)),
        (["ALTA"], True, Consent(False, True, False)),
        (["alta", "hola"], True, Consent(False, True, True)),
        (["alta"], False, Consent(False, False, True)),
        (["STOP", "START"], False, Consent(False, False, False)),
    ],
)
def test_what_words_say_about_being_written_to(
    bodies: list[str], opted_out: bool, expected: Consent
) -> None:
    assert consent(events(*bodies), TEXTS, opted_out) == expected


def test_words_of_the_bot_replace_the_usual_ones() -> None:
    texts = texts_for("es", {"opt_out_words": ["adiós"]})
    assert consent(events("ADIOS"), texts, False).opted_out
    assert not consent(events("STOP"), texts, False).opted_out


def test_waits_double_with_jitter() -> None:
    limits = TurnLimits(retry_base_s=2)
    for tries, nominal in ((1, 2), (2, 4), (3, 8), (4, 16), (5, 32)):
        delays = [retry_delay_s(limits, tries, 0, 0) or 0 for _ in range(50)]
        assert all(nominal / 2 <= delay <= nominal * 1.5 for delay in delays)
        assert len(set(delays)) > 1


def test_the_sixth_failure_is_the_last() -> None:
    assert retry_delay_s(TurnLimits(), 6, 0, 0) is None


def test_what_the_vendor_asks_for_is_the_least() -> None:
    assert retry_delay_s(TurnLimits(), 1, 0, 45) == 45


def test_nothing_is_tried_after_five_minutes_of_trying() -> None:
    assert retry_delay_s(TurnLimits(), 2, 290, 20) is None
