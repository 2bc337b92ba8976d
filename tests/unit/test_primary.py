"""Which of the Sentinels' answers counts, and who waits for it."""

from __future__ import annotations

import socketserver
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from service.store.primary import NoPrimaryError, Primary
from service.store.redis_client import RedisDownError, RedisStore
from service.store.sentinels import Address, Sentinels, Told
from tests.server_process import PATIENCE_S

OLD, NEW = ("10.0.0.1", 6379), ("10.0.0.2", 6379)


def replica(address: Address, flags: str = "slave", link: str = "ok") -> bytes:
    """Its record."""
    host, port = address
    fields = ("ip", host, "port", str(port), "flags", flags, "master-link-status", link)
    return _array(fields)


class FakeSentinel(socketserver.ThreadingTCPServer):
    """Answers SENTINEL MASTER, GET-MASTER-ADDR-BY-NAME and REPLICAS; `None` knows no such primary."""

    daemon_threads = True

    def __init__(
        self,
        told: Told | None,
        *,
        record: Address | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_side=True)
        self.told = told
        self.record = record
        self.replicas: list[bytes] = []
        self.asked = 0
        self.gate = threading.Event()
        self.gate.set()
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}).start()

    def handle_error(self, request: object, client_address: object) -> None:
        """Those who hang up are not told of."""

    @property
    def address(self) -> Address:
        return "127.0.0.1", self.server_address[1]

    def __exit__(self, *_: object) -> None:
        self.gate.set()
        self.shutdown()
        self.server_close()


class _Handler(socketserver.StreamRequestHandler):
    server: FakeSentinel

    def handle(self) -> None:
        while line := self.rfile.readline():
            words = [self._word() for _ in range(int(line[1:]))]
            self.server.gate.wait()
            self.wfile.write(self._answer([word.upper() for word in words]))

    def _word(self) -> bytes:
        length = int(self.rfile.readline()[1:])
        return self.rfile.read(length + 2)[:-2]

    def _answer(self, words: list[bytes]) -> bytes:
        told = self.server.told
        if words[0] == b"AUTH":
            return b"+OK\r\n"
        if words[1] == b"MASTER":
            self.server.asked += 1
            if told is None:
                return b"-ERR No such master with that name\r\n"
            host, port = self.server.record or told.address
            fields = ("ip", host, "port", str(port), "config-epoch", str(told.epoch))
            return _array(fields)
        if words[1] == b"REPLICAS":
            return b"".join([f"*{len(self.server.replicas)}\r\n".encode(), *self.server.replicas])
        return b"*-1\r\n" if told is None else _array((told.address[0], str(told.address[1])))


def _array(words: tuple[str, ...]) -> bytes:
    return f"*{len(words)}\r\n".encode() + b"".join(
        f"${len(word)}\r\n{word}\r\n".encode() for word in words
    )


def those(*numbers: int) -> frozenset[Address]:
    return frozenset((f"10.0.0.{number}", 6379) for number in numbers)


Start = Callable[..., FakeSentinel]


@pytest.fixture
def start() -> Iterator[Start]:
    with ExitStack() as opened:
        yield lambda told, **more: opened.enter_context(FakeSentinel(told, **more))


def primary_of(*sentinels: FakeSentinel) -> Primary:
    return Primary(Sentinels([each.address for each in sentinels], "horizon"))


def test_the_highest_epoch_wins_and_not_the_first_answer(start: Start) -> None:
    cut_off, *others = start(Told(4, OLD)), start(Told(5, NEW)), start(Told(5, NEW))

    assert primary_of(cut_off, *others).place().address == NEW


def test_one_sentinel_is_enough(start: Start) -> None:
    dead, living = start(Told(5, OLD)), start(Told(5, NEW))
    dead.shutdown()
    dead.server_close()

    assert primary_of(dead, living).place().address == NEW


def test_a_sentinel_that_hangs_holds_nobody_up(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    hung, living = start(Told(6, OLD)), start(Told(5, NEW))
    hung.gate.clear()
    # Its own answer is waited for without end, that of all together is not.
    monkeypatch.setattr("service.store.sentinels._STEP_S", 2 * PATIENCE_S)

    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(primary_of(hung, living).place)
        try:
            assert asked.result(PATIENCE_S).address == NEW
        finally:
            hung.gate.set()


def test_the_leader_of_a_fail_over_is_believed_on_the_new_address(start: Start) -> None:
    leader = start(Told(5, NEW), record=OLD)

    assert primary_of(leader).place().address == NEW


def test_a_sentinel_tells_who_could_take_over(start: Start) -> None:
    sentinel = start(Told(5, NEW))
    sentinel.replicas = [
        replica(("10.0.0.3", 6379)),
        replica(("10.0.0.4", 6379)),
        replica(("10.0.0.5", 6379), link="err"),
        replica(("10.0.0.6", 6379), flags="s_down,slave,disconnected"),
        replica(("10.0.0.7", 6379), flags="slave,promoted"),  # elected, the primary in a moment
        replica(("10.0.0.8", 6379), flags="slave,reconf_sent", link="err"),
        replica(("10.0.0.9", 6379), flags="slave,disconnected", link="err"),  # for a moment
        replica(NEW),  # the one that has just taken over
    ]

    (told,) = Sentinels([sentinel.address], "horizon").answers().values()

    assert told == Told(5, NEW, those(3, 4, 7), those(5, 8, 9), those(6))


def test_a_replica_counts_as_long_as_one_sentinel_could_elect_it(start: Start) -> None:
    late, blind, leader = start(Told(4, OLD)), start(Told(5, NEW)), start(Told(5, NEW))
    late.replicas = [replica(("10.0.0.3", port)) for port in range(3)]
    blind.replicas = [
        replica(("10.0.0.3", 6379)),
        replica(("10.0.0.4", 6379), flags="s_down,slave", link="err"),
    ]
    leader.replicas = [
        replica(("10.0.0.3", 6379), flags="slave,promoted"),
        replica(("10.0.0.4", 6379)),
    ]
    primary = primary_of(late, blind, leader)

    primary.saw_followers(those(), primary.place().era)

    assert primary.replicas_needed() == 2


@pytest.mark.parametrize(
    ("linked", "unlinked", "down", "followers", "needed"),
    [
        ([3, 4], [], [], [[3, 4]], 2),
        ([3, 4], [], [], [[3]], 2),  # one has taken over, unknown to the primary
        (
            [],
            [3, 4],
            [],
            [[3, 4], [3]],
            2,
        ),  # the same, before the Sentinels had looked at the links
        ([3], [], [4], [[3, 4], [3]], 1),  # one is down
        ([3], [4], [], [[3]], 1),  # one is loading
        ([], [3], [], [[]], 1),
        ([], [], [], [[]], 1),
        ([], [], [], [[3, 4]], 2),  # the Sentinels were made to forget their replicas
        ([], [3, 4], [9], [[3, 4]], 2),  # two follow the new primary, and the old one is dead
    ],
)
def test_all_that_could_take_over_are_needed(
    start: Start,
    linked: list[int],
    unlinked: list[int],
    down: list[int],
    followers: list[list[int]],
    needed: int,
) -> None:
    sentinel = start(Told(5, NEW))
    sentinel.replicas = [
        *(replica((f"10.0.0.{n}", 6379)) for n in linked),
        *(replica((f"10.0.0.{n}", 6379), link="err") for n in unlinked),
        *(replica((f"10.0.0.{n}", 6379), flags="s_down,slave", link="err") for n in down),
    ]
    primary = primary_of(sentinel)
    era = primary.place().era
    assert primary.replicas_needed() is None
    for found in followers:
        primary.saw_followers(those(*found), era)

    assert primary.replicas_needed() == needed


def test_the_followers_are_forgotten_with_their_primary_and_not_before(start: Start) -> None:
    sentinel = start(Told(5, OLD))
    primary = primary_of(sentinel)
    primary.saw_followers(those(3), primary.place().era)
    primary.lost(primary.era)
    primary.saw_followers(those(3, 4), primary.era - 1)
    assert primary.place().address == OLD
    assert primary.replicas_needed() == 1

    sentinel.told = Told(6, NEW)
    primary.lost(primary.era)
    primary.place()

    assert primary.replicas_needed() is None


def test_nobody_who_knows_the_primary_is_an_outage_that_says_why(start: Start) -> None:
    store = RedisStore("redis://127.0.0.1/0", 1, primary_of(start(None)))

    with pytest.raises(RedisDownError, match="No such master"):
        store.ping()


def test_those_left_who_are_behind_are_not_believed(start: Start) -> None:
    behind, *others = start(Told(4, OLD)), start(Told(5, NEW)), start(Told(5, NEW))
    primary = primary_of(behind, *others)
    primary.lost(primary.place().era)
    for each in others:
        each.shutdown()
        each.server_close()

    with pytest.raises(NoPrimaryError, match="missed the last fail-over"):
        primary.place()


def test_most_of_them_are_believed_after_they_were_set_up_anew(start: Start) -> None:
    sentinels = [start(Told(5, OLD)) for _ in range(3)]
    primary = primary_of(*sentinels)
    primary.lost(primary.place().era)
    for each in sentinels:
        each.told = Told(0, NEW)

    assert primary.place().address == NEW


def test_the_sentinels_are_asked_again_only_after_a_failure(start: Start) -> None:
    sentinel = start(Told(5, OLD))
    primary = primary_of(sentinel)
    era = primary.place().era
    primary.place()
    assert sentinel.asked == 1

    primary.lost(era)
    primary.lost(era)  # another thread's failure of the same connection
    primary.place()
    primary.lost(era)

    assert primary.place().era == era + 1
    assert sentinel.asked == 2


@pytest.mark.parametrize("told", [Told(5, OLD), None])
def test_many_threads_ask_once(start: Start, told: Told | None) -> None:
    sentinel = start(told)
    primary = primary_of(sentinel)
    sentinel.gate.clear()
    gate = threading.Barrier(9)

    def place() -> Address | None:
        gate.wait()
        try:
            return primary.place().address
        except NoPrimaryError:
            return None

    with ThreadPoolExecutor(8) as pool:
        places = [pool.submit(place) for _ in range(8)]
        gate.wait()
        sentinel.gate.set()
        found = {each.result() for each in places}

    assert found == {OLD if told else None}
    # Of those that fail, a late one may ask for itself.
    assert sentinel.asked == 1 if told else sentinel.asked < 8


def test_a_fail_over_that_nothing_failed_by_is_followed(start: Start) -> None:
    sentinel = start(Told(5, OLD))
    primary = primary_of(sentinel)
    era = primary.place().era
    primary.look()
    assert primary.era == era
    sentinel.told = Told(6, NEW)

    primary.look()

    assert (primary.known, primary.era) == ("10.0.0.2:6379", era + 1)


def test_tls_of_the_redis_address_holds_for_the_sentinels_too(start: Start, tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        [
            *("/usr/bin/openssl", "req", "-x509", "-newkey", "ec", "-nodes", "-subj", "/CN=x"),
            *("-pkeyopt", "ec_paramgen_curve:P-256", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    sentinel = start(Told(5, NEW), tls=context)
    host, port = sentinel.address

    def place(url: str) -> Address:
        sentinels = Sentinels.of([f"{host}:{port}"], "horizon", url, None, None)
        return Primary(sentinels).place().address

    assert place(f"rediss://user:of-redis@10.0.0.9/0?ssl_ca_certs={certificate}") == NEW
    for url in ("redis://10.0.0.9/0", "rediss://10.0.0.9/0"):
        with pytest.raises(NoPrimaryError):
            place(url)
