"""HTTP/1.1 as the emulators speak it: one request read, one response written, nothing else."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from io import BufferedReader
from time import monotonic
from typing import Any
from urllib.parse import parse_qsl, unquote

MAX_LINE_BYTES = 65_536


class BadRequestError(Exception):
    """What came in is not HTTP/1.1 as an ordinary client writes it."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it arrived.

    `path` is decoded and has no query; `query` holds the last value of each name; header names are
    lower case. `body` is parsed JSON, a form's values by name (a list when repeated), or None;
    `raw` is the body as bytes. `at` is monotonic seconds.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Any
    raw: bytes
    at: float

    def field(self, name: str) -> str:
        """A value of the form; the empty string when it is absent, the first when repeated."""
        value = self.body.get(name, "") if isinstance(self.body, dict) else ""
        if isinstance(value, list):
            value = value[0]
        return value if isinstance(value, str) else ""

    def to_json(self) -> dict[str, Any]:
        """The request for another process to read."""
        return {
            "method": self.method,
            "path": self.path,
            "query": dict(self.query),
            "headers": dict(self.headers),
            "body": self.body,
            "at": self.at,
        }


@dataclass(frozen=True, slots=True)
class Response:
    """An answer: `body` is sent as JSON, text as text, bytes as they are, None as nothing."""

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


def read_request(reader: BufferedReader, connection: socket.socket) -> Request | None:
    """Read the next request of a connection, or None when the client has closed it.

    Raises:
        BadRequestError: it is not HTTP.
        OSError: the connection broke.
    """
    start = reader.readline(MAX_LINE_BYTES)
    if not start:
        return None
    try:
        method, target, version = start.decode("latin-1").split()
    except ValueError:
        raise BadRequestError("the request line has not three words") from None
    if not version.startswith("HTTP/1."):
        raise BadRequestError(f"{version} is not spoken here")
    headers = _read_headers(reader)
    if headers.get("expect", "").lower() == "100-continue":
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    raw = _read_body(reader, headers)
    path, _, query = target.partition("?")
    return Request(
        method=method,
        path=unquote(path),
        query=dict(parse_qsl(query, keep_blank_values=True)),
        headers=headers,
        body=_parse(raw, headers.get("content-type", "")),
        raw=raw,
        at=monotonic(),
    )


def write_response(connection: socket.socket, response: Response, *, keep_alive: bool) -> None:
    """Send the answer in one piece.

    Raises:
        OSError: the connection broke.
    """
    content_type, payload = _encode(response.body)
    headers = {
        "Content-Type": content_type,
        "Date": formatdate(usegmt=True),
        **response.headers,
        "Content-Length": str(len(payload)),
        "Connection": "keep-alive" if keep_alive else "close",
    }
    try:
        phrase = HTTPStatus(response.status).phrase
    except ValueError:
        phrase = "Unknown"
    lines = [f"HTTP/1.1 {response.status} {phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items() if value]
    connection.sendall("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + payload)


def _read_headers(reader: BufferedReader) -> dict[str, str]:
    headers: dict[str, str] = {}
    while True:
        line = reader.readline(MAX_LINE_BYTES)
        if line in (b"\r\n", b"\n"):
            return headers
        name, colon, value = line.decode("latin-1").partition(":")
        if not colon:
            raise BadRequestError("a header line has no colon, or the headers end too early")
        headers[name.strip().lower()] = value.strip()


def _read_body(reader: BufferedReader, headers: Mapping[str, str]) -> bytes:
    try:
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return _read_chunks(reader)
        length = int(headers.get("content-length", "0"))
    except ValueError:
        raise BadRequestError("the length of the body is not a number") from None
    return _read_exactly(reader, length)


def _read_chunks(reader: BufferedReader) -> bytes:
    body = b""
    while True:
        size = int(reader.readline(MAX_LINE_BYTES).split(b";")[0], 16)
        if size == 0:
            while reader.readline(MAX_LINE_BYTES).strip():
                pass
            return body
        body += _read_exactly(reader, size)
        reader.readline(MAX_LINE_BYTES)


def _read_exactly(reader: BufferedReader, length: int) -> bytes:
    body = reader.read(length)
    if len(body) < length:
        raise BadRequestError("the body ends too early")
    return body


def _parse(raw: bytes, content_type: str) -> Any:
    if not raw:
        return None
    kind = content_type.split(";")[0].strip().lower()
    if kind == "application/json":
        try:
            return json.loads(raw)
        except ValueError:
            return None
    if kind == "application/x-www-form-urlencoded":
        form: dict[str, Any] = {}
        for name, value in parse_qsl(raw.decode("utf-8", "replace"), keep_blank_values=True):
            if name not in form:
                form[name] = value
            elif isinstance(form[name], list):
                form[name].append(value)
            else:
                form[name] = [form[name], value]
        return form
    return None


def _encode(body: Any) -> tuple[str, bytes]:
    if body is None:
        return "", b""
    if isinstance(body, bytes):
        return "application/octet-stream", body
    if isinstance(body, str):
        return "text/plain; charset=utf-8", body.encode()
    return "application/json", json.dumps(body, ensure_ascii=False).encode()
