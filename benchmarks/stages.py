"""Applications that do ever more of the webhook's work, so that each stage's cost can be told.

`gunicorn benchmarks.stages:form` reads the form, `:signed` checks the signature too, `:stored` also runs
the script that accepts a message. The webhook itself comes next: directory, spool, metrics, logging.
"""

from __future__ import annotations

import os
import time

import falcon

from benchmarks.hello import Hello
from service.container import Container
from service.conversation.event import Event, encode
from service.conversation.mailbox import Inbound
from service.settings import load_settings
from service.web.twilio_request import PublicAddresses, TwilioRequest

Application = falcon.App[falcon.Request, falcon.Response]
PATH = "/webhook/whatsapp"


class Stage(Hello):
    """Answers what `Hello` answers, after so many stages."""

    def __init__(self, *, signed: bool = False, stored: bool = False) -> None:
        self._signed = signed
        self._stored = stored
        self._token = os.environ.get("TWILIO_AUTH_TOKEN", "")
        self._addresses = PublicAddresses([os.environ.get("PUBLIC_BASE_URL", "")])
        self._mailbox = Container(load_settings()).mailbox if stored else None

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        form = TwilioRequest.read(request, self._addresses)
        if self._signed and form.signature_fault(self._token) is not None:
            raise falcon.HTTPForbidden
        if self._mailbox is not None:
            fields = form.fields
            event = Event(fields["MessageSid"], "message", "bot", int(time.time() * 1000), fields)
            event = Event(event.id, event.kind, event.bot_id, event.at_ms, fields, encode(event))
            self._mailbox.accept(Inbound(event, "client", fields["To"], fields["From"]))
        super().on_post(request, response)


def form() -> Application:
    return _app(Stage())


def signed() -> Application:
    return _app(Stage(signed=True))


def stored() -> Application:
    return _app(Stage(signed=True, stored=True))


def _app(resource: Stage) -> Application:
    app = falcon.App()
    app.add_route(PATH, resource)
    return app
