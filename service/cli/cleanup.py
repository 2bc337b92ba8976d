"""`cleanup`: remove what has had its time from SQL, Redis and the spool's folder."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from service.cli.output import JsonFlag, print_json, print_line
from service.cli.session import session
from service.conversation.clock import utc_now

LEAST_DAYS = 7
"""A message may come again for two days, and a backup of the week before may be restored."""


def cleanup(
    days: Annotated[
        int,
        typer.Option(min=LEAST_DAYS, help="Age of ended turns that are removed with their texts."),
    ] = 365,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would go.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Remove old ended turns with their texts, and keys and files that nothing refers to.

    Running turns, waiting messages, usage, the audit log and opt-outs are never touched.
    """
    from service.store.cleanup import Cleanup

    with session() as container:
        work = Cleanup(container.database, container.redis, dry_run=dry_run)
        removed = [*work.turns(utc_now() - timedelta(days=days)), *work.redis_keys()]
    if as_json:
        print_json({"dry_run": dry_run, **{each.name: each.count for each in removed}})
        return
    verb = "would be removed" if dry_run else "removed"
    for each in removed:
        print_line(f"{each.name}: {each.count} {verb}.")
