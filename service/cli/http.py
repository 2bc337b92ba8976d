"""Asking a running service over HTTP."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

import requests


def http_session(url: str) -> requests.Session:
    """A session for this address; a proxy of the environment is not used for this host itself."""
    session = requests.Session()
    session.trust_env = not _is_loopback(urlsplit(url).hostname or "")
    return session


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
