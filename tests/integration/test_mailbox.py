"""The mailbox on a real Redis: when a conversation is due, who gets it, and what a stale token may do."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import fakeredis
import pytest
import redis

from service.conversation.event import Event, encode
from service.conversation.mailbox import Claim, Inbound
from service.store.redis_client import RedisStore
from service.store.redis_mailbox import RedisMailbox
from tests.stack import wait_until


@pytest.fixture
def store(redis_url: str) -> Iterator[RedisStore]:
    store = RedisStore(redis_url, 8)
    yield store
    store.close()


def mailbox_of(store: RedisStore, debounce_ms: int = 0, lease_s: float = 10) -> RedisMailbox:
    return RedisMailbox(store, debounce_ms, lease_s, 60)


def inbound(sid: str, sender: str = "whatsapp:+1", client: str = "client") -> Inbound:
    event = Event(sid, "message", f"bot_{client}", 0, {"Body": sid, "From": sender})
    event = Event(sid, "message", event.bot_id, 0, event.fields, encode(event))
    return Inbound(event, client, "+56", sender)


def ids(claim: Claim) -> list[str]:
    return [event.id for event in claim.events]


def wait_for_claim(mailbox: RedisMailbox) -> Claim:
    claims: list[Claim] = []

    def claimed() -> bool:
        claims.extend(mailbox.claim(1)[0])
        return bool(claims)

    wait_until(claimed, 5, "claim")
    return claims[0]


def test_a_conversation_is_due_after_the_debounce_of_its_last_message(store: RedisStore) -> None:
    mailbox = mailbox_of(store, debounce_ms=150)
    mailbox.accept(inbound("a"))
    started = time.monotonic()
    assert mailbox.claim(1)[0] == []
    wait_until(lambda: mailbox.depth().oldest_due_s > 0, 5, "due conversation")
    assert time.monotonic() - started > 0.1
    assert ids(mailbox.claim(1)[0][0]) == ["a"]


def test_a_contact_that_never_stops_writing_is_due_after_five_debounces(
    store: RedisStore,
) -> None:
    mailbox = mailbox_of(store, debounce_ms=200)
    started = time.monotonic()
    count = 0
    claims: list[Claim] = []
    while not claims and time.monotonic() - started < 6:
        mailbox.accept(inbound(f"m{count}"))
        count += 1
        claims = list(mailbox.claim(1)[0])
        time.sleep(0.02)
    assert 0.8 < time.monotonic() - started < 2.0


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
    mailbox = mailbox_of(store, lease_s=0.2)
    mailbox.accept(inbound("a"))
    old = mailbox.claim(1)[0][0]
    new = wait_for_claim(mailbox)
    assert not new.excused
    assert mailbox.renew([old, new]) == {old.conversation_id}
    assert not mailbox.acknowledge(old, old.events)
    assert not mailbox.release(old)
    assert mailbox.acknowledge(new, new.events)


def test_renewing_keeps_a_conversation(store: RedisStore) -> None:
    mailbox = mailbox_of(store, lease_s=0.3)
    mailbox.accept(inbound("a"))
    claim = mailbox.claim(1)[0][0]
    deadline = time.monotonic() + 0.9
    while time.monotonic() < deadline:
        assert mailbox.renew([claim]) == set()
        assert mailbox.claim(1)[0] == []
        time.sleep(0.05)
    assert mailbox.acknowledge(claim, claim.events)


def test_a_new_message_does_not_shorten_a_backoff(store: RedisStore) -> None:
    mailbox = mailbox_of(store)
    mailbox.accept(inbound("a"))
    claim = mailbox.claim(1)[0][0]
    mailbox.release(claim, delay_s=0.4)
    mailbox.accept(inbound("b"))
    assert mailbox.claim(1)[0] == []
    back = wait_for_claim(mailbox)
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
