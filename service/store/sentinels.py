"""The Sentinels, asked all at once: where each says that the primary is, and who could take over."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.retry import Retry

ASK_S = 0.5
"""All Sentinels together get this long."""
INFO_S = 10.0
"""How old a Sentinel's knowledge of a replica's link may be: it asks each as often."""
_DOWN = frozenset((b"s_down", b"o_down"))
_STEP_S = 0.3
"""For a Sentinel's connection, and for each of its answers."""

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Told:
    """One Sentinel's answer.

    The replicas that it knows: `down` ones do not answer it; of the others, `linked` ones followed
    the primary when it last asked them.
    """

    epoch: int
    address: Address
    linked: frozenset[Address] = frozenset()
    unlinked: frozenset[Address] = frozenset()
    down: frozenset[Address] = frozenset()


class Sentinels:
    """Those of one primary. Each question opens connections and closes them."""

    def __init__(
        self,
        addresses: Sequence[Address],
        name: str,
        *,
        connection: Callable[..., Any] = redis.Connection,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """`connection` and `options`: the class and the credentials of the connections."""
        self._addresses = tuple(addresses)
        self._name = name
        self._connection = connection
        self._options = dict(options or {})

    @classmethod
    def of(
        cls,
        addresses: Sequence[str],
        name: str,
        redis_url: str,
        user: str | None,
        password: str | None,
    ) -> Self:
        """From settings; TLS of the Redis address holds for the Sentinels too."""
        told: dict[str, Any] = parse_url(redis_url)  # type: ignore[no-untyped-call]  # untyped upstream
        options = {key: value for key, value in told.items() if key.startswith("ssl_")}
        parts = [urlsplit(f"tcp://{address}") for address in addresses]
        return cls(
            [(each.hostname or "", each.port or 0) for each in parts],
            name,
            connection=told.get("connection_class", redis.Connection),
            options={**options, "username": user, "password": password},
        )

    def __len__(self) -> int:
        return len(self._addresses)

    def answers(self) -> dict[Address, Told | redis.RedisError]:
        """What each says now, or why it says nothing; after at most `ASK_S`."""
        found: dict[Address, Told | redis.RedisError] = {}
        until = time.monotonic() + ASK_S
        asking = [
            threading.Thread(target=self._note, args=(address, found), daemon=True)
            for address in self._addresses
        ]
        for thread in asking:
            thread.start()
        for thread in asking:
            thread.join(max(0.0, until - time.monotonic()))
        silent = redis.TimeoutError("did not answer in time")
        return {address: found.get(address, silent) for address in self._addresses}

    def _note(self, sentinel: Address, found: dict[Address, Told | redis.RedisError]) -> None:
        try:
            found[sentinel] = self._ask(sentinel)
        except (redis.RedisError, OSError, ValueError, LookupError, TypeError) as error:
            # What no Sentinel would say is as good as nothing.
            found[sentinel] = redis.ConnectionError(f"{type(error).__name__}: {error}")

    def _ask(self, sentinel: Address) -> Told:
        host, port = sentinel
        connection = self._connection(
            host=host,
            port=port,
            socket_connect_timeout=_STEP_S,
            socket_timeout=_STEP_S,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            driver_info=None,
            **self._options,
        )
        try:
            connection.connect()
            # In this order: while a fail-over ends, the Sentinel that leads it has the new epoch on
            # the old primary's record, and only the second command names the new one.
            connection.send_command("SENTINEL", "MASTER", self._name)
            connection.send_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._name)
            connection.send_command("SENTINEL", "REPLICAS", self._name)
            record, address, replicas = (connection.read_response() for _ in range(3))
        finally:
            connection.disconnect()
        # The one that has just taken over is still among the replicas then. One that is being made
        # the primary, or led to it, has more flags than `slave`.
        found: dict[str, set[Address]] = {"linked": set(), "unlinked": set(), "down": set()}
        for each in map(_fields, replicas):
            if [each[b"ip"], each[b"port"]] != address:
                found[_state(each)].add((each[b"ip"].decode(), int(each[b"port"])))
        return Told(
            epoch=int(_fields(record)[b"config-epoch"]),
            address=(address[0].decode(), int(address[1])),
            **{state: frozenset(those) for state, those in found.items()},
        )


def _state(replica: Mapping[bytes, bytes]) -> str:
    if not _DOWN.isdisjoint(replica[b"flags"].split(b",")):
        return "down"
    return "linked" if replica[b"master-link-status"] == b"ok" else "unlinked"


def _fields(record: Sequence[bytes]) -> dict[bytes, bytes]:
    return dict(zip(record[::2], record[1::2], strict=True))
