"""The bots that this process holds in memory, ready to use."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from hashlib import blake2b

from service.conversation.bot import Bot
from service.settings import Settings
from service.store.records import Record, Source, bot_of
from service.store.secrets import Cipher

_TRUST_S = 300.0


@dataclass(frozen=True, slots=True)
class Copy:
    """A bot in this process. `digest` tells whether a record is the one it was made from.

    It need not be asked for again until `fresh_until`, nor until `trusted_until` while this process
    hears of every change. Both are `time.monotonic()`.
    """

    bot: Bot
    source: Source
    revision: int
    digest: bytes
    fresh_until: float
    trusted_until: float


class BotCopies:
    """By number and by id. Copies are immutable and replaced whole, so threads need no lock."""

    def __init__(self, cipher: Cipher, settings: Settings, ttl_s: float) -> None:
        self._cipher = cipher
        self._settings = settings
        self._ttl_s = ttl_s
        self.by_number: dict[str, Copy] = {}
        self.by_id: dict[str, Copy] = {}
        self.heard_until = 0.0
        """Until when no change can have been announced without this process having heard of it."""
        self.changes_heard = 0

    def is_fresh(self, copy: Copy) -> bool:
        """Whether the copy may be used without asking anybody."""
        now = time.monotonic()
        return now < copy.fresh_until or now < min(copy.trusted_until, self.heard_until)

    def keep(self, record: Record, raw: bytes, *, from_source: bool, asked_after: int) -> Copy:
        """Keep the bot of this record; `raw` is its JSON. Decrypts only when it has changed.

        A record that is not `from_source` may be older than the copy: then the copy stays.
        `asked_after` is `changes_heard` from before the record was read: when a change was heard
        since, the record may be the old one, so it is not trusted for long.

        Raises:
            UnreadableSecretError: SECRET_KEY no longer holds the key that encrypted a secret.
        """
        digest = blake2b(raw, digest_size=16).digest()
        fresh_until = time.monotonic() + self._ttl_s
        trusted_until = fresh_until
        if asked_after == self.changes_heard:
            trusted_until = time.monotonic() + _TRUST_S
        known = self.by_id.get(record["id"])
        if known is not None and (
            known.digest == digest or (not from_source and known.revision > record["revision"])
        ):
            copy = replace(known, fresh_until=fresh_until, trusted_until=trusted_until)
        else:
            bot = bot_of(record, self._cipher, self._settings)
            copy = Copy(
                bot, record["source"], record["revision"], digest, fresh_until, trusted_until
            )
            if known is not None and known.bot.number != bot.number:
                self.drop(known.bot.number, bot.id)
        self.by_number[copy.bot.number] = copy
        self.by_id[copy.bot.id] = copy
        return copy

    def expire(self, number: str) -> None:
        """Ask again at the next look-up; the copy stays for the case that nobody can be asked."""
        self.changes_heard += 1
        copy = self.by_number.get(number)
        if copy is not None:
            stale = replace(copy, fresh_until=0.0, trusted_until=0.0)
            self.by_number[number] = stale
            self.by_id[copy.bot.id] = stale

    def expire_all(self) -> None:
        """As `expire`, for every copy."""
        for number in list(self.by_number):
            self.expire(number)

    def drop(self, number: str, bot_id: str | None = None) -> None:
        """Forget the copy of a number, if it is this bot's."""
        copy = self.by_number.get(number)
        if copy is not None and bot_id in (None, copy.bot.id):
            self.by_number.pop(number, None)
            self.by_id.pop(copy.bot.id, None)
