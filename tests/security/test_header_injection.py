"""Nothing that comes in becomes a header of its own on the way out.

Credentials and keys with line breaks in them are refused before they are sent: see
tests/unit/test_integration_horizon.py, test_integration_openai.py and test_integration_twilio.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from wsgiref.util import setup_testing_defaults

import falcon.testing
import pytest

from service.app import create_app
from tests.stack import Stack

BREAKS = ("\r\nX-Injected: 1", "\nX-Injected: 1", "%0d%0aX-Injected:%201", "\r\n\r\n<script>", "\0")


@pytest.fixture
def admin(stack: Stack) -> falcon.testing.TestClient:
    key = {"Authorization": f"Bearer {stack.settings.admin_api_key}"}
    return falcon.testing.TestClient(create_app(stack.container), headers=key)


def assert_clean(answer: falcon.testing.Result) -> None:
    assert "x-injected" not in {name.lower() for name in answer.headers}
    for name, value in answer.headers.items():
        assert not set("\r\n\0") & set(name + value), answer.headers


@pytest.mark.parametrize("hostile", BREAKS)
def test_no_path_and_no_query_becomes_a_header(
    admin: falcon.testing.TestClient, hostile: str
) -> None:
    quoted = (
        hostile.replace("\r", "%0d").replace("\n", "%0a").replace("\0", "%00").replace(" ", "%20")
    )
    for method, path in (
        ("GET", f"/bots/{quoted}"),
        ("GET", f"/{quoted}"),
        ("POST", f"/webhook/whatsapp/{quoted}"),
        ("GET", "/bots"),
    ):
        query = f"cursor={quoted}&number={quoted}&client_id={quoted}&limit={quoted}"
        answer = admin.simulate_request(method, path, query_string=query)
        assert answer.status_code in (400, 404, 422)
        assert_clean(answer)


@pytest.mark.parametrize("hostile", BREAKS)
@pytest.mark.parametrize("header", ["HTTP_X_REQUEST_ID", "HTTP_AUTHORIZATION", "HTTP_HOST"])
def test_no_header_of_a_request_is_echoed_unless_it_is_sane(
    stack: Stack, header: str, hostile: str
) -> None:
    """A server in front may let through what another would refuse: the environment is the last stop."""
    environ: dict[str, Any] = {}
    setup_testing_defaults(environ)
    environ |= {"PATH_INFO": "/bots", header: f"Bearer abcdefgh{hostile}"}
    answered: list[tuple[str, str]] = []

    def start(status: str, headers: list[tuple[str, str]], *_: Any) -> Callable[[bytes], object]:
        answered.extend(headers)
        return bytes

    create_app(stack.container)(environ, start)

    names = {name.lower() for name, _ in answered}
    assert "x-request-id" in names
    assert "x-injected" not in names
    assert all(not set("\r\n\0") & set(value) for _, value in answered)


@pytest.mark.parametrize("hostile", BREAKS[:2])
def test_no_field_of_a_new_bot_becomes_a_header_of_the_answer(
    admin: falcon.testing.TestClient, hostile: str
) -> None:
    wanted = {
        "name": f"Acme{hostile}",
        "twilio_phone_number": "+56933330000",
        "metadata": {f"a{hostile}": hostile},
        "instructions": hostile,
    }

    answer = admin.simulate_post("/bots", json=wanted)

    assert answer.status_code == 201
    assert answer.headers["location"] == f"/bots/{answer.json['data']['id']}"
    assert_clean(answer)


@pytest.mark.parametrize("hostile", BREAKS)
@pytest.mark.parametrize(
    "field",
    [
        "twilio_auth_token",
        "openai_api_key",
        "horizon_api_token",
        "client_id",
        "openai_model",
        "twilio_account_sid",
        "twilio_messaging_service_sid",
        "openai_base_url",
        "horizon_base_url",
    ],
)
def test_nothing_that_is_sent_on_in_a_header_or_an_address_may_end_its_line(
    admin: falcon.testing.TestClient, field: str, hostile: str
) -> None:
    if "%" in hostile and field in ("twilio_auth_token", "openai_api_key", "horizon_api_token"):
        pytest.skip("printable characters are a secret's own business: they are sent as they are")
    if "%" in hostile and field == "openai_model":
        pytest.skip("a model's name is sent inside JSON")
    wanted = {
        "name": "A",
        "twilio_phone_number": "+56933330000",
        field: f"https://a.example{hostile}",
    }

    answer = admin.simulate_post("/bots", json=wanted)

    assert answer.status_code == 422
    assert {error["field"] for error in answer.json["errors"]} == {field}
    assert_clean(answer)
