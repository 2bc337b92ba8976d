#!/usr/bin/python
"""Fetches ACME challenge paths the way a certificate authority does, before it is asked."""

from __future__ import annotations

import http.client
import socket
import ssl
import urllib.error
import urllib.request

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: horizon_acme_probe
short_description: Sees whether challenge paths are served, at each address that DNS gives
options:
  probes:
    description: What is served where; each has C(domain), C(path) and C(content).
    type: list
    elements: dict
    required: true
  port:
    description: The authority uses 80.
    type: int
    default: 80
  timeout:
    description: Seconds that an address has for its answer.
    type: int
    default: 5
author:
  - Horizon WhatsApp Bots
"""

EXAMPLES = r"""
- name: The challenge path is seen from the controller
  horizon_acme_probe:
    probes:
      - domain: bots.example.com
        path: /.well-known/acme-challenge/probe
        content: something random
  delegate_to: localhost
"""

RETURN = r"""
results:
  description:
    - For each probe its C(domain), C(outcome) (C(ok), C(wrong) when another answer came,
      C(unreachable) when none came), C(reason) and C(remedy).
  type: list
  returned: always
"""

MAX_BYTES = 4096
REDIRECTS = (301, 302, 303, 307, 308)


def fetch(address: str, port: int, domain: str, path: str, timeout: float) -> tuple[int, str]:
    """Status and body at this very address; redirects are followed, as authorities do."""
    connection = http.client.HTTPConnection(address, port, timeout=timeout)
    try:
        connection.request("GET", path, headers={"Host": domain})
        answer = connection.getresponse()
        target = answer.getheader("Location") or ""
        if answer.status in REDIRECTS and target.startswith(("http://", "https://")):
            return follow(target, timeout)
        return answer.status, answer.read(MAX_BYTES).decode("utf-8", "replace")
    finally:
        connection.close()


def follow(target: str, timeout: float) -> tuple[int, str]:
    """Authorities do not check the certificate of a redirect's target."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )
    try:
        with opener.open(target, timeout=timeout) as answer:
            return answer.status, answer.read(MAX_BYTES).decode("utf-8", "replace")
    except urllib.error.HTTPError as error:
        return error.code, ""


def look(probe: dict[str, str], port: int, timeout: float) -> dict[str, str]:
    domain, path = probe["domain"], probe["path"]
    try:
        found = socket.getaddrinfo(domain, port, type=socket.SOCK_STREAM)
    except OSError:
        return {
            "domain": domain,
            "outcome": "unreachable",
            "reason": f"DNS knows no address of {domain}",
            "remedy": f"Create an A record that points {domain} to this server, and wait until it is known.",
        }
    wrong, silent, right = [], [], []
    for address in dict.fromkeys(str(each[4][0]) for each in found):
        try:
            status, body = fetch(address, port, domain, path, timeout)
        except (OSError, http.client.HTTPException) as error:
            silent.append(f"{address} ({_words(error)})")
            continue
        if status == 200 and body.strip() == probe["content"].strip():
            right.append(address)
        else:
            wrong.append(f"{address} (HTTP {status})")
    if wrong:
        return {
            "domain": domain,
            "outcome": "wrong",
            "reason": f"{domain} is answered by another server, at {', '.join(wrong)}",
            "remedy": f"Point the A record of {domain} to this server, and remove A and AAAA records "
            "(or a redirect) that lead elsewhere.",
        }
    if right:
        return {"domain": domain, "outcome": "ok", "reason": "", "remedy": ""}
    return {
        "domain": domain,
        "outcome": "unreachable",
        "reason": f"port 80 of {domain} does not answer at {', '.join(silent)}",
        "remedy": "Open port 80 to the internet (the provider's firewall too), and check that the "
        f"A record of {domain} is this server's public address. If only this network cannot "
        "reach that address: -e certbot_probe_enabled=false",
    }


def _words(error: Exception) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(error) or type(error).__name__


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "probes": {"type": "list", "elements": "dict", "required": True},
            "port": {"type": "int", "default": 80},
            "timeout": {"type": "int", "default": 5},
        },
        supports_check_mode=True,
    )
    probes, port, timeout = (module.params[name] for name in ("probes", "port", "timeout"))
    module.exit_json(changed=False, results=[look(probe, port, timeout) for probe in probes])


if __name__ == "__main__":
    main()
