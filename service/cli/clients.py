"""`clients`: whole clients at once, as a file declares them. The playbooks call these commands."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from service.cli.failures import USAGE, CommandError
from service.cli.output import (
    JsonFlag,
    print_fields,
    print_json,
    print_line,
    print_note,
    print_table,
)
from service.cli.session import session

app = typer.Typer(help="Clients: a bot, its number at Twilio and its data.", no_args_is_help=True)

UrlOption = Annotated[
    str,
    typer.Option(
        help="Where the service listens: http://…, or unix:/path/to.sock.", envvar="HORIZONCTL_URL"
    ),
]
CheckOption = Annotated[
    bool, typer.Option("--check", help="Only tell what would be done; touch nothing.")
]
NumberArgument = Annotated[str, typer.Argument(metavar="NUMBER", help="The number, in E.164.")]
_HERE = "http://127.0.0.1:8000"


@app.command()
def apply(
    file: Annotated[Path, typer.Argument(metavar="JSON", help="The clients; - reads stdin.")],
    url: UrlOption = _HERE,
    check: CheckOption = False,
    as_json: JsonFlag = False,
) -> None:
    """Make clients as a file declares them: {"clients": [{…}]}, each with the fields of a bot.

    A number keeps its bot; what is not named of it stays. Clients that the file does not name stay.
    """
    from service.clients.api import ApiRefusedError, ApiUnreachableError, BotsApi
    from service.clients.apply import ApplyError
    from service.clients.apply import apply as apply_clients
    from service.clients.declaration import DeclarationError, read
    from service.integrations.twilio_senders import TwilioSenders

    try:
        declared = read(_document(file))
        with session() as container, closing(TwilioSenders(container.settings)) as senders:
            api = BotsApi(url, container.settings.admin_api_key)
            result = apply_clients(container, api, senders, declared, check=check)
    except DeclarationError as error:
        raise CommandError(f"Nothing was changed.\n{error}") from None
    except ApplyError as error:
        if as_json:
            print_json({"changed": True, "clients": error.results, "failed": str(error)})
        raise CommandError(
            f"{len(error.results)} clients are as declared, these are not; run it again when the "
            f"reason is gone.\n{error}"
        ) from None
    except (ApiRefusedError, ApiUnreachableError) as error:
        raise CommandError(f"Nothing was changed. {error}") from None
    if as_json:
        print_json(result)
    else:
        _show(result, check)


@app.command()
def export(
    number: NumberArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to, like data.jsonl.gz.")],
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Write everything that is kept of a client's bot into a file, without secrets."""
    from service.cli.named_files import writing_named
    from service.clients.export import export as export_bot
    from service.clients.removal import find

    with session() as container:
        row = find(container, number)
        if row is None:
            raise CommandError(_no_such(number))
        try:
            with writing_named(file, replace=force) as out:
                counts = export_bot(container.database, row["id"], out)
        except FileExistsError:
            raise CommandError(f"{file} exists: name another file, or add --force.") from None
        except OSError as error:
            raise CommandError(f"{file} cannot be written: {error.strerror}.") from None
    if as_json:
        print_json({"bot_id": row["id"], "file": str(file), "rows": counts})
    else:
        print_fields({"bot": row["id"], "file": str(file), **counts})


@app.command()
def remove(
    number: NumberArgument,
    confirm: Annotated[str, typer.Option(help="The number once more.")] = "",
    url: UrlOption = _HERE,
    keep_sender: Annotated[
        bool, typer.Option("--keep-sender", help="Leave the number at Twilio alone.")
    ] = False,
    check: CheckOption = False,
    as_json: JsonFlag = False,
) -> None:
    """End a client: its number leads here no longer, its bot is deleted. Its history stays."""
    from service.clients.api import ApiRefusedError, ApiUnreachableError, BotsApi
    from service.clients.removal import RemovalError
    from service.clients.removal import remove as remove_client
    from service.integrations.twilio_senders import TwilioSenders

    if confirm != number:
        raise CommandError(
            f"Nothing was removed. Say the number once more: --confirm {number}.", USAGE
        )
    try:
        with session() as container, closing(TwilioSenders(container.settings)) as senders:
            api = BotsApi(url, container.settings.admin_api_key)
            result = remove_client(
                container, api, senders, number, check=check, keep_sender=keep_sender
            )
    except (RemovalError, ApiRefusedError, ApiUnreachableError) as error:
        raise CommandError(str(error)) from None
    if as_json:
        print_json(result)
        return
    if not result["changed"]:
        print_line(f"{result['bot_id']} was removed already.")
    else:
        print_line(f"{result['bot_id']} {'would be' if check else 'is'} removed.")
    for sentence in (*result["warnings"], *result["todo"]):
        print_note(sentence)


def _show(result: dict[str, Any], check: bool) -> None:
    print_table(
        ("number", "client", "bot", "action", "sender"),
        (
            (
                each["number"],
                each["client_id"],
                each["bot_id"],
                ("would " if check and each["action"] != "none" else "") + each["action"],
                each["sender"]["state"],
            )
            for each in result["clients"]
        ),
        "There is no client.",
    )
    for each in result["clients"]:
        for sentence in (*each["warnings"], *each["sender"]["todo"]):
            print_note(f"{each['number']}: {sentence}")


def _document(file: Path) -> Any:
    from service.cli.bot_request import read_text

    try:
        return orjson.loads(read_text(file))
    except orjson.JSONDecodeError as error:
        raise CommandError(f"{file} is not JSON: {error}.") from None


def _no_such(number: str) -> str:
    return f"No bot has or had the number {number}: `horizonctl bots list` shows all."
