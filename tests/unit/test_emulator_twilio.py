"""The Twilio emulator, through the real SDK: messages, lists, errors, callbacks, senders, media."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests
from twilio.base.exceptions import TwilioException, TwilioRestException
from twilio.http.http_client import TwilioHttpClient
from twilio.request_validator import RequestValidator
from twilio.rest import Client
from twilio.rest.messaging.v2.channels_sender import ChannelsSenderList

from service.demo.emulators.faults import Fault
from service.demo.emulators.server import Emulator
from service.demo.emulators.twilio import ACCOUNT_SID, AUTH_TOKEN, TwilioEmulator
from service.demo.emulators.twilio_callbacks import CallbackOptions
from service.demo.emulators.wire import Request, Response
from tests.server_process import PATIENCE_S, wait_until

BOT = "whatsapp:+15550001111"
CONTACT = "whatsapp:+56911112222"


class StatusWebhook(Emulator):
    """Takes status callbacks."""

    def handle(self, request: Request) -> Response:
        return Response(204)


def new_sender(**fields: Any) -> Any:
    named = {"profile": {"name": "La Cocina"}, **fields}
    return ChannelsSenderList.MessagingV2ChannelsSenderRequestsCreate(named)


def set_webhook(client: Any, sid: str, webhook: dict[str, str]) -> None:
    context = client.messaging.v2.channels_senders(sid)
    context.update(context.MessagingV2ChannelsSenderRequestsUpdate({"webhook": webhook}))


def wait_for_callbacks(webhook: StatusWebhook, count: int) -> None:
    wait_until(lambda: webhook.request_count == count, f"{count} status callbacks")


@pytest.fixture
def emulator() -> Iterator[TwilioEmulator]:
    with TwilioEmulator() as running:
        yield running


@pytest.fixture
def webhook() -> Iterator[StatusWebhook]:
    with StatusWebhook() as running:
        yield running


@pytest.fixture
def client(emulator: TwilioEmulator) -> Iterator[Any]:
    yield from sdk(emulator)


def sdk(emulator: TwilioEmulator, token: str = AUTH_TOKEN) -> Iterator[Any]:
    http_client = TwilioHttpClient(timeout=PATIENCE_S)
    made = Client(ACCOUNT_SID, token, http_client=http_client)
    for domain in (made.api, made.messaging, made.content):
        domain.base_url = emulator.url
    yield made
    http_client.session.close()


def send(client: Any, body: str = "hola", to: str = CONTACT, **parameters: Any) -> Any:
    return client.messages.create(**{"to": to, "from_": BOT, "body": body, **parameters})


def test_sent_message_comes_back_as_the_sdk_reads_it(client: Any, emulator: TwilioEmulator) -> None:
    before = datetime.now(UTC)
    message = send(client, "hola ñandú")

    assert message.sid.startswith("SM")
    assert len(message.sid) == 34
    assert (message.status, message.body, message.to, message.from_) == (
        "queued",
        "hola ñandú",
        CONTACT,
        BOT,
    )
    assert before.replace(microsecond=0) <= message.date_created <= datetime.now(UTC)
    assert message.error_code is None
    assert [kept.body for kept in emulator.messages_to("+56911112222")] == ["hola ñandú"]


def test_fetched_message_has_moved_on(client: Any) -> None:
    sid = send(client).sid

    fetched = client.messages(sid).fetch()

    assert fetched.status == "delivered"
    assert fetched.date_sent is not None


def test_wrong_token_is_refused(emulator: TwilioEmulator) -> None:
    for client in sdk(emulator, "wrong"):
        with pytest.raises(TwilioRestException) as caught:
            send(client)

    assert (caught.value.status, caught.value.code) == (401, 20003)


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"body": "x" * 1601}, 21617),
        ({"body": ""}, 21602),
        ({"from_": ""}, 21603),
        ({"to": ""}, 21604),
        ({"to": "whatsapp:12"}, 21211),
        ({"from_": "+15550001111"}, 21910),
        ({"to": BOT}, 63031),
        ({"from_": None, "messaging_service_sid": "MGx"}, 21701),
        ({"content_sid": "HX1"}, 21655),
        ({"content_sid": "HX" + "a" * 32, "content_variables": "{'1': 'a'}"}, 21656),
        ({"status_callback": "not a url"}, 21609),
        ({"validity_period": 0}, 21624),
    ],
)
def test_wrong_message_is_refused_with_twilios_number(
    client: Any, emulator: TwilioEmulator, parameters: dict[str, Any], code: int
) -> None:
    with pytest.raises(TwilioRestException) as caught:
        send(client, **parameters)

    assert (caught.value.status, caught.value.code) == (400, code)
    assert emulator.state()["messages"] == []


@pytest.mark.parametrize(
    "parameters",
    [
        {"body": "x" * 1600},
        {"to": "whatsapp:CL.a1B2c3"},
        {"from_": None, "messaging_service_sid": "MG" + "a" * 32},
        {"body": None, "content_sid": "HX" + "a" * 32, "content_variables": '{"1": "a"}'},
        {"body": None, "media_url": ["https://x.test/a.jpg"]},
    ],
)
def test_every_kind_of_message_is_taken(client: Any, parameters: dict[str, Any]) -> None:
    given = {name: value for name, value in parameters.items() if value is not None}
    absent = {name for name, value in parameters.items() if value is None}
    base = {"to": CONTACT, "from_": BOT, "body": "hola"}
    kept = {name: value for name, value in base.items() if name not in absent}

    assert client.messages.create(**{**kept, **given}).status == "queued"


def test_list_filters_and_shows_the_newest_first(client: Any) -> None:
    send(client, "uno")
    send(client, "dos")
    send(client, "otro", to="whatsapp:+56933334444")
    now = datetime.now(UTC)

    listed = client.messages.list(to=CONTACT, from_=BOT, date_sent_after=now - timedelta(seconds=5))
    later = client.messages.list(to=CONTACT, date_sent_after=now + timedelta(seconds=5))

    assert [message.body for message in listed] == ["dos", "uno"]
    assert later == []


def test_list_goes_over_pages(client: Any, emulator: TwilioEmulator) -> None:
    for number in range(5):
        send(client, str(number))

    listed = client.messages.list(to=CONTACT, page_size=2)

    assert [message.body for message in listed] == ["4", "3", "2", "1", "0"]
    assert sum(request.method == "GET" for request in emulator.requests) == 3


def test_ordered_refusal_creates_nothing(client: Any, emulator: TwilioEmulator) -> None:
    emulator.refuse(CONTACT, 21610)

    with pytest.raises(TwilioRestException, match="unsubscribed") as caught:
        send(client)

    assert caught.value.code == 21610
    assert emulator.messages_to(CONTACT) == []


def test_undeliverable_message_fails_after_it_was_taken(
    client: Any, emulator: TwilioEmulator, webhook: StatusWebhook
) -> None:
    emulator.undeliverable(CONTACT, 63016)
    sid = send(client, status_callback=f"{webhook.url}/s").sid

    wait_for_callbacks(webhook, 2)

    assert webhook.requests[1].field("MessageStatus") == "undelivered"
    assert webhook.requests[1].field("ErrorCode") == "63016"
    assert client.messages(sid).fetch().error_code == 63016


def test_sender_is_limited_to_its_rate() -> None:
    with TwilioEmulator(rate_limit_per_s=2) as emulator:
        for client in sdk(emulator):
            send(client)
            send(client)
            with pytest.raises(TwilioRestException) as caught:
                send(client)

    assert (caught.value.status, caught.value.code) == (429, 20429)


def test_callbacks_are_signed_and_in_order(
    client: Any, emulator: TwilioEmulator, webhook: StatusWebhook
) -> None:
    emulator.callbacks.read = True
    url = f"{webhook.url}/status?part=p1"

    sid = send(client, status_callback=url).sid
    wait_for_callbacks(webhook, 3)

    statuses = [request.field("MessageStatus") for request in webhook.requests]
    first = webhook.requests[0]
    validator = RequestValidator(AUTH_TOKEN)
    assert statuses == ["sent", "delivered", "read"]
    assert first.field("MessageSid") == sid
    assert first.query == {"part": "p1"}
    assert validator.validate(url, first.body, first.headers["x-twilio-signature"])


def test_shuffled_callbacks_all_arrive(client: Any, webhook: StatusWebhook) -> None:
    emulator = TwilioEmulator(callbacks=CallbackOptions(shuffle=True, read=True))
    with emulator:
        for shuffled in sdk(emulator):
            send(shuffled, status_callback=f"{webhook.url}/s")
            wait_for_callbacks(webhook, 3)

    statuses = {request.field("MessageStatus") for request in webhook.requests}
    assert statuses == {"sent", "delivered", "read"}


def test_callbacks_can_be_switched_off_and_delayed(
    client: Any, emulator: TwilioEmulator, webhook: StatusWebhook
) -> None:
    url = f"{webhook.url}/s"
    emulator.callbacks.enabled = False
    sid = send(client, status_callback=url).sid
    emulator.callbacks.enabled = True
    emulator.callbacks.delay_s = 0.1
    sent = send(client, status_callback=url).sid

    wait_for_callbacks(webhook, 2)

    assert {request.field("MessageSid") for request in webhook.requests} == {sent}
    assert client.messages(sid).fetch().status == "delivered"
    created = next(r for r in emulator.requests if r.field("StatusCallback") == url)
    assert webhook.requests[0].at - created.at >= 0.1


def test_accepted_message_whose_answer_is_lost_is_in_the_list(
    client: Any, emulator: TwilioEmulator
) -> None:
    emulator.fail(Fault.accept_then_reset(), match=lambda request: request.method == "POST")

    with pytest.raises(requests.ConnectionError):
        send(client, "perdido")

    assert [message.body for message in client.messages.list(to=CONTACT)] == ["perdido"]


def test_waiting_ends_with_the_messages_or_says_what_was_there(
    client: Any, emulator: TwilioEmulator
) -> None:
    send(client, "uno")

    assert [message.body for message in emulator.wait_for_messages(CONTACT, 1)] == ["uno"]
    with pytest.raises(TimeoutError, match=r"1 of 2 messages .*'uno'"):
        emulator.wait_for_messages(CONTACT, 2, timeout_s=0.01)


def test_errors_and_callbacks_are_ordered_over_http(
    client: Any, emulator: TwilioEmulator, webhook: StatusWebhook
) -> None:
    control = f"{emulator.url}/_emulator"
    blocked: dict[str, str | int] = {"to": "+56933334444", "code": 63003}
    late: dict[str, str | int] = {"to": CONTACT, "code": 63016, "later": True}
    answers = [
        requests.post(f"{control}/errors", json=blocked, timeout=PATIENCE_S),
        requests.post(f"{control}/errors", json=late, timeout=PATIENCE_S),
        requests.post(f"{control}/callbacks", json={"enabled": False}, timeout=PATIENCE_S),
        requests.post(f"{control}/callbacks", json={"colour": 1}, timeout=PATIENCE_S),
    ]

    sid = send(client, status_callback=webhook.url).sid

    assert [answer.status_code for answer in answers] == [201, 201, 200, 400]
    assert client.messages(sid).fetch().error_code == 63016
    with pytest.raises(TwilioRestException, match="could not find To"):
        send(client, to="whatsapp:+56933334444")
    assert webhook.requests == []


def test_typing_indicator_is_shown(client: Any, emulator: TwilioEmulator) -> None:
    sid = "SM" + "a" * 32

    shown = client.messaging.v2.typing_indicator.create(channel="whatsapp", message_id=sid)

    assert shown.success is True
    assert emulator.typing == [sid]
    with pytest.raises(TwilioRestException):
        client.messaging.v2.typing_indicator.create(channel="whatsapp", message_id="x")


def test_sender_is_made_found_and_given_a_webhook(client: Any, emulator: TwilioEmulator) -> None:
    first = emulator.senders.add("whatsapp:+15550009999")
    senders = client.messaging.v2.channels_senders
    webhook = {"callback_url": "https://a.test", "callback_method": "POST"}
    created = senders.create(new_sender(sender_id=BOT, webhook=webhook))
    listed = senders.list(channel="whatsapp")

    context = client.messaging.v2.channels_senders(created.sid)
    updated = context.update(
        context.MessagingV2ChannelsSenderRequestsUpdate(
            {"webhook": {"callback_url": "https://b.test", "status_callback_url": "https://s.test"}}
        )
    )
    fetched = context.fetch()

    assert created.status == "CREATING"
    assert {sender.sid: sender.sender_id for sender in listed} == {
        first: "whatsapp:+15550009999",
        created.sid: BOT,
    }
    assert updated.status == "ONLINE:UPDATING"
    assert fetched.status == "ONLINE"
    assert fetched.webhook["callback_url"] == "https://b.test"
    assert fetched.webhook["callback_method"] == "POST"
    assert fetched.webhook["status_callback_url"] == "https://s.test"


def test_senders_are_listed_over_pages(client: Any, emulator: TwilioEmulator) -> None:
    for number in range(3):
        emulator.senders.add(f"whatsapp:+1555000222{number}")

    assert len(client.messaging.v2.channels_senders.list(channel="whatsapp", page_size=2)) == 3


def test_the_first_sender_of_an_account_is_not_made_here(client: Any) -> None:
    with pytest.raises(TwilioRestException, match="registered in the console"):
        client.messaging.v2.channels_senders.create(new_sender(sender_id=BOT))


def test_wrong_and_repeated_senders_are_refused(client: Any, emulator: TwilioEmulator) -> None:
    emulator.senders.add(BOT)
    senders = client.messaging.v2.channels_senders

    with pytest.raises(TwilioRestException, match="registered already"):
        senders.create(new_sender(sender_id=BOT))
    with pytest.raises(TwilioRestException, match="sender_id"):
        senders.create(new_sender(sender_id="+15550001111"))
    with pytest.raises(TwilioRestException, match=r"profile\.name"):
        senders.create(new_sender(sender_id="whatsapp:+15550002222", profile=None))


@pytest.mark.parametrize(
    ("webhook", "said"),
    [
        ({"callback_url": "bots.example.com/webhook"}, "callback_url is not a valid URL"),
        ({"callback_url": "https://a.test/with space"}, "callback_url is not a valid URL"),
        ({"callback_method": "GET"}, "must be POST or PUT"),
        ({"callback_url": "https://a.test#rc=9"}, "rc=9 must be between 0 and 5"),
        ({"status_callback_url": "https://a.test#rp=3xx"}, "3xx is not offered"),
    ],
    ids=str,
)
def test_a_webhook_that_twilio_would_not_take_is_refused(
    client: Any, emulator: TwilioEmulator, webhook: dict[str, str], said: str
) -> None:
    sid = emulator.senders.add(BOT, "https://a.test")

    with pytest.raises(TwilioRestException, match=said):
        set_webhook(client, sid, webhook)
    assert emulator.senders.webhook_of(BOT) == {"callback_url": "https://a.test"}


def test_whether_an_address_may_be_emptied_is_the_emulators_choice(
    client: Any, emulator: TwilioEmulator
) -> None:
    sid = emulator.senders.add(BOT, "https://a.test")

    set_webhook(client, sid, {"callback_url": ""})
    emulator.senders.refuse_empty_urls = True

    assert emulator.senders.webhook_of(BOT) == {"callback_url": ""}
    with pytest.raises(TwilioRestException, match="not a valid URL"):
        set_webhook(client, sid, {"callback_url": ""})


def test_senders_belong_to_their_account(client: Any, emulator: TwilioEmulator) -> None:
    emulator.accounts["AC" + "2" * 32] = "token-2"
    sid = emulator.senders.add(BOT, account="AC" + "2" * 32)

    assert client.messaging.v2.channels_senders.list(channel="whatsapp") == []
    with pytest.raises(TwilioRestException) as caught:
        client.messaging.v2.channels_senders(sid).fetch()
    assert caught.value.code == 20404


def test_a_sender_that_is_not_online_stays_so(client: Any, emulator: TwilioEmulator) -> None:
    sid = emulator.senders.add(BOT, status="OFFLINE")

    set_webhook(client, sid, {"callback_url": "https://b.test"})

    assert client.messaging.v2.channels_senders(sid).fetch().status == "OFFLINE"


@pytest.mark.parametrize("channel", ["", "sms"])
def test_a_list_of_senders_needs_its_channel(client: Any, channel: str) -> None:
    with pytest.raises(TwilioException, match="Channel must be"):
        client.messaging.v2.channels_senders.list(channel=channel)


def test_media_needs_credentials(emulator: TwilioEmulator) -> None:
    url = emulator.add_media(b"jpeg", "image/jpeg")

    with_key = requests.get(url, auth=(ACCOUNT_SID, AUTH_TOKEN), timeout=PATIENCE_S)

    assert (with_key.content, with_key.headers["Content-Type"]) == (b"jpeg", "image/jpeg")
    assert requests.get(url, timeout=PATIENCE_S).status_code == 401


def test_redirected_media_is_served_without_credentials() -> None:
    with TwilioEmulator(redirect_media=True) as emulator:
        url = emulator.add_media(b"ogg", "audio/ogg")
        first = requests.get(
            url, auth=(ACCOUNT_SID, AUTH_TOKEN), allow_redirects=False, timeout=PATIENCE_S
        )
        second = requests.get(first.headers["Location"], timeout=PATIENCE_S)

    assert first.status_code == 307
    assert second.content == b"ogg"


def test_accounts_see_only_their_own_messages(emulator: TwilioEmulator, client: Any) -> None:
    sid = send(client).sid
    other = "AC" + "b" * 32
    emulator.accounts[other] = "other-token"

    own = requests.get(
        f"{emulator.url}/2010-04-01/Accounts/{other}/Messages/{sid}.json",
        auth=(other, "other-token"),
        timeout=PATIENCE_S,
    )
    foreign = requests.get(
        f"{emulator.url}/2010-04-01/Accounts/{ACCOUNT_SID}/Messages/{sid}.json",
        auth=(other, "other-token"),
        timeout=PATIENCE_S,
    )

    assert (own.status_code, foreign.status_code) == (404, 404)
