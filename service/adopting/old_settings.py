"""The `.env` of the older installation: what its bots fell back on, and where its stores are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import StringIO

from dotenv import dotenv_values
from pydantic import ValidationError

from service.adopting.entries import SourceError
from service.settings import Settings

_HERE = frozenset({"secret_key", "admin_api_key", "public_base_url", "redis_url", "database_url"})
"""Settings that belong to an installation: the new one has its own."""
_REQUIRED = ("secret_key", "admin_api_key", "public_base_url")
_DATABASE = ("database_url", "db_host", "db_port", "db_user", "db_password", "db_name")
_DEFAULTS = (
    "twilio_account_sid",
    "twilio_auth_token",
    "openai_api_key",
    "openai_base_url",
    "horizon_api_key",
    "horizon_base_url",
)


@dataclass(frozen=True, slots=True)
class OldSettings:
    """The values by the names of our settings, in small letters; empty ones are left out.

    `others` are the names of variables that mean nothing here.
    """

    values: Mapping[str, str] = field(repr=False)
    others: Sequence[str]

    def default(self, name: str) -> str | None:
        """What the older service used for a bot that has no such value of its own."""
        return self.values.get(name)

    @property
    def redis_url(self) -> str | None:
        return self.values.get("redis_url")

    @property
    def has_database(self) -> bool:
        return "database_url" in self.values or "db_host" in self.values

    def sqlalchemy_url(self, settings: Settings) -> str:
        """The address of its database. Raises SourceError."""
        named = {name: self.values.get(name) for name in _DATABASE}
        given = {name: value for name, value in named.items() if value is not None}
        try:
            own = {name: getattr(settings, name) for name in _REQUIRED}
            nowhere = {"_env_file": None, "database_url": None, "db_host": None}
            return Settings(**{**nowhere, **own, **given}).sqlalchemy_url
        except ValidationError as error:
            names = {str(fault["loc"][0]).upper() for fault in error.errors() if fault["loc"]}
            reason = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise SourceError(
                f"The older database is not read, because its address is not right "
                f"({', '.join(sorted(names)) or 'DB_HOST'}: {reason}). Correct the file of --env."
            ) from None

    def differing(self, settings: Settings) -> list[str]:
        """Names of variables that are set here to something else, or are not set here.

        Those that bots take along, and those of the stores, are left out.
        """
        kept = _HERE.union(_DATABASE, _DEFAULTS)
        return sorted(
            name.upper()
            for name, value in self.values.items()
            if name not in kept and str(getattr(settings, name)).lower() != value.lower()
        )


def read_env(text: str) -> OldSettings:
    """The variables of a `.env` file; nothing in it is expanded."""
    # Also what python-dotenv cannot read as an assignment comes without a value.
    found = {
        name: value
        for name, value in dotenv_values(stream=StringIO(text), interpolate=False).items()
        if value
    }
    known = {name.upper(): name for name in Settings.model_fields}
    values = {known[name.upper()]: value for name, value in found.items() if name.upper() in known}
    return OldSettings(values, sorted(name for name in found if name.upper() not in known))
