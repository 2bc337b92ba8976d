"""The mailbox on a real Redis: when a conversation is due, who gets it, and what a stale token may do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import fakeredis
import pytest
import redis

from service.conversation.event import Event, encode
from service.conversation.mailbox import Claim, Inbound
from service.store import keys
from service.store.redis_client import RedisStore
from service.store.redis_mailbox import RedisMailbox


@pytest.fixture
def store(redis_url: str) -> Iterator[RedisStore]:
    store = RedisStore(redis_url, 8)
    yield store
    store.close()


def mailbox_of(store: RedisStore, debounce_ms: int = 0, lease_s: float = 60) -> RedisMailbox:
    return RedisMailbox(store, debounce_ms, lease_s, 60)


def inbound(sid: str, sender: str = "whatsapp:+1", client: str = "client") -> Inbound:
    event = Event(sid, "message", f"bot_{client}", 0, {"Body": sid, "From": sender})
    event = Event(sid, "message", event.bot_id, 0, event.fields, encode(event))
    return Inbound(event, client, "+56", sender)


def ids(claim: Claim) -> list[str]:
    return [event.id for event in claim.events]


class Clock:
    """What Redis keeps of one conversation's times, in milliseconds; a test may let time pass."""

    def __init__(self, store: RedisStore, conversation: str) -> None:
        self._redis = store.client
        self._conversation = conversation
        self._state = keys.conversation(conversation)

    def last(self) -> int:
        return int(self._redis.hget(self._state, "last") or 0)

    def due_at(self) -> float | None:
        return self._redis.zscore(keys.due("client"), self._conversation)

    def lease_until(self) -> float | None:
        return self._redis.zscore(keys.LEASES, self._conversation)

    def first_wrote(self, ms_ago: int) -> None:
        self._redis.hset(self._state, "first", str(self.last() - ms_ago))

    def let_it_be_due(self) -> None:
        self._redis.zadd(keys.due("client"), {self._conversation: 1}, xx=True)
        self._redis.zadd(keys.CLIENTS, {"client": 1}, xx=True)

    def let_the_lease_run_out(self) -> None:
        self._redis.zadd(keys.LEASES, {self._conversation: 1}, xx=True)


def test_a_conversation_is_due_after_the_debounce_of_its_last_message(store: RedisStore) -> None:
    mailbox = mailbox_of(store, debounce_ms=60_000)
    clock = Clock(store, mailbox.accept(inbound("a")).conversation_id)
    mailbox.accept(inbound("b"))

    assert mailbox.claim(1)[0] == []
    assert clock.due_at() == clock.last() + 60_000
    clock.let_it_be_due()
    assert ids(mailbox.claim(1)[0][0]) == ["a", "b"]


def test_a_contact_that_never_stops_writing_is_due_after_five_debounces(
    store: RedisStore,
) -> None:
    mailbox = mailbox_of(store, debounce_ms=60_000)
    clock = Clock(store, mailbox.accept(inbound("a")).conversation_id)
    clock.first_wrote(ms_ago=270_000)
    first = clock.last() - 270_000

    mailbox.accept(inbound("b"))

    assert clock.due_at() == first + 5 * 60_000


def test_only_handled_events_are_removed(store: RedisStore) -> None:
    mailbox = mailbox_of(store)
    mailbox.accept(inbound("a"))
    mailbox.accept(inbound("b"))
    claim = mailbox.claim(1)[0][0]
    mailbox.accept(inbound("c"))
    assert mailbox.acknowledge(claim, claim.events[:1])
    assert ids(mailbox.claim(1)[0][0]) == ["b", "c"]


def test_a_conversation_is_held_by_one_worker(store: RedisStore) -> None:
    mailbox = mailbox_of(store)
    mailbox.accept(inbound("a"))
    assert len(mailbox.claim(5)[0]) == 1
    mailbox.accept(inbound("b"))
    assert mailbox.claim(5)[0] == []


def test_a_lease_that_runs_out_is_due_again_and_its_token_is_stale(store: RedisStore) -> None:
    mailbox = mailbox_of(store)
    clock = Clock(store, mailbox.accept(inbound("a")).conversation_id)
    old = mailbox.claim(1)[0][0]
    clock.let_the_lease_run_out()
    new = mailbox.claim(1)[0][0]
    assert not new.excused
    assert mailbox.renew([old, new]) == {old.conversation_id}
    assert not mailbox.acknowledge(old, old.events)
    assert not mailbox.release(old)
    assert mailbox.acknowledge(new, new.events)


def test_renewing_keeps_a_conversation(store: RedisStore) -> None:
    mailbox = mailbox_of(store)
    clock = Clock(store, mailbox.accept(inbound("a")).conversation_id)
    claim = mailbox.claim(1)[0][0]
    granted = clock.lease_until()
    clock.let_the_lease_run_out()

    assert mailbox.renew([claim]) == set()

    renewed = clock.lease_until()
    assert granted is not None
    assert renewed is not None
    assert renewed >= granted
    assert mailbox.claim(1)[0] == []
    assert mailbox.acknowledge(claim, claim.events)


def test_a_new_message_does_not_shorten_a_backoff(store: RedisStore) -> None:
    mailbox = mailbox_of(store)
    clock = Clock(store, mailbox.accept(inbound("a")).conversation_id)
    claim = mailbox.claim(1)[0][0]
    mailbox.release(claim, delay_s=60)
    backs_off_until = clock.due_at()
    mailbox.accept(inbound("b"))
    assert mailbox.claim(1)[0] == []
    assert clock.due_at() == backs_off_until
    clock.let_it_be_due()
    back = mailbox.claim(1)[0][0]
    assert back.excused
    assert ids(back) == ["a", "b"]


def test_a_flood_of_one_client_does_not_keep_another_waiting(store: RedisStore) -> None:
    mailbox = mailbox_of(store)
    for n in range(50):
        mailbox.accept(inbound(f"f{n}", f"whatsapp:+1{n}", "flood"))
    assert len(mailbox.claim(8)[0]) == 8
    for n in range(3):
        mailbox.accept(inbound(f"q{n}", f"whatsapp:+2{n}", "quiet"))
    assert [claim.client_id for claim in mailbox.claim(4)[0]] == ["quiet"] * 3 + ["flood"]


def test_newcomers_are_clients_that_have_nothing_running(store: RedisStore) -> None:
    mailbox = mailbox_of(store)
    for n in range(4):
        mailbox.accept(inbound(f"f{n}", f"whatsapp:+1{n}", "flood"))
    mailbox.claim(2)
    mailbox.accept(inbound("q", "whatsapp:+2", "quiet"))
    assert [c.client_id for c in mailbox.claim(3, newcomers_only=True)[0]] == ["quiet"]


def test_nothing_is_left_of_a_conversation_that_is_done(store: RedisStore) -> None:
    mailbox = mailbox_of(store)
    mailbox.accept(inbound("a"))
    claim = mailbox.claim(1)[0][0]
    mailbox.acknowledge(claim, claim.events)
    left = list(store.client.scan_iter())
    assert [key for key in left if b":seen:" not in key] == []


def test_the_scripts_are_loaded_again_after_redis_lost_them(store: RedisStore) -> None:
    mailbox = mailbox_of(store)
    mailbox.accept(inbound("a"))
    store.client.script_flush()
    assert ids(mailbox.claim(1)[0][0]) == ["a"]


def test_the_scripts_run_on_a_fake_redis_too(monkeypatch: pytest.MonkeyPatch) -> None:
    store = RedisStore("redis://127.0.0.1:1/0", 1)
    store.client = fakeredis.FakeRedis()
    # What the scripts do is looked at, not how they get there.
    monkeypatch.setattr(store, "command", store.client.execute_command)
    mailbox = mailbox_of(store)
    assert not mailbox.accept(inbound("a")).duplicate
    assert mailbox.accept(inbound("a")).duplicate
    claim = mailbox.claim(1)[0][0]
    assert mailbox.acknowledge(claim, claim.events)
    assert mailbox.depth().due == 0


def test_a_connection_that_redis_closed_while_it_was_idle_is_made_anew(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.store.redis_client._FRESH_S", 0)
    assert store.command("PING") == b"PONG"
    store.client.client_kill_filter(skipme=True, _type="normal")

    assert store.command("PING") == b"PONG"


def test_when_one_connection_breaks_the_idle_ones_are_not_tried(store: RedisStore) -> None:
    with ThreadPoolExecutor(4) as pool:
        gate = Barrier(4)

        def ping() -> None:
            gate.wait()
            store.command("EVAL", "local t = redis.call('TIME') return t", 0)

        for ended in [pool.submit(ping) for _ in range(4)]:
            ended.result()
    store.client.client_kill_filter(skipme=True, _type="normal")
    with pytest.raises(redis.RedisError):
        store.command("PING")

    assert store.command("PING") == b"PONG"


def test_an_error_that_redis_answers_keeps_the_connection(store: RedisStore) -> None:
    mine = store.command("CLIENT", "ID")
    with pytest.raises(redis.ResponseError):
        store.command("NO-SUCH-COMMAND")

    assert store.command("CLIENT", "ID") == mine


def test_a_child_process_does_not_use_its_parents_connection(store: RedisStore) -> None:
    mine = store.command("CLIENT", "ID")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, str(store.command("CLIENT", "ID")).encode())
        os._exit(0)
    os.waitpid(child, 0)

    assert int(os.read(reader, 20)) != mine
    assert store.command("CLIENT", "ID") == mine


def test_connections_that_could_not_be_made_are_not_kept() -> None:
    store = RedisStore("redis://127.0.0.1:1/0", 4)
    for _ in range(10):
        with pytest.raises(redis.ConnectionError):
            store.command("PING")
    assert sum(count for count, _ in store.client.connection_pool.get_connection_count()) == 0


def test_a_dead_redis_is_one_typed_error() -> None:
    store = RedisStore("redis://127.0.0.1:1/0", 1)
    with pytest.raises(Exception, match="ConnectionError") as raised:
        mailbox_of(store).accept(inbound("a"))
    assert type(raised.value).__name__ == "RedisDownError"
    assert store.suspect
    assert isinstance(raised.value.__cause__, redis.RedisError)
