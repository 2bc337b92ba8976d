"""The service's part of a backup: the database, the bots, and a manifest of the whole folder.

`manifest.json`, `database.sqlite` or `database.dump`, `bots.json`; whoever takes the backup has put
the spool and Redis's copy there before, in this order: what moves on meanwhile is then in both, not
in neither. The bots' secrets stay encrypted: the backup is nothing without SECRET_KEY.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import datetime
from hashlib import file_digest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from sqlalchemy import select

from service import __version__
from service.conversation.clock import utc_now
from service.store.backup import BackupError, back_up
from service.store.bots import ASSISTANTS, BOTS
from service.store.census import census
from service.store.database import Database, sqlite_path
from service.store.migrations_state import Schema
from service.store.secrets import UnreadableSecretError

if TYPE_CHECKING:
    from service.container import Container

FORMAT = 1
MANIFEST = "manifest.json"
SECRETS = ("twilio_auth_token", "openai_api_key", "horizon_api_token")


class BundleError(Exception):
    """The backup cannot be restored here; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A backup that was found to be whole and readable here."""

    folder: Path
    manifest: dict[str, Any]
    schema: Schema

    @property
    def database(self) -> Path:
        return self.folder / str(self.manifest["database"]["file"])

    @property
    def taken_at(self) -> datetime:
        return datetime.fromisoformat(self.manifest["taken_at"])


def make_bundle(container: Container, folder: Path, taken_at: datetime | None = None) -> Bundle:
    """Write the database and the bots into the folder, and a manifest of all that is in it.

    `taken_at` is when the first part of the backup was copied: what came later may be missing.
    Raises BackupError, OutageError.
    """
    os.umask(0o077)
    settings = container.settings
    schema = container.migrations.schema()
    started = taken_at or utc_now()
    if container.database.is_sqlite:
        kind, target = "sqlite", folder / "database.sqlite"
        back_up(sqlite_path(settings.sqlalchemy_url), target)
        copy = Database(f"sqlite:///{target}")
        with copy.read() as connection:
            counted = census(connection)
        copy.close()
        _forget_wal(target)
    else:
        from service.store.pg_copy import dump

        kind, target = "postgresql", folder / "database.dump"
        counted = dump(container.database, settings.sqlalchemy_url, target)
    _write(folder / "bots.json", _bots(container))
    manifest = {
        "format": FORMAT,
        "taken_at": started.isoformat(),
        "made_by": __version__,
        "database": {"kind": kind, "file": target.name, "census": counted},
        "schema": {"current": schema.current, "oldest_code": schema.oldest_code},
        "files": {
            str(path.relative_to(folder)): _sum(path)
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.name != MANIFEST
        },
    }
    _write(folder / MANIFEST, manifest)
    return Bundle(folder, manifest, schema)


def check_bundle(container: Container, folder: Path) -> Bundle:
    """See that the backup is whole and that this release and SECRET_KEY can use it.

    Raises BundleError.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        if manifest["format"] != FORMAT:
            raise BundleError(
                f"The backup has the format {manifest['format']}, this release reads {FORMAT}: "
                "restore it with the release that made it."
            )
        wrong = [
            name for name, digest in manifest["files"].items() if _sum(folder / name) != digest
        ]
        told = manifest["schema"]
        schema = container.migrations.judge(told["current"], told["oldest_code"])
        bots = json.loads((folder / "bots.json").read_bytes())["bots"]
    except OSError as error:
        raise BundleError(f"{error.filename} cannot be read: {error.strerror}.") from None
    except (ValueError, KeyError, TypeError):
        raise BundleError(f"{folder} is no whole backup: take another snapshot.") from None
    if wrong:
        raise BundleError(f"Damaged in the backup: {', '.join(wrong)}. Take another snapshot.")
    if schema.state not in ("at head", "behind", "newer, compatible"):
        raise BundleError(
            f"The backup's database is at {schema.current}, and this release ({schema.head}) does not "
            "run on it: deploy the release that made it, or a newer one, then restore."
        )
    kind = "sqlite" if container.settings.sqlalchemy_url.startswith("sqlite") else "postgresql"
    if manifest["database"]["kind"] != kind:
        raise BundleError(
            f"The backup is of {manifest['database']['kind']} and this host uses {kind}: "
            "restore it onto a host of the same profile."
        )
    unreadable = [bot["id"] for bot in bots if not _opens(container, bot)]
    if unreadable:
        raise BundleError(
            f"SECRET_KEY does not decrypt the secrets of {', '.join(unreadable)}: put the key that was "
            "in use at the time of the backup into vault_secret_key (several, comma-separated, go too)."
        )
    return Bundle(folder, manifest, schema)


def load_database(container: Container, bundle: Bundle) -> None:
    """Put the backup's database in the place of the present one, which nobody may be using.

    Raises BackupError.
    """
    url = container.settings.sqlalchemy_url
    container.database.close()
    if bundle.manifest["database"]["kind"] == "sqlite":
        path = sqlite_path(url)
        _forget_wal(path)
        back_up(bundle.database, path, replace=True)
    else:
        from service.store.pg_copy import load

        load(url, bundle.database)


def _bots(container: Container) -> dict[str, Any]:
    with container.database.read() as connection:
        bots = connection.execute(select(BOTS).where(BOTS.c.deleted_at.is_(None))).mappings()
        rows = [dict(row) for row in bots]
        versions = connection.execute(select(ASSISTANTS)).mappings()
        return {"bots": rows, "assistants": [dict(row) for row in versions]}


def _opens(container: Container, bot: dict[str, Any]) -> bool:
    try:
        for name in SECRETS:
            if bot.get(name):
                container.cipher.decrypt(bot[name])
    except UnreadableSecretError:
        return False
    return True


def _forget_wal(path: Path) -> None:
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _write(path: Path, value: Any) -> None:
    try:
        # SQLAlchemy's names of columns are strings of a class of their own.
        options = orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS
        path.write_bytes(orjson.dumps(value, option=options))
    except OSError as error:
        raise BackupError(f"{path} cannot be written: {error.strerror}.") from error


def _sum(path: Path) -> str:
    with open(path, "rb") as file:
        return file_digest(file, "sha256").hexdigest()
