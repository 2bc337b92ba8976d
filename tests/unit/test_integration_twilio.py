"""The messenger: what is asked of Twilio, and what its answers mean for a send."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from service.conversation.ports import (
    OutboundMessage,
    PermanentError,
    TransientError,
    UncertainError,
    VendorError,
)
from service.integrations.twilio_messenger import TwilioMessenger
from tests.server_process import PATIENCE_S
from tests.unit.loopback_vendor import (
    Answer,
    LoopbackVendor,
    Received,
    bot_with,
    closed_port,
    settings_with,
)

TO = "whatsapp:+56933334444"
PART = OutboundMessage(part_id="p 1", to=TO, body="Hola")
NOON = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)


@pytest.fixture
def vendor() -> Iterator[LoopbackVendor]:
    with LoopbackVendor(Answer(201, {"sid": "SM1", "status": "queued"})) as running:
        yield running


def messenger_at(vendor: LoopbackVendor, **more: Any) -> TwilioMessenger:
    values = {
        "twilio_api_base_url": vendor.url,
        "twilio_account_sid": "ACoperator",
        "twilio_auth_token": "operator-token",
        **more,
    }
    return vendor.keep(TwilioMessenger(settings_with(**values)))


def record(sid: str, created_at: datetime, **more: Any) -> dict[str, Any]:
    base = {"sid": sid, "to": TO, "body": f"texto {sid}", "direction": "outbound-api"}
    base["from"] = "whatsapp:+56911112222"
    return {**base, "date_created": format_datetime(created_at), "date_sent": None, **more}


def listing(*records: dict[str, Any], ahead_s: float = 0) -> Answer:
    """A list of messages from a Twilio whose clock is this far ahead of ours."""
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=ahead_s), usegmt=True)
    body = {"messages": list(records), "next_page_uri": None, "page_size": 50}
    return Answer(body=body, headers={"Date": date})


def credentials(received: Received) -> str:
    return base64.b64decode(received.headers["Authorization"].removeprefix("Basic ")).decode()


def test_a_part_is_sent_from_the_bots_number(vendor: LoopbackVendor) -> None:
    sid = messenger_at(vendor).send(bot_with(), PART)

    assert sid == "SM1"
    assert vendor.last.path == "/2010-04-01/Accounts/ACoperator/Messages.json"
    assert credentials(vendor.last) == "ACoperator:operator-token"
    assert vendor.last.form == {
        "To": TO,
        "From": "whatsapp:+56911112222",
        "Body": "Hola",
        "StatusCallback": "https://bots.example.com/webhook/whatsapp/status?part=p%201"
        "#rc=3&rp=ct,rt,5xx&rt=4000&tt=15000",
    }


def test_a_part_is_sent_through_the_bots_messaging_service(vendor: LoopbackVendor) -> None:
    messenger_at(vendor).send(bot_with(twilio_messaging_service_sid="MG1"), PART)

    assert vendor.last.form["MessagingServiceSid"] == "MG1"
    assert "From" not in vendor.last.form


def test_a_bots_own_account_is_used(vendor: LoopbackVendor) -> None:
    bot = bot_with(twilio_account_sid="ACbot", twilio_auth_token="bot-token")

    messenger_at(vendor).send(bot, PART)

    assert vendor.last.path == "/2010-04-01/Accounts/ACbot/Messages.json"
    assert credentials(vendor.last) == "ACbot:bot-token"


def test_a_bots_account_without_a_token_is_opened_as_a_subaccount(vendor: LoopbackVendor) -> None:
    messenger_at(vendor).send(bot_with(twilio_account_sid="ACbot"), PART)

    assert vendor.last.path == "/2010-04-01/Accounts/ACbot/Messages.json"
    assert credentials(vendor.last) == "ACoperator:operator-token"


def test_without_credentials_the_error_says_what_to_set(vendor: LoopbackVendor) -> None:
    messenger = messenger_at(vendor, twilio_auth_token=None)

    with pytest.raises(PermanentError, match="TWILIO_AUTH_TOKEN") as caught:
        messenger.send(bot_with(), PART)

    assert caught.value.code == "no_credentials"
    assert vendor.received == []


def test_credentials_with_odd_characters_are_refused(vendor: LoopbackVendor) -> None:
    with pytest.raises(PermanentError) as caught:
        messenger_at(vendor).send(bot_with(twilio_auth_token="señal"), PART)

    assert caught.value.code == "bad_credentials"


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (429, 20429, TransientError),
        (429, None, TransientError),
        (400, 63010, TransientError),
        (400, 63012, TransientError),
        (400, 63017, TransientError),
        (400, 21611, TransientError),
        (400, 30001, TransientError),
        (400, 63018, TransientError),
        (400, 21211, PermanentError),
        (400, 21610, PermanentError),
        (400, 21617, PermanentError),
        (400, 63016, PermanentError),
        (400, 12345, PermanentError),
        (401, 20003, PermanentError),
        (404, None, PermanentError),
        (307, None, PermanentError),
        (500, 20500, UncertainError),
        (503, 20503, UncertainError),
        (502, None, UncertainError),
    ],
)
def test_an_error_of_a_send_is_transient_permanent_or_uncertain(
    vendor: LoopbackVendor, status: int, code: int | None, kind: type[VendorError]
) -> None:
    body: Any = b"<html>" if code is None else {"code": code, "message": "No.", "status": status}
    vendor.answer = Answer(status, body, {"Location": "/elsewhere"})

    with pytest.raises(kind) as caught:
        messenger_at(vendor).send(bot_with(), PART)

    assert type(caught.value) is kind
    assert caught.value.code == (str(code) if code else f"http_{status}")
    assert len(vendor.received) == 1


def test_the_newer_shape_of_errors_is_read_too(vendor: LoopbackVendor) -> None:
    body = {"type": "t", "title": "Bad", "status": 400, "code": 21211, "detail": "To +56912345678"}
    vendor.answer = Answer(400, body)

    with pytest.raises(PermanentError) as caught:
        messenger_at(vendor).send(bot_with(), PART)

    assert (caught.value.code, caught.value.message) == ("21211", "Bad: To +56...78")


def test_too_many_requests_says_how_long_to_wait(vendor: LoopbackVendor) -> None:
    vendor.answer = Answer(429, {"code": 20429}, {"Retry-After": "3"})

    with pytest.raises(TransientError) as caught:
        messenger_at(vendor).send(bot_with(), PART)

    assert caught.value.retry_after_s == 3


def test_the_limit_of_a_contact_is_waited_for_long(vendor: LoopbackVendor) -> None:
    vendor.answer = Answer(429, {"code": 63018}, {"Retry-After": "3"})

    with pytest.raises(TransientError) as caught:
        messenger_at(vendor).send(bot_with(), PART)

    assert caught.value.retry_after_s == 30


def test_a_send_that_never_left_is_transient(vendor: LoopbackVendor) -> None:
    address = f"http://127.0.0.1:{closed_port()}"
    settings = settings_with(
        twilio_api_base_url=address, twilio_account_sid="AC1", twilio_auth_token="t"
    )

    with pytest.raises(TransientError, match="Connection refused") as caught:
        vendor.keep(TwilioMessenger(settings)).send(bot_with(), PART)

    assert caught.value.code == "connection"


def test_a_send_to_a_name_that_does_not_resolve_is_transient(vendor: LoopbackVendor) -> None:
    settings = settings_with(
        twilio_api_base_url="http://nowhere.invalid",
        twilio_account_sid="AC1",
        twilio_auth_token="t",
    )

    with pytest.raises(TransientError):
        vendor.keep(TwilioMessenger(settings)).send(bot_with(), PART)


def test_a_send_whose_handshake_fails_is_transient(vendor: LoopbackVendor) -> None:
    messenger = messenger_at(vendor, twilio_api_base_url=vendor.url.replace("http:", "https:"))

    with pytest.raises(TransientError, match="TLS"):
        messenger.send(bot_with(), PART)


@pytest.mark.parametrize(("ending", "code"), [("silent", "timeout"), ("closed", "connection_lost")])
def test_a_send_whose_answer_is_lost_is_uncertain(
    vendor: LoopbackVendor, ending: str, code: str
) -> None:
    vendor.answer = Answer(ending=ending)

    with pytest.raises(UncertainError) as caught:
        messenger_at(vendor, twilio_timeout_s=0.3).send(bot_with(), PART)

    assert caught.value.code == code


@pytest.mark.parametrize("body", [b"<html>", b"[]", {}, {"sid": None}])
def test_a_send_that_was_accepted_without_a_sid_is_uncertain(
    vendor: LoopbackVendor, body: Any
) -> None:
    vendor.answer = Answer(201, body)

    with pytest.raises(UncertainError):
        messenger_at(vendor).send(bot_with(), PART)


def test_sent_messages_are_found_oldest_first(vendor: LoopbackVendor) -> None:
    vendor.answer = listing(
        record("SM3", NOON + timedelta(seconds=2)),
        record("SM2", NOON),
        record("SM1", NOON - timedelta(seconds=5)),
    )

    found = messenger_at(vendor).find_sent(bot_with(), TO, NOON.replace(microsecond=900_000))

    assert [(sent.sid, sent.body) for sent in found] == [("SM2", "texto SM2"), ("SM3", "texto SM3")]
    assert NOON <= found[0].created_at < NOON + timedelta(seconds=2)
    assert vendor.last.query == {"To": TO, "From": "whatsapp:+56911112222", "PageSize": "50"}


def test_what_the_contact_wrote_is_not_found_as_sent(vendor: LoopbackVendor) -> None:
    vendor.answer = listing(record("SM1", NOON, direction="inbound"))

    assert list(messenger_at(vendor).find_sent(bot_with(), TO, NOON)) == []


def test_messages_of_the_bots_messaging_service_are_found_whatever_their_sender(
    vendor: LoopbackVendor,
) -> None:
    sender = {"from": "whatsapp:+1"}
    vendor.answer = listing(
        record("SM1", NOON, **sender, messaging_service_sid="MG1"),
        record("SM2", NOON, **sender, messaging_service_sid="MG2"),
        record("SM3", NOON, **sender),
        record("SM4", NOON),
    )
    bot = bot_with(twilio_messaging_service_sid="MG1")

    found = messenger_at(vendor).find_sent(bot, TO, NOON)

    assert [sent.sid for sent in found] == ["SM1", "SM4"]
    assert "From" not in vendor.last.query


def test_messages_of_another_bot_of_the_account_are_not_found(vendor: LoopbackVendor) -> None:
    vendor.answer = listing(
        record("SM1", NOON, **{"from": "whatsapp:+1", "messaging_service_sid": "MG2"}),
        record("SM2", NOON, **{"from": None}),
    )

    assert list(messenger_at(vendor).find_sent(bot_with(), TO, NOON)) == []


@pytest.mark.parametrize("ahead_s", [5, -5])
def test_what_was_sent_is_found_although_the_clocks_differ(
    vendor: LoopbackVendor, ahead_s: int
) -> None:
    there = NOON + timedelta(seconds=ahead_s)
    vendor.answer = listing(
        record("SM2", there), record("SM1", there - timedelta(seconds=4)), ahead_s=ahead_s
    )

    found = messenger_at(vendor).find_sent(bot_with(), TO, NOON)

    assert [sent.sid for sent in found] == ["SM2"]
    assert NOON <= found[0].created_at < NOON + timedelta(seconds=2)


@pytest.mark.parametrize("date", ["", "soon"])
def test_an_answer_without_a_time_leaves_the_clocks_difference_as_it_was(
    vendor: LoopbackVendor, date: str
) -> None:
    messenger = messenger_at(vendor)
    vendor.answer = listing(ahead_s=60)
    messenger.find_sent(bot_with(), TO, NOON)
    told = listing(record("SM1", NOON))
    vendor.answer = Answer(told.status, told.body, {"Date": date})

    assert list(messenger.find_sent(bot_with(), TO, NOON)) == []


@pytest.mark.parametrize(
    "answer",
    [
        Answer(ending="closed"),
        Answer(ending="silent"),
        Answer(503, b""),
        Answer(body=b"<html>"),
        Answer(202, b"{}"),
        listing({**record("SM1", NOON), "date_created": None}),
    ],
)
def test_a_list_that_cannot_be_read_is_transient(vendor: LoopbackVendor, answer: Answer) -> None:
    vendor.answer = answer

    with pytest.raises(TransientError):
        messenger_at(vendor, twilio_timeout_s=0.3).find_sent(bot_with(), TO, NOON)


def test_a_list_that_is_refused_is_permanent(vendor: LoopbackVendor) -> None:
    vendor.answer = Answer(401, {"code": 20003, "message": "Authenticate"})

    with pytest.raises(PermanentError):
        messenger_at(vendor).find_sent(bot_with(), TO, NOON)


def test_typing_is_shown_under_the_contacts_message(vendor: LoopbackVendor) -> None:
    vendor.answer = Answer(201, {"success": True})

    messenger_at(vendor).show_typing(bot_with(), "SMin")

    assert vendor.last.path == "/v2/Indicators/Typing.json"
    assert vendor.last.form == {"channel": "whatsapp", "messageId": "SMin"}


def test_a_failure_to_show_typing_is_a_vendors_error(vendor: LoopbackVendor) -> None:
    vendor.answer = Answer(400, {"code": 20001, "message": "No."})

    with pytest.raises(VendorError):
        messenger_at(vendor).show_typing(bot_with(), "SMin")


def test_each_thread_gets_the_answer_to_its_own_send(vendor: LoopbackVendor) -> None:
    threads = 40
    together = threading.Barrier(threads, timeout=PATIENCE_S)

    def answer(received: Received) -> Answer:
        together.wait()
        return Answer(201, {"sid": f"SM-{received.form['Body']}"})

    vendor.answer = answer
    messenger = messenger_at(vendor, worker_threads=threads)
    sids: dict[int, str] = {}

    def send(number: int) -> None:
        sids[number] = messenger.send(bot_with(), OutboundMessage("p", TO, str(number)))

    running = [threading.Thread(target=send, args=(number,)) for number in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(PATIENCE_S)

    assert sids == {number: f"SM-{number}" for number in range(threads)}


def test_connections_of_all_threads_are_kept_for_the_next_sends(vendor: LoopbackVendor) -> None:
    threads = 40
    together = threading.Barrier(threads, timeout=PATIENCE_S)

    def answer(_: Received) -> Answer:
        together.wait()
        return Answer(201, {"sid": "SM1"})

    vendor.answer = answer
    messenger = messenger_at(vendor, worker_threads=threads)
    for _ in range(2):
        running = [
            threading.Thread(target=messenger.send, args=(bot_with(), PART)) for _ in range(threads)
        ]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join(PATIENCE_S)

    assert len(vendor.received) == 2 * threads
    assert len({received.connection for received in vendor.received}) == threads
