"""One primary, two replicas and three Sentinels on loopback, whose parts can be made to fail."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import redis

from tests.server_process import PATIENCE_S, wait_until
from tests.servers import RealRedis, _redis_binary

NAME = "horizon"
PASSWORD = "sentinel-of-the-tests"
DOWN_AFTER_MS = 2_000
FAILOVER_TIMEOUT_MS = 6_000


class _Locked(RealRedis):
    """Nobody gets in without a password: who is shut out must not come back as the default user."""

    @property
    def url(self) -> str:
        return f"redis://:{PASSWORD}@127.0.0.1:{self.port}/0"

    def client(self, timeout_s: float = PATIENCE_S) -> redis.Redis:
        client = super().client(timeout_s)
        client.connection_pool.connection_kwargs["password"] = PASSWORD
        return client


class Node(_Locked):
    """A data node. Sentinels and replicas have users of their own, so that it can shut them out."""

    def __init__(self, follows: Node | None = None) -> None:
        super().__init__()
        self._follows = follows
        self._has_shut_out = False

    def _command(self) -> Sequence[str | Path]:
        file = self.folder / "node.conf"
        # Sentinel has it rewritten: what it says then is how the node starts again.
        if not file.exists():
            lines = [
                f"port {self.port}",
                "bind 127.0.0.1",
                f"dir {self.folder}",
                'save ""',
                "appendonly yes",
                "appendfsync always",
                "repl-diskless-sync-delay 0",
                "repl-ping-replica-period 1",
                "maxmemory-policy noeviction",
                "masteruser replica",
                f"masterauth {PASSWORD}",
                f"requirepass {PASSWORD}",
                *(f"user {name} on >{PASSWORD} ~* &* +@all" for name in ("sentinel", "replica")),
            ]
            if self._follows is not None:
                lines.append(f"replicaof 127.0.0.1 {self._follows.port}")
            file.write_text("\n".join(lines) + "\n")
        return [_redis_binary(), file]

    def answers(self) -> bool:
        return self._answers()

    def told(self) -> dict[str, Any]:
        """INFO of its replication."""
        with self.client() as client:
            told: dict[str, Any] = client.info("replication")
        return told

    def shut_out(self, *names: str) -> None:
        """As a partition does: these users are cut off, the service is not."""
        self._has_shut_out = True
        with self.client() as client:
            for name in names:
                client.acl_setuser(name, enabled=False)
                client.execute_command("CLIENT", "KILL", "USER", name)

    def let_in(self, *names: str) -> None:
        """Those that `shut_out` cut off."""
        if not self._has_shut_out:
            return
        self._has_shut_out = False
        with self.client() as client:
            for name in names:
                client.acl_setuser(name, enabled=True)
            # A Sentinel that was refused would try again after up to 15 s.
            client.client_kill_filter(_type="normal", skipme=True)
            client.client_kill_filter(_type="pubsub", skipme=True)

    def follow(self, primary: Node) -> None:
        with self.client() as client:
            client.replicaof("127.0.0.1", primary.port)


class Sentinel(_Locked):
    """A Sentinel that watches this node."""

    def __init__(self, watched: Node) -> None:
        super().__init__()
        self._watched = watched

    def _command(self) -> Sequence[str | Path]:
        file = self.folder / "sentinel.conf"
        if not file.exists():
            file.write_text(
                f"port {self.port}\n"
                "bind 127.0.0.1\n"
                f"dir {self.folder}\n"
                f"requirepass {PASSWORD}\n"
                f"sentinel sentinel-pass {PASSWORD}\n"
                f"sentinel monitor {NAME} 127.0.0.1 {self._watched.port} 2\n"
                f"sentinel auth-user {NAME} sentinel\n"
                f"sentinel auth-pass {NAME} {PASSWORD}\n"
                f"sentinel down-after-milliseconds {NAME} {DOWN_AFTER_MS}\n"
                f"sentinel failover-timeout {NAME} {FAILOVER_TIMEOUT_MS}\n"
                f"sentinel parallel-syncs {NAME} 2\n"
            )
        return [_redis_binary(), file, "--sentinel"]

    def record(self) -> dict[str, Any]:
        """What it says of the primary."""
        with self.client() as client:
            record: dict[str, Any] = client.sentinel_master(NAME)
        return record


class SentinelGroup:
    """`addresses` is what REDIS_SENTINELS holds. `heal` makes it whole again, whoever is primary."""

    def __init__(self) -> None:
        first = Node()
        self.nodes = [first, Node(first), Node(first)]
        self.sentinels = [Sentinel(first) for _ in range(3)]
        self._opened = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            for node in self.nodes:
                opened.enter_context(node)
            wait_until(lambda: self._replicas(self.nodes[0]) == 2, "two replicas")
            for sentinel in self.sentinels:
                opened.enter_context(sentinel)
            self._opened = opened.pop_all()
        self.heal()
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers():
            if server.running:
                server.resume()
        self._opened.close()

    @property
    def addresses(self) -> str:
        return ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)

    @property
    def primary(self) -> Node:
        """The node that the newest configuration names."""
        records = [sentinel.record() for sentinel in self.sentinels if sentinel.running]
        newest = max(records, key=lambda record: int(record["config-epoch"]))
        return next(node for node in self.nodes if node.port == newest["port"])

    def replicas(self) -> list[Node]:
        primary = self.primary
        return [node for node in self.nodes if node is not primary]

    def heal(self) -> None:
        """Run everything, let everybody in, make the others follow; empty."""
        for server in self._servers():
            if server.running:
                server.resume()
            server.start()
        for node in self.nodes:
            wait_until(node.answers, "an answer of each node")
            node.let_in("sentinel", "replica")
        wait_until(self._whole, "three Sentinels that agree on a primary and two replicas of it")
        with self.primary.client() as client:
            client.flushall()

    def _servers(self) -> Iterator[RealRedis]:
        yield from self.sentinels
        yield from self.nodes

    def _replicas(self, node: Node) -> int:
        told = node.told()
        return sum(
            isinstance(value, dict) and value.get("state") == "online" for value in told.values()
        )

    def _whole(self) -> bool:
        """Makes the others follow. The primary may change until the Sentinels agree on it."""
        try:
            primary = self._agreed()
            if primary is None:
                return False
            for node in self.nodes:
                # A Sentinel would do it after some seconds.
                if node is not primary and node.told().get("master_port") != primary.port:
                    node.follow(primary)
            return self._replicas(primary) == 2 and all(
                self._good_followers(sentinel) == 2 for sentinel in self.sentinels
            )
        except redis.RedisError:
            return False

    def _agreed(self) -> Node | None:
        """The primary, when each Sentinel knows the others and none is about to change it.

        Another command to a node that they promote would undo their fail-over.
        """
        records = [sentinel.record() for sentinel in self.sentinels]
        told = {(record["port"], record["config-epoch"], record["flags"]) for record in records}
        if len(told) > 1 or any(record["num-other-sentinels"] != 2 for record in records):
            return None
        port, _, flags = told.pop()
        return next(node for node in self.nodes if node.port == port) if flags == "master" else None

    def _good_followers(self, sentinel: Sentinel) -> int:
        with sentinel.client() as client:
            told = client.sentinel_slaves(NAME)
        return sum(each["flags"] == "slave" for each in told)
