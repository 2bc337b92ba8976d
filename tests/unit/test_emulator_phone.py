"""The phone side of the Twilio emulator: signed webhooks with Twilio's retries and time-outs."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
import requests
from twilio.request_validator import RequestValidator

from service.demo.emulators.faults import Fault
from service.demo.emulators.phone import InboundDelivery, OverrideError, Overrides
from service.demo.emulators.server import Emulator
from service.demo.emulators.twilio import ACCOUNT_SID, AUTH_TOKEN, TwilioEmulator
from service.demo.emulators.wire import Request, Response
from tests.server_process import PATIENCE_S

BOT = "+15550001111"
CONTACT = "+56911112222"
PATIENT = "#rc=3&rp=ct,rt,5xx&rt=4000&tt=15000"


class Webhook(Emulator):
    """Answers inbound messages with TwiML."""

    answer = Response(200, b"<Response/>", {"Content-Type": "text/xml"})

    def handle(self, request: Request) -> Response:
        return self.answer


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with Webhook() as running:
        yield running


@pytest.fixture
def emulator() -> Iterator[TwilioEmulator]:
    with TwilioEmulator() as running:
        yield running


def write(emulator: TwilioEmulator, url: str, body: str = "hola", **more: str) -> InboundDelivery:
    return emulator.send(url, to=BOT, from_=CONTACT, body=body, **more)


def test_message_arrives_with_twilios_fields(emulator: TwilioEmulator, webhook: Webhook) -> None:
    delivery = write(emulator, f"{webhook.url}/webhook/whatsapp", "qué tal ✨")

    form = webhook.requests[0].body
    assert delivery.accepted
    assert (delivery.status_code, delivery.attempts, delivery.error) == (200, 1, "")
    assert form["MessageSid"] == form["SmsSid"] == form["SmsMessageSid"] == delivery.message_sid
    assert (form["From"], form["To"]) == (f"whatsapp:{CONTACT}", f"whatsapp:{BOT}")
    assert (form["Body"], form["WaId"], form["NumMedia"]) == ("qué tal ✨", "56911112222", "0")
    assert (form["AccountSid"], form["SmsStatus"]) == (ACCOUNT_SID, "received")
    assert "ExternalUserId" not in form


def test_signature_covers_the_query_and_blank_fields_but_no_fragment(
    emulator: TwilioEmulator, webhook: Webhook
) -> None:
    write(emulator, f"{webhook.url}/webhook?bot=1{PATIENT}", "")

    request = webhook.requests[0]
    sent = request.headers["x-twilio-signature"]
    validator = RequestValidator(AUTH_TOKEN)
    assert request.query == {"bot": "1"}
    assert request.body["Body"] == ""
    assert validator.validate(f"{webhook.url}/webhook?bot=1", request.body, sent)
    assert not validator.validate(f"{webhook.url}/webhook", request.body, sent)


def test_public_address_is_signed_while_another_is_called(
    emulator: TwilioEmulator, webhook: Webhook
) -> None:
    public = "https://bots.example.com/webhook/whatsapp"

    write(emulator, f"{webhook.url}/webhook/whatsapp", public_url=public)

    request = webhook.requests[0]
    sent = request.headers["x-twilio-signature"]
    assert request.headers["host"] == "bots.example.com"
    assert RequestValidator(AUTH_TOKEN).validate(public, request.body, sent)


def test_hidden_number_arrives_as_a_bsuid(emulator: TwilioEmulator, webhook: Webhook) -> None:
    emulator.send(webhook.url, to=BOT, from_="CL.a1B2c3", body="hola")

    form = webhook.requests[0].body
    assert form["From"] == form["ExternalUserId"] == "whatsapp:CL.a1B2c3"
    assert "WaId" not in form


def test_further_fields_are_sent(emulator: TwilioEmulator, webhook: Webhook) -> None:
    write(
        emulator,
        webhook.url,
        external_user_id="CL.a1B2c3",
        NumMedia="1",
        MediaUrl0="http://x.test/a",
        MediaContentType0="image/jpeg",
    )

    form = webhook.requests[0].body
    assert form["ExternalUserId"] == "whatsapp:CL.a1B2c3"
    assert (form["NumMedia"], form["MediaUrl0"]) == ("1", "http://x.test/a")


def test_second_delivery_keeps_the_sid(emulator: TwilioEmulator, webhook: Webhook) -> None:
    sid = write(emulator, webhook.url).message_sid

    again = write(emulator, webhook.url, message_sid=sid)

    assert again.message_sid == sid
    assert [request.body["MessageSid"] for request in webhook.requests] == [sid, sid]


def test_without_overrides_a_503_is_final(emulator: TwilioEmulator, webhook: Webhook) -> None:
    webhook.fail(Fault.status(503))

    delivery = write(emulator, webhook.url)

    assert (delivery.status_code, delivery.attempts, delivery.accepted) == (503, 1, False)


def test_overrides_retry_5xx_with_the_idempotency_token(
    emulator: TwilioEmulator, webhook: Webhook
) -> None:
    webhook.fail(Fault.status(503), times=2)

    delivery = write(emulator, webhook.url + PATIENT)

    tokens = [r.headers.get("i-twilio-idempotency-token") for r in webhook.requests]
    assert (delivery.status_code, delivery.attempts) == (200, 3)
    assert tokens[0] is None
    assert tokens[1]
    assert tokens[1] == tokens[2]


def test_retries_end_after_rc(emulator: TwilioEmulator, webhook: Webhook) -> None:
    webhook.fail(Fault.status(500), times=None)

    assert write(emulator, webhook.url + PATIENT).attempts == 4


def test_4xx_is_retried_only_when_asked(emulator: TwilioEmulator, webhook: Webhook) -> None:
    webhook.fail(Fault.status(404), times=None)

    assert write(emulator, webhook.url + PATIENT).attempts == 1
    assert write(emulator, webhook.url + "#rc=2&rp=4xx").attempts == 3
    assert write(emulator, webhook.url + "#rc=1&rp=all").attempts == 2


def test_read_timeout_is_retried_only_when_asked(
    emulator: TwilioEmulator, webhook: Webhook
) -> None:
    webhook.fail(Fault.hang(60), times=2)

    lost = write(emulator, webhook.url + "#rt=100")
    kept = write(emulator, webhook.url + "#rc=1&rp=rt&rt=100")

    assert (lost.status_code, lost.attempts) == (None, 1)
    assert lost.error
    assert (kept.status_code, kept.attempts) == (200, 2)


def test_total_time_ends_the_retries(emulator: TwilioEmulator, webhook: Webhook) -> None:
    webhook.fail(Fault.hang(60), times=None)

    delivery = write(emulator, webhook.url + "#rc=5&rp=rt&rt=150&tt=400")

    assert delivery.status_code is None
    assert delivery.attempts == 3
    assert 400 <= delivery.latency_ms < 1_000


def test_refused_connection_is_retried_once_by_default(emulator: TwilioEmulator) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    delivery = write(emulator, f"http://127.0.0.1:{port}/")

    assert (delivery.status_code, delivery.attempts) == (None, 2)


@pytest.mark.parametrize(
    ("content_type", "body", "code"),
    [
        ("application/json", b"{}", "12300"),
        ("text/xml", b"<Response>", "12100"),
        ("text/xml", b"<Answer/>", "12100"),
    ],
)
def test_answer_that_is_not_twiml_is_an_error(
    emulator: TwilioEmulator, webhook: Webhook, content_type: str, body: bytes, code: str
) -> None:
    webhook.answer = Response(200, body, {"Content-Type": content_type})

    delivery = write(emulator, webhook.url)

    assert not delivery.accepted
    assert delivery.error.startswith(code)


@pytest.mark.parametrize(
    "fragment", ["#rc=6", "#rt=99", "#ct=10001", "#tt=x", "#rp=ct,3xx", "#zz=1"]
)
def test_overrides_that_twilio_does_not_offer_are_refused(fragment: str) -> None:
    with pytest.raises(OverrideError):
        Overrides.of(f"https://bots.example.com/webhook{fragment}")


def test_other_process_writes_and_reads_over_http(
    emulator: TwilioEmulator, webhook: Webhook
) -> None:
    message = {"webhook_url": webhook.url, "to": BOT, "from_": CONTACT, "body": "hola"}
    control = f"{emulator.url}/_emulator"

    delivery = requests.post(f"{control}/inbound", json=message, timeout=PATIENCE_S).json()
    wrong = requests.post(f"{control}/inbound", json={"to": BOT}, timeout=PATIENCE_S)
    requests.post(
        f"{emulator.url}/2010-04-01/Accounts/{ACCOUNT_SID}/Messages.json",
        data={"To": f"whatsapp:{CONTACT}", "From": f"whatsapp:{BOT}", "Body": "eco"},
        auth=(ACCOUNT_SID, AUTH_TOKEN),
        timeout=PATIENCE_S,
    ).raise_for_status()
    query = {"to": CONTACT, "count": "1", "timeout": "5"}
    replies = requests.get(f"{control}/messages", params=query, timeout=PATIENCE_S).json()

    assert (delivery["accepted"], delivery["status_code"], delivery["attempts"]) == (True, 200, 1)
    assert wrong.status_code == 400
    assert [reply["body"] for reply in replies] == ["eco"]
