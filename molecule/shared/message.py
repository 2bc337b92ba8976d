"""One WhatsApp message as Twilio delivers it, over HTTPS from outside the machine, and its reply."""

from __future__ import annotations

import json
import re
import secrets
import socket
import ssl
import sys
import urllib.request
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import urllib3
from machine import made

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from service.web.twilio_request import signature

PATH = "/webhook/whatsapp"


def send(
    domain: str, address: str, number: str, text: str, token: str, account: str, ca: str | None
) -> tuple[int, str]:
    """The status of the acknowledgement, and the contact's number. `ca`: a PEM text; None trusts anything."""
    contact = f"+569{secrets.randbelow(10**8):08}"
    form = message(number, contact, text, account)
    return deliver(domain, address, form, token, ca), contact


def message(number: str, contact: str, text: str, account: str) -> dict[str, str]:
    """The form of a contact's message to a bot's number."""
    sid = "SM" + secrets.token_hex(16)
    return {
        "MessageSid": sid,
        "SmsMessageSid": sid,
        "AccountSid": account,
        "From": f"whatsapp:{contact}",
        "To": f"whatsapp:{number}",
        "Body": text,
        "NumMedia": "0",
        "WaId": contact[1:],
        "ApiVersion": "2010-04-01",
    }


def deliver(domain: str, address: str, form: dict[str, str], token: str, ca: str | None) -> int:
    """The status of the acknowledgement."""
    with urllib3.HTTPSConnectionPool(
        address,
        443,
        server_hostname=domain,
        assert_hostname=domain,
        cert_reqs="CERT_REQUIRED" if ca else "CERT_NONE",
        ca_cert_data=ca,
        retries=False,
        timeout=60,
    ) as pool:
        answer = pool.request(
            "POST",
            PATH,
            body=urlencode(form),
            headers={
                "Host": domain,
                "Content-Type": "application/x-www-form-urlencoded",
                "X-Twilio-Signature": signature(f"https://{domain}{PATH}", form, token).decode(),
            },
        )
    return answer.status


def wait_for_reply(twilio: str, contact: str, within_s: float = 120) -> str:
    """What the emulated Twilio was asked to send to the contact first."""
    messages = replies(twilio, contact, 1, within_s)
    assert messages, f"no reply to {contact} within {within_s} s"
    return messages[0]


def replies(twilio: str, contact: str, count: int = 0, within_s: float = 0) -> list[str]:
    """Everything that the emulated Twilio was asked to send to the contact, once it is `count`."""
    query = urlencode({"to": contact, "count": count, "timeout": within_s})
    with urllib.request.urlopen(
        f"{twilio}/_emulator/messages?{query}", timeout=within_s + 60
    ) as answer:
        return [str(message["body"]) for message in json.load(answer)]


def tell_vendor(url: str, what: str, fields: object, method: str = "POST") -> None:
    """One order to an emulated vendor: `heard`, `senders`, `faults`, …"""
    root = urlsplit(url)
    request = urllib.request.Request(
        f"{root.scheme}://{root.netloc}/_emulator/{what}",
        data=json.dumps(fields).encode(),
        headers={"Content-Type": "application/json"},
        method=method,
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.status < 300, answer.read()


def served_certificate(domain: str, address: str) -> str:
    """The certificate that the machine serves for the domain, as PEM."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection((address, 443), timeout=60) as raw,
        context.wrap_socket(raw, server_hostname=domain) as tls,
    ):
        der = tls.getpeercert(binary_form=True)
    assert der is not None
    return ssl.DER_cert_to_PEM_cert(der)


def authority() -> str:
    """The certificate of the test authority's root."""
    gateway = re.match(r"https://([^:]+):", str(made()["certbot_server"]))
    assert gateway is not None
    context = ssl.create_default_context(cafile=str(made()["certbot_ca_file"]))
    url = f"https://{gateway[1]}:15000/roots/0"
    with urllib.request.urlopen(url, context=context, timeout=60) as answer:
        return str(answer.read().decode())
