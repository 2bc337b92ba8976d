"""Whatever the service does with Redis, done by its own code at the Redis of REDIS_URL."""

from __future__ import annotations

import os
import sys
import threading
from dataclasses import replace
from pathlib import Path
from secrets import token_hex
from typing import Any, cast

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from service.conversation.event import Event, encode
from service.conversation.mailbox import Inbound, Mailbox
from service.store import keys
from service.store.bot_cache import BotCache
from service.store.records import FORMAT, Record
from service.store.redis_client import RedisStore
from service.store.redis_mailbox import RedisMailbox

BOT, CLIENT = f"bot_{token_hex(4)}", "client_1"
NUMBER, SENDER = "+56226660001", "whatsapp:+56911111111"
WAIT_S = 5


def main() -> None:
    store = RedisStore(os.environ["REDIS_URL"], max_connections=4)
    store.ping()
    heard, listening = threading.Event(), threading.Event()

    def listen() -> None:
        with store.channel(keys.WAKE) as channel:
            listening.set()
            # The subscription's own answer, which is left out, may be the first.
            if any(channel.hear(WAIT_S) for _ in range(3)):
                heard.set()

    threading.Thread(target=listen, daemon=True).start()
    expect(listening.wait(WAIT_S), "subscribe")
    try_mailbox(RedisMailbox(store, debounce_ms=0, lease_s=10, session_ttl_s=60))
    expect(heard.wait(WAIT_S), "hear the channel")
    try_bots(BotCache(store))
    try_commands(store)
    print("served")


def try_mailbox(mailbox: Mailbox) -> None:
    event = Event("SM1", "message", BOT, 1, {"Body": "hola"})
    event = replace(event, raw=encode(event))
    inbound = Inbound(event, CLIENT, NUMBER, SENDER, "CL.1")
    accepted = mailbox.accept(inbound)
    expect(not accepted.duplicate and mailbox.accept(inbound).duplicate, "accept")
    (claim,), _ = mailbox.claim(1)
    expect(mailbox.renew([claim]) == set(), "renew")
    expect(mailbox.release(claim), "release")
    (claim,), _ = mailbox.claim(1)
    expect(mailbox.acknowledge(claim, claim.events, b"{}"), "acknowledge")
    expect(mailbox.session(accepted.conversation_id) == b"{}", "session")
    command = replace(event, id="retry-1", kind="retry")
    expect(mailbox.command(accepted.conversation_id, command, CLIENT, NUMBER), "command")
    (claim,), _ = mailbox.claim(1)
    expect(mailbox.acknowledge(claim, claim.events), "acknowledge a command")
    expect(mailbox.revive(accepted.conversation_id, CLIENT, BOT, NUMBER), "revive")
    expect(mailbox.depth().due == 1, "depth")
    (claim,), _ = mailbox.claim(1)
    mailbox.acknowledge(claim, ())


def try_bots(cache: BotCache) -> None:
    record: dict[str, Any] = {
        "format": FORMAT,
        "id": BOT,
        "number": NUMBER,
        "revision": 1,
        "twilio_messaging_service_sid": "MG1",
    }
    expect(cache.publish(cast(Record, record)), "publish")
    cache.publish_all([cast(Record, record | {"revision": 2})])
    expect(cache.number_of(BOT) == NUMBER and cache.read(NUMBER) is not None, "read")
    cache.remember_service("MG1", NUMBER)
    cache.forget(NUMBER, BOT)
    cache.remember_unknown("+56226660009", None)
    expect(cache.look("+56226660009", None).is_unknown, "look")
    expect(cache.count_lookup(), "count")
    cache.may_warm()


def try_commands(store: RedisStore) -> None:
    """What workers, the sweep and the directory send besides."""
    key = keys.worker("wk_1")
    store.client.set(key, b"{}", ex=10)
    store.client.delete(key)
    store.client.exists(keys.ALIASES_RESTORED)
    with store.client.pipeline(transaction=False) as pipe:
        pipe.hsetnx(keys.aliases(BOT), "o:a", "b")
        pipe.execute()
    store.client.rpush(keys.UNREADABLE, b"x")
    store.client.delete(keys.UNREADABLE)
    store.client.info()
    list(store.client.scan_iter(match="hb:*"))
    with store.channel(keys.BOTS_CHANGED) as channel:
        channel.hear(0.1)


def expect(is_so: bool, what: str) -> None:
    if not is_so:
        raise SystemExit(f"the service could not {what}")


if __name__ == "__main__":
    main()
