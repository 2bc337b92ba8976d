"""What became of a load's messages: figures per phase, and what was lost or answered twice.

Every message carries a token, and the assistant's reply repeats the tokens of its turn (an echo).
"""

from __future__ import annotations

import math
import re
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import requests

TOKEN = re.compile(r"\btk-[0-9a-f]{8}-[0-9]{6}\b")
FIRST_PHASE = "start"
_POLL_S = 0.5
_REQUEST_TIMEOUT_S = 20


@dataclass(frozen=True, slots=True)
class Sent:
    """One message of the load. `at` is when it was due (Unix seconds), `ms` counts from then."""

    token: str
    message_sid: str
    sender: str
    at: float
    late_ms: float
    ms: float
    status: int | None
    error: str = ""

    @property
    def acknowledged(self) -> bool:
        return self.status == 200 and not self.error

    @classmethod
    def of_json(cls, data: Mapping[str, Any]) -> Sent:
        """The message that `to_json` made."""
        return cls(**{name: data[name] for name in cls.__slots__})

    def to_json(self) -> dict[str, Any]:
        """For a file."""
        return {**asdict(self), "acknowledged": self.acknowledged}


@dataclass(frozen=True, slots=True)
class Answer:
    """A message that a contact got."""

    sid: str
    to: str
    body: str


@dataclass(frozen=True, slots=True)
class Judgement:
    """Tokens of the messages that each of these happened to."""

    lost: Sequence[str]
    """Acknowledged and in no reply."""
    twice: Sequence[str]
    """In more than one reply, or more than once in one."""
    misdirected: Sequence[str]
    """In a reply to somebody else."""
    unacknowledged_answered: Sequence[str]
    unacknowledged_unanswered: Sequence[str]
    without_token: int
    """Replies that repeat nothing, like an apology."""

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.twice or self.misdirected or self.without_token)


def judge(sent: Iterable[Sent], answers: Iterable[Answer]) -> Judgement:
    """Compare what was sent with what came back."""
    sent = list(sent)
    senders = {message.token: message.sender for message in sent}
    times: dict[str, int] = defaultdict(int)
    misdirected: list[str] = []
    without_token = 0
    for answer in answers:
        tokens = TOKEN.findall(answer.body)
        without_token += not tokens
        for token in tokens:
            times[token] += 1
            if senders.get(token) != answer.to:
                misdirected.append(token)
    unacknowledged = [message.token for message in sent if not message.acknowledged]
    return Judgement(
        lost=[m.token for m in sent if m.acknowledged and not times[m.token]],
        twice=[message.token for message in sent if times[message.token] > 1],
        misdirected=misdirected,
        unacknowledged_answered=[token for token in unacknowledged if times[token]],
        unacknowledged_unanswered=[token for token in unacknowledged if not times[token]],
        without_token=without_token,
    )


class Inbox:
    """What Twilio's emulator has delivered to the contacts of a load."""

    def __init__(self, twilio_url: str) -> None:
        self._url = twilio_url.rstrip("/") + "/_emulator/messages"
        self._session = requests.Session()
        self._session.trust_env = False

    def of(self, contacts: Collection[str]) -> list[Answer]:
        """Raises requests.RequestException."""
        found = []
        for contact in contacts:
            response = self._session.get(
                self._url, params={"to": contact}, timeout=_REQUEST_TIMEOUT_S
            )
            response.raise_for_status()
            found += [
                Answer(message["sid"], message["to"].removeprefix("whatsapp:"), message["body"])
                for message in response.json()
            ]
        return found


def await_answers(
    sent: Sequence[Sent],
    answers_of: Callable[[Collection[str]], Sequence[Answer]],
    deadline_s: float,
    settle_s: float,
) -> Judgement:
    """Wait until every acknowledged message is answered, then for late second answers, and judge."""
    deadline = time.monotonic() + deadline_s
    waiting = {message.token: message.sender for message in sent if message.acknowledged}
    while waiting and time.monotonic() < deadline:
        for answer in answers_of(sorted(set(waiting.values()))):
            for token in TOKEN.findall(answer.body):
                waiting.pop(token, None)
        if waiting:
            time.sleep(_POLL_S)
    time.sleep(settle_s)
    return judge(sent, answers_of(sorted({message.sender for message in sent})))


def read_marks(text: str) -> list[tuple[float, str]]:
    """The phases of a file with lines of a Unix time and a name, in order of time.

    Raises:
        ValueError: a line is something else.
    """
    marks = []
    for line in filter(str.strip, text.splitlines()):
        at, _, name = line.strip().partition(" ")
        if not name:
            raise ValueError(f"a phase is a time and a name, not {line!r}")
        marks.append((float(at), name.strip()))
    return sorted(marks)


def phase_at(marks: Sequence[tuple[float, str]], at: float) -> str:
    """The phase that had begun last."""
    return next((name for begun, name in reversed(marks) if begun <= at), FIRST_PHASE)


def figures(sent: Sequence[Sent], judgement: Judgement | None = None) -> dict[str, Any]:
    """Counts and latencies of these messages."""
    tokens = {message.token for message in sent}
    latencies = sorted(message.ms for message in sent if message.acknowledged)
    counted: dict[str, Any] = {
        "sent": len(sent),
        "acknowledged": len(latencies),
        "failed": len(sent) - len(latencies),
        "p50_ms": _percentile(latencies, 50),
        "p99_ms": _percentile(latencies, 99),
        "slowest_ms": _percentile(latencies, 100),
        "sent_late_ms": round(max((message.late_ms for message in sent), default=0.0), 1),
    }
    if judgement is not None:
        counted["lost"] = len(tokens.intersection(judgement.lost))
        counted["twice"] = len(tokens.intersection(judgement.twice))
    return counted


def by_phase(
    sent: Sequence[Sent],
    marks: Sequence[tuple[float, str]],
    judgement: Judgement | None = None,
) -> list[dict[str, Any]]:
    """The figures of each phase, in the order in which they began; a name that returns is one phase."""
    names = dict.fromkeys([FIRST_PHASE, *(name for _, name in marks)])
    phases: dict[str, list[Sent]] = {name: [] for name in names}
    for message in sent:
        phases[phase_at(marks, message.at)].append(message)
    return [
        {"phase": name, **figures(messages, judgement)}
        for name, messages in phases.items()
        if messages
    ]


def _percentile(sorted_values: Sequence[float], percent: float) -> float | None:
    if not sorted_values:
        return None
    return round(sorted_values[max(0, math.ceil(len(sorted_values) * percent / 100) - 1)], 1)
