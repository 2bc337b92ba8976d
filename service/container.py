"""Composition: everything that a process needs, built once from its settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Self

from service.bots.checks import BotChecks
from service.bots.service import BotService
from service.conversation.answer import Answerer
from service.conversation.converse import Converser
from service.conversation.delivery import Delivery
from service.conversation.policy import TurnLimits
from service.conversation.runner import TurnRunner
from service.conversation.tools import ToolRunner
from service.integrations.address_guard import check_url
from service.integrations.horizon_crm import HorizonCrm
from service.metrics import Metrics
from service.settings import Settings, SettingsError
from service.store.api_keys import ApiKeys
from service.store.database import Database
from service.store.deliveries import Deliveries
from service.store.directory import BotDirectory
from service.store.heartbeats import Heartbeats
from service.store.migrations_state import MigrationState
from service.store.redis_client import RedisStore
from service.store.redis_mailbox import RedisMailbox
from service.store.secrets import Cipher
from service.store.spool import Spool
from service.store.sql_journal import SqlJournal
from service.store.turns import Turns

if TYPE_CHECKING:
    from service.integrations.openai_model import OpenAIModel
    from service.integrations.twilio_messenger import TwilioMessenger

_WEB_CONNECTIONS = 4

Background = Callable[[Callable[[], None]], None]


@dataclass(frozen=True)
class Container:
    """Parts are made when they are first asked for and then kept.

    `sql_answer_within_s` and `sql_pool_wait_s` are the limits of `Database`.
    """

    settings: Settings
    sql_answer_within_s: float = 10
    sql_pool_wait_s: float = 10

    @classmethod
    def for_web(cls, settings: Settings) -> Self:
        """For a process that has to answer Twilio within 3 s, whatever the database does."""
        return cls(settings, sql_answer_within_s=2, sql_pool_wait_s=1)

    @cached_property
    def metrics(self) -> Metrics:
        with _folder_of("METRICS_DIR"):
            return Metrics(self.settings.metrics_folder)

    @cached_property
    def database(self) -> Database:
        with _folder_of("DATABASE_URL"):
            return Database(
                self.settings.sqlalchemy_url, self.sql_answer_within_s, self.sql_pool_wait_s
            )

    @cached_property
    def redis(self) -> RedisStore:
        most = max(self.settings.worker_threads * 9 // 8, self.settings.web_threads)
        return RedisStore(self.settings.redis_url, most + _WEB_CONNECTIONS)

    @cached_property
    def cipher(self) -> Cipher:
        return Cipher(self.settings.secret_key)

    @cached_property
    def mailbox(self) -> RedisMailbox:
        return RedisMailbox(
            self.redis,
            self.settings.debounce_ms,
            self.settings.lease_s,
            self.settings.redis_session_ttl_seconds,
        )

    @cached_property
    def heartbeats(self) -> Heartbeats:
        return Heartbeats(self.redis)

    @cached_property
    def spool(self) -> Spool:
        with _folder_of("SPOOL_DIR"):
            return Spool(self.settings.spool_dir, self.settings.spool_max_mb * 2**20)

    @cached_property
    def journal(self) -> SqlJournal:
        return SqlJournal(self.database)

    @cached_property
    def turns(self) -> Turns:
        return Turns(self.database)

    @cached_property
    def deliveries(self) -> Deliveries:
        return Deliveries(self.database)

    @cached_property
    def migrations(self) -> MigrationState:
        return MigrationState(self.database)

    @cached_property
    def model(self) -> OpenAIModel:
        # The vendors' SDKs are most of a process's memory, and web hardly ever needs them.
        from service.integrations.openai_model import OpenAIModel

        return OpenAIModel(self.settings)

    @cached_property
    def messenger(self) -> TwilioMessenger:
        from service.integrations.twilio_messenger import TwilioMessenger

        return TwilioMessenger(self.settings)

    @cached_property
    def crm(self) -> HorizonCrm:
        return HorizonCrm(self.settings)

    @cached_property
    def directory(self) -> BotDirectory:
        return BotDirectory(self.database, self.redis, self.cipher, self.settings, self.crm)

    @cached_property
    def api_keys(self) -> ApiKeys:
        return ApiKeys(self.database, self.settings.admin_api_key)

    @cached_property
    def bots(self) -> BotService:
        return BotService(self.database, self.directory, self.cipher, self.bot_checks)

    @cached_property
    def bot_checks(self) -> BotChecks:
        check = partial(check_url, allow_private=self.settings.allow_private_addresses)
        return BotChecks(self.settings, self.cipher, lambda: self.model, check)

    @cached_property
    def limits(self) -> TurnLimits:
        return TurnLimits(
            model_timeout_s=self.settings.openai_timeout_s,
            send_grace_s=self.settings.send_grace_s,
            retry_base_s=self.settings.retry_base_s,
        )

    def runner(self, in_background: Background) -> TurnRunner:
        """What runs the turns of a worker."""
        delivery = Delivery(self.journal, self.messenger, self.limits.send_grace_s)
        answerer = Answerer(
            journal=self.journal,
            converser=Converser(
                self.journal,
                self.model,
                ToolRunner(self.journal, self.crm),
                self.metrics,
                self.limits,
            ),
            delivery=delivery,
            messenger=self.messenger,
            crm=self.crm,
            in_background=in_background,
        )
        return TurnRunner(
            mailbox=self.mailbox,
            journal=self.journal,
            bots=self.directory,
            answerer=answerer,
            delivery=delivery,
            crm=self.crm,
            observer=self.metrics,
            limits=self.limits,
            lease_s=self.settings.lease_s,
            in_background=in_background,
        )

    def close(self) -> None:
        """Close the connections of the parts that were made."""
        for name in ("model", "messenger", "crm", "redis", "database"):
            part = self.__dict__.get(name)
            if part is not None:
                part.close()


@contextmanager
def _folder_of(variable: str) -> Iterator[None]:
    """Raises SettingsError, naming the variable, when its folder cannot be made or used."""
    try:
        yield
    except OSError as error:
        reason = str(error.strerror or error).removeprefix(f"{variable}: ")
        where = f" {error.filename}" if error.filename else ""
        raise SettingsError(f"{variable}: the folder{where} cannot be used: {reason}.") from error
