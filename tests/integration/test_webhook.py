"""The webhook: who gets in, what is kept, and what is answered while Redis or SQL is away."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

import falcon.testing
import pytest
from structlog.testing import capture_logs
from twilio.request_validator import RequestValidator

from service.app import create_app
from service.container import Container
from service.conversation.turn import Part, Step
from service.demo.emulators.faults import Fault
from service.demo.emulators.phone import inbound_form
from service.web.background import start_background
from tests.servers import RealPostgres, RealRedis
from tests.stack import (
    ACCOUNT_SID,
    AUTH_TOKEN,
    CONTACT,
    NUMBER,
    MakeStack,
    Stack,
    settings_of,
    wait_until,
)

PATH = "/webhook/whatsapp"


@dataclass
class Door:
    """Posts signed forms to the application in this process."""

    stack: Stack
    client: falcon.testing.TestClient

    def post(
        self,
        fields: Mapping[str, str] | None = None,
        *,
        token: str = AUTH_TOKEN,
        path: str = PATH,
        signed_path: str | None = None,
        altered: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> falcon.testing.Result:
        form = dict(fields if fields is not None else self.form())
        url = self.stack.settings.public_base_url + (signed_path or path)
        signature = RequestValidator(token).compute_signature(url, form)
        body = urlencode({**form, **(altered or {})})
        sent = {
            "Content-Type": "application/x-www-form-urlencoded",
            "X-Twilio-Signature": signature,
        }
        bare, _, query = path.partition("?")
        return self.client.simulate_post(
            bare, body=body, headers={**sent, **(headers or {})}, query_string=query
        )

    def form(self, body: str = "hola", sid: str | None = None, **extra: str) -> dict[str, str]:
        return inbound_form(ACCOUNT_SID, NUMBER, CONTACT, body, message_sid=sid, extra=extra)


@pytest.fixture
def door(stack: Stack) -> Door:
    return Door(stack, falcon.testing.TestClient(create_app(stack.container)))


def test_a_signed_message_is_accepted_with_empty_twiml(door: Door) -> None:
    answer = door.post()
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/xml")
    assert answer.text.endswith("<Response/>")
    assert door.stack.container.mailbox.depth().due == 1


def test_the_whole_way_from_the_webhook_to_the_reply(door: Door) -> None:
    with door.stack.worker():
        door.post()
        assert door.stack.wait_for_replies(1) == ["eco: hola"]


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"token": "another token"}, 403),
        ({"altered": {"Body": "otra cosa"}}, 403),
        ({"altered": {"Extra": "field"}}, 403),
        ({"path": PATH + "?a=1", "signed_path": PATH}, 403),
        ({"path": PATH + "?a=1", "signed_path": PATH + "?a=2"}, 403),
        ({"headers": {"X-Twilio-Signature": ""}}, 403),
        ({"headers": {"Content-Type": "application/json"}}, 415),
        ({"path": PATH + "?a=1"}, 200),
        ({"path": PATH + "/"}, 200),
    ],
)
def test_who_gets_in(door: Door, changes: dict[str, str], status: int) -> None:
    answer = door.post(**changes)  # type: ignore[arg-type]
    assert answer.status_code == status
    assert answer.text.endswith("<Response/>")


@pytest.mark.parametrize("name", ["MessageSid", "From", "To", "AccountSid"])
def test_a_missing_field_is_a_bad_request(door: Door, name: str) -> None:
    form = door.form()
    del form[name]
    assert door.post(form).status_code == 400


def test_an_unknown_number_is_not_found(door: Door) -> None:
    assert door.post(door.form(To="whatsapp:+56900000000")).status_code == 404


def test_unknown_and_blank_fields_are_signed_and_kept(door: Door) -> None:
    assert door.post(door.form(NewField="ñandú", Blank="")).status_code == 200
    claims, _ = door.stack.container.mailbox.claim(1)
    fields = claims[0].events[0].fields
    assert (fields["NewField"], fields["Blank"]) == ("ñandú", "")


def test_get_answers_plain_text(door: Door) -> None:
    answer = door.client.simulate_get(PATH)
    assert (answer.status_code, answer.text) == (200, "ok")
    assert answer.headers["content-type"].startswith("text/plain")


def test_another_bots_token_opens_no_door(door: Door) -> None:
    door.stack.add_bot("bot_other", "+56911110009", twilio_auth_token="other-token")
    form = door.form(To="whatsapp:+56911110009")
    assert door.post(form).status_code == 403
    assert door.post(form, token="other-token").status_code == 200


def test_status_callbacks_are_recorded_in_any_order(door: Door) -> None:
    stack = door.stack
    with stack.worker():
        stack.send("hola")
        stack.wait_for_turns(1)
    part = stack.container.turns.parts(stack.turns()[0]["id"])[0]
    sent = next(r for r in stack.twilio.requests if r.path.endswith("/Messages.json"))
    part_id = sent.body["StatusCallback"].split("?part=")[1].split("#")[0]
    for state in ("delivered", "sent", "read", "delivered", "queued"):
        form = {
            "MessageSid": part["sid"],
            "MessageStatus": state,
            "From": f"whatsapp:{NUMBER}",
            "To": f"whatsapp:{CONTACT}",
            "AccountSid": ACCOUNT_SID,
        }
        assert door.post(form, path=f"{PATH}/status?part={part_id}").status_code == 200
    assert stack.container.turns.parts(stack.turns()[0]["id"])[0]["delivery"] == "read"


def test_a_callback_tells_the_sid_of_an_uncertain_send(door: Door) -> None:
    stack = door.stack
    stack.send("hola")
    mailbox, journal = stack.container.mailbox, stack.container.journal
    turn = journal.open(mailbox.claim(1)[0][0]).turn
    assert turn is not None
    stack.expire_leases()
    part = Part("pt_known", "reply", 0, f"whatsapp:{CONTACT}", "eco: hola")
    said = Step("reply", {"text": part.body, "reason": "answered", "opted_out": None})
    journal.save(turn, steps=[said], new_parts=[part], intend=part)
    form = {
        "MessageSid": "SM" + "7" * 32,
        "MessageStatus": "delivered",
        "From": f"whatsapp:{NUMBER}",
        "AccountSid": ACCOUNT_SID,
    }
    door.post(form, path=f"{PATH}/status?part=pt_known")
    with stack.worker():
        stack.wait_for_turns(1)
    assert stack.replies() == []
    assert stack.container.turns.parts(turn.id)[0]["sid"] == "SM" + "7" * 32


def breakages(redis: RealRedis) -> dict[str, object]:
    return {
        "stopped": redis.stop,
        "hung": redis.pause,
        "full": lambda: redis.config_set("maxmemory", 1),
        "read only": lambda: redis.client().replicaof("127.0.0.1", "1"),
    }


@pytest.mark.parametrize("state", ["stopped", "hung", "full", "read only"])
@pytest.mark.usefixtures("hasty_redis_client")
def test_messages_are_spooled_while_redis_is_away_and_replayed_in_order(
    door: Door, redis_server: RealRedis, state: str
) -> None:
    stack = door.stack
    assert door.post(door.form("cero")).status_code == 200
    breakages(redis_server)[state]()  # type: ignore[operator]
    for body in ("uno", "dos", "tres"):
        assert door.post(door.form(body)).status_code == 200
    twice = door.form("cuatro", sid="SM" + "4" * 32)
    assert [door.post(twice).status_code for _ in range(2)] == [200, 200]
    assert stack.container.spool.depth() == 5

    if redis_server.running:
        redis_server.resume()
    redis_server.start()
    with redis_server.client() as client:
        client.replicaof("NO", "ONE")
        client.config_set("maxmemory", 0)
    stopping = start_background(stack.container)
    wait_until(lambda: not stack.container.spool, "an empty spool")
    assert door.post(door.form("cinco")).status_code == 200
    wait_until(lambda: not stack.container.spool, "an empty spool")
    stopping.set()
    with stack.worker():
        stack.wait_for_turns(1)
        stack.wait_until_idle()
    asked = [item["content"] for call in stack.model_inputs()[-1:] for item in call]
    assert [text for text in asked if not text.startswith("eco")] == [
        "cero",
        "uno",
        "dos",
        "tres",
        "cuatro",
        "cinco",
    ]


def test_without_redis_and_spool_the_answer_is_503(
    make_stack: MakeStack, redis_server: RealRedis
) -> None:
    stack = make_stack(SPOOL_MAX_MB="1")
    stack.add_bot()
    door = Door(stack, falcon.testing.TestClient(create_app(stack.container)))
    assert door.post().status_code == 200
    (stack.settings.spool_dir / "filler").write_bytes(b"x" * 2**20)
    redis_server.stop()
    assert door.post().status_code == 503
    assert door.client.simulate_get("/health").status_code == 503
    (stack.settings.spool_dir / "filler").unlink()
    wait_until(lambda: door.post().status_code == 200, "room in the spool")


def test_new_messages_go_through_the_spool_while_it_is_not_empty(door: Door) -> None:
    stack = door.stack
    stack.container.spool.put(stack.message("uno"))
    assert door.post(door.form("dos")).status_code == 200
    assert stack.container.spool.depth() == 2


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_while_the_database_is_down_known_bots_go_on_and_unknown_numbers_get_503(
    make_stack: MakeStack, postgres_server: RealPostgres
) -> None:
    stack = make_stack()
    stack.add_bot()
    door = Door(stack, falcon.testing.TestClient(create_app(stack.container)))
    assert door.post().status_code == 200
    other = Container(settings_of(stack.variables))
    fresh = Door(stack, falcon.testing.TestClient(create_app(other)))
    postgres_server.stop()
    assert door.post().status_code == 200
    assert fresh.post().status_code == 200
    assert door.post(door.form(To="whatsapp:+56900000001")).status_code == 503
    assert door.client.simulate_get("/health").status_code == 200
    assert door.client.simulate_get("/health/db").status_code == 503
    postgres_server.start()
    with stack.worker():
        stack.wait_for_turns(1)
    assert stack.replies() == ["eco: hola | hola | hola"]
    other.close()


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_turn_goes_on_after_an_outage_of_the_database_without_counting_it(
    make_stack: MakeStack, postgres_server: RealPostgres
) -> None:
    stack = make_stack()
    stack.add_bot()
    with stack.worker(), capture_logs() as logs:
        with stack.held_model():
            stack.send("hola")
            stack.wait_for_calls()
            postgres_server.stop()
        wait_until(lambda: any(log["event"] == "outage" for log in logs), "the turn's outage")
        postgres_server.start()
        stack.wait_for_turns(1)
    assert stack.replies() == ["eco: hola"]
    assert (stack.turns()[0]["tries"], stack.turns()[0]["crashes"]) == (0, 0)


def test_health_tells_what_is_up(door: Door) -> None:
    door.post()
    answer = door.client.simulate_get("/health")
    assert answer.status_code == 200
    assert answer.json["queue"] == {
        "due": 1,
        "leased": 0,
        "oldest_due_s": answer.json["queue"]["oldest_due_s"],
        "dead": 0,
        "held": False,
    }
    assert door.client.simulate_get("/health/ready").status_code == 200


def test_metrics_show_what_all_processes_counted(door: Door) -> None:
    door.post()
    door.post(token="wrong")
    with door.stack.worker():
        door.stack.wait_for_turns(1)
    local = {"REMOTE_ADDR": "127.0.0.1"}
    text = door.client.simulate_get("/metrics", extras=local).text
    assert 'horizon_webhook_messages_total{result="accepted"}' in text
    assert 'horizon_turns_total{reason="answered",status="replied"}' in text
    assert "horizon_queue_due 0.0" in text
    far = {"REMOTE_ADDR": "203.0.113.9"}
    assert door.client.simulate_get("/metrics", extras=far).status_code == 401
    key = {"Authorization": f"Bearer {door.stack.settings.admin_api_key}"}
    assert door.client.simulate_get("/metrics", extras=far, headers=key).status_code == 200


def test_logs_hold_no_text_no_secret_and_no_number(
    door: Door, capfd: pytest.CaptureFixture[str]
) -> None:
    secret_words = "mi clave es 12345 y vivo en la calle Larga"
    door.post(door.form(secret_words))
    door.post(door.form(secret_words), token="wrong")
    door.stack.openai.fail(Fault.status(500), times=1)
    with door.stack.worker():
        door.stack.wait_for_turns(1)
    out = "".join(capfd.readouterr())
    assert "turn_ended" in out
    for forbidden in ("Larga", AUTH_TOKEN, "sk-test", CONTACT, NUMBER):
        assert forbidden not in out
