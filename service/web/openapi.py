"""`GET /openapi.json`: the HTTP surface in OpenAPI 3.1, built from the schemas in use."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import falcon
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from service import __version__
from service.store.api_keys import CLIENT_ID
from service.web import answers, errors, schemas
from service.web.bots import NUMBER

_REF = "#/components/schemas/{model}"
_REQUESTS: tuple[type[BaseModel], ...] = (schemas.BotCreate, schemas.BotUpdate)
_ANSWERS: tuple[type[BaseModel], ...] = (
    answers.BotEnvelope,
    answers.BotListEnvelope,
    answers.RefreshedEnvelope,
    answers.AssistantListEnvelope,
    answers.DeletedEnvelope,
    errors.ProblemAnswer,
)
_PROBLEMS = {
    400: "The body is empty or not JSON",
    401: "The API key is missing, unknown or revoked",
    403: "The API key does not allow this",
    404: "There is no such bot",
    409: "Another bot has this number, or Horizon keeps the bot",
    413: "The body is larger than 1 MB",
    415: "The body is not sent as JSON",
    422: "Fields are wrong; `errors` names each",
    503: "A store of the service is away",
}
_CREATE_EXAMPLE = {
    "name": "Inmobiliaria Andes",
    "twilio_phone_number": "+56912345678",
    "client_id": "andes",
    "assistant_config": {
        "instructions": "Eres la asistente de Inmobiliaria Andes. Responde en pocas frases.",
        "model": "gpt-6-luna",
    },
    "assistant_functions": [
        {
            "name": "create_lead",
            "description": "Registra a un interesado.",
            "parameters": {
                "type": "object",
                "properties": {"nombre": {"type": "string"}},
                "required": ["nombre"],
            },
        }
    ],
    "horizon_actions": [
        {
            "name": "create_lead",
            "method": "POST",
            "path": "/api/leads/",
            "body": {"nombre": "{nombre}"},
            "idempotency": "key",
        }
    ],
    "handoff": {"source": "horizon", "on_failure": "answer"},
}
_UPDATE_EXAMPLE = {"assistant_updates": {"instructions": "Responde siempre de usted."}}
_ID = {
    "name": "bot_id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "maxLength": 40},
}


class OpenApiResource:
    """`/openapi.json`, public: it holds nothing of an installation but its address."""

    def __init__(self, public_base_url: str) -> None:
        self._public_base_url = public_base_url

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        response.data = json.dumps(document(self._public_base_url), ensure_ascii=False).encode()


@lru_cache(maxsize=1)
def document(public_base_url: str) -> dict[str, Any]:
    """The description; paths stand without their trailing slash, which is accepted too."""
    _, definitions = models_json_schema(
        [(model, "validation") for model in _REQUESTS]
        + [(model, "serialization") for model in _ANSWERS],
        ref_template=_REF,
    )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Horizon WhatsApp Bots",
            "version": __version__,
            "description": "Bots that answer WhatsApp. Every address also works with a trailing "
            "slash. Errors are problem documents (RFC 9457).",
        },
        "servers": [{"url": public_base_url}],
        "security": [{"apiKey": []}],
        "paths": {**_bot_paths(), **_public_paths()},
        "components": {
            "schemas": definitions["$defs"],
            "securitySchemes": {
                "apiKey": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A key of `horizonctl key create`, or ADMIN_API_KEY.",
                }
            },
        },
    }


def _bot_paths() -> dict[str, Any]:
    one = {"parameters": [_ID]}
    return {
        "/bots": {
            "get": _operation(
                "listBots",
                "List bots, the oldest first",
                ("200", answers.BotListEnvelope),
                (422,),
                parameters=[
                    _query("client_id", _text(CLIENT_ID), "Only this client's"),
                    _query("number", _text(NUMBER), "Only the bot with this number"),
                    _query(
                        "limit",
                        {"type": "integer", "minimum": 1, "maximum": 200, "default": 50},
                        "Bots a page",
                    ),
                    _query("cursor", {"type": "string"}, "The next_cursor of the page before"),
                ],
            ),
            "post": _operation(
                "createBot",
                "Create a bot",
                ("201", answers.BotEnvelope),
                (400, 403, 409, 413, 415, 422),
                body=(schemas.BotCreate, _CREATE_EXAMPLE),
            ),
        },
        "/bots/{bot_id}": {
            **one,
            "get": _operation("getBot", "One bot", ("200", answers.BotEnvelope), (404,)),
            "put": _operation(
                "updateBot",
                "Change what is named; a changed assistant becomes its next version",
                ("200", answers.BotEnvelope),
                (400, 403, 404, 409, 413, 415, 422),
                body=(schemas.BotUpdate, _UPDATE_EXAMPLE),
            ),
            "delete": _operation(
                "deleteBot",
                "Delete a bot: its history stays, its number is free",
                ("200", answers.DeletedEnvelope),
                (404, 409),
            ),
        },
        "/bots/{bot_id}/refresh": {
            **one,
            "post": _operation(
                "refreshBot",
                "Read the bot from its source again, in every process",
                ("200", answers.RefreshedEnvelope),
                (404,),
            ),
        },
        "/bots/{bot_id}/assistants": {
            **one,
            "get": _operation(
                "listAssistants",
                "Every version of the bot's assistant, the newest first",
                ("200", answers.AssistantListEnvelope),
                (404,),
            ),
        },
    }


def _public_paths() -> dict[str, Any]:
    form = {
        "required": True,
        "content": {
            "application/x-www-form-urlencoded": {
                "schema": {"type": "object", "additionalProperties": {"type": "string"}}
            }
        },
    }
    twiml = {"text/xml": {"schema": {"type": "string"}, "example": "<Response/>"}}
    text = {"text/plain": {"schema": {"type": "string"}}}
    anything = {"application/json": {"schema": {"type": "object"}}}

    def public(
        name: str, summary: str, content: Any, statuses: dict[str, str], **more: Any
    ) -> dict[str, Any]:
        responses = {
            status: {"description": meaning, **({"content": content} if content else {})}
            for status, meaning in statuses.items()
        }
        return {
            "operationId": name,
            "summary": summary,
            "security": [],
            "responses": responses,
            **more,
        }

    refusals = {
        "400": "A field is missing",
        "403": "The signature is not Twilio's",
        "404": "No bot has this number",
        "413": "The form is too large",
        "415": "It is not a form",
        "503": "It cannot be kept now: Twilio tries again",
    }
    health = {"200": "It can", "503": "It cannot"}
    return {
        "/webhook/whatsapp": {
            "get": public("probeWebhook", "Plain `ok`", text, {"200": "The address is right"}),
            "post": public(
                "receiveMessage",
                "Twilio's messages, signed (X-Twilio-Signature)",
                twiml,
                {"200": "The message is kept", **refusals},
                requestBody=form,
            ),
        },
        "/webhook/whatsapp/status": {
            "post": public(
                "receiveStatus",
                "Twilio's delivery callbacks, signed (X-Twilio-Signature)",
                twiml,
                {"200": "The status is kept", **refusals},
                requestBody=form,
                parameters=[_query("part", {"type": "string"}, "The part that was sent")],
            ),
        },
        "/health": {"get": public("health", "Whether messages are accepted", anything, health)},
        "/health/db": {"get": public("healthDb", "Whether SQL answers", anything, health)},
        "/health/ready": {
            "get": public("healthReady", "Whether traffic may come", anything, health)
        },
        "/metrics": {"get": _metrics(text)},
        "/openapi.json": {"get": public("openapi", "This document", anything, {"200": "OpenAPI"})},
    }


def _metrics(content: Any) -> dict[str, Any]:
    return {
        "operationId": "metrics",
        "summary": "Prometheus metrics, from loopback or with an administrator's key",
        "security": [{}, {"apiKey": []}],
        "responses": {
            "200": {"description": "The metrics", "content": content},
            **_problems((401, 403, 503)),
        },
    }


def _problems(statuses: Iterable[int]) -> dict[str, Any]:
    content = {errors.PROBLEM_JSON: {"schema": _ref(errors.ProblemAnswer)}}
    return {
        str(status): {"description": _PROBLEMS[status], "content": content} for status in statuses
    }


def _operation(
    name: str,
    summary: str,
    answer: tuple[str, type[BaseModel]],
    problems: tuple[int, ...],
    *,
    body: tuple[type[BaseModel], Any] | None = None,
    parameters: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    status, model = answer
    responses: dict[str, Any] = {status: {"description": summary, "content": _json(model)}}
    if status == "201":
        responses[status]["headers"] = {"Location": {"schema": {"type": "string"}}}
    responses |= _problems(sorted({*problems, 401, 503}))
    operation: dict[str, Any] = {
        "operationId": name,
        "summary": summary,
        "tags": ["bots"],
        "responses": responses,
    }
    if body is not None:
        content = _json(body[0])
        content["application/json"]["example"] = body[1]
        operation["requestBody"] = {"required": True, "content": content}
    if parameters:
        operation["parameters"] = parameters
    return operation


def _text(pattern: re.Pattern[str]) -> dict[str, Any]:
    return {"type": "string", "pattern": f"^{pattern.pattern}$"}


def _query(name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": schema, "description": description}


def _json(model: type[BaseModel]) -> dict[str, Any]:
    return {"application/json": {"schema": _ref(model)}}


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REF.format(model=model.__name__)}
