"""Whether the service can do its work, for people, balancers and Prometheus."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

import falcon

from service import __version__
from service.conversation.mailbox import Mailbox
from service.conversation.outage import OutageError
from service.metrics import exposition
from service.store.backup_state import BackupState
from service.store.database import Database
from service.store.migrations_state import MigrationState, Schema, State
from service.store.redis_client import RedisStore
from service.store.spool import Spool
from service.store.turns import Turns
from service.web.auth import Authenticator
from service.web.errors import Problem
from service.web.keeping import WAIT_S

_REMEDIES: dict[State, str] = {
    "empty": ": run `horizonctl db upgrade`",
    "behind": ": run `horizonctl db upgrade`",
    "newer, incompatible": ": deploy a newer release",
}


def _is_up(check: Callable[[], None]) -> bool:
    try:
        check()
    except OutageError:
        return False
    return True


def _replicas(redis: RedisStore) -> int | None:
    """None when Redis went away meanwhile."""
    try:
        return redis.replicas()
    except OutageError:
        return None


def _dead_count(turns: Turns) -> int | None:
    """None while SQL is away or has no tables yet."""
    try:
        return turns.dead_count()
    except OutageError:
        return None


class HealthResource:
    """`GET /health`: 200 while messages can be accepted, 503 otherwise; no secrets, no numbers."""

    def __init__(
        self,
        *,
        database: Database,
        redis: RedisStore,
        mailbox: Mailbox,
        spool: Spool,
        turns: Turns,
        release: str,
        needs_replica: bool = False,
        backup_state: BackupState | None = None,
    ) -> None:
        """`needs_replica`: without one nothing is accepted, and the spool does not stand in."""
        self._database = database
        self._redis = redis
        self._mailbox = mailbox
        self._spool = spool
        self._turns = turns
        self._release = release
        self._needs_replica = needs_replica
        self._backup_state = backup_state

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        db = _is_up(self._database.ping)
        redis = _is_up(self._redis.ping)
        spool = _is_up(self._spool.check)
        queue: dict[str, object] = dict.fromkeys(("due", "leased", "oldest_due_s", "dead", "held"))
        if redis:
            try:
                depth = self._mailbox.depth()
            except OutageError:
                redis = False
            else:
                queue |= {
                    "due": depth.due,
                    "leased": depth.leased,
                    "oldest_due_s": round(depth.oldest_due_s, 3),
                    "held": depth.held,
                }
        replicas = _replicas(self._redis) if redis and self._has_replicas else None
        if db:
            queue["dead"] = _dead_count(self._turns)
        backup = None if self._backup_state is None else self._backup_state.read()
        is_well = redis and db and spool and not queue["held"]
        is_well = is_well and (backup is None or backup["status"] == "ok")
        is_well = is_well and (bool(replicas) or not self._has_replicas)
        works = redis and bool(replicas) if self._needs_replica else redis or spool
        response.status = falcon.HTTP_200 if works else falcon.HTTP_503
        response.media = {
            "status": "ok" if is_well else "degraded" if works else "down",
            "db": "up" if db else "down",
            "redis": "up" if redis else "down",
            "spool": "writable" if spool else "not writable",
            "spooled": self._spool.depth(),
            "queue": queue,
            "version": __version__,
            "release": self._release,
        }
        if self._has_replicas:
            response.media["redis_replicas"] = replicas
        if self._redis.primary is not None:
            response.media["redis_primary"] = self._redis.primary.known
        if backup is not None:
            response.media["backup"] = backup

    @property
    def _has_replicas(self) -> bool:
        return self._needs_replica or self._redis.primary is not None


class DatabaseHealthResource:
    """`GET /health/db`: 503 when the database is down."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        up = _is_up(self._database.ping)
        response.status = falcon.HTTP_200 if up else falcon.HTTP_503
        response.media = {"status": "ok" if up else "down", "db": "up" if up else "down"}


class ReadyResource:
    """`GET /health/ready`: can accept messages, and this release runs on the database's schema.

    Where a replica is needed it stays ready through a fail-over: the requests that wait then would
    be turned away by a balancer.
    """

    def __init__(
        self,
        redis: RedisStore,
        spool: Spool,
        migrations: MigrationState,
        release: str,
        needs_replica: bool = False,
    ) -> None:
        self._redis = redis
        self._spool = spool
        self._migrations = migrations
        self._release = release
        self._needs_replica = needs_replica
        self._ready_until = 0.0

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        accepts = self._accepts()
        schema = self._migrations.last_known()
        ready = accepts and schema is not None and schema.runs
        response.status = falcon.HTTP_200 if ready else falcon.HTTP_503
        response.media = {
            "status": "ready" if ready else "not ready",
            "accepts": accepts,
            "migrations": _told(schema),
            "release": self._release,
        }

    def _accepts(self) -> bool:
        if not self._needs_replica:
            return _is_up(self._redis.ping) or _is_up(self._spool.check)
        if _replicas(self._redis):
            self._ready_until = monotonic() + WAIT_S
        return monotonic() < self._ready_until


def _told(schema: Schema | None) -> str:
    if schema is None:
        return "unknown: the database does not answer"
    return schema.state + _REMEDIES.get(schema.state, "")


class MetricsResource:
    """`GET /metrics`: the host's totals; from loopback without a key, else with an admin's."""

    def __init__(
        self,
        *,
        mailbox: Mailbox,
        spool: Spool,
        turns: Turns,
        authenticator: Authenticator,
    ) -> None:
        self._mailbox = mailbox
        self._spool = spool
        self._turns = turns
        self._authenticator = authenticator

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        if not _is_local(request) and not self._authenticator.caller(request).is_admin:
            raise Problem(403, "The metrics need an administrator's key, except from this host.")
        response.content_type = "text/plain; version=0.0.4; charset=utf-8"
        response.data = exposition(self._mailbox, _dead_count(self._turns), self._spool.depth())


def _is_local(request: falcon.Request) -> bool:
    # A proxy on this host is local too: what it forwards is not.
    forwarded = request.get_header("X-Forwarded-For") or request.get_header("Forwarded")
    return not forwarded and request.remote_addr in ("127.0.0.1", "::1", "")
