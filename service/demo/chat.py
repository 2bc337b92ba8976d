"""The demonstration's chat in the terminal. It speaks Spanish, as the bots' contacts do."""

from __future__ import annotations

import codecs
import io
import sys
from pathlib import Path

from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from service.conversation.storable import storable
from service.demo.clients import CLIENTS, DemoClient
from service.demo.phone import Phone
from service.demo.stack import DEBOUNCE_MS, Stack

HELP = (
    "/1 o /cocina  hablar con Restaurante La Cocina\n"
    "/2 o /andes   hablar con Inmobiliaria Andes\n"
    "/ayuda        esta lista\n"
    "/salir        terminar (también Ctrl-C o Ctrl-D)"
)


def chat(stack: Stack, console: Console) -> None:
    """Read lines until `/salir` or the end of input, and show what the bots answer."""
    _greet(stack, console)
    _read_any_bytes()
    phone = Phone(stack.twilio_url, stack.base_url)
    client = CLIENTS[0]
    while (line := _read(client, console)) is not None:
        line = line.strip()
        if not line:
            continue
        if storable(line) != line:
            console.print(Text("Esa línea no es texto en UTF-8: escríbela otra vez.", style="red"))
            continue
        if not line.startswith("/"):
            _exchange(phone, client, line, stack, console)
            continue
        if line == "/salir":
            return
        chosen = _client(line)
        if chosen is not None:
            client = chosen
            console.print(Text(f"Ahora escribes a {client.name}.", style="dim"))
        elif line == "/ayuda":
            console.print(Text(HELP))
        else:
            console.print(Text(f"No conozco {line}:\n{HELP}", style="dim"))


def _greet(stack: Stack, console: Console) -> None:
    if stack.real_model:
        model = "El modelo es el de OpenAI, con la clave OPENAI_API_KEY de tu entorno."
    else:
        model = "El modelo es un emulador; con OPENAI_API_KEY en el entorno sería el de OpenAI."
    console.print(
        Panel(
            Text(
                f"El servicio responde en {stack.base_url}\n"
                f"Claves y direcciones: source {_shown(stack.env_file)}\n"
                f"Registros: {_shown(stack.env_file.parent)}/*.log\n"
                f"{model}\n"
                f"Los primeros {DEBOUNCE_MS} ms de cada respuesta son la espera por si llegan más "
                "mensajes.\n\n"
                f"{HELP}"
            ),
            title="Horizon WhatsApp Bots",
            expand=False,
        )
    )


def _read(client: DemoClient, console: Console) -> str | None:
    """A line; None at the end of input."""
    prompt = Text(f"Tú → {client.name}: ", style="bold cyan")
    try:
        if sys.stdin.isatty():
            return console.input(prompt)
        line = sys.stdin.readline()
    except (EOFError, KeyboardInterrupt):
        console.print()
        return None
    if not line:
        return None
    console.print(prompt + Text(storable(line.rstrip("\n"))))
    return line


def _read_any_bytes() -> None:
    """Let a line that is not UTF-8 come in, to be refused, instead of ending the chat."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        is_ascii = codecs.lookup(sys.stdin.encoding).name == "ascii"
        sys.stdin.reconfigure(
            encoding="utf-8" if is_ascii else sys.stdin.encoding, errors="surrogateescape"
        )


def _exchange(phone: Phone, client: DemoClient, line: str, stack: Stack, console: Console) -> None:
    delivery = phone.write(client.number, line)
    if delivery.status != 200 or delivery.error:
        reason = delivery.error or f"HTTP {delivery.status}"
        log = _shown(stack.env_file.parent / "web.log")
        console.print(Text(f"El webhook no aceptó el mensaje ({reason}): mira {log}", style="red"))
        return
    answered = False
    for reply in phone.replies():
        answered = True
        console.print(
            Text.assemble(
                (f"{_name(reply.number)}: ", "bold green"),
                reply.body,
                (f"  ({reply.ms:.0f} ms)", "dim"),
            )
        )
    if not answered:
        console.print(Text(f"{client.name} no responde a este mensaje.", style="dim"))


def _client(line: str) -> DemoClient | None:
    for position, client in enumerate(CLIENTS, 1):
        if line in (f"/{position}", f"/{client.word}"):
            return client
    return None


def _name(number: str) -> str:
    return next((client.name for client in CLIENTS if client.number == number), number)


def _shown(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
