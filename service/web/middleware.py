"""The request id: in the logs, in problem documents and in the answer."""

from __future__ import annotations

import itertools
import os
import re
from typing import Any

import falcon
from structlog.contextvars import bind_contextvars, unbind_contextvars

HEADER = "X-Request-ID"
_SANE = re.compile(r"[A-Za-z0-9._-]{8,64}")


_process = ""
_counter = itertools.count(1)


def _new_id() -> str:
    """Unique without a system call for each: 16 random digits of this process, then a count."""
    return f"{_process or _name_process()}{next(_counter):08x}"


def _name_process() -> str:
    global _process
    _process = os.urandom(8).hex()
    return _process


def _forget_process() -> None:
    global _process
    _process = ""


os.register_at_fork(after_in_child=_forget_process)


class RequestId:
    """Keeps the caller's `X-Request-ID` when it is sane, else makes one. Costs microseconds."""

    def process_request(self, request: falcon.Request, response: falcon.Response) -> None:
        sent = request.env.get("HTTP_X_REQUEST_ID")
        request_id = sent if sent and _SANE.fullmatch(sent) else _new_id()
        request.context.request_id = request_id
        bind_contextvars(request_id=request_id)
        response.set_header(HEADER, request_id)

    def process_response(
        self,
        request: falcon.Request,
        response: falcon.Response,
        resource: Any,
        req_succeeded: bool,
    ) -> None:
        unbind_contextvars("request_id")
