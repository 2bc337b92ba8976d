"""Filters: what is told of clients, as a sheet for people (in Spanish) and as a summary."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

SENDER = {
    "ok": "Sus mensajes llegan a este servicio.",
    "change": "Sus mensajes llegan a este servicio.",
    "changed": "Sus mensajes llegan a este servicio.",
    "left_alone": "Su configuración en Twilio se hace a mano: esta instalación no la toca.",
}
BY_HAND = (
    "En console.twilio.com, Messaging, Senders, WhatsApp senders, {number}, Edit sender: en 'Messaging "
    "endpoint configuration' elegir 'Use webhooks' y escribir las tres direcciones de abajo."
)
STEPS = {
    "missing": (
        "La cuenta de Twilio no tiene todavía el remitente {number}, y el primero de un negocio no se "
        "puede crear por su API.",
        "En console.twilio.com elegir la cuenta, después Messaging, Senders, WhatsApp senders, Create new "
        "sender; tomar el número {number} y seguir los pasos de Meta hasta que su estado sea Online.",
        "Repetir la orden de «Cambiar», que configura el resto. O a mano, como sigue.",
        BY_HAND,
    ),
    "refused": ("Twilio no permitió configurarlo por su API.", BY_HAND),
    "manual": (BY_HAND,),
    "sandbox": (
        "Es el número de pruebas (sandbox) de Twilio, que se configura a mano.",
        "En console.twilio.com, Messaging, Try it out, Send a WhatsApp message, Sandbox settings: "
        "escribir la dirección de los mensajes entrantes y la del estado.",
    ),
}
OFFLINE = (
    "Su estado en Twilio es {status}: no llegan mensajes hasta que sea Online. Véase en console.twilio.com, "
    "Messaging, Senders, WhatsApp senders, {number}."
)
WEBHOOK = (
    ("callback_url", "Mensajes entrantes (POST)"),
    ("fallback_url", "Si falla el primero (POST)"),
    ("status_callback_url", "Estado de los envíos (POST)"),
)
# By the row of the number horizon_sheets knows whose sheet it is.
SHEET = """\
# {name}

| Dato | Valor |
|---|---|
| Número de WhatsApp | {number} |
| Cliente (`cliente_id`) | `{client_id}` |
| Bot | `{bot_id}` |
| Servidor | `{server}` |
| Modelo de OpenAI | `{model}` |
| Versión del asistente | {assistant_version} |
| Cuenta de Twilio | {account} |
| Remitente de WhatsApp en Twilio | {sender} |

## El número en Twilio

{twilio}

## Ver

En el servidor:

    sudo horizonctl bots show {number}
    sudo horizonctl conversations list --bot {bot_id}
    sudo horizonctl conversations show <conversación>
    sudo horizonctl dead list --client {client_id}
    sudo journalctl -t horizonai-bots-web -t horizonai-bots-worker -g {bot_id} -f

Un mensaje de prueba, cuya respuesta no sale a ningún teléfono ni cuenta en las estadísticas:

    sudo horizonctl send-test {number} 'Hola' --trial

## Cambiar

Lo que no se nombra queda como está; `--check --diff` muestra el cambio sin hacerlo:

    ansible-playbook nuevo-cliente.yml {inventory} {variables} -e instrucciones_archivo=prompt.txt

Cada cambio del asistente es una nueva versión, que vale desde el siguiente mensaje.

## Pausar y reanudar

Pausado, el bot guarda los mensajes y no responde:

    ansible-playbook nuevo-cliente.yml {inventory} {variables} -e pausado=true
    ansible-playbook nuevo-cliente.yml {inventory} {variables} -e pausado=false

## Dar de baja

Guarda los datos en un archivo, desconecta el número y borra el bot:

    ansible-playbook baja-cliente.yml {inventory} -e numero={number} -e confirmar={number}
"""


def sheets(clients: list[dict[str, Any]], server: str, inventory: str) -> list[dict[str, str]]:
    """One sheet a client, by what `horizonctl clients apply` tells of it. It holds no secret."""
    return [
        {
            "client": client["client_id"],
            "number": client["number"],
            "content": _sheet(client, server, inventory),
        }
        for client in clients
    ]


def summary(applied: dict[str, Any], check_mode: bool) -> list[str]:
    """What was done (would be done, in check mode) with many clients."""
    clients = applied["clients"]
    actions = Counter(client["action"] for client in clients)
    numbers = sum(client["sender"]["state"] in ("change", "changed") for client in clients)
    would = " would be" if check_mode else ""
    lines = [
        f"{len(clients)} clients: {actions['create']}{would} made, {actions['update']}{would} changed, "
        f"{actions['none']} as declared. {numbers} numbers{would} made to lead here."
    ]
    lines += [
        f"{client['name']} ({client['number']}): "
        + ", ".join(c["field"] for c in client["changes"])
        for client in clients
        if client["action"] == "update"
    ]
    for client in clients:
        where = f"{client['name']} ({client['number']})"
        lines += [f"To do at Twilio for {where}: {each}" for each in client["sender"]["todo"]]
        lines += [f"Note on {where}: {each}" for each in client["warnings"]]
    if applied["undeclared"]:
        lines.append(
            "Not in the file, and left as they are: " + ", ".join(applied["undeclared"]) + "."
        )
    return lines


def _sheet(client: dict[str, Any], server: str, inventory: str) -> str:
    sender = client["sender"]
    return SHEET.format(
        name=client["name"],
        number=client["number"],
        client_id=client["client_id"],
        bot_id=client["bot_id"] or "(se crea al aplicar)",
        server=server,
        model=client["model"],
        assistant_version=client["assistant_version"],
        account=f"`{sender['account']}`" if sender["account"] else "la del operador",
        sender=f"`{sender['sid']}`" if sender["sid"] else "todavía no existe",
        twilio=_twilio(sender, client["number"]),
        inventory=inventory,
        variables=(
            f"{_named(client['name'])} -e numero={client['number']} "
            f"-e cliente_id={client['client_id']}"
        ),
    )


def _named(name: str) -> str:
    """The option that gives this name, for a shell; Ansible stumbles over quotes outside of JSON."""
    if not set(name) & set("\"'`$\\!"):
        return f'-e nombre="{name}"'
    told = json.dumps({"nombre": name}, ensure_ascii=False).replace("'", "\\u0027")
    return f"-e '{told}'"


def _twilio(sender: dict[str, Any], number: str) -> str:
    lines = [SENDER.get(sender["state"], "Falta configurarlo:")]
    steps = STEPS.get(sender["state"], ())
    lines += ["", *(f"{n}. {step.format(number=number)}" for n, step in enumerate(steps, 1))]
    if sender["status"] and not sender["status"].startswith("ONLINE"):
        lines += ["", OFFLINE.format(status=sender["status"], number=number)]
    if sender["state"] != "left_alone":
        lines += ["", *(f"- {label}: `{sender['wanted'][name]}`" for name, label in WEBHOOK)]
    return "\n".join(lines).replace("\n\n\n", "\n\n").strip()


class FilterModule:
    """What playbooks use."""

    def filters(self) -> dict[str, Any]:
        return {"horizon_sheets": sheets, "horizon_clients_summary": summary}
