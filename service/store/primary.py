"""Which Redis is the primary: of what all Sentinels say, the newest counts.

A Sentinel that is cut off goes on naming the primary that it knew. A fail-over raises the
configuration's epoch with the votes of most Sentinels, so of two answers the one with the higher
epoch is the later one (https://redis.io/docs/latest/operate/oss_and_stack/management/sentinel/).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import redis
import structlog

from service.store.sentinels import INFO_S, Address, Sentinels, Told

_log = structlog.get_logger(__name__)

LOOK_S = 2.0
"""How often it is asked whether the primary is still the same."""


class NoPrimaryError(redis.ConnectionError):
    """No Sentinel can be believed on where the primary is; the message says what each answered."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the primary is. `era` changes whenever connections made before must not be used."""

    address: Address
    era: int


class Primary:
    """For all threads of a process."""

    def __init__(self, sentinels: Sentinels) -> None:
        self.sentinels = sentinels
        self.era = 0
        self._lock = threading.Lock()
        self._told: Told | None = None
        self._is_lost = True
        self._failed_at = 0.0
        self._followers: deque[tuple[float, frozenset[Address]]] = deque(maxlen=32)

    def place(self) -> Place:
        """Ask only when it is not known: one thread does, the others wait for what it hears.

        Raises:
            NoPrimaryError: nobody can be believed.
        """
        began = time.monotonic()
        with self._lock:
            if self._told is not None and not self._is_lost:
                return Place(self._told.address, self.era)
            if self._failed_at > began:
                raise NoPrimaryError("the Sentinels have just been asked in vain")
            try:
                told = self._ask()
            except NoPrimaryError:
                self._failed_at = time.monotonic()
                raise
            self._follow(told)
            return Place(told.address, self.era)

    @property
    def known(self) -> str | None:
        """`host:port` as far as it is known."""
        told = self._told
        return None if told is None or self._is_lost else f"{told.address[0]}:{told.address[1]}"

    def lost(self, era: int) -> None:
        """What was reached in this era is no primary any more, or cannot be reached."""
        with self._lock:
            if era == self.era:
                self._is_lost = True
                self.era += 1

    def look(self) -> None:
        """Follow a fail-over that nothing here has failed by, as far as the Sentinels answer.

        A primary that is cut off from everybody but this process still answers its readers.
        """
        if self._is_lost:
            return
        era = self.era
        try:
            told = self._ask()
        except NoPrimaryError as error:
            _log.warning("sentinels_unavailable", reason=str(error))
            return
        with self._lock:
            # Whoever lost the primary meanwhile asks again.
            if era == self.era:
                self._follow(told)

    def saw_followers(self, found: frozenset[Address], era: int) -> None:
        """The primary of this era has these replicas online."""
        with self._lock:
            if era == self.era:
                self._followers.append((time.monotonic(), found))

    def replicas_needed(self) -> int | None:
        """How many replicas must have what is not to be lost: all that could take over, at least one.

        One of two is not enough. A primary that is cut off from its Sentinels does not know that a
        replica has taken over, and the other one still follows it. So who followed a moment ago, and
        is not down, counts as well as who is known to follow. A Sentinel that was set up anew knows
        nobody for some seconds, and nobody as down. None: `saw_followers` is needed first.
        """
        since = time.monotonic() - INFO_S - LOOK_S
        with self._lock:
            seen = [found for at, found in self._followers if at > since]
            if not seen or self._told is None:
                return None
            followed = frozenset[Address]().union(*seen) - self._told.down
            return max(1, len(self._told.linked | followed))

    def _follow(self, told: Told) -> None:
        before = self._told
        if before is None or before.address != told.address:
            self._followers.clear()
            host, port = told.address
            _log.info("primary_followed", address=f"{host}:{port}", epoch=told.epoch)
            if not self._is_lost:
                self.era += 1
        self._told, self._is_lost = told, False

    def _ask(self) -> Told:
        answers = self.sentinels.answers()
        told = [answer for answer in answers.values() if isinstance(answer, Told)]
        if not told:
            said = (f"{host}:{port} {error}" for (host, port), error in answers.items())
            raise NoPrimaryError("no Sentinel names the primary: " + "; ".join(said))
        newest = _together(told)
        is_behind = self._told is not None and newest.epoch < self._told.epoch
        if is_behind and len(told) <= len(self.sentinels) // 2:
            # Most of them would be right: they were set up anew.
            raise NoPrimaryError("only Sentinels that have missed the last fail-over answer")
        return newest


def _together(told: Sequence[Told]) -> Told:
    """The newest epoch's; a replica that any of its Sentinels takes for alive may be elected by it."""
    epoch = max(each.epoch for each in told)
    newest = [each for each in told if each.epoch == epoch]
    linked, unlinked, down = (
        frozenset[Address]().union(*those)
        for those in zip(*((each.linked, each.unlinked, each.down) for each in newest), strict=True)
    )
    return Told(epoch, newest[0].address, linked, unlinked - linked, down - linked - unlinked)


class Following(redis.Connection):
    """A connection to wherever the primary is; one of an earlier era is made anew when it is taken."""

    def __init__(self, *, primary: Primary, **options: Any) -> None:
        super().__init__(**options)  # type: ignore[no-untyped-call]  # untyped upstream
        self._primary = primary
        self._era = -1

    @property
    def is_stale(self) -> bool:
        return self._era != self._primary.era

    def connect(self) -> None:
        if self.is_connected and not self.is_stale:
            return
        self.disconnect()  # type: ignore[no-untyped-call]  # untyped upstream
        place = self._primary.place()
        (self.host, self.port), self._era = place.address, place.era
        super().connect()  # type: ignore[no-untyped-call]  # untyped upstream


class FollowingTls(Following, redis.SSLConnection):
    """The same over TLS."""
