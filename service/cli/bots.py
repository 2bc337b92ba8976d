"""`bots`: the bots, through the same use cases as the REST interface."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.bot_request import (
    AccountOption,
    AskOption,
    ClientIdOption,
    FileOption,
    HorizonTokenOption,
    HorizonUrlOption,
    InstructionsOption,
    ModelOption,
    NameOption,
    NumberOption,
    OpenAIKeyOption,
    TwilioTokenOption,
    bot_request,
)
from service.cli.failures import USAGE, CommandError
from service.cli.output import (
    JsonFlag,
    print_fields,
    print_json,
    print_line,
    print_note,
    print_table,
)
from service.cli.session import actor, session
from service.cli.stats import check_client

if TYPE_CHECKING:
    from pydantic import ValidationError

    from service.bots.errors import Fault
    from service.bots.service import Outcome
    from service.container import Container
    from service.store.api_keys import Caller
    from service.store.records import Record

app = typer.Typer(help="The bots.", no_args_is_help=True)

BotArgument = Annotated[str, typer.Argument(metavar="BOT", help="Its id or its number.")]
ClearOption = Annotated[
    list[str] | None, typer.Option("--clear", metavar="FIELD", help="Clear a field; repeatable.")
]

_PAGE = 200


@app.command("list")
def list_bots(
    client: Annotated[str | None, typer.Option(help="Only this client's.")] = None,
    number: Annotated[str | None, typer.Option(help="Only the one with this number.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show the bots of the service's own table, the oldest first."""
    with session() as container:
        check_client(container, client)
        bots = [_answer(container, record) for record in _records(container, client, number)]
    if as_json:
        print_json(bots)
        return
    columns = ("id", "name", "twilio_phone_number", "client_id", "openai_model", "updated_at")
    print_table(
        columns,
        ([bot[name] for name in columns] for bot in bots),
        "There is no bot: `horizonctl bots add` makes one.",
    )


@app.command()
def show(bot: BotArgument, as_json: JsonFlag = False) -> None:
    """Show a bot; of its secrets only whether they are set."""
    with session() as container:
        record = container.bots.get(_caller(), _bot_id(container, bot))
        answer = _answer(container, record)
    _print_bot(answer, as_json)


@app.command()
def add(
    file: FileOption = None,
    name: NameOption = None,
    number: NumberOption = None,
    client: ClientIdOption = None,
    instructions: InstructionsOption = None,
    model: ModelOption = None,
    twilio_account_sid: AccountOption = None,
    horizon_base_url: HorizonUrlOption = None,
    twilio_auth_token: TwilioTokenOption = None,
    openai_api_key: OpenAIKeyOption = None,
    horizon_api_token: HorizonTokenOption = None,
    ask_secrets: AskOption = False,
    as_json: JsonFlag = False,
) -> None:
    """Make a bot, from options, from a JSON file, or from both."""
    request = bot_request(
        file,
        {
            "name": name,
            "twilio_phone_number": number,
            "client_id": client,
            "openai_model": model,
            "twilio_account_sid": twilio_account_sid,
            "horizon_base_url": horizon_base_url,
        },
        instructions,
        {
            "twilio_auth_token": twilio_auth_token,
            "openai_api_key": openai_api_key,
            "horizon_api_token": horizon_api_token,
        },
        ask_secrets,
    )
    with session() as container:
        outcome = _create(container, request)
        answer = _answer(container, outcome.record)
    _warn(outcome.warnings)
    _print_bot(answer, as_json)


@app.command("set")
def change(
    bot: BotArgument,
    file: FileOption = None,
    name: NameOption = None,
    number: NumberOption = None,
    client: ClientIdOption = None,
    instructions: InstructionsOption = None,
    model: ModelOption = None,
    twilio_account_sid: AccountOption = None,
    horizon_base_url: HorizonUrlOption = None,
    twilio_auth_token: TwilioTokenOption = None,
    openai_api_key: OpenAIKeyOption = None,
    horizon_api_token: HorizonTokenOption = None,
    ask_secrets: AskOption = False,
    clear: ClearOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Change what is named of a bot and keep the rest."""
    request = bot_request(
        file,
        {
            "name": name,
            "twilio_phone_number": number,
            "client_id": client,
            "openai_model": model,
            "twilio_account_sid": twilio_account_sid,
            "horizon_base_url": horizon_base_url,
        },
        instructions,
        {
            "twilio_auth_token": twilio_auth_token,
            "openai_api_key": openai_api_key,
            "horizon_api_token": horizon_api_token,
        },
        ask_secrets,
    )
    request.update(dict.fromkeys(clear or ()))
    if not request:
        raise CommandError("Name at least one thing to change: --help lists them.", USAGE)
    with session() as container:
        outcome = _update(container, _bot_id(container, bot), request)
        answer = _answer(container, outcome.record)
    _warn(outcome.warnings)
    _print_bot(answer, as_json)


@app.command()
def remove(
    bot: BotArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """End a bot: its history stays, its secrets go, its number is free."""
    with session() as container:
        record = container.bots.get(_caller(), _bot_id(container, bot))
        if not yes:
            if not sys.stdin.isatty():
                raise CommandError("Give --yes: there is no terminal to ask at.", USAGE)
            typer.confirm(f"Remove {record['name']} ({record['number']})?", abort=True, err=True)
        warnings = container.bots.delete(_caller(), record["id"], None)
    _warn(warnings)
    if as_json:
        print_json({"id": record["id"], "removed": True})
    else:
        print_line(f"{record['id']} is removed.")


def _caller() -> Caller:
    from service.store.api_keys import Caller

    return Caller(actor())


def _bot_id(container: Container, bot: str) -> str:
    """The id of a bot that is named by its id or its number."""
    if not bot.startswith("+"):
        return bot
    found = _records(container, None, bot)
    if not found:
        raise CommandError(f"No bot has the number {bot}: `horizonctl bots list` shows all.")
    return found[0]["id"]


def _records(container: Container, client: str | None, number: str | None) -> list[Record]:
    records: list[Record] = []
    after = None
    while True:
        page, after = container.bots.page(_caller(), _PAGE, after, client, number)
        records += page
        if after is None:
            return records


def _create(container: Container, request: dict[str, Any]) -> Outcome:
    from pydantic import ValidationError

    from service.store.bots import NumberTakenError
    from service.web.schemas import BotCreate

    try:
        return container.bots.create(_caller(), BotCreate.model_validate(request).changes(), None)
    except ValidationError as error:
        raise _invalid(error) from None
    except NumberTakenError:
        raise _number_taken(request) from None


def _update(container: Container, bot_id: str, request: dict[str, Any]) -> Outcome:
    from pydantic import ValidationError

    from service.store.bots import NumberTakenError
    from service.web.schemas import BotUpdate

    try:
        changes = BotUpdate.model_validate(request).changes()
        return container.bots.update(_caller(), bot_id, changes, None)
    except ValidationError as error:
        raise _invalid(error) from None
    except NumberTakenError:
        raise _number_taken(request) from None


def _invalid(error: ValidationError) -> CommandError:
    from service.web.errors import faults_of

    return CommandError("\n".join(f"{fault.field}: {fault.message}" for fault in faults_of(error)))


def _number_taken(request: dict[str, Any]) -> CommandError:
    return CommandError(f"Another bot has the number {request.get('twilio_phone_number')}.")


def _answer(container: Container, record: Record) -> dict[str, Any]:
    from service.web.answers import bot_answer

    return bot_answer(record, container.settings).model_dump(mode="json")


def _warn(warnings: Sequence[Fault]) -> None:
    for warning in warnings:
        print_note(f"{warning.field}: {warning.message}" if warning.field else warning.message)


def _print_bot(answer: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(answer)
        return
    flat = dict(answer)
    for name in ("twilio_auth_token", "openai_api_key", "horizon_api_token"):
        flat[name] = "set" if answer[name]["set"] else "not set"
    assistant = flat.pop("assistant")
    flat["assistant_id"] = f"{assistant['id']}, version {assistant['version']}"
    print_fields(flat)
