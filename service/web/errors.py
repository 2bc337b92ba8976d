"""Errors as `application/problem+json` (RFC 9457): what is wrong and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import falcon
import structlog
from pydantic import BaseModel, ValidationError

from service.bots.errors import (
    BotNotFoundError,
    Fault,
    ForbiddenError,
    InvalidBotError,
    ReadOnlyBotError,
)
from service.conversation.outage import OutageError
from service.store.bots import NumberTakenError

PROBLEM_JSON = "application/problem+json"
RETRY_AFTER_S = 5
MAX_ERRORS = 100
"""As many are listed; the rest is counted."""
_MAX_NAMES = 20
_MAX_PATH = 200
_MAX_SENTENCE = 1000
WEBHOOK_PREFIX = "/webhook"

_EMPTY_TWIML = b'<?xml version="1.0" encoding="UTF-8"?><Response/>'
_SLUGS = {
    400: "bad-request",
    401: "not-authenticated",
    403: "forbidden",
    404: "not-found",
    405: "method-not-allowed",
    409: "conflict",
    413: "too-large",
    415: "unsupported-media-type",
    422: "invalid",
    500: "internal-error",
    503: "unavailable",
}
_DETAILS = {
    404: "There is nothing at this address: /openapi.json lists the addresses that there are.",
    405: "This address does not know this method: the Allow header lists those that it knows.",
}
_READ_ONLY = frozenset({"id", "source", "revision", "assistant", "created_at", "updated_at"})
_LEGACY_ASSISTANT = (
    "OpenAI's Assistants API is gone: send the model, the instructions and the tools as "
    "assistant_config. To keep the id for reference, send it as metadata.legacy_assistant_id."
)

log = structlog.get_logger(__name__)


class ErrorAnswer(BaseModel):
    """One field that is wrong, with its path."""

    field: str | None
    message: str


class ProblemAnswer(BaseModel):
    """The body of every error."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str | None = None
    errors: list[ErrorAnswer] | None = None


class Problem(falcon.HTTPError):
    """An error with the sentence that a person can act on; `slug` names it for programs."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        slug: str | None = None,
        faults: Sequence[Fault] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(
            falcon.code_to_http_status(status), description=detail, headers=dict(headers or {})
        )
        self.slug = slug or _SLUGS[status]
        self.faults = tuple(faults)


def invalid(faults: Sequence[Fault]) -> Problem:
    """422: the request can be read, and these fields cannot be accepted."""
    names = ", ".join(_shown(fault.field) or "the request" for fault in faults[:_MAX_NAMES])
    more = f" and {len(faults) - _MAX_NAMES} more" if len(faults) > _MAX_NAMES else ""
    return Problem(422, f"Nothing was changed. Correct: {names}{more}.", faults=faults[:MAX_ERRORS])


def install_error_handlers(app: falcon.App[Any, Any]) -> None:
    """Make every error of the app a problem document."""
    app.set_error_serializer(_serialize)
    app.add_error_handler(Exception, _unexpected)
    app.add_error_handler(OutageError, _outage)
    app.add_error_handler(InvalidBotError, _invalid_bot)
    app.add_error_handler(BotNotFoundError, _bot_not_found)
    app.add_error_handler(ForbiddenError, _forbidden)
    app.add_error_handler(ReadOnlyBotError, _read_only)
    app.add_error_handler(NumberTakenError, _number_taken)


def faults_of(error: ValidationError) -> list[Fault]:
    """One fault a field, without the values that were sent: they may be secrets."""
    faults = []
    for fault in error.errors(include_url=False, include_context=False, include_input=False):
        path = ".".join(str(step) for step in fault["loc"])
        message = fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "extra_forbidden":
            message = "there is no such field"
            if path == "assistant_id":
                message = _LEGACY_ASSISTANT
            elif path in _READ_ONLY:
                message = "it is read only: leave it out"
        elif fault["type"] == "missing":
            message = "it is required"
        message = message[0].upper() + message[1:]
        faults.append(Fault(path or None, message if message.endswith(".") else f"{message}."))
    return faults


def _serialize(request: falcon.Request, response: falcon.Response, error: falcon.HTTPError) -> None:
    status = error.status_code
    problem = ProblemAnswer(
        type=f"/problems/{getattr(error, 'slug', None) or _SLUGS.get(status, 'http-error')}",
        title=falcon.code_to_http_status(status).partition(" ")[2],
        status=status,
        detail=_printable(error.description)
        or _DETAILS.get(status)
        or "The request cannot be answered.",
        request_id=getattr(request.context, "request_id", None),
        errors=[
            ErrorAnswer(
                field=_shown(fault.field), message=(_printable(fault.message) or "")[:_MAX_SENTENCE]
            )
            for fault in getattr(error, "faults", ())
        ]
        or None,
    )
    response.data = problem.model_dump_json(exclude_none=not problem.errors).encode()
    response.content_type = PROBLEM_JSON


def _shown(field: str | None) -> str | None:
    """A field's path; what comes from outside may be as long as the whole request."""
    path = _printable(field)
    return path if path is None or len(path) <= _MAX_PATH else f"{path[:_MAX_PATH]}..."


def _printable(text: str | None) -> str | None:
    """The text without what UTF-8 cannot carry: names of fields come from outside."""
    return None if text is None else text.encode("utf-8", "backslashreplace").decode()


def _unexpected(
    request: falcon.Request, response: falcon.Response, error: Exception, params: Any
) -> None:
    log.error("request_failed", method=request.method, path=request.path, exc_info=error)
    if request.path.startswith(WEBHOOK_PREFIX):
        _answer_twilio(response, falcon.HTTP_500)
        return
    raise Problem(500, "The service made a mistake. Report it with the request id.")


def _outage(
    request: falcon.Request, response: falcon.Response, error: Exception, params: Any
) -> None:
    log.warning("outage", method=request.method, path=request.path, reason=str(error))
    if request.path.startswith(WEBHOOK_PREFIX):
        _answer_twilio(response, falcon.HTTP_503)
        return
    raise Problem(
        503,
        f"A store of the service is away. Try again in {RETRY_AFTER_S} seconds.",
        headers={"Retry-After": str(RETRY_AFTER_S)},
    )


def _answer_twilio(response: falcon.Response, status: str) -> None:
    response.status = status
    response.content_type = "text/xml; charset=utf-8"
    response.data = _EMPTY_TWIML


def _invalid_bot(
    request: falcon.Request, response: falcon.Response, error: InvalidBotError, params: Any
) -> None:
    raise invalid(error.faults) from None


def _bot_not_found(
    request: falcon.Request, response: falcon.Response, error: Exception, params: Any
) -> None:
    detail = str(error) or "There is no bot with this id."
    raise Problem(404, detail, slug="bot-not-found") from None


def _forbidden(
    request: falcon.Request, response: falcon.Response, error: Exception, params: Any
) -> None:
    raise Problem(403, str(error)) from None


def _read_only(
    request: falcon.Request, response: falcon.Response, error: Exception, params: Any
) -> None:
    detail = "Horizon keeps this bot: change it there, then send POST /bots/{id}/refresh."
    raise Problem(409, detail, slug="read-only-bot") from None


def _number_taken(
    request: falcon.Request, response: falcon.Response, error: Exception, params: Any
) -> None:
    fault = Fault("twilio_phone_number", "Another bot has this number.")
    detail = "Another bot has this number: use another one, or delete that bot first."
    raise Problem(409, detail, slug="number-taken", faults=[fault]) from None
