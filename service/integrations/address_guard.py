"""Keeps calls to addresses that came in through the API away from private networks.

An address is judged twice: when it is saved (`check_url`), so that a person gets a sentence, and
when a connection is made (`refuse_private_host`, `refuse_private_peer`), because a name may point
elsewhere by then. Addresses in the settings are the operator's own and are never judged.
"""

from __future__ import annotations

import re
import socket
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import SplitResult, urlsplit

NAT64 = IPv6Network("64:ff9b::/96")
"""The IPv4 address behind NAT64 is in the last 32 bits (RFC 6052)."""
RELAYS = IPv4Network("192.88.99.0/24")
"""6to4's relays, given up by RFC 7526: who answers there today is nobody's promise."""

_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")


_SHAPE = "The address must look like https://crm.example.com."


class AddressRefusedError(ValueError):
    """A connection led, or would have led, to an address that is not public."""


def is_public(address: str) -> bool:
    """Whether an IP address, as `getpeername` writes it, is on the public internet."""
    ip = ip_address(address)
    if isinstance(ip, IPv6Address):
        inner = _inner_ipv4(ip)
        if inner is not None:
            return is_public(str(inner))
        if ip.is_site_local:
            return False
    elif ip in RELAYS:
        return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved)


def _inner_ipv4(ip: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that packets to this IPv6 address end at, if any."""
    if ip in NAT64:
        return IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour


def check_url(url: str, *, allow_private: bool = False) -> None:
    """Judge a base address before it is saved; `allow_private` is the setting of that name.

    Raises:
        ValueError: a sentence that says what is wrong.
    """
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise ValueError("The address must have only plain characters and no spaces.")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError(_SHAPE) from None
    if parts.scheme not in ("http", "https") or not _is_host(parts):
        raise ValueError(_SHAPE)
    if parts.username is not None or parts.password is not None:
        raise ValueError("The address must have no user name or password in it.")
    if parts.query or parts.fragment:
        raise ValueError("The address must have no query and no fragment.")
    try:
        is_port = parts.port is None or parts.port > 0
    except ValueError:
        is_port = False
    if not is_port:
        raise ValueError("The port of the address must be a number from 1 to 65535.")
    if allow_private:
        return
    if parts.scheme != "https":
        raise ValueError("The address must start with https://.")
    if _is_private_literal(parts.hostname or ""):
        raise ValueError("The address must be on the public internet, not in a private network.")


def _is_host(parts: SplitResult) -> bool:
    """Whether there is a host: a name as DNS has them, or an IP address."""
    host = parts.hostname or ""
    if "[" in parts.netloc:
        try:
            return ip_address(host).version == 6
        except ValueError:
            return False
    labels = host.removesuffix(".").split(".")
    return len(host) <= 253 and all(_LABEL.fullmatch(label) for label in labels)


def _is_private_literal(host: str) -> bool:
    """Whether the host says by itself, without a look-up, that it is not public."""
    host = host.rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return not is_public(host)
    except ValueError:
        pass
    try:
        # Also the spellings that the system accepts: 127.1, 0x7f000001, 2130706433
        return not is_public(socket.inet_ntoa(socket.inet_aton(host)))
    except OSError:
        return False


def refuse_private_host(host: str, port: int) -> None:
    """Look the host up and refuse it before a connection tells whether something listens there.

    A host that cannot be looked up passes: connecting reports that better.

    Raises:
        AddressRefusedError: one of its addresses is not public.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        return
    for entry in found:
        _refuse(str(entry[4][0]))


def refuse_private_peer(connected: socket.socket) -> None:
    """Refuse a connection, before a byte is sent on it, by the address that it really has.

    Raises:
        AddressRefusedError: that address is not public.
        OSError: the connection is already gone.
    """
    _refuse(str(connected.getpeername()[0]))


def _refuse(address: str) -> None:
    if not is_public(address):
        raise AddressRefusedError(
            "the address leads into a private network, which ALLOW_PRIVATE_ADDRESSES does not allow"
        )
