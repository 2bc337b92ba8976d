"""A steady load of signed WhatsApp messages, as Twilio would deliver them to a server.

The schedule does not slow down when answers do: a latency counts from the moment at which its message
was due. Nothing is sent twice. Run it as `python molecule/shared/load.py --help`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import secrets
import signal
import ssl
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from rich.console import Console
from rich.table import Table

from benchmarks.load_report import (
    Inbox,
    Judgement,
    Sent,
    await_answers,
    by_phase,
    figures,
    read_marks,
)
from service.demo.emulators.phone import inbound_form
from service.demo.emulators.twilio import ACCOUNT_SID, AUTH_TOKEN
from service.web.twilio_request import signature

PATH = "/webhook/whatsapp"
TIMEOUT_S = 15.0
"""As long as Twilio waits."""
BURST = 3
"""Messages that a contact writes one after the other, so that turns are put together."""
MAX_MESSAGES = 200_000
MAX_RATE = 500
_SHOWN_FAILURES = 20


@dataclass(frozen=True, slots=True)
class Target:
    """Where to connect, and who is called there."""

    address: str
    port: int
    host: str
    tls: ssl.SSLContext | None
    requests_per_connection: int

    @classmethod
    def of(cls, base_url: str, host: str, ca: str | None, per_connection: int) -> Target:
        """Raises ValueError, OSError."""
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{base_url} is not like https://172.18.0.2:443")
        context = None
        if parts.scheme == "https":
            context = ssl.create_default_context(cafile=ca)
            if ca is None:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
        port = parts.port or (443 if context else 80)
        return cls(parts.hostname, port, host, context, per_connection)


class Connection:
    """One connection, for one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.requests = 0

    @property
    def is_open(self) -> bool:
        return not (self._reader.at_eof() or self._writer.is_closing())

    async def post(self, head: bytes, body: bytes) -> tuple[int, bytes, bool]:
        """Status, body and whether the connection may be used again."""
        self.requests += 1
        self._writer.write(head + body)
        await self._writer.drain()
        lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        status = int(lines[0].split()[1])
        headers = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines[1:] if line)
        }
        if headers.get("transfer-encoding", "").lower() == "chunked":
            answer = await self._chunks()
        elif "content-length" in headers:
            answer = await self._reader.readexactly(int(headers["content-length"]))
        else:
            return status, await self._reader.read(), False
        return status, answer, headers.get("connection", "").lower() != "close"

    async def _chunks(self) -> bytes:
        body = b""
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            body += await self._reader.readexactly(size)
            await self._reader.readuntil(b"\r\n")
        await self._reader.readuntil(b"\r\n")
        return body

    def close(self) -> None:
        self._writer.close()


class Driver:
    """Sends at a steady rate until the time is over or it is told to stop."""

    def __init__(self, target: Target, options: argparse.Namespace) -> None:
        self._target = target
        self._options = options
        self._run = secrets.token_hex(4)
        self._first_contact = 910_000_000 + secrets.randbelow(80_000_000)
        self._idle: list[Connection] = []
        self.sent: list[Sent] = []
        self.stopping = asyncio.Event()

    async def run(self) -> None:
        began, began_at = time.perf_counter(), time.time()
        async with asyncio.TaskGroup() as flight:
            for number in range(int(self._options.rate * self._options.duration)):
                due = began + number / self._options.rate
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.stopping.wait(), due - time.perf_counter())
                if self.stopping.is_set() or self._is_told_to_stop():
                    break
                flight.create_task(self.send(number, due, began_at + due - began))
        self.close()
        self.sent.sort(key=lambda message: message.at)

    def close(self) -> None:
        """End the connections that are kept for the next messages."""
        for connection in self._idle:
            connection.close()

    def _is_told_to_stop(self) -> bool:
        return self._options.stop_file is not None and self._options.stop_file.exists()

    async def send(self, number: int, due: float, at: float) -> None:
        """A message that was due then, by both clocks."""
        contact = number // BURST % self._options.conversations
        sender, token = f"+56{self._first_contact + contact}", f"tk-{self._run}-{number:06d}"
        form = inbound_form(self._options.account, self._options.number, sender, f"mensaje {token}")
        late_ms = (time.perf_counter() - due) * 1000
        status, error = None, ""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                status, answer = await self._post(form)
            if status == 200 and b"<Response" not in answer:
                error = "the answer is no TwiML"
        except (OSError, EOFError, ValueError, IndexError, asyncio.LimitOverrunError) as failure:
            error = f"{type(failure).__name__}: {failure}"
        ms = (time.perf_counter() - due) * 1000
        self.sent.append(
            Sent(token, form["MessageSid"], sender, at, late_ms, ms, status, error or _of(status))
        )

    async def _post(self, form: dict[str, str]) -> tuple[int, bytes]:
        signed = signature(f"https://{self._target.host}{PATH}", form, self._options.auth_token)
        body = urlencode(form).encode()
        head = (
            f"POST {PATH} HTTP/1.1\r\nHost: {self._target.host}\r\nUser-Agent: TwilioProxy/1.1\r\n"
            f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n"
            f"X-Twilio-Signature: {signed.decode()}\r\n\r\n"
        )
        connection = await self._connection()
        may_stay = False
        try:
            status, answer, may_stay = await connection.post(head.encode(), body)
        finally:
            if may_stay and connection.requests < self._target.requests_per_connection:
                self._idle.append(connection)
            else:
                connection.close()
        return status, answer

    async def _connection(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open:
                return connection
            connection.close()
        target = self._target
        name = target.host if target.tls else None
        reader, writer = await asyncio.open_connection(
            target.address, target.port, ssl=target.tls, server_hostname=name
        )
        return Connection(reader, writer)


def _of(status: int | None) -> str:
    return "" if status == 200 else f"HTTP {status}"


def main(arguments: Sequence[str] | None = None) -> int:
    """0, or 1 when a check finds a fault, 2 when it could not be done."""
    words = parser()
    options = words.parse_args(arguments)
    if options.mark and not options.phase_file:
        words.error("--mark needs --phase-file")
    if options.base_url and not (options.host and options.number):
        words.error("--base-url needs --host and --number")
    if options.check and not options.twilio:
        words.error("--check needs --twilio")
    if not (options.mark or options.base_url or options.check):
        words.error("give --base-url, --check or --mark")
    try:
        if options.mark:
            with open(options.phase_file, "a") as file:
                file.write(f"{time.time():.3f} {options.mark}\n")
            return 0
        if options.base_url:
            _drive(options)
        return _check(options) if options.check else 0
    except (OSError, ValueError) as error:
        print(f"load: {error}", file=sys.stderr)
        return 2


def _drive(options: argparse.Namespace) -> None:
    count = options.rate * options.duration
    if not (0 < options.rate <= MAX_RATE and 0 < count <= MAX_MESSAGES):
        raise ValueError(f"at most {MAX_RATE} messages/s and {MAX_MESSAGES} messages in all")
    target = Target.of(options.base_url, options.host, options.ca, options.requests_per_connection)

    async def drive() -> list[Sent]:
        driver = Driver(target, options)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, driver.stopping.set)
        await driver.run()
        return driver.sent

    _report(options, asyncio.run(drive()))


def _check(options: argparse.Namespace) -> int:
    sent = [Sent.of_json(item) for item in json.loads(options.result.read_text())["messages"]]
    if not sent:
        raise ValueError(f"{options.result} holds no message")
    inbox = Inbox(options.twilio)
    judgement = await_answers(sent, inbox.of, options.deadline, options.settle)
    result = _report(options, sent, judgement)
    return 0 if judgement.is_clean and not result["failed"] else 1


def _report(
    options: argparse.Namespace, sent: Sequence[Sent], judgement: Judgement | None = None
) -> dict[str, Any]:
    marks = []
    if options.phase_file and options.phase_file.exists():
        marks = read_marks(options.phase_file.read_text())
    failures = [message for message in sent if not message.acknowledged]
    phases = by_phase(sent, marks, judgement)
    result = {
        **figures(sent, judgement),
        "phases": phases,
        "check": None if judgement is None else asdict(judgement),
        "failures": [message.to_json() for message in failures],
        "messages": [message.to_json() for message in sent],
    }
    temporary = options.result.with_suffix(".tmp")
    temporary.write_text(json.dumps(result, indent=1))
    os.replace(temporary, options.result)
    _print(phases, {"phase": "all", **figures(sent, judgement)}, failures, judgement)
    return result


def _print(
    phases: Sequence[dict[str, Any]],
    total: dict[str, Any],
    failures: Sequence[Sent],
    judgement: Judgement | None,
) -> None:
    console = Console(width=120, highlight=False)
    table = Table(*(name.removesuffix("_ms") for name in total), caption="times in ms")
    for row in [*phases, total]:
        table.add_row(*("" if value is None else str(value) for value in row.values()))
    console.print(table)
    for message in failures[:_SHOWN_FAILURES]:
        console.print(f"failed: {message.token} after {message.ms:.0f} ms: {message.error}")
    if judgement is not None:
        for name, value in asdict(judgement).items():
            shown = f"{len(value)} {' '.join(value[:5])}" if isinstance(value, list) else value
            console.print(f"{name.replace('_', ' ')}: {shown}")


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="load", description=__doc__)
    parser.add_argument("--base-url", help="where to connect, like https://172.18.0.2:443")
    parser.add_argument("--host", help="the public name: in SNI, Host and the signature")
    parser.add_argument("--number", help="the bot's number")
    parser.add_argument("--account", default=ACCOUNT_SID, help="Twilio account of the bot")
    parser.add_argument("--auth-token", default=AUTH_TOKEN, help="its token, which signs")
    parser.add_argument(
        "--ca", help="file with the CA of the server; without it nothing is verified"
    )
    parser.add_argument("--rate", type=float, default=50, help="messages a second")
    parser.add_argument("--duration", type=float, default=60, help="seconds at most")
    parser.add_argument("--conversations", type=int, default=200, help="contacts that write")
    parser.add_argument(
        "--requests-per-connection", type=int, default=10, help="then a new one is made"
    )
    parser.add_argument("--stop-file", type=Path, help="the load ends when this file appears")
    parser.add_argument(
        "--result", type=Path, default=Path("load.json"), help="JSON, written at the end"
    )
    parser.add_argument("--phase-file", type=Path, help="phases, a Unix time and a name a line")
    parser.add_argument(
        "--mark", metavar="NAME", help="only note in the phase file that NAME begins"
    )
    parser.add_argument(
        "--check", action="store_true", help="look what became of the messages in --result"
    )
    parser.add_argument("--twilio", help="address of the emulated Twilio that --check asks")
    parser.add_argument("--deadline", type=float, default=120, help="seconds for the last answer")
    parser.add_argument(
        "--settle", type=float, default=5, help="seconds to wait for second answers"
    )
    return parser
