"""An uncertain send is looked up in Twilio's list: what may be found there, and what must not."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime

import pytest

from service.demo.emulators.brains import ScriptedBrain
from service.demo.emulators.faults import Fault
from service.demo.emulators.replies import text
from service.demo.emulators.twilio import TwilioEmulator
from service.demo.emulators.wire import Request, Response
from tests.stack import ACCOUNT_SID, AUTH_TOKEN, MakeStack, wait_until

# What is compared is Twilio's list, not what a database holds.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


class TwilioOfAnotherTime(TwilioEmulator):
    """Its clock is `ahead_s` ahead of ours, in the messages' times as in the header `Date`."""

    ahead_s: float = 0

    def handle(self, request: Request) -> Response:
        response = super().handle(request)
        date = format_datetime(datetime.now(UTC) + self._ahead, usegmt=True)
        body = response.body
        if isinstance(body, dict) and "messages" in body:
            body = {**body, "messages": [self._moved(message) for message in body["messages"]]}
        return replace(response, body=body, headers={**response.headers, "Date": date})

    @property
    def _ahead(self) -> timedelta:
        return timedelta(seconds=self.ahead_s)

    def _moved(self, message: dict[str, str]) -> dict[str, str]:
        created_at = parsedate_to_datetime(message["date_created"]) + self._ahead
        return {**message, "date_created": format_datetime(created_at)}


def is_send(request: Request) -> bool:
    return request.method == "POST" and request.path.endswith("/Messages.json")


def test_two_bots_of_one_account_do_not_take_each_others_messages(make_stack: MakeStack) -> None:
    stack = make_stack(TWILIO_TIMEOUT_S="3", RETRY_BASE_S="0.01", SEND_GRACE_S="1")
    first, second = "+56911110001", "+56911110002"
    stack.add_bot("bot_a", first, twilio_messaging_service_sid="MG" + "a" * 32)
    stack.add_bot("bot_b", second, twilio_messaging_service_sid="MG" + "b" * 32)
    stack.openai.brain = ScriptedBrain([text("sí"), text("sí")])
    stack.twilio.fail(Fault.hang(), times=1, match=is_send)

    with stack.worker():
        stack.send("¿a?", bot_id="bot_a", number=first)
        wait_until(lambda: any(map(is_send, stack.twilio.requests)), "first send")
        stack.send("¿b?", bot_id="bot_b", number=second)
        stack.wait_for_turns(2)

    assert stack.replies() == ["sí", "sí"]


@pytest.mark.parametrize("ahead_s", [5, -5])
def test_a_reply_that_went_out_is_not_sent_again_although_the_clocks_differ(
    make_stack: MakeStack, ahead_s: int
) -> None:
    with TwilioOfAnotherTime({ACCOUNT_SID: AUTH_TOKEN}) as twilio:
        twilio.callbacks.enabled = False
        twilio.ahead_s = ahead_s
        stack = make_stack(TWILIO_TIMEOUT_S="3", TWILIO_API_BASE_URL=twilio.url)
        stack.twilio = twilio
        stack.add_bot()
        twilio.fail(Fault.accept_then_hang(), times=1, match=is_send)

        with stack.worker():
            stack.send("hola")
            stack.wait_for_turns(1)

    assert stack.replies() == ["eco: hola"]
