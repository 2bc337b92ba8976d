"""`import`: the bots of an older installation (the Flask service)."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.bot_request import STANDARD_INPUT, read_text
from service.cli.failures import FAILED, USAGE, CommandError
from service.cli.output import JsonFlag, print_json, print_line, print_note, print_table
from service.cli.session import actor, session

if TYPE_CHECKING:
    from service.adopting.entries import Entry
    from service.adopting.importer import Imported
    from service.adopting.old_settings import OldSettings
    from service.container import Container

REDIS_VARIABLE = "IMPORT_REDIS_URL"
"""Environment variable with the older Redis, for an address that holds a password."""

_STATES = {
    "created": "made",
    "would_create": "would be made",
    "present": "is there already",
    "kept_by_horizon": "kept by Horizon",
    "inactive": "inactive, left out",
    "refused": "REFUSED",
}


def import_bots(
    redis: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help=f"The older service's Redis. With a password in it, put it into {REDIS_VARIABLE}, or "
            "into the file of --env.",
        ),
    ] = None,
    registry: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Its registry as site.yml saved it, instead of Redis."),
    ] = None,
    env: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Its .env; - reads stdin."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="For bots whose model is gone, or that name none."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show it and change nothing.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Make the bots of an older installation here. Exit code 1 when something could not be taken."""
    from service.adopting.entries import SourceError
    from service.adopting.importer import Importer
    from service.adopting.old_settings import read_env
    from service.store.api_keys import Caller

    if [env, registry].count(STANDARD_INPUT) > 1:
        raise CommandError("Standard input can be read for one thing only.", USAGE)
    old = read_env(read_text(env)) if env is not None else None
    faults: list[str] = []
    with session() as container:
        try:
            entries = _registry(redis, registry, old)
        except SourceError as error:
            raise CommandError(str(error)) from None
        try:
            entries += _horizon_table(container, old)
        except SourceError as error:
            faults.append(str(error))
        importer = Importer(container, Caller(actor()), old, model)
        results = importer.run(entries, dry_run=dry_run)
        settings = old.differing(container.settings) if old is not None else []
    others = list(old.others) if old is not None else []
    if not entries and not faults:
        faults.append(
            "There is no bot in the older installation: check the number of the database behind the "
            "last / of its Redis address (its hash is bots:registry)."
        )
    if as_json:
        print_json(
            {
                "dry_run": dry_run,
                "bots": [asdict(result) for result in results],
                "settings_to_consider": settings,
                "settings_without_equivalent": others,
                "faults": faults,
            }
        )
    else:
        _print(results, settings, others)
    for fault in faults:
        print_note(fault)
    if faults or any(result.state == "refused" for result in results):
        raise typer.Exit(FAILED)


def _registry(redis: str | None, registry: Path | None, old: OldSettings | None) -> list[Entry]:
    from service.adopting.entries import from_redis, from_saved

    if redis is not None and registry is not None:
        raise CommandError("Give one of --redis and --registry.", USAGE)
    if registry is not None:
        return from_saved(read_text(registry).encode())
    if redis is not None and "@" in redis:
        print_note(
            "Everyone on this host could read the password in the list of processes: next time put "
            f"the address into {REDIS_VARIABLE}."
        )
    url = redis or os.environ.get(REDIS_VARIABLE) or (old.redis_url if old is not None else None)
    if not url:
        raise CommandError(
            f"Name the older service's Redis: --redis, {REDIS_VARIABLE}, REDIS_URL in the file of "
            "--env, or a saved registry with --registry.",
            USAGE,
        )
    return from_redis(url)


def _horizon_table(container: Container, old: OldSettings | None) -> list[Entry]:
    """Horizon's rows in the older database; in the service's own they are its bots already."""
    from service.adopting.entries import from_horizon_table
    from service.store.database import Database

    if old is None or not old.has_database:
        return []
    url = old.sqlalchemy_url(container.settings)
    if url == container.settings.sqlalchemy_url:
        return []
    if url.startswith("sqlite:///") and not Path(url.removeprefix("sqlite:///")).is_file():
        # To open it would make it.
        return []
    database = Database(url)
    try:
        return from_horizon_table(database, container.cipher)
    finally:
        database.close()


def _print(results: Sequence[Imported], settings: Sequence[str], others: Sequence[str]) -> None:
    columns = ("entry", "number", "name", "state", "bot")
    print_table(
        columns,
        (
            (result.key, result.number, result.name, _STATES[result.state], result.bot_id)
            for result in results
        ),
        "There is nothing to import.",
    )
    for result in results:
        told = [*([result.reason] if result.reason else []), *result.notes]
        for sentence in told:
            print_line(f"{result.number or result.key}: {sentence}")
    if settings:
        print_line(
            f"Set differently there; whoever wants it here too puts it into app_settings: "
            f"{', '.join(settings)}."
        )
    if others:
        print_line(f"Variables of its .env without an equivalent: {', '.join(others)}.")
    if results:
        print_line(_sum(results))


def _sum(results: Sequence[Imported]) -> str:
    counted: Counter[Any] = Counter(result.state for result in results)
    return (
        ", ".join(f"{counted[state]} {words}" for state, words in _STATES.items() if counted[state])
        + "."
    )
