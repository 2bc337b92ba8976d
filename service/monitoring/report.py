"""The figures of clients put together: who is how today, and what was used on which day."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from statistics import median
from zoneinfo import ZoneInfo

from service.conversation.clock import utc_now
from service.conversation.outage import OutageError
from service.monitoring.days import Day, last_days
from service.monitoring.prices import Cost, Prices, Tokens
from service.store.client_queues import ClientQueue, ClientQueues
from service.store.figures import BotLine, Bounds, Figures

LATE_S = 60.0
"""A conversation that waits longer than this is late."""
_DAYS_AT_ONCE = 7
"""Asked for in one query: several look-ups less, and none that takes too long."""


@dataclass(frozen=True, slots=True)
class TurnCounts:
    """Turns by their end; `open` ones run now or wait for another try."""

    replied: int = 0
    silent: int = 0
    dead: int = 0
    open: int = 0

    @property
    def ended(self) -> int:
        return self.replied + self.silent + self.dead

    @property
    def error_rate(self) -> float | None:
        """The dead among those that ended, from 0 to 1; None when none ended."""
        return self.dead / self.ended if self.ended else None


@dataclass(frozen=True, slots=True)
class ClientToday:
    """A client's day so far. `queue` is None while Redis is away."""

    client_id: str
    bots: tuple[BotLine, ...]
    state: str
    received: int
    sent: int
    turns: TurnCounts
    last_message_at: datetime | None
    median_answer_s: float | None
    queue: ClientQueue | None


@dataclass(frozen=True, slots=True)
class ClientDay:
    """What a client used on a day."""

    date: date
    client_id: str
    received: int
    sent: int
    turns: TurnCounts
    tokens: Tokens
    cost: Cost


class Report:
    """Kept for as long as a screen is shown, it remembers what cannot change.

    Raises DatabaseDownError; while Redis is away, the queues are None.
    """

    def __init__(
        self,
        figures: Figures,
        queues: ClientQueues,
        zone: ZoneInfo,
        prices: Prices,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._figures = figures
        self._queues = queues
        self._zone = zone
        self._prices = prices
        self._now = now
        self._last_messages: dict[str, datetime | None] = {}

    @property
    def zone(self) -> ZoneInfo:
        return self._zone

    def days(self, count: int) -> list[Day]:
        """The last days, the oldest first, today the last."""
        return last_days(self._zone, count, self._now())

    def today(self, client_id: str | None = None) -> list[ClientToday]:
        """Every client with a bot, and whoever had messages or turns today, by client."""
        today = self.days(1)[0]
        bots: defaultdict[str, list[BotLine]] = defaultdict(list)
        for bot in self._figures.bots(client_id):
            bots[bot.client_id].append(bot)
        bounds = (today.start, today.end)
        counts = self._messages(bounds, client_id)[0]
        turns = self._turns(bounds, client_id)[0]
        open_turns = self._figures.open_turns(client_id)
        times = self._figures.answer_times(today.start, today.end, client_id)
        clients = sorted({*bots, *counts, *turns, *open_turns})
        last = self._last(clients, counts)
        queues = self._queue(clients)
        found = []
        for client in clients:
            count = TurnCounts(**turns.get(client, {}), open=open_turns.get(client, 0))
            queue = None if queues is None else queues[client]
            mine = tuple(bots.get(client, ()))
            messages = counts.get(client, _Messages())
            found.append(
                ClientToday(
                    client_id=client,
                    bots=mine,
                    state=state(mine, count, queue),
                    received=messages.received,
                    sent=messages.sent,
                    turns=count,
                    last_message_at=last.get(client),
                    median_answer_s=median(times[client]) if times.get(client) else None,
                    queue=queue,
                )
            )
        return found

    def usage(self, days: int, client_id: str | None = None) -> list[ClientDay]:
        """By day, the newest first, and client; a client without anything on a day is left out."""
        newest_first = self.days(days)[::-1]
        found: list[ClientDay] = []
        for start in range(0, days, _DAYS_AT_ONCE):
            found += self._days(newest_first[start : start + _DAYS_AT_ONCE], client_id)
        return found

    def _days(self, newest_first: Sequence[Day], client_id: str | None) -> list[ClientDay]:
        oldest_first = newest_first[::-1]
        bounds = [*(day.start for day in oldest_first), newest_first[0].end]
        messages = self._messages(bounds, client_id)
        turns = self._turns(bounds, client_id)
        tokens: defaultdict[tuple[int, str], Tokens] = defaultdict(Tokens)
        costs: defaultdict[tuple[int, str], Cost] = defaultdict(Cost)
        for used in self._figures.usage(bounds, client_id):
            sum_ = Tokens(used.input, used.cached, used.output, used.reasoning)
            tokens[used.part, used.client_id] += sum_
            costs[used.part, used.client_id] += self._prices.cost(used.model, sum_)
        found = []
        for part in reversed(range(len(oldest_first))):
            using = {client for place, client in tokens if place == part}
            found += [
                ClientDay(
                    date=oldest_first[part].date,
                    client_id=client,
                    received=messages[part].get(client, _Messages()).received,
                    sent=messages[part].get(client, _Messages()).sent,
                    turns=TurnCounts(**turns[part].get(client, {})),
                    tokens=tokens[part, client],
                    cost=costs[part, client],
                )
                for client in sorted({*messages[part], *turns[part], *using})
            ]
        return found

    def _messages(self, bounds: Bounds, client_id: str | None) -> list[dict[str, _Messages]]:
        found: list[dict[str, _Messages]] = [{} for _ in bounds[1:]]
        for count in self._figures.messages(bounds, client_id):
            messages = found[count.part].setdefault(count.client_id, _Messages())
            if count.direction == "in":
                messages.received, messages.last_at = count.count, count.last_at
            else:
                messages.sent = count.count
        return found

    def _turns(self, bounds: Bounds, client_id: str | None) -> list[dict[str, dict[str, int]]]:
        found: list[dict[str, dict[str, int]]] = [{} for _ in bounds[1:]]
        for turns in self._figures.turns(bounds, client_id):
            found[turns.part].setdefault(turns.client_id, {})[turns.status] = turns.count
        return found

    def _last(
        self, clients: Sequence[str], today: Mapping[str, _Messages]
    ) -> dict[str, datetime | None]:
        for client, messages in today.items():
            if messages.last_at is not None:
                self._last_messages[client] = messages.last_at
        unknown = [client for client in clients if client not in self._last_messages]
        if unknown:
            found = self._figures.last_messages(unknown)
            self._last_messages.update({client: found.get(client) for client in unknown})
        return self._last_messages

    def _queue(self, clients: Sequence[str]) -> dict[str, ClientQueue] | None:
        try:
            return self._queues.of(clients)
        except OutageError:
            return None


@dataclass(slots=True)
class _Messages:
    received: int = 0
    sent: int = 0
    last_at: datetime | None = None


def state(bots: Sequence[BotLine], turns: TurnCounts, queue: ClientQueue | None) -> str:
    """A client's state in a word; the one that needs an operator first."""
    if not bots:
        return "removed"
    if queue is not None and queue.late_s > LATE_S:
        return "late"
    if turns.dead:
        return "failing"
    if all(bot.status != "active" for bot in bots):
        return bots[0].status
    if queue is None:
        return "no Redis"
    return "answering" if queue.leased else "ok"
