"""The CRM: what is asked of Horizon, and what its answers mean for an action."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.conversation.bot import Action
from service.conversation.ports import (
    ActionAnswer,
    ActionCall,
    PermanentError,
    TransientError,
    UncertainError,
    VendorError,
)
from service.integrations.horizon_crm import HorizonCrm
from tests.unit.loopback_vendor import (
    Answer,
    LoopbackVendor,
    bot_with,
    closed_port,
    settings_with,
)

READ = ActionCall(Action(name="ver", method="get", path="/api/leads/{id}/"), path="/api/leads/7/")
CREATE = ActionCall(
    Action(name="crear", method="POST", path="/api/leads/"),
    path="/api/leads/",
    body={"nombre": "Ñandú", "edad": 5},
)
CONTACT = "+56933334444"


@pytest.fixture
def vendor() -> Iterator[LoopbackVendor]:
    with LoopbackVendor(Answer(body={"ok": True})) as running:
        yield running


def crm_at(vendor: LoopbackVendor, **more: Any) -> HorizonCrm:
    values = {"horizon_base_url": vendor.url, "horizon_api_key": "operator", **more}
    return vendor.keep(HorizonCrm(settings_with(**values)))


def test_an_action_is_called_with_the_operators_token(vendor: LoopbackVendor) -> None:
    answer = crm_at(vendor).call(bot_with(), READ)

    assert answer == ActionAnswer(200, {"ok": True})
    assert (vendor.last.method, vendor.last.path) == ("GET", "/api/leads/7/")
    assert vendor.last.headers["Authorization"] == "Bearer operator"
    assert vendor.last.body == b""


def test_an_actions_body_is_sent_as_json(vendor: LoopbackVendor) -> None:
    crm_at(vendor).call(bot_with(), CREATE)

    assert vendor.last.method == "POST"
    assert vendor.last.headers["Content-Type"] == "application/json"
    assert vendor.last.json == {"nombre": "Ñandú", "edad": 5}


def test_a_query_is_quoted(vendor: LoopbackVendor) -> None:
    call = ActionCall(READ.action, path="/api/leads/", query={"q": "a&b=c #ñ"})

    crm_at(vendor).call(bot_with(), call)

    assert vendor.last.query == {"q": "a&b=c #ñ"}


def test_a_quoted_slash_in_the_path_stays_quoted(vendor: LoopbackVendor) -> None:
    crm_at(vendor).call(bot_with(), ActionCall(READ.action, path="/api/leads/a%2Fb%3Fc/"))

    assert vendor.last.target == "/api/leads/a%2Fb%3Fc/"


def test_a_path_that_would_change_the_host_is_refused(vendor: LoopbackVendor) -> None:
    with pytest.raises(PermanentError) as caught:
        crm_at(vendor).call(bot_with(), ActionCall(READ.action, path="@evil.example/"))

    assert caught.value.code == "bad_path"


def test_a_bots_own_token_is_used_at_the_operators_address(vendor: LoopbackVendor) -> None:
    crm_at(vendor).call(bot_with(horizon_api_token="bot"), READ)

    assert vendor.last.headers["Authorization"] == "Bearer bot"


def test_a_bots_own_address_never_gets_the_operators_token(vendor: LoopbackVendor) -> None:
    crm = vendor.keep(
        HorizonCrm(settings_with(horizon_api_key="operator", allow_private_addresses=True))
    )

    with pytest.raises(PermanentError) as caught:
        crm.call(bot_with(horizon_base_url=vendor.url), READ)

    assert caught.value.code == "no_token"
    assert vendor.received == []


def test_a_bots_own_address_is_used_with_its_own_token(vendor: LoopbackVendor) -> None:
    crm = vendor.keep(
        HorizonCrm(settings_with(horizon_api_key="operator", allow_private_addresses=True))
    )

    crm.call(bot_with(horizon_base_url=f"{vendor.url}/crm/", horizon_api_token="own"), READ)

    assert vendor.last.path == "/crm/api/leads/7/"
    assert vendor.last.headers["Authorization"] == "Bearer own"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_bots_address_in_a_private_network_is_refused(vendor: LoopbackVendor, host: str) -> None:
    address = vendor.url.replace("127.0.0.1", host)

    with pytest.raises(PermanentError) as caught:
        vendor.keep(HorizonCrm(settings_with())).call(
            bot_with(horizon_base_url=address, horizon_api_token="own"), READ
        )

    assert caught.value.code == "address_refused"
    assert vendor.received == []


def test_a_private_address_over_tls_is_refused_as_such(vendor: LoopbackVendor) -> None:
    address = vendor.url.replace("http:", "https:")

    with pytest.raises(PermanentError) as caught:
        vendor.keep(HorizonCrm(settings_with())).call(
            bot_with(horizon_base_url=address, horizon_api_token="own"), READ
        )

    assert caught.value.code == "address_refused"


def test_a_name_that_changes_its_mind_is_refused_once_connected(
    vendor: LoopbackVendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The look-up saw a public address; the connection then got another one
    monkeypatch.setattr(
        "service.integrations.http_session.refuse_private_host", lambda host, port: None
    )

    with pytest.raises(PermanentError) as caught:
        vendor.keep(HorizonCrm(settings_with())).call(
            bot_with(horizon_base_url=vendor.url, horizon_api_token="own"), READ
        )

    assert caught.value.code == "address_refused"
    assert vendor.received == []


def test_the_operators_address_may_be_private_even_when_a_bot_names_it(
    vendor: LoopbackVendor,
) -> None:
    crm_at(vendor).call(bot_with(horizon_base_url=vendor.url, horizon_api_token="own"), READ)

    assert vendor.last.headers["Authorization"] == "Bearer own"


@pytest.mark.parametrize(
    ("values", "setting"),
    [({"horizon_base_url": None}, "HORIZON_BASE_URL"), ({"horizon_api_key": None}, "HORIZON_API")],
)
def test_what_is_not_configured_says_what_to_set(
    vendor: LoopbackVendor, values: dict[str, Any], setting: str
) -> None:
    with pytest.raises(PermanentError, match=setting):
        crm_at(vendor, **values).call(bot_with(), READ)


@pytest.mark.parametrize("status", [201, 204, 301, 400, 404, 429, 500, 503])
def test_every_status_is_an_answer(vendor: LoopbackVendor, status: int) -> None:
    content = b"" if status == 204 else b"texto"
    vendor.answer = Answer(status, content, {"Location": "/x", "Content-Type": "text/plain"})

    answer = crm_at(vendor).call(bot_with(), READ)

    assert answer == ActionAnswer(status, content.decode())
    assert len(vendor.received) == 1


@pytest.mark.parametrize("body", [b"NaN", b"[1e999]", b"[" * 30_000, b"\xff"])
def test_what_is_not_quite_json_is_text(vendor: LoopbackVendor, body: bytes) -> None:
    vendor.answer = Answer(body=body)

    assert crm_at(vendor).call(bot_with(), READ).body == body.decode("utf-8", "replace")


def test_of_a_large_body_no_more_than_64_kb_is_read(vendor: LoopbackVendor) -> None:
    vendor.answer = Answer(body=b"x" * 1_000_000)

    assert len(crm_at(vendor).call(bot_with(), READ).body) == 64 * 1024


def test_a_connection_is_used_again(vendor: LoopbackVendor) -> None:
    crm = crm_at(vendor)

    for _ in range(3):
        crm.call(bot_with(), READ)

    assert {received.connection for received in vendor.received} == {1}


def test_cookies_of_one_answer_are_not_sent_with_the_next(vendor: LoopbackVendor) -> None:
    vendor.answer = Answer(headers={"Set-Cookie": "sessionid=1; Path=/"})
    crm = crm_at(vendor)

    crm.call(bot_with(), READ)
    crm.call(bot_with(), READ)

    assert "Cookie" not in vendor.last.headers


def test_a_netrc_file_does_not_replace_the_token(
    vendor: LoopbackVendor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login someone password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))

    crm_at(vendor).call(bot_with(), READ)

    assert vendor.last.headers["Authorization"] == "Bearer operator"


def test_a_call_that_never_left_is_transient(vendor: LoopbackVendor) -> None:
    settings = settings_with(
        horizon_base_url=f"http://127.0.0.1:{closed_port()}", horizon_api_key="k"
    )

    with pytest.raises(TransientError) as caught:
        vendor.keep(HorizonCrm(settings)).call(bot_with(), CREATE)

    assert caught.value.code == "connection"


@pytest.mark.parametrize(
    ("ending", "code"),
    [("silent", "timeout"), ("dripping", "timeout"), ("closed", "connection_lost")],
)
def test_a_call_whose_answer_is_lost_is_uncertain(
    vendor: LoopbackVendor, ending: str, code: str
) -> None:
    vendor.answer = Answer(ending=ending)

    with pytest.raises(UncertainError) as caught:
        crm_at(vendor, horizon_timeout_s=0.3).call(bot_with(), CREATE)

    assert caught.value.code == code


@pytest.mark.parametrize(
    ("key", "sent"),
    [
        ("t1:call_1", "t1:call_1"),
        ("t1:a\r\nX-Evil: 1", None),
        ("t1:ñ", None),
        ("t1:\ud800", None),
        ("k" * 300, None),
    ],
)
def test_an_idempotency_key_can_never_be_a_header_of_its_own(
    vendor: LoopbackVendor, key: str, sent: str | None
) -> None:
    call = ActionCall(CREATE.action, path="/api/leads/", body={}, idempotency_key=key)

    crm_at(vendor).call(bot_with(), call)

    value = vendor.last.headers["Idempotency-Key"]
    assert value == sent if sent else len(value) == 64
    assert "X-Evil" not in vendor.last.headers


def test_a_token_that_would_end_its_header_is_refused(vendor: LoopbackVendor) -> None:
    with pytest.raises(PermanentError) as caught:
        crm_at(vendor).call(bot_with(horizon_api_token="t\r\nX-Evil: 1"), READ)

    assert caught.value.code == "bad_token"


@pytest.mark.parametrize("mode", ["human", "bot"])
def test_horizon_says_who_answers_a_contact(vendor: LoopbackVendor, mode: str) -> None:
    vendor.answer = Answer(body={"control_mode": mode})

    assert crm_at(vendor).control_mode(bot_with(), CONTACT) == mode
    assert vendor.last.path == "/api/bot/control-status/"
    assert vendor.last.query == {"telefono": CONTACT}


def test_control_is_asked_for_twice(vendor: LoopbackVendor) -> None:
    vendor.answer = lambda _: (
        Answer(ending="closed")
        if len(vendor.received) == 1
        else Answer(body={"control_mode": "human"})
    )

    assert crm_at(vendor).control_mode(bot_with(), CONTACT) == "human"


def test_control_is_not_asked_for_a_third_time(vendor: LoopbackVendor) -> None:
    vendor.answer = Answer(503)

    with pytest.raises(TransientError):
        crm_at(vendor).control_mode(bot_with(), CONTACT)

    assert len(vendor.received) == 2


@pytest.mark.parametrize(
    "answer", [Answer(body={"control_mode": "?"}), Answer(body=[]), Answer(404), Answer(302)]
)
def test_an_answer_that_does_not_say_who_answers_is_an_error(
    vendor: LoopbackVendor, answer: Answer
) -> None:
    vendor.answer = answer

    with pytest.raises(VendorError):
        crm_at(vendor).control_mode(bot_with(), CONTACT)


def test_an_event_is_reported(vendor: LoopbackVendor) -> None:
    crm_at(vendor).report(bot_with(), CONTACT, "turno", {"lead_id": 7, "texto": "hola"})

    assert (vendor.last.method, vendor.last.path) == ("POST", "/api/bot/eventos/")
    assert vendor.last.json == {
        "tipo": "turno",
        "phone": CONTACT,
        "lead_id": 7,
        "datos": {"lead_id": 7, "texto": "hola"},
    }


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, PermanentError), (302, PermanentError), (429, TransientError), (500, UncertainError)],
)
def test_an_event_that_horizon_does_not_take_is_an_error(
    vendor: LoopbackVendor, status: int, kind: type[VendorError]
) -> None:
    vendor.answer = Answer(status)

    with pytest.raises(kind):
        crm_at(vendor).report(bot_with(), CONTACT, "turno", {})


def test_a_bots_configuration_is_fetched_by_its_number(vendor: LoopbackVendor) -> None:
    vendor.answer = Answer(body={"assistant_model": "gpt-6-luna"})

    assert crm_at(vendor).fetch_config("+56911112222") == {"assistant_model": "gpt-6-luna"}
    assert vendor.last.path == "/api/bot/config/"
    assert vendor.last.query == {"phone": "+56911112222"}


def test_a_number_that_horizon_does_not_know_has_no_configuration(vendor: LoopbackVendor) -> None:
    vendor.answer = Answer(404, {"detail": "No encontrado."})

    assert crm_at(vendor).fetch_config("+56911112222") is None


@pytest.mark.parametrize(
    "answer", [Answer(500), Answer(401), Answer(302), Answer(body=[]), Answer(ending="closed")]
)
def test_a_configuration_that_cannot_be_read_is_not_none(
    vendor: LoopbackVendor, answer: Answer
) -> None:
    vendor.answer = answer

    with pytest.raises(TransientError):
        crm_at(vendor).fetch_config("+56911112222")


@pytest.mark.parametrize("missing", ["horizon_base_url", "horizon_api_key"])
def test_nothing_is_looked_up_where_horizon_is_not_configured(
    vendor: LoopbackVendor, missing: str
) -> None:
    crm = crm_at(vendor, **{missing: None})

    assert not crm.can_look_up
    assert crm.fetch_config("+56911112222") is None
    assert vendor.received == []
