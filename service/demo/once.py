"""One fixed conversation with both bots, each step checked: `demo --once`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import requests
from rich.console import Console
from rich.table import Table
from rich.text import Text

from service.demo.clients import ANDES, COCINA, DemoClient
from service.demo.errors import DemoError
from service.demo.phone import CONTACT, Phone
from service.demo.stack import Stack

NAME, INTEREST = "Ana Rojas", "un departamento en Ñuñoa"


@dataclass(frozen=True, slots=True)
class Step:
    """A line of the contact's and what its reply must hold; `{lead}` is the lead's number."""

    client: DemoClient
    text: str
    expected: str


STEPS: Sequence[Step] = (
    Step(COCINA, "Hola, buenas tardes", "Soy el asistente de La Cocina"),
    Step(COCINA, "¿Me muestras la carta?", "Pastel de choclo"),
    Step(ANDES, f"Hola, me llamo {NAME} y busco {INTEREST}", "número {lead}"),
    Step(ANDES, "¿Cuál es el estado de mi solicitud?", "solicitud {lead} está en estado: nuevo"),
)


def converse(stack: Stack, console: Console) -> None:
    """Raises DemoError, with a sentence, for whatever is missing."""
    phone = Phone(stack.twilio_url, stack.base_url)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("bot", "contact", "reply"):
        table.add_column(column, overflow="fold")
    for column in ("webhook ms", "reply ms"):
        table.add_column(column, justify="right")
    for step in STEPS:
        webhook_ms, reply_ms, body = _take(step, phone, stack)
        table.add_row(
            Text(step.client.name),
            Text(step.text),
            Text(body),
            f"{webhook_ms:.0f}",
            f"{reply_ms:.0f}",
        )
    if phone.received != len(STEPS):
        raise DemoError(f"The contact got {phone.received} messages instead of {len(STEPS)}.")
    console.print(table)
    lead = _lead(stack)
    console.print(Text(f"The CRM holds lead {lead['id']}: {lead['nombre']}, {lead['interes']}."))


def _take(step: Step, phone: Phone, stack: Stack) -> tuple[float, float, str]:
    """Milliseconds of the webhook and of the reply, and the reply."""
    delivery = phone.write(step.client.number, step.text)
    if delivery.status != 200 or delivery.error:
        reason = delivery.error or f"HTTP {delivery.status}"
        raise DemoError(f"The webhook did not take “{step.text}”: {reason}.")
    replies = list(phone.replies())
    if len(replies) != 1:
        raise DemoError(f"“{step.text}” got {len(replies)} replies instead of one.")
    reply = replies[0]
    if reply.number != step.client.number:
        raise DemoError(f"“{step.text}” was answered from {reply.number}.")
    expected = step.expected
    if "{lead}" in expected:
        expected = expected.format(lead=_lead(stack)["id"])
    if expected not in reply.body:
        raise DemoError(
            f"The reply to “{step.text}” does not hold “{expected}”, it is: {reply.body}"
        )
    return delivery.ms, reply.ms, reply.body


def _lead(stack: Stack) -> dict[str, Any]:
    """The one lead of the CRM."""
    with requests.Session() as session:
        session.trust_env = False
        leads = session.get(f"{stack.horizon_url}/_emulator/state", timeout=10).json()["leads"]
    if len(leads) != 1:
        raise DemoError(f"The CRM holds {len(leads)} leads instead of one.")
    lead: dict[str, Any] = leads[0]
    wanted = {"nombre": NAME, "interes": INTEREST, "telefono": CONTACT}
    wrong = [name for name, value in wanted.items() if lead.get(name) != value]
    if wrong:
        raise DemoError(f"The CRM's lead has another {', '.join(wrong)}: {lead}")
    return lead
