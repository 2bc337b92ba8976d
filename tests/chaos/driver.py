"""Contacts that write at a steady rate, delivered and retried as Twilio does it."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from dataclasses import dataclass
from urllib.parse import urlencode

from benchmarks.load import Connection
from service.demo.emulators.phone import Overrides, inbound_form
from service.demo.emulators.signing import USER_AGENT
from service.web.twilio_request import signature
from tests.chaos.brain import BURST, words_of
from tests.chaos.checker import NO_TWIML
from tests.chaos.record import Sent
from tests.chaos.vendors import ACCOUNT_SID, AUTH_TOKEN

PATH = "/webhook/whatsapp"
OVERRIDES = Overrides(rc=3, rp=("ct", "rt", "5xx"), rt=4_000, tt=15_000)
"""Those of the webhook's address in the README."""
AGAIN = 0.02
"""Share of the acknowledged messages that are delivered once more, some seconds later."""


@dataclass(frozen=True, slots=True)
class Bot:
    id: str
    number: str


class Driver:
    """Sends `rate` messages a second for `duration_s` to the bots' contacts, in a thread of its own.

    Which contact writes when follows from the seed. Tokens carry the seed, and their last digits count.
    """

    def __init__(
        self, port: int, bots: list[Bot], contacts: int, rate: float, duration_s: float, seed: int
    ) -> None:
        self._port = port
        self._bots = bots
        self._contacts = contacts
        self._rate = rate
        self._duration_s = duration_s
        self._seed = seed
        self._chance = random.Random(f"{seed}-driver")  # noqa: S311 no secret
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self.began_at = 0.0
        self.sent: list[Sent] = []
        self.delivered_again = 0
        self.statuses: dict[str, int] = {}

    def start(self) -> None:
        self.began_at = time.time()
        self._thread.start()

    def join(self) -> None:
        """Until the last message has ended, with or without a 200."""
        self._thread.join()

    @property
    def runs(self) -> bool:
        return self._thread.is_alive()

    async def _run(self) -> None:
        began = time.perf_counter()
        async with asyncio.TaskGroup() as flight:
            for number in range(int(self._rate * self._duration_s)):
                await asyncio.sleep(began + number / self._rate - time.perf_counter())
                flight.create_task(self._deliver(number))

    async def _deliver(self, number: int) -> None:
        writer = number // BURST
        contact = f"+569{10_000_000 + self._seed % 1000 * 10_000 + writer % self._contacts}"
        bot = self._bots[writer % self._contacts % len(self._bots)]
        token = f"tk-{self._seed:x}-{number:06d}"
        form = inbound_form(ACCOUNT_SID, bot.number, contact, words_of(token))
        begun_at = time.time()
        acked_at, attempts = None, 0
        while acked_at is None and attempts <= OVERRIDES.rc:
            left_s = OVERRIDES.tt / 1000 - (time.time() - begun_at)
            if left_s <= 0:
                break
            attempts += 1
            status = await self._attempt(form, attempts, min(OVERRIDES.rt / 1000, left_s))
            self.statuses[status] = self.statuses.get(status, 0) + 1
            if status == "200":
                acked_at = time.time()
            elif status.startswith("4"):
                break
            else:
                # Twilio does not say how long it waits; all tries at once would test less.
                await asyncio.sleep(self._chance.uniform(0, 1.5))
        self.sent.append(
            Sent(token, form["MessageSid"], bot.id, contact, begun_at, acked_at, attempts)
        )
        if acked_at is not None and self._chance.random() < AGAIN:
            await asyncio.sleep(self._chance.uniform(0, 5))
            self.delivered_again += 1
            await self._attempt(form, 2, OVERRIDES.rt / 1000)

    async def _attempt(self, form: dict[str, str], attempt: int, within_s: float) -> str:
        """The status, or what went wrong, in a word."""
        url = f"http://127.0.0.1:{self._port}{PATH}"
        body = urlencode(form).encode()
        again = f"I-Twilio-Idempotency-Token: {form['MessageSid']}\r\n" if attempt > 1 else ""
        head = (
            f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\nUser-Agent: {USER_AGENT}\r\n"
            f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n"
            f"X-Twilio-Signature: {signature(url, form, AUTH_TOKEN).decode()}\r\n{again}"
            "Connection: close\r\n\r\n"
        )
        connection = None
        try:
            async with asyncio.timeout(within_s):
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                connection = Connection(reader, writer)
                status, answer, _ = await connection.post(head.encode(), body)
        except TimeoutError:
            return "timeout"
        except (OSError, EOFError, ValueError, IndexError) as failure:
            return type(failure).__name__
        finally:
            if connection is not None:
                connection.close()
        return str(status) if status != 200 or b"<Response" in answer else NO_TWIML
