"""The language model: OpenAI's Responses API, or a server compatible with it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Any, Literal
from urllib.parse import quote

import httpx2
from openai import APIConnectionError, APIStatusError, OpenAI

from service.conversation.bot import Bot
from service.conversation.ports import ModelAnswer, ModelRequest, PermanentError, TransientError
from service.integrations.address_guard import AddressRefusedError
from service.integrations.error_answers import is_header_safe, plain
from service.integrations.http_session import connections_for
from service.integrations.openai_answer import (
    connection_error,
    read_answer,
    status_error,
    words_of,
)
from service.integrations.openai_transport import bots_client, operator_client
from service.settings import Settings

CONNECT_TIMEOUT_S = 5.0
CHECK_TIMEOUT_S = 5.0
MAX_CLIENTS = 256
CANNOT_LIST = "The server cannot be asked which models it has."


@dataclass(frozen=True, slots=True)
class ModelCheck:
    """Whether a model exists; `message` is a sentence for the person who configures the bot.

    `shutdown_date` is when the vendor ends the model; None when nothing is announced.
    """

    state: Literal["ok", "unknown", "unchecked"]
    message: str = ""
    shutdown_date: date | None = None


class OpenAIModel:
    """Implements `Model`. One object serves all bots and threads of the process."""

    def __init__(self, settings: Settings) -> None:
        self._base_url = settings.openai_base_url
        self._api_key = settings.openai_api_key
        connections = connections_for(settings.worker_threads)
        self._operator_http = operator_client(connections, settings.openai_base_url)
        self._bots_http = bots_client(connections, guarded=not settings.allow_private_addresses)
        self._client = lru_cache(maxsize=MAX_CLIENTS)(self._new_client)

    def respond(self, bot: Bot, request: ModelRequest) -> ModelAnswer:
        """Ask the model once; nothing is stored at the vendor and nothing is retried here.

        Raises:
            TransientError: no answer, or one that says to come back later.
            PermanentError: refused, unpaid, or not configured (`no_api_key`, `address_refused`).
        """
        client = self._client_for(bot.openai_api_key, bot.openai_base_url)
        timeout = httpx2.Timeout(
            request.timeout_s, connect=min(CONNECT_TIMEOUT_S, request.timeout_s)
        )
        try:
            # The SDK's documented way around its typed methods, which cost 9 ms more for each call
            response = client.post(
                "/responses",
                cast_to=httpx2.Response,
                body=_request_body(request),
                options={"timeout": timeout},
            )
        except APIConnectionError as error:
            raise connection_error(error) from error
        except APIStatusError as error:
            # Not "from error": its words may hold the key, and a logged traceback would show them
            raise status_error(error) from None
        except AddressRefusedError as error:
            raise _refused(error) from error
        return read_answer(_json(response), client.api_key)

    def check_model(self, api_key: str | None, base_url: str | None, model: str) -> ModelCheck:
        """Ask the server whether it has the model, for at most 5 s. Arguments as a bot has them.

        Never raises: what cannot be found out is `unchecked`.
        """
        try:
            response = self._client_for(api_key, base_url).get(
                f"/models/{quote(model, safe='')}",
                cast_to=httpx2.Response,
                options={"timeout": httpx2.Timeout(CHECK_TIMEOUT_S)},
            )
        except PermanentError as error:
            return ModelCheck("unchecked", error.message)
        except APIConnectionError as error:
            return ModelCheck("unchecked", connection_error(error).message)
        except AddressRefusedError as error:
            return ModelCheck("unchecked", _refused(error).message)
        except APIStatusError as error:
            return _failed_check(error, model)
        return ModelCheck("ok", shutdown_date=_shutdown_date(response))

    def close(self) -> None:
        """Close the connections."""
        self._operator_http.close()
        self._bots_http.close()

    def _client_for(self, api_key: str | None, base_url: str | None) -> OpenAI:
        """The client of a key and address; the operator's key goes to no bot's own address."""
        if base_url and not api_key:
            raise PermanentError(
                "no_api_key",
                "The bot has its own OpenAI address but no key: set its openai_api_key.",
            )
        key = api_key or self._api_key
        if not key:
            raise PermanentError(
                "no_api_key",
                "There is no OpenAI key: set the bot's openai_api_key or OPENAI_API_KEY.",
            )
        if not is_header_safe(key):
            raise PermanentError(
                "bad_api_key", "The OpenAI key has characters that no key has: set it again."
            )
        return self._client(key, base_url or self._base_url)

    def _new_client(self, api_key: str, base_url: str) -> OpenAI:
        own = base_url.rstrip("/") != self._base_url
        try:
            client = OpenAI(
                api_key=api_key,
                base_url=base_url,
                max_retries=0,
                http_client=self._bots_http if own else self._operator_http,
            )
        except (httpx2.InvalidURL, ValueError) as error:
            raise PermanentError(
                "bad_address", f"The bot's openai_base_url is no address: {plain(error)}."
            ) from error
        # The SDK fills these from the environment: they are the operator's, not the bots'
        client.organization = None
        client.project = None
        client.admin_api_key = None
        client._custom_headers = {}
        return client


def _request_body(request: ModelRequest) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": request.model,
        "instructions": request.instructions,
        "input": request.input,
        "store": False,
        "include": ["reasoning.encrypted_content"],
        "safety_identifier": request.contact_hash,
        "prompt_cache_key": request.cache_key,
    }
    if request.tools:
        body["tools"] = request.tools
        body["parallel_tool_calls"] = True
        if not request.tools_allowed:
            body["tool_choice"] = "none"
    if request.temperature is not None:
        body["temperature"] = request.temperature
    if request.max_output_tokens is not None:
        body["max_output_tokens"] = request.max_output_tokens
    if request.reasoning_effort is not None:
        body["reasoning"] = {"effort": request.reasoning_effort}
    return body


def _json(response: httpx2.Response) -> object:
    try:
        return response.json()
    except (ValueError, RecursionError) as error:
        raise TransientError(
            "bad_answer", "the model's server answered 200 without JSON"
        ) from error


def _shutdown_date(response: httpx2.Response) -> date | None:
    """The model's `shutdown_date` (YYYY-MM-DD or null); compatible servers have none."""
    try:
        return date.fromisoformat(response.json()["shutdown_date"])
    except (ValueError, RecursionError, KeyError, TypeError):
        return None


def _refused(error: AddressRefusedError) -> PermanentError:
    return PermanentError("address_refused", f"The bot's openai_base_url was refused: {error}.")


def _failed_check(error: APIStatusError, model: str) -> ModelCheck:
    if error.status_code == 404 and error.code == "model_not_found":
        return ModelCheck("unknown", f"The server has no model {model!r} for this key.")
    if error.status_code in (401, 403):
        return ModelCheck("unchecked", "The OpenAI key was refused.")
    if error.status_code in (404, 405):
        return ModelCheck("unchecked", CANNOT_LIST)
    return ModelCheck("unchecked", f"The server answered {error.status_code}: {words_of(error)}")
