"""`restore`: from a backup back to work, without answering anybody twice."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.backup import FolderArgument, aware
from service.cli.failures import FAILED, CommandError
from service.cli.output import JsonFlag, print_fields, print_json, print_line, print_table
from service.cli.session import session

if TYPE_CHECKING:
    from service.restoring import Reconciled

app = typer.Typer(help="From a backup back to work.", no_args_is_help=True)

BackupAtOption = Annotated[
    str | None,
    typer.Option(help="When the backup was taken, as ISO 8601; else what `hold` was told."),
]
HOUR_S = 3_600
_LOST = ("received_at", "bot_id", "contact", "answered", "opt_out", "sid")


@app.command()
def check(folder: FolderArgument, as_json: JsonFlag = False) -> None:
    """See that a backup is whole, and that this release and SECRET_KEY can use it."""
    from service.bundle import BundleError, check_bundle

    with session() as container:
        try:
            found = check_bundle(container, folder)
        except BundleError as error:
            raise CommandError(str(error)) from error
    told = {
        "taken_at": found.manifest["taken_at"],
        "made_by": found.manifest["made_by"],
        "database": found.manifest["database"]["kind"],
        "schema": found.schema.current,
        "release": found.schema.head,
        "state": found.schema.state,
    }
    if as_json:
        print_json(told)
    else:
        print_fields(told)


@app.command()
def load(folder: FolderArgument, as_json: JsonFlag = False) -> None:
    """Put a backup's database in the place of the present one; the service must not run."""
    from service.bundle import BundleError, check_bundle, load_database
    from service.store.backup import BackupError
    from service.store.migrations_state import SchemaError

    with session() as container:
        try:
            bundle = check_bundle(container, folder)
            load_database(container, bundle)
            _, schema = container.migrations.upgrade()
        except (BundleError, BackupError, SchemaError) as error:
            raise CommandError(str(error)) from error
    if as_json:
        print_json({"taken_at": bundle.manifest["taken_at"], "schema": schema})
    else:
        print_line(f"The database is the backup's, at {schema}.")


@app.command()
def drill(folder: FolderArgument, as_json: JsonFlag = False) -> None:
    """Put a backup to use beside the running service, with emulated vendors, and remove it again."""
    from service.bundle import BundleError, check_bundle
    from service.drill import drill as put_to_use
    from service.scratch import ScratchError
    from service.store.backup import BackupError

    with session() as container:
        try:
            found = put_to_use(container, check_bundle(container, folder))
        except (BundleError, BackupError, ScratchError) as error:
            raise CommandError(str(error)) from error
    if as_json:
        print_json(found)
    else:
        print_fields(asdict(found))


@app.command()
def hold(
    backup_at: BackupAtOption = None,
    reason: Annotated[str, typer.Option(help="Why, for whoever looks.")] = "restore",
    as_json: JsonFlag = False,
) -> None:
    """Let the workers claim nothing more. Web goes on accepting."""
    moment = aware(backup_at, "--backup-at")
    with session() as container:
        container.hold.place(reason, moment)
    if as_json:
        print_json({"held": True, "reason": reason, "backup_at": moment})
    else:
        print_line("The workers claim nothing: `horizonctl restore reconcile` lets them again.")


@app.command()
def status(as_json: JsonFlag = False) -> None:
    """Show whether the workers are held, since when and why."""
    with session() as container:
        held = container.hold.state()
    if as_json:
        print_json({"held": held is not None, "hold": held})
    elif held is None:
        print_line("The workers are not held.")
    else:
        print_fields({"held since": held.at, "reason": held.reason, "backup": held.backup_at})


@app.command()
def reconcile(
    backup_at: BackupAtOption = None,
    max_age: Annotated[
        int, typer.Option(min=0, help="Seconds; older messages become a dead turn.")
    ] = HOUR_S,
    keep_held: Annotated[
        bool, typer.Option("--keep-held", help="Do not release the workers at the end.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Compare what is pending with Twilio's lists, tell what is lost, release the workers."""
    from service.restoring import reconcile as compare

    with session() as container:
        held = container.hold.state()
        if held is None:
            raise CommandError(
                "The workers are not held, so they answer while this compares: "
                "run `horizonctl restore hold` first."
            )
        moment = aware(backup_at, "--backup-at") or held.backup_at
        found = compare(container, moment, timedelta(seconds=max_age))
        released = not found.unsettled and not keep_held
        if released:
            container.hold.lift()
    _show(found, released, as_json)
    if found.unsettled or found.unlisted:
        raise typer.Exit(FAILED)


@app.command()
def release(
    yes: Annotated[
        bool, typer.Option("--yes", help="Do not ask: pending messages may be answered twice.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Let the workers claim again without a comparison."""
    if not yes:
        typer.confirm(
            "Lo que quedó pendiente puede responderse por segunda vez. ¿Soltar los workers?",
            abort=True,
        )
    with session() as container:
        lifted = container.hold.lift()
    if as_json:
        print_json({"held": False, "changed": lifted})
    else:
        print_line("The workers claim again." if lifted else "The workers were not held.")


def _show(found: Reconciled, released: bool, as_json: bool) -> None:
    if as_json:
        print_json({**found.__dict__, "released": released})
        return
    print_fields(
        {
            "conversations looked at": found.conversations,
            "answered before the backup": found.trimmed,
            "answered after it": found.answered,
            "too old, now dead turns": found.dead,
            "left to the workers": found.left,
            "came from the spool": found.replayed,
        }
    )
    if found.lost:
        print_line("\nMessages that Twilio delivered and no backup has:")
        print_table(_LOST, ([getattr(lost, name) for name in _LOST] for lost in found.lost), "")
    for bot_id, code in found.unlisted:
        print_line(f"Twilio's list of {bot_id} cannot be read ({code}): look in Twilio's console.")
    for conversation_id, code in found.unsettled:
        print_line(f"{conversation_id} could not be compared ({code}).")
    if released:
        print_line("\nThe workers claim again.")
    elif found.unsettled:
        print_line(
            "\nThe workers stay held. Run this again when the cause is gone; "
            "`horizonctl restore release` lets them go without."
        )
    else:
        print_line("\nThe workers stay held.")
