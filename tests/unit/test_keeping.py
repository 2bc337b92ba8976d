"""Where a message is kept before its 200."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from service.conversation.mailbox import Accepted, Inbound, Mailbox
from service.conversation.outage import OutageError
from service.store.spool import Spool
from service.web.keeping import RedisOrSpool, TwoHosts
from tests.unit.test_spool import inbound


class FlakyMailbox:
    """Fails so often, then accepts."""

    def __init__(self, failures: float = 0) -> None:
        self.failures = failures
        self.accepted: list[Inbound] = []
        self.tries = 0

    def accept(self, message: Inbound) -> Accepted:
        self.tries += 1
        if self.tries <= self.failures:
            raise OutageError("no replica")
        self.accepted.append(message)
        return Accepted("cv_1", duplicate=len(self.accepted) > 1)


class Clock:
    """Time passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("service.web.keeping.time", clock)
    return clock


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path, 10**6)


def keep(kind: Any, mailbox: FlakyMailbox, spool: Spool, **options: Any) -> str:
    keeper = kind(cast(Mailbox, mailbox), spool, lambda: False, **options)
    result: str = keeper.keep(inbound("SM1"), since=0.0)
    return result


def test_the_disk_stands_in_for_redis(spool: Spool) -> None:
    mailbox = FlakyMailbox(failures=1)

    assert keep(RedisOrSpool, mailbox, spool) == "spooled"
    assert keep(RedisOrSpool, mailbox, spool) == "spooled"  # after the first
    assert (mailbox.tries, spool.depth()) == (1, 2)


def test_where_two_hosts_must_have_it_the_request_waits(spool: Spool) -> None:
    mailbox = FlakyMailbox(failures=2)

    assert keep(TwoHosts, mailbox, spool, wait_s=5) == "accepted"
    assert keep(TwoHosts, mailbox, spool, wait_s=5) == "duplicate"
    assert spool.depth() == 0


def test_what_two_hosts_never_had_is_refused_in_time_and_not_spooled(
    spool: Spool, clock: Clock
) -> None:
    mailbox = FlakyMailbox(failures=float("inf"))

    with pytest.raises(OutageError, match="no replica"):
        keep(TwoHosts, mailbox, spool, wait_s=8)

    # The last try may take a second, as each does when Redis hangs.
    assert 6 < clock.now <= 7
    assert mailbox.tries > 10
    assert spool.depth() == 0


def test_what_was_spooled_before_goes_first(spool: Spool) -> None:
    spool.put(inbound("SM0"))
    mailbox = FlakyMailbox()

    with pytest.raises(OutageError, match="spool is not empty"):
        keep(TwoHosts, mailbox, spool, wait_s=0.3)
    spool.replay(mailbox.accept)
    keep(TwoHosts, mailbox, spool)

    assert [message.event.id for message in mailbox.accepted] == ["SM0", "SM1"]


def test_the_wait_counts_from_the_arrival_of_the_request(spool: Spool, clock: Clock) -> None:
    mailbox = FlakyMailbox(failures=1)
    keeper = TwoHosts(cast(Mailbox, mailbox), spool, lambda: False)

    with pytest.raises(OutageError):
        keeper.keep(inbound("SM1"), clock.now - 10)

    assert mailbox.tries == 1
