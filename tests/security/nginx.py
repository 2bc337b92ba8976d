"""A real nginx with the site that the role `nginx` renders, on loopback, before a real web process."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.server_process import PATIENCE_S, free_port
from tests.stack import wait_until

ROOT = Path(__file__).parents[2]
ROLE = ROOT / "roles" / "nginx"
DOMAIN = "bots.example.test"
BINARY = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")

MAIN = """
daemon off;
pid {folder}/nginx.pid;
error_log stderr warn;
worker_processes 1;
{user}
events {{ worker_connections 1024; }}
http {{
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/site.conf;
}}
"""


@dataclass
class Nginx:
    """The running server. `https_port` is where the site's 443 is."""

    process: subprocess.Popen[bytes]
    https_port: int
    http_port: int
    folder: Path

    def connect(self, timeout_s: float = PATIENCE_S) -> ssl.SSLSocket:
        """A TLS connection to the site, whoever signed its certificate."""
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        plain = socket.create_connection(("127.0.0.1", self.https_port), timeout=timeout_s)
        return context.wrap_socket(plain, server_hostname=DOMAIN)

    def ask(
        self, method: str, target: str, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> tuple[int, dict[str, str], bytes]:
        """One request on a connection of its own: status, headers and body."""
        sent = {"Host": DOMAIN, "Connection": "close", **(headers or {})}
        if body:
            sent.setdefault("Content-Length", str(len(body)))
        lines = [
            f"{method} {target} HTTP/1.1",
            *(f"{name}: {value}" for name, value in sent.items()),
        ]
        with self.connect() as connection:
            # It may answer, and end, before everything is sent.
            with suppress(ConnectionError, ssl.SSLError):
                connection.sendall("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
            return parse(read_all(connection))


def read_all(connection: socket.socket) -> bytes:
    """Until the other side ends, in whatever way."""
    received = bytearray()
    try:
        while chunk := connection.recv(65_536):
            received += chunk
    except (OSError, ssl.SSLError):
        if not received:
            raise
    return bytes(received)


def parse(answer: bytes) -> tuple[int, dict[str, str], bytes]:
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    return int(status.split()[1]), {name.lower(): value for name, value in headers.items()}, body


@contextmanager
def nginx_before(
    socket_path: Path, folder: Path, replaced: Any = None, **variables: Any
) -> Iterator[Nginx]:
    """`variables` are the role's. The site's ports and its log's folder are moved to free ones.

    `replaced` is a dictionary of what else is changed in it, text by text.
    """
    folder.mkdir()
    https, http = free_port(), free_port()
    tls = folder / "tls"
    tls.mkdir()
    _make_certificate(tls)
    site = _render(
        folder,
        {
            "nginx_domains": [DOMAIN],
            "nginx_socket": str(socket_path),
            "nginx_tls_directory": str(tls),
            "nginx_acme_webroot": str(folder / "acme"),
            "nginx_ipv6": False,
            "nginx_version": _version(),
            **variables,
        },
    )
    for port, moved in ((443, https), (80, http)):
        assert f"listen {port}" in site
        site = site.replace(f"listen {port}", f"listen 127.0.0.1:{moved}")
    for text, instead in (replaced or {}).items():
        assert text in site
        site = site.replace(text, instead)
    site = site.replace("/var/log/nginx/", f"{folder}/")
    (folder / "site.conf").write_text(site)
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(MAIN.format(folder=folder, user=user))
    process = subprocess.Popen(
        [str(BINARY), "-c", str(folder / "nginx.conf"), "-p", str(folder), "-e", "stderr"]
    )
    running = Nginx(process, https, http, folder)
    try:
        wait_until(lambda: _listens(running), "listening nginx")
        yield running
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE_S)


def _listens(running: Nginx) -> bool:
    assert running.process.poll() is None, "nginx did not start"
    try:
        running.connect(1).close()
    except OSError:
        return False
    return True


def _version() -> str:
    told = subprocess.run([str(BINARY), "-v"], capture_output=True, text=True, check=True).stderr
    return told.rpartition("/")[2].split()[0]


def _render(folder: Path, variables: Mapping[str, Any]) -> str:
    """As Ansible renders it, with the role's defaults beneath."""
    target = folder / "rendered.conf"
    subprocess.run(
        [
            *(sys.executable, "-m", "ansible.cli.adhoc", "localhost", "-i", "localhost,"),
            *("-c", "local", "-m", "ansible.builtin.template"),
            *("-a", f"src={ROLE / 'templates' / 'horizonai-bots.conf.j2'} dest={target}"),
            *("-e", f"@{ROLE / 'defaults' / 'main.yml'}", "-e", json.dumps(dict(variables))),
            *("-e", f"ansible_python_interpreter={sys.executable}"),
        ],
        check=True,
        capture_output=True,
        cwd=ROOT,
        env={
            **os.environ,
            "ANSIBLE_HOME": str(folder / "ansible"),
            "ANSIBLE_LOCALHOST_WARNING": "0",
        },
        timeout=300,
    )
    return target.read_text()


def _make_certificate(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, DOMAIN)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    (folder / f"{DOMAIN}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / f"{DOMAIN}.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
