"""`dead`: turns that failed for good, and running them once more."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.conversations import ClientOption, LimitOption
from service.cli.failures import FAILED, USAGE, CommandError
from service.cli.output import JsonFlag, print_json, print_line, print_table
from service.cli.session import session
from service.cli.stats import check_client

if TYPE_CHECKING:
    from service.container import Container

app = typer.Typer(help="Turns that failed for good.", no_args_is_help=True)

_COLUMNS = ("id", "client_id", "bot_id", "reason", "error", "tries", "runs", "finished_at")
_ALL_LIMIT = 10_000


@app.command("list")
def list_dead(
    client: ClientOption = None, limit: LimitOption = 100, as_json: JsonFlag = False
) -> None:
    """Show dead turns, the newest first."""
    with session() as container:
        check_client(container, client)
        found = container.turns.dead(client, limit)
    if as_json:
        print_json(found)
        return
    print_table(
        _COLUMNS, ([row[name] for name in _COLUMNS] for row in found), "There is no dead turn."
    )


@app.command()
def retry(
    turns: Annotated[list[str] | None, typer.Argument(metavar="TURN…", show_default=False)] = None,
    every: Annotated[bool, typer.Option("--all", help="Every dead turn.")] = False,
    client: ClientOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Run dead turns once more, as the newest of their conversations; sent parts stay sent."""
    if every == bool(turns):
        raise CommandError("Name the turns, or give --all.", USAGE)
    if client is not None and not every:
        raise CommandError("--client goes with --all.", USAGE)
    with session() as container:
        check_client(container, client)
        # The oldest first: a retried turn becomes the newest of its conversation.
        wanted = (
            [turn["id"] for turn in reversed(container.turns.dead(client, _ALL_LIMIT))]
            if every
            else list(dict.fromkeys(turns or ()))
        )
        results = [_retry(container, turn_id) for turn_id in wanted]
    if as_json:
        print_json(results)
    else:
        for result in results:
            print_line(f"{result['turn']}: {_SENTENCES[result['result']]}")
        if not results:
            print_line("There is no dead turn.")
    if any(result["result"] in ("not_found", "not_dead") for result in results):
        raise typer.Exit(FAILED)


_SENTENCES = {
    "queued": "it runs again",
    "already_queued": "its retry waits already",
    "not_found": "there is no such turn",
    "not_dead": "it is not dead",
}


def _retry(container: Container, turn_id: str) -> dict[str, Any]:
    turn = container.turns.turn(turn_id)
    if turn is None:
        return {"turn": turn_id, "result": "not_found"}
    if turn["status"] != "dead":
        return {"turn": turn_id, "result": "not_dead", "status": turn["status"]}
    is_new = container.mailbox.command(
        turn["conversation_id"], _command(turn), turn["client_id"], turn["number"]
    )
    return {"turn": turn_id, "result": "queued" if is_new else "already_queued"}


def _command(turn: Mapping[str, Any]) -> Any:
    from service.conversation.event import Event, encode

    # One id for each of its deaths: asking twice does not run it twice.
    event = Event(
        id=f"retry:{turn['id']}:{turn['runs']}",
        kind="retry",
        bot_id=turn["bot_id"],
        at_ms=int(time.time() * 1000),
        fields={"turn": turn["id"], "From": turn["address"]},
    )
    return replace(event, raw=encode(event))
