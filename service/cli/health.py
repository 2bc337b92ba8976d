"""`health`: whether the running service works, for people and for scripts."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from service.cli.failures import FAILED, CommandError
from service.cli.output import JsonFlag, print_fields, print_json

UNREACHABLE = 2
_TIMEOUT_S = 10


def health(
    url: Annotated[
        str,
        typer.Option(
            help="Where the service listens: http://…, or unix:/path/to.sock.",
            envvar="HORIZONCTL_URL",
        ),
    ] = "http://127.0.0.1:8000",
    as_json: JsonFlag = False,
) -> None:
    """Ask the running service how it is. Exit code 0 ok, 1 degraded or down, 2 not reached."""
    state = _ask_unix(url) if url.startswith("unix:") else _ask(url.rstrip("/"))
    if not isinstance(state, dict) or "status" not in state:
        raise CommandError(f"What answers at {url} is not this service.", UNREACHABLE)
    if as_json:
        print_json(state)
    else:
        queue = state.get("queue")
        flat = {name: value for name, value in state.items() if name != "queue"}
        if isinstance(queue, dict):
            flat |= {f"queue {name}": value for name, value in queue.items()}
        print_fields(flat)
    if state.get("status") != "ok":
        raise typer.Exit(FAILED)


def _ask(url: str) -> Any:
    import requests

    from service.cli.http import http_session

    try:
        with http_session(url) as session:
            answer = session.get(f"{url}/health", timeout=_TIMEOUT_S)
        state = answer.json()
    except requests.JSONDecodeError:
        raise _not_this_service(url, answer.status_code) from None
    except requests.RequestException as error:
        raise _unreachable(url, type(error).__name__) from None
    return state


def _ask_unix(url: str) -> Any:
    from http.client import HTTPException

    from service.cli.http import ask_socket

    path = url.removeprefix("unix:")
    if path.startswith("//"):
        path = path.removeprefix("//")
    try:
        status, body = ask_socket(path, "/health", _TIMEOUT_S)
    except (OSError, HTTPException) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise _unreachable(url, reason) from None
    try:
        return json.loads(body)
    except ValueError:
        raise _not_this_service(url, status) from None


def _not_this_service(url: str, status: int) -> CommandError:
    return CommandError(f"What answers at {url} is not this service (HTTP {status}).", UNREACHABLE)


def _unreachable(url: str, reason: str) -> CommandError:
    return CommandError(
        f"The service cannot be reached at {url} ({reason}): check that it runs, "
        "or name another address with --url.",
        UNREACHABLE,
    )
