"""One TLS context for all outbound connections of the process."""

from __future__ import annotations

import ssl
from functools import lru_cache


@lru_cache(maxsize=1)
def tls_context() -> ssl.SSLContext:
    """Verify against the system's certificates (`SSL_CERT_FILE` replaces them).

    Shared, because a context of its own for each connection costs about a megabyte and 10 ms.
    """
    return ssl.create_default_context()
