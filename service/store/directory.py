"""Finds the bot of a number or an id: from this process, from Redis, then from the sources."""

from __future__ import annotations

import re
import threading

import redis
import structlog

from service.conversation.bot import Bot
from service.conversation.outage import OutageError
from service.settings import Settings
from service.store import keys
from service.store.bot_cache import BotCache, Cached
from service.store.bot_copies import BotCopies, Copy
from service.store.bot_sources import BotSources, ConfigSource, NumberUnknownError
from service.store.database import Database
from service.store.records import Record, Source, dump, parse
from service.store.redis_client import RedisDownError, RedisStore
from service.store.secrets import Cipher, UnreadableSecretError

_LISTEN_S = 1.0
_HEARD_S = 5.0
# Whoever calls the webhook chooses these before any signature is checked.
_NUMBER = re.compile(r"\+[0-9]{5,17}")
_SERVICE = re.compile(r"[A-Za-z0-9]{1,40}")

log = structlog.get_logger(__name__)


class DirectoryUnavailableError(OutageError):
    """Whether there is such a bot cannot be said now: a source failed and no copy is known."""


class TooManyLookupsError(DirectoryUnavailableError):
    """More unknown numbers were asked for in this second than are looked up."""


class UnknownIdError(DirectoryUnavailableError):
    """Nothing here leads from this id to a bot; Horizon might know one, but only by its number."""


class BotDirectory:
    """Safe for threads."""

    def __init__(
        self,
        database: Database,
        redis_store: RedisStore,
        cipher: Cipher,
        settings: Settings,
        horizon: ConfigSource | None,
        cache_ttl_s: float = 5,
    ) -> None:
        self._redis = redis_store
        self._cache = BotCache(redis_store)
        has_horizon = bool(settings.horizon_base_url and settings.horizon_api_key)
        self._sources = BotSources(database, cipher, horizon if has_horizon else None)
        self._copies = BotCopies(cipher, settings, cache_ttl_s)
        self._by_number = self._copies.by_number
        self._by_id = self._copies.by_id
        self._unpublished: dict[str, str] = {}

    def find(self, number: str, messaging_service_sid: str | None = None) -> Bot | None:
        """The bot that answers this E.164 number, or else the only one of this messaging service.

        Raises:
            DirectoryUnavailableError: a source failed and no copy is known.
            TooManyLookupsError: unknown numbers are looked up too often.
        """
        copy = self._by_number.get(number)
        if copy is not None and self._copies.is_fresh(copy):
            return copy.bot
        if not _NUMBER.fullmatch(number):
            return None
        if messaging_service_sid and not _SERVICE.fullmatch(messaging_service_sid):
            messaging_service_sid = None
        if self._redis.suspect:
            return copy.bot if copy else self._find_without_redis(number, messaging_service_sid)
        asked_after = self._copies.changes_heard
        try:
            cached = self._cache.look(number, messaging_service_sid)
        except RedisDownError:
            return copy.bot if copy else self._find_without_redis(number, messaging_service_sid)
        return self._find_with_redis(number, messaging_service_sid, copy, cached, asked_after)

    def by_id(self, bot_id: str, number: str | None = None) -> Bot | None:
        """The bot with this id; None when it is deleted or never was.

        `number` is needed for a bot that only Horizon's endpoint knows, when Redis has forgotten it.

        Raises:
            DirectoryUnavailableError: a source failed, or could not be asked, and no copy is known.
        """
        copy = self._by_id.get(bot_id)
        if copy is not None and self._copies.is_fresh(copy):
            return copy.bot
        if copy is not None and self._redis.suspect:
            return copy.bot
        asked_after = self._copies.changes_heard
        if not self._redis.suspect:
            try:
                number = self._cache.number_of(bot_id) or number
                raw = self._cache.read(number) if number else None
            except RedisDownError:
                if copy is not None:
                    return copy.bot
                raw = None
            record = None if raw is None else parse(raw)
            if raw is not None and record is not None and record["id"] == bot_id:
                return self._keep(record, raw, asked_after=asked_after).bot
        try:
            loaded = self.load(bot_id, number)
        except DirectoryUnavailableError:
            if copy is not None:
                return copy.bot
            raise
        return None if loaded is None else self._by_id[bot_id].bot

    def load(self, bot_id: str, number: str | None = None) -> Record | None:
        """Read the bot from its source into this process and Redis; forget it when it is gone.

        Raises:
            DirectoryUnavailableError: a source failed.
            UnknownIdError: Horizon could not be asked.
        """
        number = number or self._known_number(bot_id)
        try:
            record = self._sources.by_id(bot_id, number)
        except NumberUnknownError as error:
            raise UnknownIdError(str(error)) from error
        except OutageError as error:
            raise DirectoryUnavailableError(str(error)) from error
        if record is not None:
            self.publish(record)
        elif number is not None:
            self.forget(number, bot_id)
        return record

    def refresh(self, bot_id: str) -> tuple[Bot, Source] | None:
        """As `load`; None when no source has the bot. Raises DirectoryUnavailableError."""
        record = self.load(bot_id)
        return None if record is None else (self._by_id[record["id"]].bot, record["source"])

    def refresh_number(self, number: str) -> tuple[Bot, Source] | None:
        """As `refresh`, by number. Raises DirectoryUnavailableError."""
        try:
            record = self._sources.by_number(number, None, ask_horizon=True)
        except OutageError as error:
            raise DirectoryUnavailableError(str(error)) from error
        if record is None:
            copy = self._by_number.get(number)
            if copy is not None:
                self.forget(number, copy.bot.id)
            return None
        self.publish(record)
        return self._by_id[record["id"]].bot, record["source"]

    def reload_if_stale(self, bot: Bot, sql_revision: int | None) -> Bot | None:
        """The bot as SQL has it. `sql_revision` is None when our table has no such active bot.

        None means that the bot was deleted. Raises DirectoryUnavailableError.
        """
        copy = self._by_id.get(bot.id)
        if copy is not None:
            if copy.source != "database":
                return copy.bot
            if sql_revision is not None and copy.revision >= sql_revision:
                return copy.bot
        record = self.load(bot.id, bot.number)
        return None if record is None else self._by_id[record["id"]].bot

    def publish(self, record: Record) -> bool:
        """Put a record that was read from its source into this process and Redis, and tell others.

        False when Redis is away: `listen_forever` makes up for it as soon as it is back.

        Raises:
            DirectoryUnavailableError: the bot's secrets cannot be read.
        """
        self._keep(record, dump(record), from_source=True)
        try:
            self._cache.publish(record)
        except RedisDownError:
            self._unpublished[record["id"]] = record["number"]
            return False
        self._unpublished.pop(record["id"], None)
        return True

    def forget(self, number: str, bot_id: str) -> bool:
        """Remove a deleted bot from this process and Redis, and tell others. False as `publish`."""
        self._copies.drop(number, bot_id)
        try:
            self._cache.forget(number, bot_id)
        except RedisDownError:
            self._unpublished[bot_id] = number
            return False
        self._unpublished.pop(bot_id, None)
        return True

    def warm(self) -> None:
        """Fill Redis with every bot of our own table; at most one process a minute does.

        So an emptied or restored Redis costs no look-ups. Raises OutageError.
        """
        if self._cache.may_warm():
            self._cache.publish_all(self._sources.all_own())

    def listen_forever(self, stop_event: threading.Event) -> None:
        """Ask again for bots that others change, and make up for what Redis missed.

        A thread runs it until `stop_event` is set. It never raises because of an outage.
        """
        while not stop_event.is_set():
            try:
                self._listen(stop_event)
            except (OutageError, redis.RedisError) as error:
                log.warning("bot_changes_not_heard", reason=type(error).__name__)
                stop_event.wait(_LISTEN_S)

    def _listen(self, stop_event: threading.Event) -> None:
        with self._redis.outages(), self._redis.channel(keys.BOTS_CHANGED) as channel:
            # Whatever was announced before now was missed.
            self._copies.expire_all()
            self.warm()
            while not stop_event.is_set():
                self._catch_up()
                number = channel.hear(_LISTEN_S)
                if number is not None:
                    self._copies.expire(number.decode())
                self._copies.heard_until = channel.complete_until + _HEARD_S

    def _catch_up(self) -> None:
        for bot_id, number in list(self._unpublished.items()):
            try:
                # The source is asked again: what could not be published may be old by now.
                self.load(bot_id, number)
            except DirectoryUnavailableError as error:
                log.warning("bot_not_published", bot_id=bot_id, reason=str(error))

    def _find_with_redis(
        self,
        number: str,
        service: str | None,
        copy: Copy | None,
        cached: Cached,
        asked_after: int,
    ) -> Bot | None:
        record = None if cached.raw is None else parse(cached.raw)
        if cached.raw is not None and record is not None:
            return self._keep(record, cached.raw, asked_after=asked_after).bot
        if cached.is_unknown:
            self._copies.drop(number)
            return None
        try:
            if not self._cache.count_lookup():
                raise TooManyLookupsError("too many unknown numbers are being looked up")
            record = self._sources.by_number(number, service, ask_horizon=True)
        except OutageError as error:
            if copy is not None:
                return copy.bot
            if isinstance(error, DirectoryUnavailableError):
                raise
            raise DirectoryUnavailableError(str(error)) from error
        try:
            if record is None:
                self._copies.drop(number)
                self._cache.remember_unknown(number, service)
                return None
            self.publish(record)
            if service and record["number"] != number:
                self._cache.remember_service(service, record["number"])
        except RedisDownError:
            log.info("look_up_not_remembered")
        return None if record is None else self._by_id[record["id"]].bot

    def _find_without_redis(self, number: str, service: str | None) -> Bot | None:
        try:
            record = self._sources.by_number(number, service, ask_horizon=False)
        except OutageError as error:
            raise DirectoryUnavailableError(str(error)) from error
        return None if record is None else self._keep(record, dump(record), from_source=True).bot

    def _keep(
        self, record: Record, raw: bytes, *, from_source: bool = False, asked_after: int = -1
    ) -> Copy:
        try:
            return self._copies.keep(record, raw, from_source=from_source, asked_after=asked_after)
        except UnreadableSecretError as error:
            raise DirectoryUnavailableError(f"bot {record['id']}: {error}") from None

    def _known_number(self, bot_id: str) -> str | None:
        copy = self._by_id.get(bot_id)
        if copy is not None:
            return copy.bot.number
        if self._redis.suspect:
            return None
        try:
            return self._cache.number_of(bot_id)
        except RedisDownError:
            return None
