"""As much of Redis's protocol as looking takes. Standard library only: this runs on the hosts.

Source: https://redis.io/docs/latest/develop/reference/protocol-spec/
"""

from __future__ import annotations

import socket
import ssl
from types import TracebackType
from urllib.parse import unquote, urlsplit

TIMEOUT_S = 2


class RedisError(Exception):
    """Redis refuses; the text is its own."""


class Redis:
    """One connection to redis://, rediss:// or unix://. Raises RedisError, and OSError while it is away."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme == "unix":
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._socket.settimeout(TIMEOUT_S)
            self._socket.connect(parts.path)
        else:
            host = parts.hostname or "127.0.0.1"
            self._socket = socket.create_connection((host, parts.port or 6379), TIMEOUT_S)
            if parts.scheme == "rediss":
                context = ssl.create_default_context()
                self._socket = context.wrap_socket(self._socket, server_hostname=host)
        self._file = self._socket.makefile("rb")
        if parts.password:
            names = [unquote(parts.username)] if parts.username else []
            self._send("AUTH", *names, unquote(parts.password))
        database = parts.path.strip("/")
        if database.isdigit() and database != "0":
            self._send("SELECT", database)

    def __enter__(self) -> Redis:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        self._socket.close()

    def get(self, key: str) -> bytes | None:
        """The value of a string."""
        return self._send("GET", key)

    def hash(self, key: str) -> dict[str, str]:
        """The fields of a hash with their values, as text; what is no UTF-8 is replaced in it."""
        return self.pairs("HGETALL", key)

    def pairs(self, *words: str) -> dict[str, str]:
        """What a command answers with names and values in turn."""
        return _pairs(self.texts(*words))

    def records(self, *words: str) -> list[dict[str, str]]:
        """A command's list of such answers."""
        self._write(*words)
        return [_pairs(self._texts()) for _ in range(self._count())]

    def texts(self, *words: str) -> list[str]:
        """A command's list of texts; empty when it answers that there is none."""
        self._write(*words)
        return self._texts()

    def text(self, *words: str) -> str:
        """A command's answer as text."""
        return (self._send(*words) or b"").decode(errors="replace")

    def _send(self, *words: str) -> bytes | None:
        self._write(*words)
        return self._answer()

    def _write(self, *words: str) -> None:
        encoded = [word.encode() for word in words]
        parts = [b"*%d\r\n" % len(encoded)]
        parts += [b"$%d\r\n%s\r\n" % (len(word), word) for word in encoded]
        self._socket.sendall(b"".join(parts))

    def _texts(self) -> list[str]:
        return [(self._answer() or b"").decode(errors="replace") for _ in range(self._count())]

    def _count(self) -> int:
        """How many answers the one to come has."""
        kind, rest = self._line()
        if kind == b"-":
            raise RedisError(rest.decode(errors="replace"))
        if kind != b"*":
            raise ConnectionError("Redis answers what no Redis answers")
        return int(rest)

    def _answer(self) -> bytes | None:
        kind, rest = self._line()
        if kind == b"-":
            raise RedisError(rest.decode(errors="replace"))
        if kind == b"$":
            size = int(rest)
            return None if size < 0 else self._file.read(size + 2)[:-2]
        return rest

    def _line(self) -> tuple[bytes, bytes]:
        line = self._file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("Redis closed the connection")
        return line[:1], line[1:-2]


def _pairs(texts: list[str]) -> dict[str, str]:
    return dict(zip(texts[::2], texts[1::2], strict=True))
