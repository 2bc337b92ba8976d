"""`backup`: the service's part of a backup; the role backup adds Redis and the host's files."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from service.cli.failures import USAGE, CommandError
from service.cli.output import JsonFlag, print_json, print_line
from service.cli.session import session

app = typer.Typer(help="The service's part of a backup.", no_args_is_help=True)

FolderArgument = Annotated[
    Path, typer.Argument(help="The backup's folder.", exists=True, file_okay=False)
]


@app.command()
def bundle(
    folder: FolderArgument,
    taken_at: Annotated[
        str | None, typer.Option(help="When the first part was copied, as ISO 8601.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Write the database, the bots and a manifest into a folder, while everything is used."""
    from service.bundle import make_bundle
    from service.store.backup import BackupError

    moment = aware(taken_at, "--taken-at")
    with session() as container:
        try:
            made = make_bundle(container, folder, moment)
        except BackupError as error:
            raise CommandError(str(error)) from error
    if as_json:
        print_json(made.manifest)
    else:
        rows = sum(table["rows"] for table in made.manifest["database"]["census"].values())
        print_line(f"{folder} has the database ({rows} rows) and the bots.")


def aware(text: str | None, option: str) -> datetime | None:
    """A moment with its time zone. Raises CommandError."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = datetime.min
    if moment.tzinfo is None:
        raise CommandError(
            f"{option} must be a time with its zone, like 2026-11-26T03:00:00+00:00.", USAGE
        )
    return moment
