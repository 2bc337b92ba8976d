"""One WhatsApp message as Twilio delivers it, over HTTPS from outside the machine, and its reply."""

from __future__ import annotations

import json
import secrets
import socket
import ssl
import sys
import urllib.request
from pathlib import Path
from urllib.parse import urlencode

import urllib3

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from service.web.twilio_request import signature

PATH = "/webhook/whatsapp"


def send(
    domain: str, address: str, number: str, text: str, token: str, account: str, ca: str | None
) -> tuple[int, str]:
    """The status of the acknowledgement, and the contact's number. `ca`: a PEM text; None trusts anything."""
    contact = f"+569{secrets.randbelow(10**8):08}"
    sid = "SM" + secrets.token_hex(16)
    form = {
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
    with urllib3.HTTPSConnectionPool(
        address,
        443,
        server_hostname=domain,
        assert_hostname=domain,
        cert_reqs="CERT_REQUIRED" if ca else "CERT_NONE",
        ca_cert_data=ca,
        retries=False,
        timeout=15,
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
    return answer.status, contact


def wait_for_reply(twilio: str, contact: str, within_s: float = 30) -> str:
    """What the emulated Twilio was asked to send to the contact first."""
    query = urlencode({"to": contact, "count": 1, "timeout": within_s})
    with urllib.request.urlopen(
        f"{twilio}/_emulator/messages?{query}", timeout=within_s + 10
    ) as answer:
        messages = json.load(answer)
    assert messages, f"no reply to {contact} within {within_s} s"
    return str(messages[0]["body"])


def served_certificate(domain: str, address: str) -> str:
    """The certificate that the machine serves for the domain, as PEM."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection((address, 443), timeout=10) as raw,
        context.wrap_socket(raw, server_hostname=domain) as tls,
    ):
        der = tls.getpeercert(binary_form=True)
    assert der is not None
    return ssl.DER_cert_to_PEM_cert(der)
