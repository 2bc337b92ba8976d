"""The load driver against a server that fails as planted, and its check against emulated Twilio."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import certifi
import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from benchmarks import load
from benchmarks.load import Driver, Target, main
from service.demo.emulators.twilio import ACCOUNT_SID, AUTH_TOKEN, TwilioEmulator
from service.web.twilio_request import signature
from tests.server_process import PATIENCE_S, free_port

HOST, NUMBER = "bots.horizon.test", "+56226660001"


class Webhook(ThreadingHTTPServer):
    """Takes signed messages and remembers them; `refuse` and `hang_up` say what goes wrong.

    `arrived` is called with the count of messages before each answer.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.forms: list[dict[str, str]] = []
        self.connections: set[Any] = set()
        self.refuse: set[int] = set()
        self.hang_up: set[int] = set()
        self.arrived: Callable[[int], object] = lambda count: None
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Webhook

    def do_POST(self) -> None:
        text = self.rfile.read(int(self.headers["Content-Length"])).decode()
        form = dict(parse_qsl(text, keep_blank_values=True))
        signed = signature(f"https://{HOST}/webhook/whatsapp", form, AUTH_TOKEN).decode()
        assert self.headers["X-Twilio-Signature"] == signed
        assert self.headers["Host"] == HOST
        number = int(form["Body"][-6:])
        with self.server.lock:
            self.server.forms.append(form)
            self.server.connections.add(self.client_address)
            count = len(self.server.forms)
        self.server.arrived(count)
        if number in self.server.hang_up:
            self.close_connection = True
            return
        body = b"<Response/>"
        self.send_response(503 if number in self.server.refuse else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: Any) -> None:
        pass


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with Webhook() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def twilio() -> Iterator[TwilioEmulator]:
    with TwilioEmulator() as emulator:
        yield emulator


def drive(server: Webhook | str, result: Path, *more: str, duration: float = 0.6) -> dict[str, Any]:
    url = server if isinstance(server, str) else server.url
    arguments = ["--base-url", url, "--host", HOST, "--number", NUMBER, "--rate", "50"]
    assert main([*arguments, "--duration", str(duration), "--result", str(result), *more]) == 0
    data: dict[str, Any] = json.loads(result.read_text())
    return data


def one_after_another(server: Webhook, messages: int) -> None:
    """Each is sent when the one before it was answered."""
    words = ["--base-url", server.url, "--host", HOST, "--number", NUMBER]

    async def send() -> None:
        driver = Driver(Target.of(server.url, HOST, None, 100), load.parser().parse_args(words))
        for number in range(messages):
            await driver.send(number, 0, 0)
        driver.close()

    asyncio.run(send())


def answer(twilio: TwilioEmulator, form: dict[str, str]) -> None:
    requests.post(
        f"{twilio.url}/2010-04-01/Accounts/{ACCOUNT_SID}/Messages.json",
        data={"To": form["From"], "From": form["To"], "Body": f"eco: {form['Body']}"},
        auth=(ACCOUNT_SID, AUTH_TOKEN),
        timeout=PATIENCE_S,
    ).raise_for_status()


def check(twilio: TwilioEmulator, result: Path) -> tuple[int, dict[str, Any]]:
    arguments = ["--check", "--twilio", twilio.url, "--deadline", "1", "--settle", "0"]
    code = main([*arguments, "--result", str(result)])
    return code, json.loads(result.read_text())["check"]


def test_load_that_was_answered_is_clean(
    webhook: Webhook, twilio: TwilioEmulator, tmp_path: Path
) -> None:
    result = drive(webhook, tmp_path / "load.json")
    for form in webhook.forms:
        answer(twilio, form)

    code, judgement = check(twilio, tmp_path / "load.json")

    assert (result["sent"], result["acknowledged"], result["failed"]) == (30, 30, 0)
    assert code == 0
    assert judgement["lost"] == judgement["twice"] == []


def test_planted_loss_and_second_answer_are_found(
    webhook: Webhook, twilio: TwilioEmulator, tmp_path: Path
) -> None:
    drive(webhook, tmp_path / "load.json")
    lost, twice, *others = webhook.forms
    for form in [twice, twice, *others]:
        answer(twilio, form)

    code, judgement = check(twilio, tmp_path / "load.json")

    assert code == 1
    assert [f"mensaje {token}" for token in judgement["lost"]] == [lost["Body"]]
    assert [f"mensaje {token}" for token in judgement["twice"]] == [twice["Body"]]


def test_refused_and_cut_messages_are_failures_and_are_not_sent_again(
    webhook: Webhook, twilio: TwilioEmulator, tmp_path: Path
) -> None:
    webhook.refuse, webhook.hang_up = {3}, {7}

    result = drive(webhook, tmp_path / "load.json")
    for form in webhook.forms:
        answer(twilio, form)
    code, judgement = check(twilio, tmp_path / "load.json")

    assert [failure["status"] for failure in result["failures"]] == [503, None]
    assert len(webhook.forms) == 30
    assert code == 1
    assert judgement["lost"] == []
    assert len(judgement["unacknowledged_answered"]) == 2


def test_slow_answers_do_not_slow_the_schedule_down(webhook: Webhook, tmp_path: Path) -> None:
    all_there = threading.Barrier(10, timeout=PATIENCE_S)
    webhook.arrived = lambda _count: all_there.wait()

    result = drive(webhook, tmp_path / "load.json", duration=0.2)

    assert result["acknowledged"] == 10


def test_connections_are_used_again_but_not_for_ever(webhook: Webhook, tmp_path: Path) -> None:
    drive(webhook, tmp_path / "load.json", "--requests-per-connection", "1")
    single = len(webhook.connections)
    one_after_another(webhook, 5)

    assert single == 30
    assert len(webhook.connections) - single == 1


def test_contacts_write_several_messages(webhook: Webhook, tmp_path: Path) -> None:
    drive(webhook, tmp_path / "load.json", "--conversations", "5")

    assert len({form["From"] for form in webhook.forms}) == 5
    assert len({form["MessageSid"] for form in webhook.forms}) == 30


def test_load_ends_when_the_stop_file_appears(webhook: Webhook, tmp_path: Path) -> None:
    stop = tmp_path / "stop"
    webhook.arrived = lambda count: stop.touch() if count == 10 else None

    result = drive(webhook, tmp_path / "load.json", "--stop-file", str(stop), duration=1_000)

    assert 10 <= result["sent"] < 50_000


def test_phases_are_read_from_their_file(webhook: Webhook, tmp_path: Path) -> None:
    phases = tmp_path / "phases"
    mark = ["--mark", "deploy", "--phase-file", str(phases)]
    webhook.arrived = lambda count: main(mark) if count == 10 else None

    result = drive(webhook, tmp_path / "load.json", "--phase-file", str(phases))

    assert [row["phase"] for row in result["phases"]] == ["start", "deploy"]
    assert sum(row["sent"] for row in result["phases"]) == 30


def test_server_that_is_not_there_makes_every_message_fail(tmp_path: Path) -> None:
    result = drive(f"http://127.0.0.1:{free_port()}", tmp_path / "load.json", duration=0.2)

    assert result["failed"] == 10
    assert "ConnectionRefusedError" in result["failures"][0]["error"]


def test_tls_names_the_domain_and_is_verified_only_against_a_given_ca(
    webhook: Webhook, tmp_path: Path
) -> None:
    asked: list[str | None] = []
    certificate, url = tls(webhook, tmp_path, asked), webhook.url.replace("http:", "https:")

    unverified = drive(url, tmp_path / "1.json", duration=0.1)
    verified = drive(url, tmp_path / "2.json", "--ca", str(certificate), duration=0.1)
    stranger = drive(url, tmp_path / "3.json", "--ca", certifi.where(), duration=0.1)

    assert (unverified["failed"], verified["failed"], stranger["acknowledged"]) == (0, 0, 0)
    assert set(asked) == {HOST}


def tls(webhook: Webhook, folder: Path, asked: list[str | None]) -> Path:
    """Let the server speak TLS with a certificate of its own, whose file is returned."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .sign(key, SHA256())
    )
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    plain = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "key.pem").write_bytes(key.private_bytes(*plain))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    context.sni_callback = lambda _socket, server_name, _context: asked.append(server_name)
    # The handshake belongs to the connection's own thread.
    webhook.socket = context.wrap_socket(
        webhook.socket, server_side=True, do_handshake_on_connect=False
    )
    return folder / "certificate.pem"
