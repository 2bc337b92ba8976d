"""The WSGI application: the only list of routes."""

from __future__ import annotations

from typing import Any

import falcon

from service.container import Container
from service.web.auth import Authenticator
from service.web.bots import (
    BotAssistantsResource,
    BotRefreshResource,
    BotResource,
    BotsResource,
)
from service.web.delivery_status import DeliveryStatusResource
from service.web.errors import install_error_handlers
from service.web.health import (
    DatabaseHealthResource,
    HealthResource,
    MetricsResource,
    ReadyResource,
)
from service.web.keeping import Keeper, RedisOrSpool, TwoHosts
from service.web.middleware import RequestId
from service.web.openapi import OpenApiResource
from service.web.trial_mark import TrialMarks
from service.web.twilio_request import PublicAddresses
from service.web.webhook import WebhookResource


def create_app(
    container: Container, release: str = "", *, probe: bool = False
) -> falcon.App[Any, Any]:
    """The application; it holds no state of its own. A probe takes no message."""
    app = falcon.App(middleware=[RequestId()])
    app.req_options.strip_url_path_trailing_slash = True
    # Twilio signs the blank fields too.
    app.req_options.keep_blank_qs_values = True
    install_error_handlers(app)
    _add_message_routes(app, container, takes_messages=not probe)
    _add_health_routes(app, container, release)

    bots = (container.bots, Authenticator(container.api_keys), container.settings)
    app.add_route("/bots", BotsResource(*bots))
    app.add_route("/bots/{bot_id}", BotResource(*bots))
    app.add_route("/bots/{bot_id}/refresh", BotRefreshResource(*bots))
    app.add_route("/bots/{bot_id}/assistants", BotAssistantsResource(*bots))
    app.add_route("/openapi.json", OpenApiResource(container.settings.public_base_url))
    return app


def _add_message_routes(
    app: falcon.App[Any, Any], container: Container, *, takes_messages: bool
) -> None:
    settings = container.settings
    addresses = PublicAddresses(settings.public_urls)
    app.add_route(
        "/webhook/whatsapp",
        WebhookResource(
            directory=container.directory,
            keeper=_keeper(container),
            metrics=container.metrics,
            trial_marks=TrialMarks(settings.secret_key),
            addresses=addresses,
            operator_auth_token=settings.twilio_auth_token,
            takes_messages=takes_messages,
        ),
    )
    app.add_route(
        "/webhook/whatsapp/status",
        DeliveryStatusResource(
            directory=container.directory,
            deliveries=container.deliveries,
            addresses=addresses,
            operator_auth_token=settings.twilio_auth_token,
        ),
    )


def _keeper(container: Container) -> Keeper:
    kind = TwoHosts if container.settings.redis_acknowledge_on_replica else RedisOrSpool
    return kind(container.mailbox, container.spool, lambda: container.redis.suspect)


def _add_health_routes(app: falcon.App[Any, Any], container: Container, release: str) -> None:
    needs_replica = container.settings.redis_acknowledge_on_replica
    app.add_route(
        "/health",
        HealthResource(
            database=container.database,
            redis=container.redis,
            mailbox=container.mailbox,
            spool=container.spool,
            turns=container.turns,
            release=release,
            needs_replica=needs_replica,
            backup_state=container.backup_state,
        ),
    )
    app.add_route("/health/db", DatabaseHealthResource(container.database))
    app.add_route(
        "/health/ready",
        ReadyResource(
            container.redis, container.spool, container.migrations, release, needs_replica
        ),
    )
    app.add_route(
        "/metrics",
        MetricsResource(
            mailbox=container.mailbox,
            spool=container.spool,
            turns=container.turns,
            authenticator=Authenticator(container.api_keys),
        ),
    )
