"""The HTTP client beneath the OpenAI SDK: shared by all threads, and bounded in what it takes in.

The SDK's own pool keeps at most 100 idle connections and looks at every one of them under a lock
for each request; here the connections are spread over small pools. Its read timeout starts anew
with every byte that arrives; here an answer has one deadline and a largest size.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from http.cookiejar import CookieJar, DefaultCookiePolicy
from itertools import count
from typing import Any

import httpcore2
import httpx2
from requests.utils import get_environ_proxies, select_proxy

from service.integrations.address_guard import refuse_private_host, refuse_private_peer
from service.integrations.tls import tls_context

CONNECTIONS_PER_POOL = 64
KEEPALIVE_S = 30.0
MAX_ANSWER_BYTES = 8 * 1024 * 1024


class _PublicBackend(httpcore2.SyncBackend):
    """Refuses private networks."""

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        refuse_private_host(host, port)
        stream = super().connect_tcp(host, port, timeout, local_address, socket_options)
        try:
            refuse_private_peer(stream.get_extra_info("socket"))
        except BaseException:
            stream.close()
            raise
        return stream


class _GuardedTransport(httpx2.HTTPTransport):
    """Connects through `_PublicBackend`, which HTTPTransport has no argument for."""

    def __init__(self, limits: httpx2.Limits) -> None:
        super().__init__(verify=tls_context(), limits=limits)
        self._pool = httpcore2.ConnectionPool(
            ssl_context=tls_context(),
            max_connections=limits.max_connections,
            max_keepalive_connections=limits.max_keepalive_connections,
            keepalive_expiry=limits.keepalive_expiry,
            network_backend=_PublicBackend(),
        )


class _BoundedStream(httpx2.SyncByteStream):
    """An answer's body that ends at the deadline, or at the largest size, with an error."""

    def __init__(self, inner: httpx2.SyncByteStream, deadline: float | None) -> None:
        self._inner = inner
        self._deadline = deadline

    def __iter__(self) -> Iterator[bytes]:
        size = 0
        for chunk in self._inner:
            size += len(chunk)
            if size > MAX_ANSWER_BYTES:
                raise httpx2.ReadError("the answer is too large")
            if self._deadline is not None and time.monotonic() > self._deadline:
                raise httpx2.ReadTimeout("the answer did not end in time")
            yield chunk

    def close(self) -> None:
        self._inner.close()


class _BoundedTransport(httpx2.BaseTransport):
    """Takes the pools in turn."""

    def __init__(self, pools: list[httpx2.HTTPTransport], *, compressed: bool) -> None:
        self._pools = pools
        self._turn = count()
        self._compressed = compressed

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        if not self._compressed:
            request.headers["Accept-Encoding"] = "identity"
        limit_s = request.extensions.get("timeout", {}).get("read")
        deadline = None if limit_s is None else time.monotonic() + limit_s
        pool = self._pools[next(self._turn) % len(self._pools)]
        response = pool.handle_request(request)
        if (
            not self._compressed
            and response.headers.get("content-encoding", "identity") != "identity"
        ):
            response.close()
            # A few kilobytes could unpack to more than the process has
            raise httpx2.ReadError("the answer is compressed, which was not asked for")
        stream = response.stream
        if isinstance(stream, httpx2.SyncByteStream):
            response.stream = _BoundedStream(stream, deadline)
        return response

    def close(self) -> None:
        for pool in self._pools:
            pool.close()


def operator_client(connections: int, base_url: str) -> httpx2.Client:
    """For the address in the settings: a proxy of the environment is used, nothing is refused."""
    proxies = get_environ_proxies(base_url, no_proxy=None)
    proxy = select_proxy(base_url, proxies)
    pools = [
        httpx2.HTTPTransport(verify=tls_context(), limits=limits, proxy=proxy)
        for limits in _limits(connections)
    ]
    return _client(_BoundedTransport(pools, compressed=True))


def bots_client(connections: int, *, guarded: bool) -> httpx2.Client:
    """For addresses that bots name: reached directly; `guarded` refuses private networks.

    A refused address raises AddressRefusedError, as it is, through httpx2 and the SDK.
    """
    pools = [
        _GuardedTransport(limits)
        if guarded
        else httpx2.HTTPTransport(verify=tls_context(), limits=limits)
        for limits in _limits(connections)
    ]
    return _client(_BoundedTransport(pools, compressed=False))


def _limits(connections: int) -> Iterator[httpx2.Limits]:
    """Limits of each small pool; none for connections in use, so that no thread waits for one."""
    for _ in range(-(-connections // CONNECTIONS_PER_POOL)):
        yield httpx2.Limits(
            max_connections=None,
            max_keepalive_connections=CONNECTIONS_PER_POOL,
            keepalive_expiry=KEEPALIVE_S,
        )


def _client(transport: httpx2.BaseTransport) -> httpx2.Client:
    return httpx2.Client(
        transport=transport,
        # One bot's cookies must never be sent for another
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        follow_redirects=False,
        trust_env=False,
    )
