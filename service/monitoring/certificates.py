"""The certificates that are served here, looked at as a client would: by asking for them."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

from service.conversation.clock import utc_now

TLS_FOLDER = Path("/etc/horizonai-bots/tls")
"""Where nginx's links `<domain>.crt` are."""
FEW_DAYS = 14
"""Certbot renews 30 days before the end: fewer days than this and renewing has failed for long."""
_HERE = "127.0.0.1"
_TIMEOUT_S = 3


@dataclass(frozen=True, slots=True)
class Certificate:
    """A domain's certificate; with `reason`, why it could not be had, and nothing else."""

    domain: str
    issuer: str | None = None
    self_signed: bool = False
    ends_at: datetime | None = None
    days: int | None = None
    reason: str | None = None

    @property
    def fault(self) -> str | None:
        """What is wrong with it and what to do, in a sentence."""
        remedy = "run ansible-playbook site.yml -i <inventory> --tags certbot"
        if self.days is None:
            return f"The certificate of {self.domain} cannot be looked at ({self.reason})"
        if self.days < 0:
            return f"The certificate of {self.domain} has run out: {remedy}"
        if self.self_signed:
            return f"The certificate of {self.domain} is self-signed, Twilio refuses it: {remedy}"
        if self.days < FEW_DAYS:
            return f"The certificate of {self.domain} ends in {self.days} days: {remedy}"
        return None


def certificates(public_base_url: str) -> tuple[Certificate, ...]:
    """Those of the public address and of every domain that nginx has here; none without TLS."""
    address = urlsplit(public_base_url)
    if address.scheme != "https" or address.hostname is None:
        return ()
    port = address.port or 443
    public = address.hostname
    domains = dict.fromkeys([public, *_domains_here()])
    return tuple(certificate(domain, port) for domain in domains)


def certificate(domain: str, port: int) -> Certificate:
    """What this host serves for the domain; what its public address serves, where nothing listens here."""
    reason = ""
    for host in (_HERE, domain):
        try:
            return _read(domain, _fetch(host, port, domain))
        except ConnectionRefusedError as error:
            reason = error.strerror or "refused"
        except (OSError, ValueError) as error:
            return Certificate(domain, reason=getattr(error, "strerror", None) or str(error))
    return Certificate(domain, reason=reason)


def _domains_here() -> Iterator[str]:
    try:
        names = sorted(path.name for path in TLS_FOLDER.iterdir())
    except OSError:
        return
    yield from (
        name.removesuffix(".crt")
        for name in names
        if name.endswith(".crt") and not name.startswith(".") and "." in name.removesuffix(".crt")
    )


def _fetch(host: str, port: int, domain: str) -> bytes:
    # It is looked at, not trusted: one that has run out or is self-signed is to be seen as well.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection((host, port), timeout=_TIMEOUT_S) as plain,
        context.wrap_socket(plain, server_hostname=domain) as connection,
    ):
        found = connection.getpeercert(binary_form=True)
    if not found:
        raise ValueError("no certificate was shown")
    return found


def _read(domain: str, der: bytes) -> Certificate:
    from cryptography.x509 import load_der_x509_certificate
    from cryptography.x509.oid import NameOID

    found = load_der_x509_certificate(der)
    names = [
        *found.issuer.get_attributes_for_oid(NameOID.ORGANIZATION_NAME),
        *found.issuer.get_attributes_for_oid(NameOID.COMMON_NAME),
    ]
    return Certificate(
        domain,
        issuer=str(names[0].value) if names else "unknown",
        self_signed=found.issuer == found.subject,
        ends_at=found.not_valid_after_utc,
        days=(found.not_valid_after_utc - utc_now()).days,
    )
