"""Composition: everything that a process needs, built once from its settings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Self
from zoneinfo import ZoneInfo

from service.bots.checks import BotChecks
from service.bots.service import BotService
from service.conversation.answer import Answerer
from service.conversation.converse import Converser
from service.conversation.delivery import Delivery
from service.conversation.policy import TurnLimits
from service.conversation.ports import Background
from service.conversation.runner import TurnRunner
from service.conversation.tools import ToolRunner
from service.conversation.trial import TrialMessenger
from service.integrations.address_guard import check_url
from service.integrations.horizon_crm import HorizonCrm
from service.metrics import Metrics
from service.settings import Settings, SettingsError
from service.store.api_keys import ApiKeys
from service.store.backup_state import BackupState
from service.store.database import Database
from service.store.deliveries import Deliveries
from service.store.directory import BotDirectory
from service.store.heartbeats import Heartbeats
from service.store.hold import Hold
from service.store.migrations_state import MigrationState
from service.store.primary import Primary
from service.store.redis_client import SUSPECT_S, RedisStore
from service.store.redis_mailbox import RedisMailbox
from service.store.secrets import Cipher
from service.store.sentinels import Sentinels
from service.store.spool import Spool
from service.store.sql_journal import SqlJournal
from service.store.turns import Turns

if TYPE_CHECKING:
    from service.integrations.openai_model import OpenAIModel
    from service.integrations.twilio_messenger import TwilioMessenger
    from service.monitoring.report import Report
    from service.store.figures import Figures
    from service.store.message_search import MessageSearch

_WEB_CONNECTIONS = 4
_WAITING_SUSPECT_S = 0.25


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
        settings = self.settings
        most = max(settings.worker_threads * 9 // 8, settings.web_threads) + _WEB_CONNECTIONS
        # Requests that wait for a replica have no other way to take meanwhile.
        suspect_s = _WAITING_SUSPECT_S if settings.redis_acknowledge_on_replica else SUSPECT_S
        return RedisStore(settings.redis_url, most, _primary(settings), suspect_s)

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
            self.settings.replica_wait_ms,
        )

    @cached_property
    def backup_state(self) -> BackupState | None:
        file = self.settings.backup_state_file
        return None if file is None else BackupState(file)

    @cached_property
    def hold(self) -> Hold:
        return Hold(self.redis)

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
    def figures(self) -> Figures:
        # What only people at a terminal ask for is not loaded by the processes that serve.
        from service.store.figures import Figures

        return Figures(self.database)

    @cached_property
    def message_search(self) -> MessageSearch:
        from service.store.message_search import MessageSearch

        return MessageSearch(self.database)

    @cached_property
    def report(self) -> Report:
        from service.monitoring.prices import Prices
        from service.monitoring.report import Report
        from service.store.client_queues import ClientQueues

        return Report(
            self.figures,
            ClientQueues(self.redis),
            ZoneInfo(self.settings.report_timezone),
            Prices(self.settings.model_prices),
        )

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
        messenger = TrialMessenger(self.messenger)
        delivery = Delivery(self.journal, messenger, self.limits.send_grace_s)
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
            messenger=messenger,
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


def _primary(settings: Settings) -> Primary | None:
    if not settings.redis_sentinels:
        return None
    sentinels = Sentinels.of(
        settings.redis_sentinels,
        settings.redis_sentinel_name,
        settings.redis_url,
        settings.redis_sentinel_user,
        settings.redis_sentinel_password,
    )
    return Primary(sentinels)


@contextmanager
def _folder_of(variable: str) -> Iterator[None]:
    """Raises SettingsError, naming the variable, when its folder cannot be made or used."""
    try:
        yield
    except OSError as error:
        reason = str(error.strerror or error).removeprefix(f"{variable}: ")
        where = f" {error.filename}" if error.filename else ""
        raise SettingsError(f"{variable}: the folder{where} cannot be used: {reason}.") from error
