"""The two clients of the demonstration, made through the REST interface."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import requests

from service.demo.emulators.twilio import ACCOUNT_SID, AUTH_TOKEN
from service.demo.errors import DemoError

HORIZON_TOKEN = "demo-andes-token"  # noqa: S105 # opens nothing but the emulator
HORIZON_CLIENT = "inmobiliaria-andes"
_TIMEOUT_S = 20


@dataclass(frozen=True, slots=True)
class DemoClient:
    """A client as the chat names it, and the bot that it rents."""

    word: str
    name: str
    number: str
    bot: dict[str, Any]


COCINA = DemoClient(
    word="cocina",
    name="Restaurante La Cocina",
    number="+56226660001",
    bot={
        "client_id": "la-cocina",
        "instructions": "Eres el asistente virtual del restaurante La Cocina, en Providencia. "
        "Responde en español, con amabilidad y en pocas frases. Carta: cazuela de vacuno $8.900, "
        "pastel de choclo $9.500, ceviche de reineta $10.900, leche asada $3.500. Horario: martes "
        "a domingo de 13:00 a 23:00. Dirección: Av. Italia 1250.",
    },
)
ANDES = DemoClient(
    word="andes",
    name="Inmobiliaria Andes",
    number="+56226660002",
    bot={
        "client_id": HORIZON_CLIENT,
        "instructions": "Eres el asistente virtual de Inmobiliaria Andes. Responde en español, con "
        "amabilidad y en pocas frases. Cuando el cliente diga su nombre y qué propiedad busca, "
        "registra su solicitud con create_lead y dile su número. Si pregunta por el estado de una "
        "solicitud, consúltalo con get_lead.",
        "assistant_functions": [
            {
                "name": "create_lead",
                "description": "Registra la solicitud de un cliente en el CRM.",
                "parameters": {
                    "type": "object",
                    "properties": {
                        "nombre": {"type": "string", "description": "Nombre del cliente."},
                        "interes": {"type": "string", "description": "Qué propiedad busca."},
                    },
                    "required": ["nombre", "interes"],
                    "additionalProperties": False,
                },
                "strict": True,
            },
            {
                "name": "get_lead",
                "description": "Consulta el estado de una solicitud por su número.",
                "parameters": {
                    "type": "object",
                    "properties": {
                        "lead_id": {"type": "integer", "description": "Número de la solicitud."}
                    },
                    "required": ["lead_id"],
                    "additionalProperties": False,
                },
                "strict": True,
            },
        ],
        "horizon_actions": [
            {
                "name": "create_lead",
                "method": "POST",
                "path": "/api/leads/",
                "body": {
                    "nombre": "{nombre}",
                    "interes": "{interes}",
                    "telefono": "{contact_phone}",
                },
                "idempotency": "key",
            },
            {"name": "get_lead", "method": "GET", "path": "/api/leads/{lead_id}/"},
        ],
        "horizon_api_token": HORIZON_TOKEN,
    },
)
CLIENTS = (COCINA, ANDES)


def make_clients(base_url: str, admin_api_key: str) -> None:
    """Make the bots that are not there yet; what was changed on one stays.

    Raises:
        DemoError: the service refuses or does not answer.
    """
    with requests.Session() as session:
        session.trust_env = False
        session.headers["Authorization"] = f"Bearer {admin_api_key}"
        for client in CLIENTS:
            bots = _call(session, "GET", f"{base_url}/bots/", params={"number": client.number})
            if bots["data"]:
                continue
            _call(
                session,
                "POST",
                f"{base_url}/bots/",
                json={
                    "name": client.name,
                    "twilio_phone_number": client.number,
                    "twilio_account_sid": ACCOUNT_SID,
                    "twilio_auth_token": AUTH_TOKEN,
                    **client.bot,
                },
            )


def _call(session: requests.Session, method: str, url: str, **arguments: Any) -> dict[str, Any]:
    try:
        answer = session.request(method, url, timeout=_TIMEOUT_S, **arguments)
        body: dict[str, Any] = answer.json()
    except requests.RequestException as error:
        raise DemoError(f"{method} {url} was not answered: {type(error).__name__}.") from error
    if not answer.ok:
        faults = body.get("errors") or []
        reasons = "; ".join(f"{fault['field']}: {fault['message']}" for fault in faults)
        raise DemoError(f"{method} {url} was refused: {reasons or body.get('detail')}")
    return body
