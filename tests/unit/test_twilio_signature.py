"""Our signature is the one of Twilio's own library."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import falcon.testing
import pytest
from hypothesis import given
from hypothesis import strategies as st
from twilio.request_validator import RequestValidator

from service.web.twilio_request import PublicAddresses, TwilioRequest, signature

URL = "https://bots.example.com/webhook/whatsapp?x=1"
words = st.text(
    alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12
)
values = words | st.lists(words, min_size=1, max_size=3)


class Form(dict[str, Any]):
    """What RequestValidator calls a MultiDict."""

    def getall(self, name: str) -> list[str]:
        value = self[name]
        return [value] if isinstance(value, str) else value


@given(st.dictionaries(words, values, max_size=12), words)
def test_the_signature_equals_that_of_twilios_library(form: dict[str, Any], token: str) -> None:
    expected = RequestValidator(token).compute_signature(URL, Form(form))
    assert signature(URL, form, token).decode() == expected


@given(st.lists(st.tuples(words.filter(bool), words), max_size=12))
def test_a_posted_form_is_read_as_twilio_signs_it(pairs: list[tuple[str, str]]) -> None:
    form: dict[str, Any] = {}
    for name, value in pairs:
        form.setdefault(name, []).append(value)
    url = "https://a.example/webhook/whatsapp"
    headers = {
        "Content-Type": "application/x-www-form-urlencoded",
        "X-Twilio-Signature": RequestValidator("token").compute_signature(url, Form(form)),
    }
    request = falcon.testing.create_req(
        method="POST", path="/webhook/whatsapp", body=urlencode(pairs), headers=headers
    )
    received = TwilioRequest.read(request, PublicAddresses(("https://a.example",)))
    assert received.signature_fault("token") is None
    assert received.fields == {name: each[-1] for name, each in form.items()}


def read(url: str, signed_url: str, algorithm: str | None = None) -> str | None:
    form = {"Body": "hola", "To": "whatsapp:+56911110000"}
    headers = {
        "Content-Type": "application/x-www-form-urlencoded",
        "X-Twilio-Signature": RequestValidator("token").compute_signature(signed_url, form),
    }
    if algorithm:
        headers["X-Twilio-Webhooks-Signature-Settings"] = algorithm
    request = falcon.testing.create_req(
        method="POST", path="/webhook/whatsapp", body=urlencode(form), headers=headers
    )
    return TwilioRequest.read(request, PublicAddresses((url,))).signature_fault("token")


@pytest.mark.parametrize(
    ("url", "signed", "genuine"),
    [
        ("https://a.example", "https://a.example/webhook/whatsapp", True),
        ("https://a.example", "https://a.example:443/webhook/whatsapp", True),
        ("https://a.example:8443", "https://a.example/webhook/whatsapp", True),
        ("https://a.example", "https://a.example:8443/webhook/whatsapp", False),
        ("https://a.example", "http://a.example/webhook/whatsapp", False),
        ("https://a.example", "https://b.example/webhook/whatsapp", False),
        ("https://a.example", "https://a.example/webhook/whatsapp/", False),
    ],
)
def test_which_address_may_have_been_signed(url: str, signed: str, genuine: bool) -> None:
    assert (read(url, signed) is None) is genuine


def test_another_algorithm_is_refused() -> None:
    signed = "https://a.example/webhook/whatsapp"
    assert read("https://a.example", signed, "key=k,algorithm=HMAC_SHA1") is None
    assert read("https://a.example", signed, "key=k,algorithm=HMAC_SHA256") is not None


@pytest.mark.parametrize(
    ("host", "signed", "genuine"),
    [
        ("a.example", "https://a.example", True),
        ("b.example", "https://b.example", True),
        ("B.Example", "https://b.example", True),
        ("b.example:443", "https://b.example", True),
        ("b.example:444", "https://b.example", False),
        ("c.example:8443", "https://c.example:8443", True),
        ("b.example", "https://a.example", False),
        ("a.example", "https://b.example", False),
        ("evil.example", "https://evil.example", False),
        ("evil.example", "https://b.example", False),
        ("b.example.evil.example", "https://b.example", False),
        ("b.example@evil.example", "https://b.example", False),
        # A name that is not configured is read as the first: requests of this host have none.
        ("localhost", "https://a.example", True),
        ("", "https://a.example", True),
    ],
)
def test_the_host_chooses_among_the_configured_addresses(
    host: str, signed: str, genuine: bool
) -> None:
    form = {"Body": "hola", "To": "whatsapp:+56911110000"}
    signature = RequestValidator("token").compute_signature(signed + "/webhook/whatsapp", form)
    request = falcon.testing.create_req(
        method="POST",
        path="/webhook/whatsapp",
        body=urlencode(form),
        headers={
            "Content-Type": "application/x-www-form-urlencoded",
            "X-Twilio-Signature": signature,
            "Host": host,
        },
    )
    addresses = PublicAddresses(
        ("https://a.example", "https://b.example", "https://c.example:8443")
    )

    received = TwilioRequest.read(request, addresses)

    assert (received.signature_fault("token") is None) == genuine
