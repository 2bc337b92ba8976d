"""Whether the service can do its work, for people, balancers and Prometheus."""

from __future__ import annotations

from collections.abc import Callable

import falcon

from service import __version__
from service.conversation.mailbox import Mailbox
from service.conversation.outage import OutageError
from service.metrics import exposition
from service.store.database import Database
from service.store.migrations_state import MigrationState, Schema, State
from service.store.redis_client import RedisStore
from service.store.spool import Spool
from service.store.turns import Turns
from service.web.auth import Authenticator
from service.web.errors import Problem

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
    ) -> None:
        self._database = database
        self._redis = redis
        self._mailbox = mailbox
        self._spool = spool
        self._turns = turns
        self._release = release

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        db = _is_up(self._database.ping)
        redis = _is_up(self._redis.ping)
        spool = _is_up(self._spool.check)
        queue: dict[str, object] = {"due": None, "leased": None, "oldest_due_s": None, "dead": None}
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
                }
        if db:
            queue["dead"] = _dead_count(self._turns)
        works = redis or spool
        response.status = falcon.HTTP_200 if works else falcon.HTTP_503
        response.media = {
            "status": "ok" if redis and db and spool else "degraded" if works else "down",
            "db": "up" if db else "down",
            "redis": "up" if redis else "down",
            "spool": "writable" if spool else "not writable",
            "spooled": self._spool.depth(),
            "queue": queue,
            "version": __version__,
            "release": self._release,
        }


class DatabaseHealthResource:
    """`GET /health/db`: 503 when the database is down."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        up = _is_up(self._database.ping)
        response.status = falcon.HTTP_200 if up else falcon.HTTP_503
        response.media = {"status": "ok" if up else "down", "db": "up" if up else "down"}


class ReadyResource:
    """`GET /health/ready`: can accept messages, and this release runs on the database's schema."""

    def __init__(
        self, redis: RedisStore, spool: Spool, migrations: MigrationState, release: str
    ) -> None:
        self._redis = redis
        self._spool = spool
        self._migrations = migrations
        self._release = release

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        accepts = _is_up(self._redis.ping) or _is_up(self._spool.check)
        schema = self._migrations.last_known()
        ready = accepts and schema is not None and schema.runs
        response.status = falcon.HTTP_200 if ready else falcon.HTTP_503
        response.media = {
            "status": "ready" if ready else "not ready",
            "accepts": accepts,
            "migrations": _told(schema),
            "release": self._release,
        }


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
