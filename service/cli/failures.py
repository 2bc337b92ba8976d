"""What went wrong, as a sentence for a person and an exit code for a script."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import typer

from service.bots.errors import (
    BotNotFoundError,
    ForbiddenError,
    InvalidBotError,
    ReadOnlyBotError,
)
from service.conversation.outage import OutageError
from service.settings import SettingsError

FAILED = 1
USAGE = 2


class CommandError(Exception):
    """A command is refused or failed; the message is what the person reads."""

    def __init__(self, sentence: str, code: int = FAILED) -> None:
        super().__init__(sentence)
        self.code = code


@dataclass(frozen=True, slots=True)
class Failure:
    """The sentence and the exit code of an error."""

    sentence: str
    code: int


def explain(error: Exception) -> Failure | None:
    """What to say about an error; None for one that is a fault of the program itself."""
    if isinstance(error, CommandError):
        return Failure(str(error), error.code)
    if isinstance(error, typer.TyperException):
        return Failure(error.format_message(), error.exit_code)
    if isinstance(error, SettingsError):
        return Failure(f"The settings are not right:\n{error}", USAGE)
    if isinstance(error, BotNotFoundError):
        return Failure("There is no such bot: `horizonctl bots list` shows all.", FAILED)
    if isinstance(error, ReadOnlyBotError):
        return Failure("Horizon keeps this bot: change it there.", FAILED)
    if isinstance(error, InvalidBotError):
        return Failure(
            "\n".join(
                f"{fault.field}: {fault.message}" if fault.field else fault.message
                for fault in error.faults
            ),
            FAILED,
        )
    if isinstance(error, ForbiddenError):
        return Failure(str(error), FAILED)
    if isinstance(error, OutageError):
        return Failure(_outage(error), FAILED)
    if _is_missing_table(error):
        return Failure(_NO_TABLES, FAILED)
    return None


_NO_TABLES = "The database does not have this release's tables: run `horizonctl db upgrade`."


def _outage(error: OutageError) -> str:
    # Whichever store failed has been imported by then; SQLAlchemy is not loaded for nothing.
    kind, text = type(error).__name__, str(error).rstrip(".")
    if kind == "DatabaseDownError":
        if "no such table" in text or "no such column" in text:
            return _NO_TABLES
        return (
            f"The database cannot be used ({text}): check that it runs and that DATABASE_URL, "
            "or DB_HOST and the rest, name it."
        )
    if kind == "RedisDownError":
        return f"Redis cannot be used ({text}): check that it runs and that REDIS_URL names it."
    return f"{text[:1].upper()}{text[1:]}: try again in a moment."


def _is_missing_table(error: Exception) -> bool:
    sqlalchemy = sys.modules.get("sqlalchemy.exc")
    if sqlalchemy is None or not isinstance(error, sqlalchemy.ProgrammingError):
        return False
    # PostgreSQL's codes for an undefined table and an undefined column.
    return getattr(error.orig, "pgcode", None) in ("42P01", "42703")
