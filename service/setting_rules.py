"""What addresses and other values in the settings have to look like.

Each rule returns the value as it is used, or raises ValueError with a sentence that does not repeat
the value: it may hold a password.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_HTTP = "an http:// or https:// address is needed, like https://bots.example.com"
_REDIS = "an address like redis://127.0.0.1:6379/0 is needed"
_DATABASE = "an address like postgresql://user:password@127.0.0.1:5432/horizon is needed"
_SENTINELS = (
    "addresses like 10.0.0.1:26379 or [::1]:26379 are needed, each with a port, separated by commas"
)
_BIND = "an address like 127.0.0.1:8000, unix:/run/bots.sock or fd://3 is needed"
_MAX_PORT = 65_535


def http_address(value: str, *, may_have_path: bool = True) -> str:
    """The base address of a server, without a slash at its end."""
    parts = _split(value, _HTTP)
    if parts.scheme not in ("http", "https") or not parts.hostname or re.search(r"\s", value):
        raise ValueError(_HTTP)
    _check_port(parts)
    if parts.query or parts.fragment or parts.username:
        raise ValueError("the address must have no query, fragment or user name")
    if not may_have_path and parts.path.strip("/"):
        raise ValueError(
            "the address must have no path: Twilio's webhooks are at /webhook/whatsapp of the host"
        )
    return value.rstrip("/")


def redis_address(value: str) -> str:
    """What redis-py connects to."""
    from redis.connection import parse_url

    parts = _split(value, _REDIS)
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise ValueError(_REDIS)
    if parts.scheme == "unix":
        if not parts.path:
            raise ValueError("unix:// needs the path of a socket, like unix:///run/redis.sock")
    else:
        _check_port(parts)
        # redis-py would take database 0 silently
        if not re.fullmatch(r"/?[0-9]{0,5}", parts.path):
            raise ValueError("the database behind the last / must be a number, like /0")
    try:
        parse_url(value)  # type: ignore[no-untyped-call]  # untyped upstream
    except (ValueError, TypeError):
        raise ValueError("the part behind the ? has a value of the wrong kind") from None
    return value


def sentinel_addresses(value: tuple[str, ...]) -> tuple[str, ...]:
    """Hosts with their ports, each once."""
    for address in value:
        parts = _split(f"tcp://{address}", _SENTINELS)
        if not re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}", address):
            raise ValueError(_SENTINELS)
        _check_port(parts)
    if len(set(value)) < len(value):
        raise ValueError("an address is named twice")
    return value


def database_address(value: str) -> str:
    """What SQLAlchemy connects to, with the driver named."""
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    for prefix in ("postgresql://", "postgres://"):
        if value.startswith(prefix):
            value = "postgresql+psycopg2://" + value.removeprefix(prefix)
    if not value.startswith(("sqlite:///", "postgresql+psycopg2://")):
        raise ValueError("the address must start with postgresql:// or sqlite:///")
    try:
        url = make_url(value)
    except (ArgumentError, ValueError):
        raise ValueError(
            f"{_DATABASE}, with a number as port; of user and password, characters other than "
            "letters, digits, - and _ are written as %XX"
        ) from None
    if url.port is not None and not 0 < url.port <= _MAX_PORT:
        raise ValueError(f"the port must be a number from 1 to {_MAX_PORT}")
    if not url.database or url.database == ":memory:":
        raise ValueError(
            "a file is needed behind sqlite:///, like sqlite:////var/lib/horizonai-bots/bots.db"
            if value.startswith("sqlite")
            else "the name of the database is needed behind the last /, like /horizon"
        )
    return value


def database_host(value: str) -> str:
    """A host's name, an IP address (IPv6 without brackets), or the folder of a socket."""
    try:
        is_host = re.fullmatch(r"/.*|[A-Za-z0-9._-]+", value) or ip_address(value)
    except ValueError:
        is_host = None
    if not is_host:
        raise ValueError(
            "a host like db.example.com, an IP address or a folder like /var/run/postgresql is "
            "needed; the port stands in DB_PORT"
        )
    return value


def bind_address(value: str) -> str:
    """What gunicorn listens on; several are separated by commas."""
    for address in value.split(","):
        address = address.strip()
        if re.fullmatch(r"fd://[0-9]+|unix:.+", address):
            continue
        parts = _split(f"tcp://{address}", _BIND)
        try:
            port = parts.port
        except ValueError:
            port = None
        if (
            not re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^\s/:@\[\]]*):[0-9]{1,5}", address)
            or port is None
        ):
            raise ValueError(_BIND)
    return value


def alert_address(value: str) -> str:
    """An address of HTTP, with whatever path and query it has, or one that apprise knows."""
    sentence = (
        "an address like https://hooks.example.com/horizon or mailto://user:pass@host is needed"
    )
    parts = _split(value, sentence)
    if not re.fullmatch(r"[a-z][a-z0-9+.-]*", parts.scheme) or "://" not in value:
        raise ValueError(sentence)
    if re.search(r"[\s\x00-\x1f]", value):
        raise ValueError("the address must have no spaces: they are written as %20")
    if parts.scheme in ("http", "https"):
        if not parts.hostname:
            raise ValueError(sentence)
        _check_port(parts)
    return value


def bearer_key(value: str) -> str:
    """A key that can stand in a header."""
    if not re.fullmatch(r"[\x21-\x7e]+", value):
        raise ValueError("only plain ASCII characters are allowed, and no spaces")
    return value


def timezone(value: str) -> str:
    """The name of a time zone that this host knows."""
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("the name of a time zone is needed, like America/Santiago") from None
    return value


def split(value: object) -> object:
    """The parts of a text that commas separate; anything else as it is."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _split(value: str, sentence: str) -> SplitResult:
    try:
        parts = urlsplit(value)
        if "[" in parts.netloc:
            ip_address(parts.hostname or "")
    except ValueError:
        raise ValueError(sentence) from None
    return parts


def _check_port(parts: SplitResult) -> None:
    try:
        is_port = parts.port is None or parts.port > 0
    except ValueError:
        is_port = False
    if not is_port:
        raise ValueError(f"the port must be a number from 1 to {_MAX_PORT}")
