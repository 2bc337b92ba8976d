"""What `bots add` and `bots set` are asked for, as the fields of the REST interface.

Secrets never come as arguments, which everyone on the host can read in the list of processes: they
come from files, standard input, the environment or a prompt.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from service.cli.failures import USAGE, CommandError
from service.cli.named_files import open_named

STANDARD_INPUT = Path("-")
SECRET_VARIABLES: Mapping[str, str] = {
    "twilio_auth_token": "BOT_TWILIO_AUTH_TOKEN",
    "openai_api_key": "BOT_OPENAI_API_KEY",
    "horizon_api_token": "BOT_HORIZON_API_TOKEN",
}
"""Environment variables that secrets are taken from, when no file names them."""

FileOption = Annotated[
    Path | None,
    typer.Option("--file", metavar="JSON", help="The fields as REST takes them; - reads stdin."),
]
NameOption = Annotated[str | None, typer.Option(help="What people call the bot.")]
NumberOption = Annotated[
    str | None, typer.Option(help="Its WhatsApp number in E.164, like +56912345678.")
]
ClientIdOption = Annotated[
    str | None, typer.Option("--client", help="The client who rents it; default: the bot itself.")
]
InstructionsOption = Annotated[
    Path | None,
    typer.Option("--instructions-file", metavar="TEXT", help="The assistant's instructions."),
]
ModelOption = Annotated[str | None, typer.Option(help="The assistant's model.")]
AccountOption = Annotated[str | None, typer.Option(help="Twilio account, AC….")]
HorizonUrlOption = Annotated[str | None, typer.Option(help="The client's Horizon CRM.")]
TwilioTokenOption = Annotated[
    Path | None,
    typer.Option(
        "--twilio-auth-token-file",
        metavar="FILE",
        help="Twilio auth token; - reads stdin, else BOT_TWILIO_AUTH_TOKEN.",
    ),
]
OpenAIKeyOption = Annotated[
    Path | None,
    typer.Option(
        "--openai-api-key-file",
        metavar="FILE",
        help="OpenAI key; - reads stdin, else BOT_OPENAI_API_KEY.",
    ),
]
HorizonTokenOption = Annotated[
    Path | None,
    typer.Option(
        "--horizon-api-token-file",
        metavar="FILE",
        help="Horizon token; - reads stdin, else BOT_HORIZON_API_TOKEN.",
    ),
]
AskOption = Annotated[
    bool, typer.Option("--ask-secrets", help="Ask for the three secrets; nothing keeps one.")
]


def bot_request(
    file: Path | None,
    fields: Mapping[str, str | None],
    instructions: Path | None,
    secret_files: Mapping[str, Path | None],
    ask_secrets: bool,
) -> dict[str, Any]:
    """The fields that were named; an option goes over the file.

    Raises:
        CommandError: a file cannot be read, or holds no JSON object, or what no store keeps.
    """
    inputs = [file, instructions, *secret_files.values()]
    if inputs.count(STANDARD_INPUT) > 1:
        raise CommandError("Standard input can be read for one thing only.", USAGE)
    request = _json_object(file) if file is not None else {}
    request.update({name: value for name, value in fields.items() if value is not None})
    if instructions is not None:
        request["instructions"] = read_text(instructions)
    for name, variable in SECRET_VARIABLES.items():
        path = secret_files.get(name)
        secret = read_text(path).strip() if path is not None else os.environ.get(variable)
        if not secret and ask_secrets:
            secret = typer.prompt(name, default="", show_default=False, hide_input=True, err=True)
        if secret:
            request[name] = secret
    _check_storable(request)
    return request


def _check_storable(request: Mapping[str, Any]) -> None:
    """As the REST interface checks its bodies."""
    from service.conversation.storable import storable_json
    from service.web.body import MAX_DEPTH

    for name, value in request.items():
        shown = ascii(name)[1:-1]
        if _is_deeper(value, MAX_DEPTH):
            raise CommandError(f"{shown}: It is nested deeper than {MAX_DEPTH} levels.")
        if storable_json({name: value}) != {name: value}:
            raise CommandError(f"{shown}: It has a NUL character or half a surrogate pair.")


def _is_deeper(value: Any, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels <= 1 or any(_is_deeper(each, levels - 1) for each in inner)


def _json_object(path: Path) -> dict[str, Any]:
    try:
        value = orjson.loads(read_text(path))
    except orjson.JSONDecodeError as error:
        raise CommandError(f"{path} is not JSON: {error}.") from None
    if not isinstance(value, dict):
        raise CommandError(f"{path} must hold one JSON object, the fields of the bot.")
    return value


def read_text(path: Path) -> str:
    """A file, or standard input. Raises CommandError."""
    try:
        if path == STANDARD_INPUT:
            return sys.stdin.read()
        with TextIOWrapper(open_named(path), encoding="utf-8") as file:
            return file.read()
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise CommandError(f"{path} is not UTF-8 text.") from None
