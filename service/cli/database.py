"""`db`: the database's schema."""

from __future__ import annotations

import typer

from service.cli.failures import FAILED
from service.cli.output import JsonFlag, print_fields, print_json, print_line
from service.cli.session import session

app = typer.Typer(help="The database's schema.", no_args_is_help=True)


@app.command()
def upgrade(as_json: JsonFlag = False) -> None:
    """Bring the database to this release's schema."""
    with session() as container:
        before, after = container.migrations.upgrade()
    if as_json:
        print_json({"before": before, "after": after, "changed": before != after})
    elif before == after:
        print_line(f"The database is at {after} already.")
    else:
        print_line(f"The database went from {before or 'nothing'} to {after}.")


@app.command()
def current(as_json: JsonFlag = False) -> None:
    """Show the database's schema; the exit code is 1 when it is not this release's."""
    with session() as container:
        revision, head = container.migrations.current(), container.migrations.head
    state = {"current": revision, "release": head, "at_head": revision == head}
    if as_json:
        print_json(state)
    else:
        print_fields(state)
    if revision != head:
        raise typer.Exit(FAILED)
