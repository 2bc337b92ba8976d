"""A contact's telephone: writes through the signed webhook and gets what Twilio delivers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import requests

from service.conversation.storable import storable
from service.demo.errors import DemoError

CONTACT = "+56998765432"
CONTACT_NAME = "Demo"
WEBHOOK = "/webhook/whatsapp#rc=3&rp=ct,rt,5xx&rt=4000&tt=15000"
"""With the connection overrides that a real webhook's URL should carry."""
REPLY_TIMEOUT_S = 120.0
OUTAGE_TIMEOUT_S = 15.0
"""How long the service may say of itself that Redis is down, before waiting is given up."""
_WAIT_S = 0.2
_REQUEST_TIMEOUT_S = 20


@dataclass(frozen=True, slots=True)
class Delivery:
    """How the webhook took a message; `status` is None when it did not answer."""

    status: int | None
    ms: float
    error: str


@dataclass(frozen=True, slots=True)
class Reply:
    """A message that came back, and the milliseconds since the contact wrote."""

    body: str
    number: str
    ms: float


class Phone:
    """One contact, at Twilio's emulator. Raises DemoError when a process does not answer."""

    def __init__(self, twilio_url: str, base_url: str) -> None:
        self._twilio_url = twilio_url
        self._base_url = base_url
        self._session = requests.Session()
        self._session.trust_env = False
        self._seen = len(self._messages(0, 0))
        self._written_at = 0.0

    def write(self, number: str, text: str) -> Delivery:
        """Send a text to a bot's number. Raises DemoError for what no message can hold."""
        if storable(text) != text:
            raise DemoError("The message is no text in UTF-8.")
        self._written_at = time.monotonic()
        answer = self._call(
            "POST",
            f"{self._twilio_url}/_emulator/inbound",
            json={
                "webhook_url": self._base_url + WEBHOOK,
                "to": number,
                "from_": CONTACT,
                "body": text,
                "profile_name": CONTACT_NAME,
            },
        )
        return Delivery(answer["status_code"], answer["latency_ms"], answer["error"])

    def replies(self) -> Iterator[Reply]:
        """What arrives, in order, until the service has nothing more to do for the contact."""
        deadline = self._written_at + REPLY_TIMEOUT_S
        healthy_at = time.monotonic()
        while time.monotonic() < deadline:
            # Asked before the look: what it sends until it is idle is then there.
            state = self._health()
            if state["redis"] == "up":
                healthy_at = time.monotonic()
            elif time.monotonic() - healthy_at > OUTAGE_TIMEOUT_S:
                raise DemoError(f"Redis has been down for {OUTAGE_TIMEOUT_S:.0f} s.")
            is_idle = _is_idle(state)
            found = self._messages(self._seen + 1, 0 if is_idle else _WAIT_S)
            for message in found[self._seen :]:
                ms = (time.monotonic() - self._written_at) * 1000
                yield Reply(message["body"], message["from"].removeprefix("whatsapp:"), ms)
            self._seen = max(self._seen, len(found))
            if is_idle:
                return
        raise DemoError(f"The service was not done within {REPLY_TIMEOUT_S:.0f} s.")

    @property
    def received(self) -> int:
        """How many messages the contact has had."""
        return len(self._messages(0, 0))

    def _health(self) -> dict[str, Any]:
        url = f"{self._base_url}/health"
        state = self._call("GET", url)
        if not isinstance(state, dict) or not {"redis", "queue", "spooled"} <= state.keys():
            raise DemoError(f"{url} does not say how the service is.")
        return state

    def _messages(self, count: int, timeout_s: float) -> list[dict[str, Any]]:
        query = {"to": CONTACT, "count": str(count), "timeout": str(timeout_s)}
        messages: list[dict[str, Any]] = self._call(
            "GET", f"{self._twilio_url}/_emulator/messages", params=query
        )
        return messages

    def _call(self, method: str, url: str, **arguments: Any) -> Any:
        try:
            answer = self._session.request(method, url, timeout=_REQUEST_TIMEOUT_S, **arguments)
            return answer.json()
        except requests.RequestException as error:
            raise DemoError(f"{url} does not answer ({type(error).__name__}).") from error


def _is_idle(state: dict[str, Any]) -> bool:
    queue = state["queue"]
    if queue["due"] is None:
        return False
    return not (queue["due"] or queue["leased"] or state["spooled"])
