"""The ceiling: an application that answers the webhook's form with the same bytes and does nothing."""

from __future__ import annotations

import falcon


class Hello:
    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        request.bounded_stream.read()
        response.content_type = "text/xml; charset=utf-8"
        response.data = b'<?xml version="1.0" encoding="UTF-8"?><Response/>'


app = falcon.App()
app.add_route("/webhook/whatsapp", Hello())
