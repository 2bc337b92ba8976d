"""The mailbox on Redis: each method is one script of `scripts.py`, sent once, without client retry."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from hashlib import sha1
from typing import Any

import redis
import structlog

from service.conversation.event import Event, conversation_id, decode, unreadable
from service.conversation.mailbox import Accepted, Claim, Depth, Inbound
from service.store import keys, scripts
from service.store.redis_client import RedisStore

_log = structlog.get_logger(__name__)

MAX_TURN_EVENTS = 100
"""A turn takes at most this many events; what is beyond becomes the next turn."""

_IDLE_WAIT_S = 60.0


class _Script:
    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = sha1(text.encode(), usedforsecurity=False).hexdigest()


_ACCEPT = _Script(scripts.ACCEPT)
_COMMAND = _Script(scripts.COMMAND)
_CLAIM = _Script(scripts.CLAIM)
_TAKE = _Script(scripts.TAKE)
_RENEW = _Script(scripts.RENEW)
_ACKNOWLEDGE = _Script(scripts.ACKNOWLEDGE)
_RELEASE = _Script(scripts.RELEASE)
_REVIVE = _Script(scripts.REVIVE)
_DEPTH = _Script(scripts.DEPTH)


class RedisMailbox:
    """Implements `conversation.mailbox.Mailbox`. Raises RedisDownError."""

    def __init__(
        self,
        store: RedisStore,
        debounce_ms: int,
        lease_s: float,
        session_ttl_s: int,
        replica_wait_ms: int | None = None,
    ) -> None:
        """With `replica_wait_ms` a message is accepted only once its replicas have it too."""
        self._store = store
        self._send_accepted = (
            store.command
            if replica_wait_ms is None
            else partial(store.on_replicas, replica_wait_ms)
        )
        self._debounce_ms = debounce_ms
        self._lease_ms = int(lease_s * 1000)
        self._session_ttl_s = session_ttl_s

    def accept(self, inbound: Inbound) -> Accepted:
        event, external = inbound.event, inbound.external_id
        taken, conversation = self._run(
            _ACCEPT,
            event.bot_id,
            inbound.client_id,
            inbound.number,
            event.id,
            inbound.sender,
            external,
            conversation_id(event.bot_id, inbound.sender),
            conversation_id(event.bot_id, external) if external else "",
            event.raw,
            self._debounce_ms,
            keys.SEEN_TTL_S,
            send=self._send_accepted,
        )
        return Accepted(conversation.decode(), duplicate=taken == 0)

    def command(self, conversation: str, event: Event, client_id: str, number: str) -> bool:
        taken, _ = self._run(
            _COMMAND,
            conversation,
            client_id,
            event.bot_id,
            number,
            event.id,
            event.raw,
            self._debounce_ms,
            keys.SEEN_TTL_S,
        )
        return bool(taken)

    def claim(self, count: int, newcomers_only: bool = False) -> tuple[Sequence[Claim], float]:
        asked_at = time.monotonic()
        rows, wait_ms = self._run(
            _CLAIM,
            count,
            os.urandom(12).hex(),
            self._lease_ms,
            int(newcomers_only),
            MAX_TURN_EVENTS,
        )
        claims = [
            Claim(
                conversation_id=row[0].decode(),
                token=row[1].decode(),
                client_id=row[2].decode(),
                bot_id=row[3].decode(),
                number=row[4].decode(),
                excused=row[5] == b"1",
                events=tuple(self._event(raw, row[0]) for raw in row[6]),
                claimed_at=asked_at,
            )
            for row in rows
        ]
        return claims, _IDLE_WAIT_S if wait_ms < 0 else wait_ms / 1000

    def take(self, conversation: str) -> Claim | None:
        """Lease this very conversation with all its events, also from a worker; None: it is idle."""
        asked_at, token = time.monotonic(), os.urandom(12).hex() + ":0"
        row = self._run(_TAKE, conversation, token, self._lease_ms)
        if not row:
            return None
        client, bot, number, events = row
        return Claim(
            conversation_id=conversation,
            token=token,
            client_id=client.decode(),
            bot_id=bot.decode(),
            number=number.decode(),
            # Whoever had it was stopped by a person: that was no crash.
            excused=True,
            events=tuple(self._event(raw, conversation.encode()) for raw in events),
            claimed_at=asked_at,
        )

    def conversations(self) -> Sequence[str]:
        """Every conversation that is not idle."""
        prefix = keys.conversation("")
        with self._store.outages():
            found = {
                key.decode().removeprefix(prefix)
                for key in self._store.client.scan_iter(prefix + "*", count=1_000)
            }
        return sorted(found)

    def _event(self, raw: bytes, conversation: bytes) -> Event:
        try:
            return decode(raw)
        except (ValueError, KeyError, TypeError):
            _log.error(
                "event_unreadable", conversation_id=conversation.decode(), kept_in=keys.UNREADABLE
            )
            with self._store.outages():
                self._store.client.rpush(keys.UNREADABLE, raw)
            return unreadable(raw)

    def renew(self, claims: Sequence[Claim]) -> set[str]:
        if not claims:
            return set()
        pairs = [text for claim in claims for text in (claim.conversation_id, claim.token)]
        return {lost.decode() for lost in self._run(_RENEW, self._lease_ms, *pairs)}

    def acknowledge(self, claim: Claim, handled: Sequence[Event], session: bytes = b"") -> bool:
        done = self._run(
            _ACKNOWLEDGE,
            claim.conversation_id,
            claim.token,
            self._debounce_ms,
            session,
            self._session_ttl_s,
            *(event.raw for event in handled),
        )
        return bool(done)

    def release(self, claim: Claim, delay_s: float = 0) -> bool:
        done = self._run(_RELEASE, claim.conversation_id, claim.token, int(delay_s * 1000))
        return bool(done)

    def revive(self, conversation: str, client_id: str, bot_id: str, number: str) -> bool:
        return bool(self._run(_REVIVE, conversation, client_id, bot_id, number))

    def session(self, conversation: str) -> bytes | None:
        with self._store.outages():
            held = self._store.command("GET", keys.session(conversation))
        return held if isinstance(held, bytes) else None

    def depth(self) -> Depth:
        due, leased, oldest_ms, held = self._run(_DEPTH)
        return Depth(due, leased, oldest_ms / 1000, held == 1)

    def _run(
        self, script: _Script, *args: str | bytes | int, send: Callable[..., Any] | None = None
    ) -> Any:
        send = send or self._store.command
        with self._store.outages():
            try:
                return send("EVALSHA", script.sha, 0, *args)
            except redis.exceptions.NoScriptError:
                return send("EVAL", script.text, 0, *args)
