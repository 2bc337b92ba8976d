"""The REST interface of the running service, as the administrator uses it from the host."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any

import requests

from service.cli.http import http_session, request_socket

TIMEOUT_S = 30


class ApiUnreachableError(Exception):
    """The service does not answer; the message says what to do."""


class ApiRefusedError(Exception):
    """The service refuses a request; the message is its own sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class BotsApi:
    """`url` is http://… or unix:/path/to.sock. Every method raises ApiUnreachableError and
    ApiRefusedError. For any number of threads."""

    def __init__(self, url: str, admin_key: str) -> None:
        self._url = url.rstrip("/")
        self._headers = {
            "Authorization": f"Bearer {admin_key}",
            "Content-Type": "application/json",
        }

    def create(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """The answer's envelope: `data` and `warnings`."""
        return self._ask("POST", "/bots", fields)

    def update(self, bot_id: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        """As `create`."""
        return self._ask("PUT", f"/bots/{bot_id}", fields)

    def delete(self, bot_id: str) -> dict[str, Any]:
        """As `create`."""
        return self._ask("DELETE", f"/bots/{bot_id}", None)

    def check(self) -> None:
        """Whether the service answers and takes the key."""
        self._ask("GET", "/bots?limit=1", None)

    def _ask(self, method: str, target: str, fields: Mapping[str, Any] | None) -> dict[str, Any]:
        body = None if fields is None else json.dumps(fields).encode()
        try:
            status, raw = self._send(method, target, body)
        except (requests.RequestException, HTTPException, OSError) as error:
            raise ApiUnreachableError(
                f"The service cannot be reached at {self._url} ({type(error).__name__}): check that "
                "it runs (`horizonctl health`), or name another address with --url."
            ) from None
        try:
            answer = json.loads(raw)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise ApiUnreachableError(
                f"What answers at {self._url} is not this service (HTTP {status})."
            )
        if status >= 400:
            raise ApiRefusedError(status, _sentence(status, answer))
        return answer

    def _send(self, method: str, target: str, body: bytes | None) -> tuple[int, bytes]:
        if self._url.startswith("unix:"):
            path = self._url.removeprefix("unix:")
            return request_socket(path, method, target, TIMEOUT_S, body, self._headers)
        with http_session(self._url) as session:
            answer = session.request(
                method,
                self._url + target,
                data=body,
                headers=self._headers,
                timeout=TIMEOUT_S,
                allow_redirects=False,
            )
            return answer.status_code, answer.content


def _sentence(status: int, problem: Mapping[str, Any]) -> str:
    if status == 401:
        return "The service does not take ADMIN_API_KEY: it runs with other settings than these."
    errors = problem.get("errors") or ()
    named = [
        f"{error.get('field')}: {error.get('message')}"
        if error.get("field")
        else str(error.get("message"))
        for error in errors
    ]
    return "; ".join(named) or str(problem.get("detail") or f"HTTP {status}")
