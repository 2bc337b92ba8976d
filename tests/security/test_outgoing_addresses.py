"""Where the service can be made to call, and what goes along.

The guard itself and each integration's use of it are tested in tests/unit/test_address_guard.py,
test_integration_horizon.py and test_integration_openai.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import falcon.testing
import pytest

from service.app import create_app
from service.conversation.bot import Action
from service.conversation.ports import ActionCall, ModelRequest, VendorError
from service.integrations.horizon_crm import HorizonCrm
from service.integrations.openai_model import OpenAIModel
from service.integrations.twilio_messenger import TwilioMessenger
from tests.stack import CONTACT, MakeStack, Stack
from tests.unit.loopback_vendor import Answer, LoopbackVendor, bot_with, settings_with

READ = ActionCall(Action("get_lead", "GET", "/api/leads/{id}/"), path="/api/leads/7/")
FIELDS = ("openai_base_url", "horizon_base_url")
PRIVATE = (
    "https://127.0.0.1",
    "https://localhost:8443",
    "https://10.0.0.7",
    "https://169.254.169.254/latest/meta-data",
    "https://[::1]",
    "https://[::ffff:169.254.169.254]",
    "https://0x7f000001",
    "https://2130706433",
    "http://crm.example.com",
    "file:///etc/passwd",
    "gopher://127.0.0.1:6379",
    "https://me:secret@crm.example.com",
    "https://crm.example.com@127.0.0.1",
)


@contextmanager
def two_vendors(status: int) -> Iterator[tuple[LoopbackVendor, LoopbackVendor]]:
    """The first one redirects to the second, which is another host to a client."""
    with LoopbackVendor() as second:
        target = second.url.replace("127.0.0.1", "localhost") + "/stolen"
        with LoopbackVendor(Answer(status, headers={"Location": target})) as first:
            yield first, second


def asks_horizon(first: LoopbackVendor) -> None:
    settings = settings_with(allow_private_addresses=True)
    crm = first.keep(HorizonCrm(settings))
    crm.call(bot_with(horizon_base_url=first.url, horizon_api_token="own"), READ)


def asks_horizon_of_the_operator(first: LoopbackVendor) -> None:
    settings = settings_with(horizon_base_url=first.url, horizon_api_key="operator")
    first.keep(HorizonCrm(settings)).control_mode(bot_with(), CONTACT)


def asks_openai(first: LoopbackVendor) -> None:
    model = first.keep(OpenAIModel(settings_with(allow_private_addresses=True)))
    model.respond(bot_with(openai_base_url=first.url, openai_api_key="own"), model_request())


def checks_a_model(first: LoopbackVendor) -> None:
    model = first.keep(OpenAIModel(settings_with(allow_private_addresses=True)))
    model.check_model("own", first.url, "gpt-6-luna")


def writes_to_twilio(first: LoopbackVendor) -> None:
    settings = settings_with(
        twilio_api_base_url=first.url, twilio_account_sid="AC1", twilio_auth_token="token"
    )
    first.keep(TwilioMessenger(settings)).show_typing(bot_with(), "SM1")


def model_request() -> ModelRequest:
    return ModelRequest(
        model="gpt-6-luna",
        instructions="Ayuda.",
        input=[{"role": "user", "content": "hola"}],
        tools=[],
        contact_hash="h1",
        cache_key="b1-a1-1",
        timeout_s=5.0,
    )


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    "call",
    [asks_horizon, asks_horizon_of_the_operator, asks_openai, checks_a_model, writes_to_twilio],
)
def test_no_redirect_is_followed_so_no_credential_and_no_word_goes_with_it(
    call: Callable[[LoopbackVendor], None], status: int
) -> None:
    """Also the way around the address guard: a public address that redirects into a network."""
    with two_vendors(status) as (first, second):
        with suppress(VendorError):
            call(first)

        assert first.received
        assert second.received == []


@pytest.mark.parametrize("address", PRIVATE)
@pytest.mark.parametrize("field", FIELDS)
def test_an_address_that_leads_inside_is_not_saved(stack: Stack, field: str, address: str) -> None:
    client = admin(stack)
    wanted = {"name": "A", "twilio_phone_number": "+56933330000", field: address}

    made = client.simulate_post("/bots", json=wanted)
    changed = client.simulate_put("/bots/bot_test", json={field: address})

    for answer in (made, changed):
        assert answer.status_code == 422, answer.text
        assert {error["field"] for error in answer.json["errors"]} == {field}
        assert "secret" not in answer.text


@pytest.mark.parametrize("allowed", [False, True])
def test_an_address_that_is_in_the_table_is_called_only_where_private_ones_are_allowed(
    make_stack: MakeStack, allowed: bool
) -> None:
    """A row that came in another way (Horizon's table) is judged when it is used."""
    stack = make_stack(ALLOW_PRIVATE_ADDRESSES=str(allowed))
    with LoopbackVendor(Answer(body={"control_mode": "bot"})) as inside:
        stack.add_bot(
            handoff={"source": "horizon", "on_failure": "answer"},
            horizon_base_url=inside.url,
            openai_base_url=inside.url,
            openai_api_key="sk-own",
        )
        with stack.worker():
            stack.send("hola")
            stack.wait_for_turns(1)

        assert bool(inside.received) is allowed
        assert stack.openai.requests == []


MEDIA = {
    "NumMedia": "3",
    "MediaContentType0": "image/jpeg",
    "MediaContentType1": "audio/ogg",
    "MediaContentType2": "application/pdf",
}


def test_no_media_address_is_ever_opened(stack: Stack) -> None:
    """Not even one of Twilio's: the assistant is told of the media, nobody fetches it."""
    with LoopbackVendor(Answer(body=b"x", headers={"Content-Type": "image/jpeg"})) as inside:
        urls = {f"MediaUrl{number}": f"{inside.url}/media/{number}" for number in range(3)}
        with stack.worker():
            stack.send("mira", **MEDIA, **urls)
            stack.wait_for_turns(1)

        assert inside.received == []
    said = str(stack.model_inputs())
    assert "image/jpeg" in said
    assert inside.url not in said


def test_the_model_is_given_no_address_of_media_and_no_tool_to_open_one(stack: Stack) -> None:
    with stack.worker():
        stack.send(
            "mira", MediaUrl0="http://169.254.169.254/", NumMedia="1", MediaContentType0="image/png"
        )
        stack.wait_for_turns(1)
    asked = [request.body for request in stack.openai.requests if "input" in (request.body or {})]
    assert asked
    assert "169.254" not in str(asked)
    assert all(not body.get("tools") for body in asked)


def admin(stack: Stack) -> falcon.testing.TestClient:
    key: Any = stack.settings.admin_api_key
    headers = {"Authorization": f"Bearer {key}"}
    return falcon.testing.TestClient(create_app(stack.container), headers=headers)
