"""Which Redis is the primary, by the Sentinels. Standard library only: this runs on the hosts.

All are asked, and the newest configuration counts: one that is cut off goes on naming what it knew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple
from urllib.parse import quote, urlsplit, urlunsplit

from ansible.module_utils.horizon_redis_client import Redis, RedisError

Address = tuple[str, int]


class Told(NamedTuple):
    """A Sentinel's answer; the later one is the greater."""

    epoch: int
    address: Address


def primary(sentinels: Iterable[Address], name: str, user: str, password: str) -> Address | None:
    """The primary's address; None when no Sentinel tells it."""
    told = [answer for each in sentinels if (answer := ask(each, name, user, password))]
    return max(told).address if told else None


def ask(sentinel: Address, name: str, user: str, password: str) -> Told | None:
    """What one Sentinel says; None when it is away or does not know the name."""
    try:
        with Redis(url(sentinel, user, password)) as redis:
            # In this order: in the middle of a fail-over only the second one names the new primary.
            record = redis.pairs("SENTINEL", "MASTER", name)
            address = redis.texts("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name)
    except (RedisError, OSError):
        return None
    return Told(int(record["config-epoch"]), (address[0], int(address[1]))) if address else None


def url_of_primary(settings: Mapping[str, str]) -> str:
    """Redis's address by the service's settings. Raises OSError: no Sentinel tells it."""
    given = settings["REDIS_URL"]
    sentinels = [parse(each) for each in settings.get("REDIS_SENTINELS", "").split(",") if each]
    if not sentinels:
        return given
    found = primary(
        sentinels,
        settings.get("REDIS_SENTINEL_NAME") or "horizon",
        settings.get("REDIS_SENTINEL_USER", ""),
        settings.get("REDIS_SENTINEL_PASSWORD", ""),
    )
    if found is None:
        raise ConnectionError("no Sentinel tells where Redis's primary is")
    parts = urlsplit(given)
    login = parts.netloc.rpartition("@")[0]
    return urlunsplit(parts._replace(netloc=f"{login}@{_host(found)}" if login else _host(found)))


def parse(address: str) -> Address:
    """`host:port`, or `[host]:port`."""
    host, _, port = address.strip().rpartition(":")
    return host.strip("[]"), int(port)


def url(address: Address, user: str, password: str) -> str:
    return f"redis://{quote(user, safe='')}:{quote(password, safe='')}@{_host(address)}"


def _host(address: Address) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
