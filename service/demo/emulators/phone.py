"""The phone side of the Twilio emulator: an inbound message as Twilio posts it to a webhook.

Source: Twilio's pages on webhook requests for WhatsApp and on connection overrides.
"""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from xml.etree import ElementTree

from service.demo.emulators.signing import Answer, post_signed
from service.demo.emulators.twilio_messages import whatsapp_address

BSUID = re.compile(r"^whatsapp:[A-Z]{2}\.[A-Za-z0-9]+$")
XML_TYPES = ("text/xml", "application/xml", "text/html", "text/plain")


class OverrideError(ValueError):
    """The fragment of a webhook's URL asks for something that Twilio does not offer."""


@dataclass(frozen=True, slots=True)
class Overrides:
    """The connection overrides of a webhook's URL, with Twilio's defaults. Times in ms."""

    rc: int = 1
    rp: tuple[str, ...] = ("ct",)
    ct: int = 5_000
    rt: int = 15_000
    tt: int = 15_000

    @classmethod
    def of(cls, url: str) -> Overrides:
        """Read `#rc=3&rp=ct,rt,5xx&rt=4000&tt=15000`.

        Raises:
            OverrideError: a name or value that Twilio does not offer.
        """
        given: dict[str, Any] = {}
        for name, value in parse_qsl(urlsplit(url).fragment, keep_blank_values=True):
            if name == "rp":
                given["rp"] = tuple(value.split(","))
                unknown = set(given["rp"]) - {"4xx", "5xx", "ct", "rt", "all"}
                if unknown:
                    raise OverrideError(f"rp={value}: {', '.join(sorted(unknown))} is not offered")
                continue
            limits = {"rc": (0, 5), "ct": (100, 10_000), "rt": (100, 15_000), "tt": (100, 15_000)}
            if name not in limits:
                raise OverrideError(f"{name} is not one of rc, rp, ct, rt, tt")
            lowest, highest = limits[name]
            if not value.isdigit() or not lowest <= int(value) <= highest:
                raise OverrideError(f"{name}={value} must be between {lowest} and {highest}")
            given[name] = int(value)
        return cls(**given)

    def retries(self, answer: Answer) -> bool:
        """Whether an attempt that ended like this is made again."""
        if answer.outcome == "connect_failed":
            reason = "ct"
        elif answer.outcome == "read_failed":
            reason = "rt"
        else:
            reason = f"{(answer.status or 0) // 100}xx"
            if reason not in ("4xx", "5xx"):
                return False
        return "all" in self.rp or reason in self.rp


@dataclass(frozen=True, slots=True)
class InboundDelivery:
    """How the delivery of one inbound message ended.

    `status_code` is None when the last attempt got no answer; `error` then says why, or what is
    wrong with the TwiML of an answer. `latency_ms` covers all attempts.
    """

    message_sid: str
    status_code: int | None
    attempts: int
    latency_ms: float
    error: str = ""

    @property
    def accepted(self) -> bool:
        """Whether the webhook took the message, with an answer that Twilio understands."""
        return self.status_code is not None and self.status_code < 300 and not self.error

    def to_json(self) -> dict[str, Any]:
        """The delivery for another process to read."""
        return {**asdict(self), "accepted": self.accepted}


def inbound_form(
    account_sid: str,
    to: str,
    from_: str,
    body: str,
    *,
    message_sid: str | None = None,
    profile_name: str = "Contacto",
    external_user_id: str | None = None,
    extra: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """The form of an ordinary text message; `extra` adds fields or replaces them."""
    sid = message_sid or "SM" + secrets.token_hex(16)
    sender = whatsapp_address(from_)
    form = {
        "SmsMessageSid": sid,
        "NumMedia": "0",
        "ProfileName": profile_name,
        "MessageType": "text",
        "SmsSid": sid,
        "SmsStatus": "received",
        "Body": body,
        "To": whatsapp_address(to),
        "NumSegments": "1",
        "ReferralNumMedia": "0",
        "MessageSid": sid,
        "AccountSid": account_sid,
        "ChannelMetadata": json.dumps(
            {"type": "whatsapp", "data": {"context": {"ProfileName": profile_name}}}
        ),
        "From": sender,
        "ApiVersion": "2010-04-01",
    }
    if BSUID.match(sender):
        form["ExternalUserId"] = sender
    else:
        form["WaId"] = sender.removeprefix("whatsapp:").lstrip("+")
    if external_user_id is not None:
        form["ExternalUserId"] = whatsapp_address(external_user_id)
    return form | dict(extra or {})


def deliver(
    webhook_url: str, form: Mapping[str, str], token: str, *, public_url: str | None = None
) -> InboundDelivery:
    """Post an inbound message with the retries and time-outs that the webhook's URL asks for.

    `public_url` is what Twilio has configured and signs; `webhook_url` is where it is reached. The
    overrides are read from the one that has a fragment, `public_url` first.

    Raises:
        OverrideError: the overrides are not valid.
    """
    configured = public_url if public_url and urlsplit(public_url).fragment else webhook_url
    overrides = Overrides.of(configured)
    idempotency = {"I-Twilio-Idempotency-Token": secrets.token_hex(16)}
    begun = time.monotonic()
    attempts = 0
    while True:
        left_s = overrides.tt / 1000 - (time.monotonic() - begun)
        answer = post_signed(
            webhook_url,
            form,
            token,
            public_url=public_url,
            headers=idempotency if attempts else None,
            connect_timeout_s=max(min(overrides.ct / 1000, left_s), 0.001),
            read_timeout_s=max(min(overrides.rt / 1000, left_s), 0.001),
        )
        attempts += 1
        spent_s = time.monotonic() - begun
        over = attempts > overrides.rc or spent_s >= overrides.tt / 1000
        if over or not overrides.retries(answer):
            break
    return InboundDelivery(
        message_sid=form["MessageSid"],
        status_code=answer.status,
        attempts=attempts,
        latency_ms=spent_s * 1000,
        error=answer.error or _twiml_fault(answer),
    )


def _twiml_fault(answer: Answer) -> str:
    if answer.status is None or answer.status >= 300 or not answer.body.strip():
        return ""
    kind = answer.content_type.split(";")[0].strip().lower()
    if kind not in XML_TYPES:
        return f"12300: Invalid Content-Type: {kind or 'none'}"
    if kind in ("text/plain", "text/html"):
        return ""
    try:
        root = ElementTree.fromstring(answer.body)  # noqa: S314  # our own webhook's answer
    except ElementTree.ParseError as error:
        return f"12100: Document parse failure: {error}"
    return "" if root.tag == "Response" else f"12100: the root is {root.tag}, not Response"
