"""The senders of an account: read, compared, pointed here; what their failures mean."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from service.conversation.ports import PermanentError, TransientError
from service.demo.emulators.faults import Fault
from service.demo.emulators.twilio import ACCOUNT_SID, AUTH_TOKEN, TwilioEmulator
from service.integrations.twilio_senders import (
    Sender,
    TwilioSenders,
    differences,
    leads_to,
    no_webhook,
    our_webhook,
)
from tests.unit.loopback_vendor import settings_with

BASE = "https://bots.example.com"
BOT = "+15550001111"


@pytest.fixture
def twilio() -> Iterator[TwilioEmulator]:
    with TwilioEmulator() as running:
        yield running


@pytest.fixture
def senders(twilio: TwilioEmulator) -> Iterator[TwilioSenders]:
    made = TwilioSenders(settings_with(twilio_api_base_url=twilio.url))
    yield made
    made.close()


def test_a_webhook_that_waits_for_a_replica_is_given_the_time() -> None:
    usual, patient = our_webhook(BASE), our_webhook(BASE, waits_for_replica=True)

    for name in ("callback_url", "fallback_url"):
        assert patient[name] == usual[name].replace("rt=4000", "rt=9000") != usual[name]
    assert patient["status_callback_url"] == usual["status_callback_url"]


def test_a_sender_is_found_over_pages_and_pointed_here(
    twilio: TwilioEmulator, senders: TwilioSenders
) -> None:
    for n in range(120):
        twilio.senders.add(f"whatsapp:+1555000{n:04}")
    twilio.senders.add(f"whatsapp:{BOT}", "https://old.example.com", status="OFFLINE")

    found = senders.of_account(ACCOUNT_SID, AUTH_TOKEN)
    senders.set_webhook(ACCOUNT_SID, AUTH_TOKEN, found[BOT].sid, our_webhook(BASE))
    after = senders.of_account(ACCOUNT_SID, AUTH_TOKEN)[BOT]

    assert len(found) == 121
    assert (found[BOT].webhook, found[BOT].is_online) == (
        {"callback_url": "https://old.example.com"},
        False,
    )
    assert after.webhook == our_webhook(BASE)
    assert differences(after.webhook, our_webhook(BASE)) == {}
    assert leads_to(after, (BASE,))
    assert leads_to(after, ("https://first.example.com", BASE))
    assert not leads_to(after, ("https://first.example.com",))
    senders.set_webhook(ACCOUNT_SID, AUTH_TOKEN, after.sid, no_webhook())
    assert not leads_to(senders.of_account(ACCOUNT_SID, AUTH_TOKEN)[BOT], (BASE,))


def test_methods_that_are_not_told_are_post() -> None:
    addresses = {n: v for n, v in our_webhook(BASE).items() if n.endswith("_url")}

    assert differences(addresses, our_webhook(BASE)) == {}
    assert differences({**addresses, "callback_method": "PUT"}, our_webhook(BASE)) == {
        "callback_method": ("PUT", "POST")
    }
    assert set(differences({}, our_webhook(BASE))) == set(addresses)


def test_an_address_that_only_begins_like_ours_is_anothers() -> None:
    other = Sender("XE1", BOT, "ONLINE", {"callback_url": BASE + ".evil.test/webhook/whatsapp"})

    assert not leads_to(other, (BASE,))


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault.status(500), TransientError),
        (Fault.status(429), TransientError),
        (Fault.reset(), TransientError),
        (Fault.status(200, "no json"), TransientError),
        (Fault.status(202, {"senders": []}), TransientError),
        (Fault.status(200, {"some": [], "more": []}), TransientError),
        (Fault.status(400), PermanentError),
    ],
    ids=["500", "429", "reset", "unreadable", "accepted", "no list", "400"],
)
def test_failures_tell_whether_trying_again_helps(
    twilio: TwilioEmulator, senders: TwilioSenders, fault: Fault, error: type[Exception]
) -> None:
    twilio.fail(fault)

    with pytest.raises(error):
        senders.of_account(ACCOUNT_SID, AUTH_TOKEN)


def test_without_credentials_nobody_is_asked(
    twilio: TwilioEmulator, senders: TwilioSenders
) -> None:
    with pytest.raises(PermanentError) as caught:
        senders.of_account(None, None)

    assert caught.value.code == "no_credentials"
    assert twilio.requests == []
