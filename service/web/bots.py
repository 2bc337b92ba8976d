"""`/bots`: HTTP in and out of the use cases of `service.bots`."""

from __future__ import annotations

import base64
import binascii
import re
from datetime import UTC, datetime
from typing import TypeVar

import falcon
from pydantic import BaseModel, ValidationError

from service.bots.errors import BotNotFoundError, Fault
from service.bots.service import BotService, Outcome
from service.settings import Settings
from service.store.api_keys import CLIENT_ID
from service.web.answers import (
    AssistantListEnvelope,
    BotEnvelope,
    BotListEnvelope,
    DeletedAnswer,
    DeletedEnvelope,
    RefreshedEnvelope,
    assistant_answer,
    bot_answer,
    warning_answers,
)
from service.web.auth import Authenticator
from service.web.body import read_json_object
from service.web.errors import faults_of, invalid
from service.web.schemas import BotCreate, BotFields, BotUpdate

DEFAULT_LIMIT = 50
MAX_LIMIT = 200

_ID = re.compile(r"[A-Za-z0-9_-]{1,40}")
NUMBER = re.compile(r"\+[0-9]{1,17}")

Request = TypeVar("Request", bound=BotFields)
Cursor = tuple[datetime, str]


class BotsResource:
    """`/bots`."""

    def __init__(self, bots: BotService, auth: Authenticator, settings: Settings) -> None:
        self._bots = bots
        self._auth = auth
        self._settings = settings

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        caller = self._auth.caller(request)
        limit, after = _page_of(request)
        records, next_page = self._bots.page(
            caller,
            limit,
            after,
            _filter(request, "client_id", CLIENT_ID, "Write an id of a client."),
            _filter(request, "number", NUMBER, "Write a number like %2B56912345678."),
        )
        _send(
            response,
            BotListEnvelope(
                data=[bot_answer(record, self._settings) for record in records],
                next_cursor=None if next_page is None else _encode(next_page),
            ),
        )

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        caller = self._auth.caller(request)
        wanted = _parse(BotCreate, request)
        outcome = self._bots.create(caller, wanted.changes(), request.context.request_id)
        response.status = falcon.HTTP_201
        response.location = f"/bots/{outcome.record['id']}"
        _send(response, _envelope(outcome, self._settings))


class BotResource:
    """`/bots/{bot_id}`."""

    def __init__(self, bots: BotService, auth: Authenticator, settings: Settings) -> None:
        self._bots = bots
        self._auth = auth
        self._settings = settings

    def on_get(self, request: falcon.Request, response: falcon.Response, bot_id: str) -> None:
        record = self._bots.get(self._auth.caller(request), _sane(bot_id))
        _send(response, BotEnvelope(data=bot_answer(record, self._settings)))

    def on_put(self, request: falcon.Request, response: falcon.Response, bot_id: str) -> None:
        caller = self._auth.caller(request)
        wanted = _parse(BotUpdate, request)
        outcome = self._bots.update(
            caller, _sane(bot_id), wanted.changes(), request.context.request_id
        )
        _send(response, _envelope(outcome, self._settings))

    def on_delete(self, request: falcon.Request, response: falcon.Response, bot_id: str) -> None:
        caller = self._auth.caller(request)
        warnings = self._bots.delete(caller, _sane(bot_id), request.context.request_id)
        _send(
            response,
            DeletedEnvelope(data=DeletedAnswer(id=bot_id), warnings=warning_answers(warnings)),
        )


class BotRefreshResource:
    """`/bots/{bot_id}/refresh`."""

    def __init__(self, bots: BotService, auth: Authenticator, settings: Settings) -> None:
        self._bots = bots
        self._auth = auth
        self._settings = settings

    def on_post(self, request: falcon.Request, response: falcon.Response, bot_id: str) -> None:
        record = self._bots.refresh(self._auth.caller(request), _sane(bot_id))
        _send(
            response,
            RefreshedEnvelope(data=bot_answer(record, self._settings), source=record["source"]),
        )


class BotAssistantsResource:
    """`/bots/{bot_id}/assistants`."""

    def __init__(self, bots: BotService, auth: Authenticator, settings: Settings) -> None:
        self._bots = bots
        self._auth = auth
        self._settings = settings

    def on_get(self, request: falcon.Request, response: falcon.Response, bot_id: str) -> None:
        versions = self._bots.assistants(self._auth.caller(request), _sane(bot_id))
        _send(
            response,
            AssistantListEnvelope(
                data=[assistant_answer(version, self._settings) for version in versions]
            ),
        )


def _envelope(outcome: Outcome, settings: Settings) -> BotEnvelope:
    return BotEnvelope(
        data=bot_answer(outcome.record, settings), warnings=warning_answers(outcome.warnings)
    )


def _parse(model: type[Request], request: falcon.Request) -> Request:
    try:
        return model.model_validate(read_json_object(request))
    except ValidationError as error:
        raise invalid(faults_of(error)) from None


def _send(response: falcon.Response, answer: BaseModel) -> None:
    response.data = answer.model_dump_json().encode()


def _sane(bot_id: str) -> str:
    if not _ID.fullmatch(bot_id):
        raise BotNotFoundError
    return bot_id


def _filter(
    request: falcon.Request, name: str, pattern: re.Pattern[str], advice: str
) -> str | None:
    value = request.get_param(name)
    if value and not pattern.fullmatch(value):
        raise invalid([Fault(name, advice)])
    return value or None


def _page_of(request: falcon.Request) -> tuple[int, Cursor | None]:
    text = request.get_param("limit") or str(DEFAULT_LIMIT)
    limit = int(text) if re.fullmatch(r"[0-9]{1,6}", text) else 0
    if not 1 <= limit <= MAX_LIMIT:
        raise invalid([Fault("limit", f"Write a number from 1 to {MAX_LIMIT}.")])
    cursor = request.get_param("cursor")
    return limit, _decode(cursor) if cursor else None


def _encode(page: Cursor) -> str:
    return base64.urlsafe_b64encode(f"{page[0].isoformat()}|{page[1]}".encode()).decode()


def _decode(cursor: str) -> Cursor:
    try:
        time, _, bot_id = base64.urlsafe_b64decode(cursor).decode().partition("|")
        written = datetime.fromisoformat(time)
        after = None if written.tzinfo is None else written.astimezone(UTC)
    except (ValueError, OverflowError, binascii.Error):
        after = None
    if after is None or not _ID.fullmatch(bot_id):
        raise invalid([Fault("cursor", "Send the next_cursor of an earlier answer, unchanged.")])
    return after, bot_id
