"""Asking a running service over HTTP."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from http.client import HTTPConnection
from ipaddress import ip_address
from urllib.parse import urlsplit

import requests

from service.integrations.http_session import new_session


class UnixConnection(HTTPConnection):
    """HTTP over a Unix socket. Raises OSError and HTTPException, as its base does."""

    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def ask_socket(
    path: str,
    target: str,
    timeout_s: float,
    *,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> tuple[int, bytes]:
    """Status and body of one request on a new connection: a POST when there is a body."""
    method = "GET" if body is None else "POST"
    return request_socket(path, method, target, timeout_s, body, headers or {})


def request_socket(
    path: str,
    method: str,
    target: str,
    timeout_s: float,
    body: bytes | None,
    headers: Mapping[str, str],
) -> tuple[int, bytes]:
    """Status and body of one request on a new connection."""
    connection = UnixConnection(path, timeout_s)
    try:
        connection.request(method, target, body, {"Connection": "close", **headers})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def http_session(url: str) -> requests.Session:
    """A session for this address, with the system's certificates.

    A proxy of the environment is not used for this host itself.
    """
    session = new_session(connections=1, hosts=1)
    session.trust_env = not _is_loopback(urlsplit(url).hostname or "")
    return session


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
