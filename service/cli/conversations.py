"""`conversations`: who wrote with which bot, and what was said."""

from __future__ import annotations

from typing import Annotated

import typer

from service.cli.failures import CommandError
from service.cli.output import JsonFlag, print_fields, print_json, print_line, print_table
from service.cli.session import session
from service.cli.stats import check_client

app = typer.Typer(help="Conversations and their turns.", no_args_is_help=True)

BotOption = Annotated[str | None, typer.Option(help="Only this bot's (its id).")]
ClientOption = Annotated[str | None, typer.Option(help="Only this client's.")]
LimitOption = Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")]

_COLUMNS = ("id", "bot_id", "client_id", "address", "profile_name", "turns", "updated_at")


@app.command("list")
def list_conversations(
    bot: BotOption = None,
    client: ClientOption = None,
    limit: LimitOption = 50,
    as_json: JsonFlag = False,
) -> None:
    """Show conversations, the last active first."""
    with session() as container:
        check_client(container, client)
        found = container.turns.conversations(bot_id=bot, client_id=client, limit=limit)
    if as_json:
        print_json(found)
        return
    print_table(
        _COLUMNS,
        ([row[name] for name in _COLUMNS] for row in found),
        "There is no conversation yet.",
    )


@app.command()
def show(
    conversation: Annotated[str, typer.Argument(help="Id of a conversation, cv_….")],
    limit: LimitOption = 100,
    as_json: JsonFlag = False,
) -> None:
    """Show a conversation: its turns and its texts, oldest first."""
    with session() as container:
        found = container.turns.conversation(conversation, limit)
    if found is None:
        raise CommandError(
            f"There is no conversation {conversation}: `horizonctl conversations list` shows them."
        )
    if as_json:
        print_json(found)
        return
    turns, messages = found.pop("turns"), found.pop("messages")
    print_fields(found)
    print_line("")
    print_table(
        ("turn", "status", "reason", "tries", "runs", "begun", "finished"),
        (
            (
                turn["id"],
                turn["status"],
                turn["reason"],
                turn["tries"],
                turn["runs"],
                turn["created_at"],
                turn["finished_at"],
            )
            for turn in turns
        ),
        "It has no turn.",
    )
    print_line("")
    print_table(
        ("at", "direction", "text"),
        ((message["created_at"], message["direction"], message["text"]) for message in messages),
        "It has no text.",
    )
