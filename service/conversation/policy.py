"""Decisions that need no outside: opting out and in, when to try again, when to give up."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from random import SystemRandom

from service.conversation.bot import Texts
from service.conversation.event import Event

_jitter = SystemRandom()


@dataclass(frozen=True, slots=True)
class TurnLimits:
    """The bounds of a turn. Times in seconds."""

    max_rounds: int = 8
    max_turn_s: float = 120
    model_timeout_s: float = 60
    send_grace_s: float = 60
    retry_base_s: float = 2
    max_tries: int = 6
    max_retry_s: float = 300
    max_crashes: int = 10
    context_messages: int = 30
    context_tokens: int = 12_000


@dataclass(frozen=True, slots=True)
class Consent:
    """What the contact's words say about being written to.

    `opted_out` is the state after them; `changed` whether they changed it; `talk` whether something
    is left for the assistant to answer.
    """

    opted_out: bool
    changed: bool
    talk: bool


def consent(events: Sequence[Event], texts: Texts, opted_out: bool) -> Consent:
    """Read the events in order: a message that is exactly an opt-out or opt-in word is a command."""
    # A word without letters would be every photo without a caption.
    out_words = {_plain(word) for word in texts.opt_out_words} - {""}
    in_words = {_plain(word) for word in texts.opt_in_words} - {""}
    state, changed, talk = opted_out, False, False
    for event in events:
        word = _plain(event.text)
        if word in out_words:
            changed, state, talk = changed or not state, True, False
        elif word in in_words and (state or changed):
            changed, state, talk = True, False, False
        else:
            talk = talk or not state
    return Consent(state, changed and state != opted_out, talk and not state)


def _plain(text: str) -> str:
    letters = unicodedata.normalize("NFKD", text.casefold())
    letters = "".join(letter for letter in letters if not unicodedata.combining(letter))
    return " ".join(re.sub(r"[^\w\s]", " ", letters).split())


def retry_delay_s(
    limits: TurnLimits, tries: int, spent_s: float, at_least_s: float
) -> float | None:
    """Seconds until the next try after `tries` failed ones; None when it is time to give up.

    `spent_s` is what failed tries and the waits between them took so far: outages of our own stores
    are not in it. Exponential with jitter (half to one and a half of the nominal wait), never less
    than the vendor asked for.
    """
    if tries >= limits.max_tries:
        return None
    nominal = limits.retry_base_s * 2.0 ** (tries - 1)
    delay = max(nominal * _jitter.uniform(0.5, 1.5), at_least_s)
    return None if spent_s + delay > limits.max_retry_s else delay
