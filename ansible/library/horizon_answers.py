#!/usr/bin/python
"""Ansible module: whether the service answers under its public name, as whoever writes to it sees it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: horizon_answers
short_description: Asks Horizon WhatsApp Bots through nginx whether it can answer messages
description:
  - Asks V(/health/ready) and V(/health) of an address, by the name that it has outside, and again until both
    are well or the time is over. Changes nothing and never fails; O(url) tells what is asked, RV(problem)
    what is wrong.
  - A certificate that is not trusted is told, and what stands behind it is asked all the same.
options:
  url: {description: Scheme and host name., type: str, required: true}
  address: {description: Where to connect to, when not to what the name leads to., type: str, default: ""}
  within_s: {description: Longest wait until it is well, in seconds., type: float, default: 30}
"""

EXAMPLES = r"""
- name: It answers
  horizon_answers:
    url: https://bots.example.com
    address: 127.0.0.1
"""

RETURN = r"""
problem: {description: What is wrong; empty when nothing is., type: str, returned: always}
reached: {description: Whether anything answered., type: bool, returned: always}
certificate: {description: Why its certificate is not trusted; empty when it is., type: str, returned: always}
release: {description: The release that answered; empty when none did., type: str, returned: always}
"""

import http.client
import json
import socket
import ssl
import time
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from ansible.module_utils.basic import AnsibleModule

from ansible.module_utils.horizon_surroundings import leave_login

ARGUMENTS: dict[str, Any] = {
    "url": {"type": "str", "required": True},
    "address": {"type": "str", "default": ""},
    "within_s": {"type": "float", "default": 30},
}
TIMEOUT_S = 10
PAUSE_S = 1.0
LONGEST_BODY = 100_000


class Answer(NamedTuple):
    status: int
    body: dict[str, Any]
    certificate: str = ""


class Asked(http.client.HTTPConnection):
    """A connection to one address, which asks for a name that may lead elsewhere."""

    def __init__(self, url: str, address: str, context: ssl.SSLContext | None) -> None:
        parts = urlsplit(url)
        is_tls = parts.scheme == "https"
        port = parts.port or (443 if is_tls else 80)
        super().__init__(parts.hostname or "", port, timeout=TIMEOUT_S)
        self._address = address or parts.hostname or ""
        self._context = context if is_tls else None
        # As a client writes it: the scheme's own port is left out.
        self._name = parts.netloc

    def connect(self) -> None:
        self.sock = socket.create_connection((self._address, self.port), TIMEOUT_S)
        if self._context is not None:
            self.sock = self._context.wrap_socket(self.sock, server_hostname=self.host)

    def ask(self, path: str) -> tuple[int, dict[str, Any]]:
        try:
            self.request("GET", path, headers={"Host": self._name, "Connection": "close"})
            response = self.getresponse()
            text = response.read(LONGEST_BODY)
        finally:
            self.close()
        try:
            body = json.loads(text)
        except ValueError:
            body = None
        return response.status, body if isinstance(body, dict) else {}


def ask(url: str, address: str, path: str) -> Answer:
    """Raises OSError and http.client.HTTPException."""
    try:
        return Answer(*Asked(url, address, ssl.create_default_context()).ask(path))
    except ssl.SSLCertVerificationError as error:
        reason = error.verify_message or str(error)
    blind = ssl.create_default_context()
    blind.check_hostname = False
    blind.verify_mode = ssl.CERT_NONE
    return Answer(*Asked(url, address, blind).ask(path), reason)


def fault(ready: Answer, health: Answer) -> str:
    """What keeps the service from answering messages; empty when nothing does."""
    if ready.status != 200:
        told = ready.body.get("migrations") or ready.body.get("detail") or ""
        if ready.body.get("accepts") is False:
            told = "it can keep no message, neither in Redis nor on its disk"
        return f"/health/ready says {ready.status}{f': {told}' if told else ''}"
    if "release" not in ready.body:
        return "/health/ready is not the service's: another program answers there"
    down = [
        sentence
        for name, well, sentence in (
            ("redis", "up", "Redis does not answer"),
            ("db", "up", "the database does not answer"),
            ("spool", "writable", "the spool cannot be written"),
        )
        if health.body.get(name) != well
    ]
    if down:
        return f"/health says: {', '.join(down)}"
    return f"/health says {health.status}" if health.status != 200 else ""


def look(url: str, address: str) -> dict[str, Any]:
    try:
        ready, health = ask(url, address, "/health/ready"), ask(url, address, "/health")
    except (OSError, http.client.HTTPException) as error:
        words = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return {
            "problem": f"no answer ({words})",
            "reached": False,
            "certificate": "",
            "release": "",
        }
    return {
        "problem": fault(ready, health),
        "reached": True,
        "certificate": ready.certificate,
        "release": str(ready.body.get("release") or ""),
    }


def run(parameters: dict[str, Any]) -> dict[str, Any]:
    deadline = time.monotonic() + parameters["within_s"]
    while True:
        found = look(parameters["url"], parameters["address"])
        if not found["problem"] or time.monotonic() > deadline:
            return {"changed": False, **found}
        time.sleep(PAUSE_S)


def main() -> None:
    leave_login()
    module = AnsibleModule(ARGUMENTS, supports_check_mode=True)
    module.exit_json(**run(module.params))


if __name__ == "__main__":
    main()
