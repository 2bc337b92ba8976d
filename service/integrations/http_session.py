"""`requests` sessions that a thousand threads share, for many bots at once.

What differs from a plain session: pools as large as the number of threads, one TLS context, no
cookies (one bot's must never be sent for another), no retries, failures before anything was sent
told apart from those after, and, when wanted, no connection into a private network.
"""

from __future__ import annotations

import socket
from functools import lru_cache
from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import urlsplit

from requests import PreparedRequest, Response, Session
from requests.adapters import HTTPAdapter
from requests.exceptions import ConnectionError as RequestsConnectionError
from requests.exceptions import ConnectTimeout, ProxyError, RequestException
from requests.utils import get_environ_proxies
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager, Timeout
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ClosedPoolError, ConnectTimeoutError, NewConnectionError

from service.integrations.address_guard import refuse_private_host, refuse_private_peer
from service.integrations.tls import tls_context

SPARE_CONNECTIONS = 8
CONNECT_TIMEOUT_S = 5.0


def connections_for(worker_threads: int) -> int:
    """Connections of one process at most; an eighth more threads are kept for idle clients."""
    return worker_threads + worker_threads // 8 + SPARE_CONNECTIONS


class _SecureConnection(HTTPSConnection):
    """A failed or slow handshake counts as never connected: no request was sent on it."""

    def connect(self) -> None:
        try:
            super().connect()
        except OSError as error:
            raise NewConnectionError(self, f"TLS handshake failed: {error}") from error


class _GuardedConnection(HTTPConnection):
    """Refuses private networks."""

    def _new_conn(self) -> socket.socket:
        refuse_private_host(self._dns_host, self.port)
        connected = super()._new_conn()
        try:
            refuse_private_peer(connected)
        except BaseException:
            connected.close()
            raise
        return connected


class _GuardedSecureConnection(_GuardedConnection, _SecureConnection):
    """Refuses private networks, over TLS."""


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


class _GuardedPool(HTTPConnectionPool):
    ConnectionCls = _GuardedConnection


class _GuardedSecurePool(HTTPSConnectionPool):
    ConnectionCls = _GuardedSecureConnection


class _Adapter(HTTPAdapter):
    def __init__(self, *, connections: int, hosts: int, guarded: bool) -> None:
        self._pool_classes: dict[str, type[HTTPConnectionPool]] = (
            {"http": _GuardedPool, "https": _GuardedSecurePool}
            if guarded
            else {"http": HTTPConnectionPool, "https": _SecurePool}
        )
        super().__init__(pool_connections=hosts, pool_maxsize=connections)

    def init_poolmanager(
        self, connections: int, maxsize: int, block: bool = False, **pool_kwargs: Any
    ) -> None:
        super().init_poolmanager(connections, maxsize, block, **pool_kwargs)
        self._use_own_pools(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **proxy_kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **proxy_kwargs)
        self._use_own_pools(manager)
        return manager

    def _use_own_pools(self, manager: PoolManager) -> None:
        manager.pool_classes_by_scheme = dict(self._pool_classes)

    def build_connection_pool_key_attributes(
        self, request: PreparedRequest, verify: bool | str, cert: Any = None
    ) -> Any:
        host, _ = super().build_connection_pool_key_attributes(request, True, None)
        return host, {"ssl_context": tls_context(), "cert_reqs": "CERT_REQUIRED"}

    def cert_verify(self, conn: Any, url: str, verify: bool | str, cert: Any) -> None:
        """Nothing: the context verifies; a bundle here would be loaded for each connection."""


class _Session(Session):
    def __init__(self) -> None:
        super().__init__()
        # The environment does not change, and to read it takes a while.
        self._environ_proxies = lru_cache(maxsize=256)(get_environ_proxies)

    def get_redirect_target(self, resp: Response) -> None:
        """None: to look at a redirect, even one that is not followed, reads its whole body."""

    def merge_environment_settings(
        self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any
    ) -> Any:
        """The environment's proxies; its certificates are in the adapter's context."""
        address = urlsplit(url)
        found = (
            self._environ_proxies(f"{address.scheme}://{address.netloc}") if self.trust_env else {}
        )
        return {"proxies": dict(found), "stream": stream, "verify": verify, "cert": cert}


def new_session(*, connections: int, hosts: int, guarded: bool = False) -> Session:
    """Make a session.

    Args:
        connections: kept open to one host at most.
        hosts: whose connections are kept at once.
        guarded: refuse private networks and use no proxy; such a call raises AddressRefusedError.
    """
    session = _Session()
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    # A proxy would connect for us, where its peer's address says nothing
    session.trust_env = not guarded
    session.mount("https://", _Adapter(connections=connections, hosts=hosts, guarded=guarded))
    session.mount("http://", _Adapter(connections=connections, hosts=hosts, guarded=guarded))
    return session


def time_limits(total_s: float) -> Any:
    """The `timeout` of one request: 5 s to connect, `total_s` until its answer begins.

    Any, because the types of `requests` do not know that it takes this object.
    """
    return Timeout(connect=min(CONNECT_TIMEOUT_S, total_s), total=total_s)


def was_never_sent(error: RequestException) -> bool:
    """Whether the request certainly never left: no connection for it was ever made."""
    if isinstance(error, ConnectTimeout | ProxyError):
        return True
    if not isinstance(error, RequestsConnectionError) or not error.args:
        return False
    reason = getattr(error.args[0], "reason", error.args[0])
    return isinstance(reason, NewConnectionError | ConnectTimeoutError | ClosedPoolError)


def failure(error: RequestException) -> str:
    """What went wrong, without the request's address: its query may hold a contact's number."""
    reason = getattr(error.args[0], "reason", None) if error.args else None
    return str(reason) if isinstance(reason, NewConnectionError) else type(error).__name__
