"""Signed messages through the balancer, tried again as Twilio does it, kept for the checker of chaos."""

from __future__ import annotations

import asyncio
import json
import random
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from urllib.parse import urlencode

from installed import add_bot
from machine import made, typed

from benchmarks.load import Connection
from service.demo.emulators.phone import Overrides, inbound_form
from service.web.twilio_request import signature
from tests.chaos.record import Sent

PATH = "/webhook/whatsapp"
OVERRIDES = Overrides(rc=3, rp=("ct", "rt", "5xx"), rt=9_000, tt=15_000)
"""Those of the address that site.yml's summary gives where a replica has to have each message."""
HANDLERS = ("a message comes in", "primary handler fails")
"""Of a number; that summary gives the address for both."""
CONTACTS = 100
BURST = 3
NUMBER = "+56226660001"
ECHO = "Echo, so that every message is found again in its answer."
LONGEST_SILENCE_S = 60.0
"""More is no slow machine: nobody takes messages."""


class Load:
    """`rate` messages a second in a thread of its own, until `end`."""

    def __init__(
        self, address: str, domain: str, number: str, bot_id: str, account: str, token: str
    ) -> None:
        self._address, self._domain = address, domain
        self._number, self._bot_id = number, bot_id
        self._account, self._token = account, token
        self._tls = ssl.create_default_context()
        self._tls.check_hostname = False
        self._tls.verify_mode = ssl.CERT_NONE
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self._run = f"{random.randrange(16**6):06x}"  # noqa: S311 no secret
        self._number_of = 0
        self.sent: list[Sent] = []
        self.answers: dict[str, int] = {}

    def start(self, rate: float) -> None:
        self._ending.clear()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._send_all(rate)))
        self._thread.start()

    def end(self) -> None:
        """Until the last message has ended, with or without a 200."""
        self._ending.set()
        if self._thread is not None:
            self._thread.join()

    def silence_s(self, since: float, until: float) -> float:
        """The longest time without a 200 between two moments."""
        times = sorted(m.acked_at for m in self.sent if m.acked_at and since <= m.acked_at <= until)
        moments = [since, *times, until]
        return max(later - earlier for earlier, later in pairwise(moments))

    async def _send_all(self, rate: float) -> None:
        began, first = time.perf_counter(), self._number_of
        async with asyncio.TaskGroup() as flight:
            while not self._ending.is_set():
                due = began + (self._number_of - first) / rate
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                flight.create_task(self._deliver(self._number_of))
                self._number_of += 1

    async def _deliver(self, number: int) -> None:
        contact = f"+569{int(self._run, 16) % 10_000:04}{number // BURST % CONTACTS:04}"
        token = f"tk-{self._run}-{number:06d}"
        form = inbound_form(self._account, self._number, contact, f"mensaje {token}")
        begun_at, acked_at, attempts = time.time(), None, 0
        for _ in HANDLERS:
            if acked_at is None:
                acked_at, tries = await self._ask(form)
                attempts += tries
        self.sent.append(
            Sent(token, form["MessageSid"], self._bot_id, contact, begun_at, acked_at, attempts)
        )

    async def _ask(self, form: dict[str, str]) -> tuple[float | None, int]:
        """When one handler has acknowledged it, and after how many tries."""
        until = time.time() + OVERRIDES.tt / 1000
        attempts = 0
        while attempts <= OVERRIDES.rc and (left_s := until - time.time()) > 0:
            attempts += 1
            answer = await self._attempt(form, min(OVERRIDES.rt / 1000, left_s))
            self.answers[answer] = self.answers.get(answer, 0) + 1
            if answer == "200":
                return time.time(), attempts
            await asyncio.sleep(0.5)
        return None, attempts

    async def _attempt(self, form: dict[str, str], within_s: float) -> str:
        """The status, or what went wrong, in a word."""
        signed = signature(f"https://{self._domain}{PATH}", form, self._token).decode()
        body = urlencode(form).encode()
        head = (
            f"POST {PATH} HTTP/1.1\r\nHost: {self._domain}\r\nUser-Agent: TwilioProxy/1.1\r\n"
            f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n"
            f"X-Twilio-Signature: {signed}\r\nConnection: close\r\n\r\n"
        )
        connection = None
        try:
            async with asyncio.timeout(within_s):
                reader, writer = await asyncio.open_connection(
                    self._address, 443, ssl=self._tls, server_hostname=self._domain
                )
                connection = Connection(reader, writer)
                status, _, _ = await connection.post(head.encode(), body)
        except TimeoutError:
            return "timeout"
        except (OSError, EOFError, ValueError, IndexError) as failure:
            return type(failure).__name__
        finally:
            if connection is not None:
                connection.close()
        return str(status)


@contextmanager
def echoed(machine: str, address: str, domain: str, rate: float) -> Iterator[Load]:
    """Messages to this address, which a bot that is added on the machine echoes."""
    add_bot(machine, NUMBER, ECHO)
    bot = str(json.loads(typed(machine, "sudo horizonctl bots list --json"))[0]["id"])
    secrets = made()
    load = Load(
        *(address, domain, NUMBER, bot),
        *(secrets["vault_twilio_account_sid"], secrets["vault_twilio_auth_token"]),
    )
    load.start(rate)
    try:
        yield load
    finally:
        load.end()


@contextmanager
def event(load: Load, name: str, longest_s: float = LONGEST_SILENCE_S) -> Iterator[None]:
    """What happens in the block interrupts the acknowledgements for no longer than this."""
    since = time.time()
    yield
    time.sleep(5)
    silence = load.silence_s(since, time.time() - 0.5)
    at = time.strftime("%H:%M:%S", time.localtime(since))
    print(f"{name}: {silence:.1f} s without an acknowledgement (from {at})")
    assert silence <= longest_s
