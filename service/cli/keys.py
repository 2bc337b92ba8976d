"""`key`: API keys, and keys that encrypt secrets."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from service.cli.failures import USAGE, CommandError
from service.cli.output import JsonFlag, print_json, print_line, print_note, print_table
from service.cli.session import actor, session

app = typer.Typer(help="API keys and encryption keys.", no_args_is_help=True)


@app.command()
def create(
    name: Annotated[str, typer.Option(help="What the key is for.")],
    client: Annotated[
        str | None, typer.Option(help="The one client whose bots it may see and change.")
    ] = None,
    admin: Annotated[bool, typer.Option("--admin", help="It may do everything.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Make an API key. It is shown this once."""
    if admin == (client is not None):
        raise CommandError("Give either --client CLIENT or --admin.", USAGE)
    with session() as container:
        try:
            key, text = container.api_keys.create(name, client, actor())
        except ValueError as error:
            raise CommandError(str(error), USAGE) from None
    if as_json:
        print_json({**asdict(key), "key": text})
        return
    print_note(f"{key.id} is made; only its hash is kept, so keep it now:")
    print_line(text)


@app.command("list")
def list_keys(as_json: JsonFlag = False) -> None:
    """Show every key, revoked ones too; never the keys themselves."""
    with session() as container:
        keys = [asdict(key) for key in container.api_keys.all()]
    if as_json:
        print_json(keys)
        return
    print_table(
        ("id", "name", "client", "created", "revoked"),
        (
            (
                key["id"],
                key["name"],
                key["client_id"] or "(admin)",
                key["created_at"],
                key["revoked_at"],
            )
            for key in keys
        ),
        "There is no key but ADMIN_API_KEY.",
    )


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="KEY_ID")], as_json: JsonFlag = False
) -> None:
    """End a key at once."""
    with session() as container:
        if not container.api_keys.revoke(key_id, actor()):
            raise CommandError(f"There is no valid key {key_id}: `horizonctl key list` shows all.")
    if as_json:
        print_json({"id": key_id, "revoked": True})
    else:
        print_line(f"{key_id} is revoked.")


@app.command()
def secret(as_json: JsonFlag = False) -> None:
    """Print a new key for SECRET_KEY. Needs no settings."""
    from cryptography.fernet import Fernet

    key = Fernet.generate_key().decode()
    if as_json:
        print_json({"key": key})
    else:
        print_line(key)
