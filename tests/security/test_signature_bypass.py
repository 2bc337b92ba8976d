"""What somebody without the bot's own token can try at the webhook, through the whole application.

The rules of the signature itself (ports, schemes, algorithms) stand in tests/unit/test_twilio_signature.py.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64encode
from collections.abc import Sequence
from urllib.parse import urlencode

import falcon.testing
import pytest
from twilio.request_validator import RequestValidator

from service.app import create_app
from service.demo.emulators.phone import inbound_form
from tests.stack import ACCOUNT_SID, AUTH_TOKEN, CONTACT, NUMBER, MakeStack, Stack

PATH = "/webhook/whatsapp"
ORIGIN = "https://bots.example.test"
OTHER_NUMBER = "+56911110009"
OTHER_TOKEN = "token-of-the-other-client"

Pairs = Sequence[tuple[str, str]]


@pytest.fixture
def two_bots(make_stack: MakeStack) -> Stack:
    """Two clients with a Twilio account each, and an operator's token that neither has."""
    stack = make_stack(PUBLIC_BASE_URL=ORIGIN, TWILIO_AUTH_TOKEN="token-of-the-operator")
    stack.add_bot()
    stack.add_bot("bot_other", OTHER_NUMBER, twilio_auth_token=OTHER_TOKEN)
    return stack


def form(number: str = NUMBER, **more: str) -> dict[str, str]:
    return inbound_form(ACCOUNT_SID, number, CONTACT, "hola", extra=more)


def sign(fields: dict[str, str], token: str = AUTH_TOKEN, url: str = ORIGIN + PATH) -> str:
    signature: str = RequestValidator(token).compute_signature(url, fields)
    return signature


def post(
    stack: Stack,
    pairs: Pairs,
    signature: str,
    path: str = PATH,
    query: str = "",
    **headers: str,
) -> int:
    sent = {
        "Content-Type": "application/x-www-form-urlencoded",
        "X-Twilio-Signature": signature,
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    client = falcon.testing.TestClient(create_app(stack.container))
    answer = client.simulate_post(path, body=urlencode(pairs), headers=sent, query_string=query)
    return answer.status_code


def is_empty(stack: Stack) -> bool:
    return stack.container.mailbox.depth().due == 0


def test_a_message_that_was_signed_for_one_bot_is_refused_at_another(two_bots: Stack) -> None:
    genuine = form()
    signature = sign(genuine)
    assert post(two_bots, list(genuine.items()), signature) == 200

    moved = {**genuine, "To": f"whatsapp:{OTHER_NUMBER}"}

    assert post(two_bots, list(moved.items()), signature) == 403
    assert post(two_bots, list(moved.items()), sign(moved)) == 403
    assert two_bots.container.mailbox.depth().due == 1


def test_the_token_of_one_client_signs_nothing_for_another(two_bots: Stack) -> None:
    for number, token in ((NUMBER, OTHER_TOKEN), (OTHER_NUMBER, AUTH_TOKEN)):
        fields = form(number)
        assert post(two_bots, list(fields.items()), sign(fields, token)) == 403
    assert is_empty(two_bots)


def test_the_operators_token_does_not_open_a_bot_that_has_its_own(two_bots: Stack) -> None:
    fields = form()
    assert post(two_bots, list(fields.items()), sign(fields, "token-of-the-operator")) == 403
    assert is_empty(two_bots)


def test_a_message_that_is_sent_again_is_taken_once(two_bots: Stack) -> None:
    fields = form()
    signature = sign(fields)

    assert [post(two_bots, list(fields.items()), signature) for _ in range(3)] == [200, 200, 200]

    claims, _ = two_bots.container.mailbox.claim(5)
    assert [len(claim.events) for claim in claims] == [1]


@pytest.mark.parametrize("position", ["before", "after"])
@pytest.mark.parametrize("name", ["To", "From", "Body", "MessageSid", "MessagingServiceSid"])
def test_a_second_value_of_a_field_breaks_the_signature(
    two_bots: Stack, name: str, position: str
) -> None:
    fields = form()
    signature = sign(fields)
    added = [(name, f"whatsapp:{OTHER_NUMBER}")]
    pairs = list(fields.items())

    status = post(two_bots, added + pairs if position == "before" else pairs + added, signature)

    assert status == 403
    assert is_empty(two_bots)


def test_a_value_that_is_repeated_as_it_is_changes_nothing_that_was_signed(two_bots: Stack) -> None:
    """Twilio's scheme signs the distinct values of a name once: a copy adds nothing to act on."""
    fields = form()
    assert post(two_bots, [*fields.items(), ("Body", fields["Body"])], sign(fields)) == 200

    claims, _ = two_bots.container.mailbox.claim(1)
    assert dict(claims[0].events[0].fields) == fields


def test_two_fields_cannot_be_shifted_into_each_other(two_bots: Stack) -> None:
    """Names and values are signed side by side, so only the field's own boundary is left to move."""
    fields = form(Zeta="1")
    signature = sign(fields)
    shifted = [(name, value) for name, value in fields.items() if name != "Zeta"]

    assert post(two_bots, [*shifted, ("Zet", "a1")], signature) == 200
    claims, _ = two_bots.container.mailbox.claim(1)
    kept = claims[0].events[0].fields
    assert {name: kept[name] for name, _ in shifted} == dict(shifted)


def test_a_message_cannot_be_sent_again_under_an_id_that_swallows_its_neighbour(
    two_bots: Stack,
) -> None:
    """The same signature would hold for it, and as a message of its own it would be answered."""
    fields = form()
    signature = sign(fields)
    assert post(two_bots, list(fields.items()), signature) == 200
    names = sorted(fields)
    neighbour = names[names.index("MessageSid") + 1]
    again = {name: value for name, value in fields.items() if name != neighbour}
    again["MessageSid"] += neighbour + fields[neighbour]
    assert sign(again) == signature

    assert post(two_bots, list(again.items()), signature) == 400

    claims, _ = two_bots.container.mailbox.claim(5)
    assert [len(claim.events) for claim in claims] == [1]


@pytest.mark.parametrize(
    "url",
    [
        "http://bots.example.test" + PATH,
        "https://bots.example.test:8443" + PATH,
        "https://bots.example.test:80" + PATH,
        "https://bots.example.test.evil.example" + PATH,
        "https://evil.example" + PATH,
        ORIGIN + PATH + "/status",
        ORIGIN + PATH + "?a=1",
        ORIGIN + PATH + "#",
        PATH,
    ],
)
def test_what_was_signed_for_another_address_is_refused(two_bots: Stack, url: str) -> None:
    fields = form()
    assert post(two_bots, list(fields.items()), sign(fields, url=url)) == 403
    assert is_empty(two_bots)


@pytest.mark.parametrize(
    "header", ["Host", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port", "Forwarded"]
)
def test_no_header_says_which_address_was_called(two_bots: Stack, header: str) -> None:
    """The address is PUBLIC_BASE_URL, whatever a request claims about itself."""
    fields = form()
    values = {
        "X-Forwarded-Proto": "http",
        "X-Forwarded-Port": "8443",
        "Forwarded": "host=evil.example",
    }
    claimed = {header.replace("-", "_"): values.get(header, "evil.example")}
    for url in ("https://evil.example" + PATH, "http://bots.example.test" + PATH):
        assert post(two_bots, list(fields.items()), sign(fields, url=url), **claimed) == 403
    assert post(two_bots, list(fields.items()), sign(fields), **claimed) == 200


def test_a_second_address_is_only_the_one_that_is_configured(make_stack: MakeStack) -> None:
    """The Host chooses among the configured addresses, and makes none."""
    other = "https://second.example.test"
    stack = make_stack(PUBLIC_BASE_URL=ORIGIN, PUBLIC_OTHER_URLS=other)
    stack.add_bot()
    for host, url, status in (
        ("second.example.test", other, 200),
        ("bots.example.test", ORIGIN, 200),
        ("second.example.test", ORIGIN, 403),
        ("bots.example.test", other, 403),
        ("evil.example", "https://evil.example", 403),
        ("evil.example", other, 403),
        ("evil.example", ORIGIN, 200),
        ("second.example.test.evil.example", other, 403),
        ("second.example.test:8443", other, 403),
        ("second.example.test, evil.example", "https://evil.example", 403),
    ):
        fields = form()
        assert post(stack, list(fields.items()), sign(fields, url=url + PATH), Host=host) == status
    fields = form()
    signature = sign(fields, url=other + PATH)
    for header in ("X_Forwarded_Host", "Forwarded", "X_Host"):
        claimed = {header: "host=second.example.test" if header == "Forwarded" else other[8:]}
        assert post(stack, list(fields.items()), signature, **claimed) == 403


@pytest.mark.parametrize(
    "signature",
    [
        "",
        "=",
        "AAAA",
        "A" * 28,
        "0",
        "null",
        b64encode(b"\0" * 20).decode(),
        "ñ" * 28,
        "x" * 16_000,
    ],
)
def test_a_signature_that_is_none_is_refused(two_bots: Stack, signature: str) -> None:
    assert post(two_bots, list(form().items()), signature) == 403
    assert is_empty(two_bots)


@pytest.mark.parametrize("algorithm", ["HMAC_SHA256", "HMAC_MD5", "none", "", "hmac_sha1", "PLAIN"])
def test_no_other_algorithm_is_taken_and_the_named_one_must_be_twilios(
    two_bots: Stack, algorithm: str
) -> None:
    fields = form()
    settings = {"X_Twilio_Webhooks_Signature_Settings": f"key=k,algorithm={algorithm}"}

    assert post(two_bots, list(fields.items()), sign(fields), **settings) == 403


@pytest.mark.parametrize("hash_name", ["md5", "sha256", "sha512"])
def test_a_signature_of_another_hash_is_refused_whatever_it_is_called(
    two_bots: Stack, hash_name: str
) -> None:
    fields = form()
    text = ORIGIN + PATH + "".join(name + fields[name] for name in sorted(fields))
    signature = b64encode(hmac.digest(AUTH_TOKEN.encode(), text.encode(), hash_name)).decode()
    for settings in ({}, {"X_Twilio_Webhooks_Signature_Settings": "algorithm=HMAC_SHA1"}):
        assert post(two_bots, list(fields.items()), signature, **settings) == 403


def test_a_hash_without_the_token_is_refused(two_bots: Stack) -> None:
    fields = form()
    text = ORIGIN + PATH + "".join(name + fields[name] for name in sorted(fields))
    for token in (b"", b"None", ACCOUNT_SID.encode()):
        signature = b64encode(hmac.digest(token, text.encode(), hashlib.sha1)).decode()
        assert post(two_bots, list(fields.items()), signature) == 403


def test_a_bot_without_any_token_takes_nothing(make_stack: MakeStack) -> None:
    stack = make_stack(PUBLIC_BASE_URL=ORIGIN)
    stack.add_bot(twilio_auth_token=None)
    fields = form()
    for token in ("", "None", "null"):
        assert post(stack, list(fields.items()), sign(fields, token)) == 403
    assert is_empty(stack)


def test_fields_in_the_query_are_none_of_the_form(two_bots: Stack) -> None:
    """What is signed as a query is no message: only the body's fields count."""
    query = urlencode({"Body": "otra cosa", "To": f"whatsapp:{OTHER_NUMBER}"})
    fields = form()
    signature = sign(fields, url=f"{ORIGIN}{PATH}?{query}")

    assert post(two_bots, list(fields.items()), signature, query=query) == 200

    claims, _ = two_bots.container.mailbox.claim(1)
    assert dict(claims[0].events[0].fields) == fields


def test_a_callback_of_one_bot_changes_no_part_of_another(two_bots: Stack) -> None:
    with two_bots.worker():
        two_bots.send("hola")
        two_bots.wait_for_turns(1)
    turn_id = two_bots.turns()[0]["id"]
    part = two_bots.container.turns.parts(turn_id)[0]
    sent = next(r for r in two_bots.twilio.requests if r.path.endswith("/Messages.json"))
    part_id = sent.body["StatusCallback"].split("?part=")[1].split("#")[0]
    callback = {
        "MessageSid": part["sid"],
        "MessageStatus": "failed",
        "From": f"whatsapp:{OTHER_NUMBER}",
        "To": f"whatsapp:{CONTACT}",
    }
    query = f"part={part_id}"
    signature = sign(callback, OTHER_TOKEN, f"{ORIGIN}{PATH}/status?{query}")

    status = post(two_bots, list(callback.items()), signature, PATH + "/status", query)

    assert status == 200
    assert two_bots.container.turns.parts(turn_id)[0]["delivery"] == part["delivery"]
