"""The model: what is asked of the Responses API, and what its answers mean."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from service.conversation.ports import (
    ModelRequest,
    PermanentError,
    ToolCall,
    TransientError,
    Usage,
    VendorError,
)
from service.integrations.openai_model import OpenAIModel
from tests.server_process import PATIENCE_S
from tests.unit.loopback_vendor import (
    Answer,
    LoopbackVendor,
    bot_with,
    closed_port,
    settings_with,
)

TOOL = {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": False}


@pytest.fixture
def vendor() -> Iterator[LoopbackVendor]:
    with LoopbackVendor(Answer(body=response(message("Hola")))) as running:
        yield running


def message(text: str, **more: Any) -> dict[str, Any]:
    part: dict[str, Any] = {
        "type": "output_text",
        "text": text,
        "annotations": [],
        "logprobs": None,
    }
    base = {"type": "message", "id": "m1", "role": "assistant", "status": "completed"}
    return {**base, "content": [part], **more}


def function_call(**more: Any) -> dict[str, Any]:
    base = {"type": "function_call", "id": "fc1", "call_id": "c1", "name": "f"}
    return {**base, "arguments": '{"a":1}', "status": "completed", **more}


def response(*output: dict[str, Any], **more: Any) -> dict[str, Any]:
    usage = {
        "input_tokens": 10,
        "input_tokens_details": {"cached_tokens": 4},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 15,
    }
    base = {"id": "r1", "object": "response", "status": "completed", "model": "gpt-6-luna"}
    return {**base, "output": list(output), "usage": usage, "error": None, **more}


def request(**more: Any) -> ModelRequest:
    base: dict[str, Any] = {
        "model": "gpt-6-luna",
        "instructions": "Ayuda.",
        "input": [{"role": "user", "content": "hola"}],
        "tools": [],
        "contact_hash": "h1",
        "cache_key": "b1-a1-1",
        "timeout_s": PATIENCE_S,
    }
    return ModelRequest(**{**base, **more})


def model_at(vendor: LoopbackVendor, **more: Any) -> OpenAIModel:
    values = {"openai_base_url": f"{vendor.url}/v1", "openai_api_key": "sk-operator", **more}
    return vendor.keep(OpenAIModel(settings_with(**values)))


def error_body(code: str | None, kind: str = "some_error") -> dict[str, Any]:
    return {"error": {"message": "No.", "type": kind, "code": code, "param": None}}


def test_a_request_is_stateless_and_says_whom_it_is_for(vendor: LoopbackVendor) -> None:
    model_at(vendor).respond(bot_with(), request())

    assert (vendor.last.method, vendor.last.path) == ("POST", "/v1/responses")
    assert vendor.last.headers["Authorization"] == "Bearer sk-operator"
    assert vendor.last.json == {
        "model": "gpt-6-luna",
        "instructions": "Ayuda.",
        "input": [{"role": "user", "content": "hola"}],
        "store": False,
        "include": ["reasoning.encrypted_content"],
        "safety_identifier": "h1",
        "prompt_cache_key": "b1-a1-1",
    }


def test_parameters_of_the_assistant_are_sent_when_it_has_them(vendor: LoopbackVendor) -> None:
    asked = request(temperature=0.0, max_output_tokens=300, reasoning_effort="low")

    model_at(vendor).respond(bot_with(), asked)

    sent = vendor.last.json
    assert (sent["temperature"], sent["max_output_tokens"]) == (0.0, 300)
    assert sent["reasoning"] == {"effort": "low"}


def test_tools_are_offered_in_parallel(vendor: LoopbackVendor) -> None:
    model_at(vendor).respond(bot_with(), request(tools=[TOOL]))

    assert vendor.last.json["tools"] == [TOOL]
    assert vendor.last.json["parallel_tool_calls"] is True
    assert "tool_choice" not in vendor.last.json


def test_tools_stay_named_but_forbidden_in_the_last_round(vendor: LoopbackVendor) -> None:
    model_at(vendor).respond(bot_with(), request(tools=[TOOL], tools_allowed=False))

    assert vendor.last.json["tools"] == [TOOL]
    assert vendor.last.json["tool_choice"] == "none"


def test_an_answer_has_text_calls_and_usage(vendor: LoopbackVendor) -> None:
    vendor.answer = Answer(body=response(message("Un momento."), function_call()))

    answer = model_at(vendor).respond(bot_with(), request())

    assert answer.text == "Un momento."
    assert answer.calls == [ToolCall("c1", "f", '{"a":1}')]
    assert answer.usage == Usage(10, 4, 5, 2)
    assert (answer.refusal, answer.incomplete_reason) == (None, None)


def test_items_go_back_as_they_came_without_their_nulls(vendor: LoopbackVendor) -> None:
    reasoning = {"type": "reasoning", "id": "rs1", "summary": [], "encrypted_content": "gAAA"}
    new_kind = {"type": "of_tomorrow", "data": {"x": [1, 2]}}
    vendor.answer = Answer(body=response({**reasoning, "content": None, "status": None}, new_kind))
    model = model_at(vendor)

    answer = model.respond(bot_with(), request())
    model.respond(bot_with(), request(input=json.loads(json.dumps(list(answer.items)))))

    assert vendor.last.json["input"] == [reasoning, new_kind]


def test_commentary_is_not_the_reply_when_there_is_a_final_answer(vendor: LoopbackVendor) -> None:
    spoken = [message("Busco…", phase="commentary"), message("Son las 5.", phase="final_answer")]
    vendor.answer = Answer(body=response(*spoken))

    assert model_at(vendor).respond(bot_with(), request()).text == "Son las 5."


def test_a_refusal_is_told_apart_from_text(vendor: LoopbackVendor) -> None:
    refused = message("", content=[{"type": "refusal", "refusal": "No puedo."}])
    vendor.answer = Answer(body=response(refused))

    answer = model_at(vendor).respond(bot_with(), request())

    assert (answer.refusal, answer.text) == ("No puedo.", "")


@pytest.mark.parametrize(
    ("details", "reason"),
    [
        ({"reason": "max_output_tokens"}, "max_output_tokens"),
        ({"reason": "content_filter"}, "content_filter"),
        ({"reason": "steered"}, "other"),
        (None, "other"),
    ],
)
def test_an_incomplete_answer_says_why(
    vendor: LoopbackVendor, details: object, reason: str
) -> None:
    vendor.answer = Answer(
        body=response(message("Hol"), status="incomplete", incomplete_details=details)
    )

    answer = model_at(vendor).respond(bot_with(), request())

    assert (answer.incomplete_reason, answer.text) == (reason, "Hol")


def test_a_call_that_was_cut_off_is_not_made(vendor: LoopbackVendor) -> None:
    cut = function_call(arguments='{"a', status="incomplete")
    vendor.answer = Answer(body=response(cut, status="incomplete"))

    assert model_at(vendor).respond(bot_with(), request()).calls == []


def test_a_compatible_server_may_leave_out_what_we_do_not_need(vendor: LoopbackVendor) -> None:
    call = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": {"a": 1}}
    usage = {"input_tokens": 3, "output_tokens": None, "input_tokens_details": None}
    vendor.answer = Answer(body={"output": [call], "usage": usage})

    answer = model_at(vendor).respond(bot_with(), request())

    assert answer.calls == [ToolCall("c1", "f", '{"a": 1}')]
    assert answer.usage == Usage(input_tokens=3)


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (429, "rate_limit_exceeded", TransientError),
        (429, "slow_down", TransientError),
        (429, None, TransientError),
        (429, "insufficient_quota", PermanentError),
        (429, "credit_balance_exhausted", PermanentError),
        (429, "project_spend_limit_exceeded", PermanentError),
        (408, None, TransientError),
        (409, None, TransientError),
        (500, "server_error", TransientError),
        (503, None, TransientError),
        (400, "invalid_value", PermanentError),
        (401, "invalid_api_key", PermanentError),
        (403, "unsupported_country", PermanentError),
        (404, "model_not_found", PermanentError),
        (307, None, PermanentError),
    ],
)
def test_an_error_status_is_transient_or_permanent_by_its_code(
    vendor: LoopbackVendor, status: int, code: str | None, kind: type[VendorError]
) -> None:
    vendor.answer = Answer(status, error_body(code), {"Location": "/elsewhere"})

    with pytest.raises(kind) as caught:
        model_at(vendor).respond(bot_with(), request())

    assert type(caught.value) is kind
    assert caught.value.code == (code or "some_error")
    assert len(vendor.received) == 1


def test_a_rate_limit_says_how_long_to_wait(vendor: LoopbackVendor) -> None:
    vendor.answer = Answer(429, error_body("rate_limit_exceeded"), {"Retry-After": "12"})

    with pytest.raises(TransientError) as caught:
        model_at(vendor).respond(bot_with(), request())

    assert caught.value.retry_after_s == 12


@pytest.mark.parametrize(
    ("body", "kind", "code"),
    [
        (response(status="failed", error={"code": "server_error"}), TransientError, "server_error"),
        (
            response(status="failed", error={"code": "rate_limit_exceeded"}),
            TransientError,
            "rate_limit_exceeded",
        ),
        (
            response(status="failed", error={"code": "invalid_prompt"}),
            PermanentError,
            "invalid_prompt",
        ),
        (response(status="in_progress"), TransientError, "bad_answer"),
        (response(status="queued"), TransientError, "bad_answer"),
        (response(status="cancelled"), TransientError, "bad_answer"),
        ({"status": "completed"}, TransientError, "bad_answer"),
        ([], TransientError, "bad_answer"),
        (b"<html>", TransientError, "bad_answer"),
    ],
)
def test_a_failure_that_arrives_as_200_is_a_failure(
    vendor: LoopbackVendor, body: Any, kind: type[VendorError], code: str
) -> None:
    vendor.answer = Answer(body=body)

    with pytest.raises(kind) as caught:
        model_at(vendor).respond(bot_with(), request())

    assert caught.value.code == code


def test_a_server_that_cannot_be_reached_is_transient() -> None:
    model = OpenAIModel(
        settings_with(openai_base_url=f"http://127.0.0.1:{closed_port()}", openai_api_key="k")
    )

    with pytest.raises(TransientError) as caught:
        model.respond(bot_with(), request())

    assert caught.value.code == "connection"


@pytest.mark.parametrize("ending", ["silent", "dripping"])
def test_an_answer_that_does_not_end_in_time_is_transient(
    vendor: LoopbackVendor, ending: str
) -> None:
    vendor.answer = Answer(ending=ending)

    with pytest.raises(TransientError) as caught:
        model_at(vendor).respond(bot_with(), request(timeout_s=0.3))

    assert caught.value.code == "timeout"


def test_a_lost_connection_is_transient(vendor: LoopbackVendor) -> None:
    vendor.answer = Answer(ending="closed")

    with pytest.raises(TransientError) as caught:
        model_at(vendor).respond(bot_with(), request())

    assert caught.value.code == "connection"


def test_an_answer_larger_than_memory_should_hold_is_refused(vendor: LoopbackVendor) -> None:
    vendor.answer = Answer(body=b" " * (8 * 1024 * 1024 + 1))

    with pytest.raises(TransientError) as caught:
        model_at(vendor).respond(bot_with(), request())

    assert caught.value.code == "connection"


def test_without_any_key_the_error_says_what_to_set(vendor: LoopbackVendor) -> None:
    with pytest.raises(PermanentError, match="OPENAI_API_KEY") as caught:
        model_at(vendor, openai_api_key=None).respond(bot_with(), request())

    assert caught.value.code == "no_api_key"


def test_a_bots_own_key_is_used_at_the_operators_address(vendor: LoopbackVendor) -> None:
    model_at(vendor).respond(bot_with(openai_api_key="sk-bot"), request())

    assert vendor.last.headers["Authorization"] == "Bearer sk-bot"


def test_a_bots_own_address_never_gets_the_operators_key(vendor: LoopbackVendor) -> None:
    model = vendor.keep(
        OpenAIModel(settings_with(openai_api_key="sk-operator", allow_private_addresses=True))
    )

    with pytest.raises(PermanentError) as caught:
        model.respond(bot_with(openai_base_url=vendor.url), request())

    assert caught.value.code == "no_api_key"
    assert vendor.received == []


def test_a_bots_own_address_is_used_with_its_own_key(vendor: LoopbackVendor) -> None:
    model = vendor.keep(
        OpenAIModel(settings_with(openai_api_key="sk-operator", allow_private_addresses=True))
    )

    model.respond(bot_with(openai_base_url=f"{vendor.url}/v9", openai_api_key="own"), request())

    assert vendor.last.path == "/v9/responses"
    assert vendor.last.headers["Authorization"] == "Bearer own"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_bots_address_in_a_private_network_is_refused(vendor: LoopbackVendor, host: str) -> None:
    address = vendor.url.replace("127.0.0.1", host)
    model = vendor.keep(OpenAIModel(settings_with()))

    with pytest.raises(PermanentError) as caught:
        model.respond(bot_with(openai_base_url=address, openai_api_key="own"), request())

    assert caught.value.code == "address_refused"
    assert vendor.received == []


def test_a_name_that_changes_its_mind_is_refused_once_connected(
    vendor: LoopbackVendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The look-up saw a public address; the connection then got another one
    monkeypatch.setattr(
        "service.integrations.openai_transport.refuse_private_host", lambda host, port: None
    )
    model = vendor.keep(OpenAIModel(settings_with()))

    with pytest.raises(PermanentError) as caught:
        model.respond(bot_with(openai_base_url=vendor.url, openai_api_key="own"), request())

    assert caught.value.code == "address_refused"
    assert vendor.received == []


def test_a_compressed_answer_of_a_bots_own_server_is_refused(vendor: LoopbackVendor) -> None:
    vendor.answer = Answer(body=b"x", headers={"Content-Encoding": "gzip"})
    model = vendor.keep(OpenAIModel(settings_with(allow_private_addresses=True)))

    with pytest.raises(TransientError, match="compressed"):
        model.respond(bot_with(openai_base_url=vendor.url, openai_api_key="own"), request())

    assert vendor.last.headers["Accept-Encoding"] == "identity"


def test_the_operators_environment_does_not_reach_the_server(
    vendor: LoopbackVendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-operator")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-operator")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Operator: secret")

    model_at(vendor).respond(bot_with(openai_api_key="sk-bot"), request())

    operators = ("OpenAI-Organization", "OpenAI-Project", "X-Operator")
    assert [name for name in operators if name in vendor.last.headers] == []


def test_a_key_that_would_end_its_header_is_refused(vendor: LoopbackVendor) -> None:
    with pytest.raises(PermanentError) as caught:
        model_at(vendor).respond(bot_with(openai_api_key="k\r\nX-Evil: 1"), request())

    assert caught.value.code == "bad_api_key"


def test_cookies_of_one_answer_are_not_sent_with_the_next(vendor: LoopbackVendor) -> None:
    body = response(message("Hola"))
    vendor.answer = Answer(body=body, headers={"Set-Cookie": "session=1; Path=/"})
    model = model_at(vendor)

    model.respond(bot_with(), request())
    model.respond(bot_with(), request())

    assert "Cookie" not in vendor.last.headers


def test_bots_share_connections(vendor: LoopbackVendor) -> None:
    model = model_at(vendor, worker_threads=8)

    for number in range(5):
        model.respond(bot_with(openai_api_key=f"sk-{number}"), request())

    assert {received.connection for received in vendor.received} == {1}


def test_no_thread_waits_for_a_connection(vendor: LoopbackVendor) -> None:
    threads = 150
    together = threading.Barrier(threads, timeout=PATIENCE_S)

    def answer(_: object) -> Answer:
        together.wait()
        return Answer(body=response(message("Hola")))

    vendor.answer = answer
    model = model_at(vendor, worker_threads=threads)
    texts: list[str] = []

    def ask() -> None:
        texts.append(model.respond(bot_with(), request(timeout_s=PATIENCE_S)).text)

    running = [threading.Thread(target=ask) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(PATIENCE_S)

    assert texts == ["Hola"] * threads


def test_a_model_that_exists_is_ok(vendor: LoopbackVendor) -> None:
    vendor.answer = Answer(body={"id": "gpt-6-luna", "object": "model"})

    assert model_at(vendor).check_model(None, None, "gpt-6-luna").state == "ok"
    assert vendor.last.path == "/v1/models/gpt-6-luna"


@pytest.mark.parametrize(
    ("answer", "state", "words"),
    [
        (Answer(404, error_body("model_not_found")), "unknown", "gpt-5-old"),
        (Answer(404, {"detail": "Not Found"}), "unchecked", "cannot be asked"),
        (Answer(405, b"no"), "unchecked", "cannot be asked"),
        (Answer(401, error_body("invalid_api_key")), "unchecked", "key was refused"),
        (Answer(500, b""), "unchecked", "500"),
        (Answer(ending="closed"), "unchecked", "could not be reached"),
    ],
)
def test_a_model_check_says_what_is_known(
    vendor: LoopbackVendor, answer: Answer, state: str, words: str
) -> None:
    vendor.answer = answer

    check = model_at(vendor).check_model("sk-bot", None, "gpt-5-old")

    assert check.state == state
    assert words in check.message


def test_a_model_at_a_refused_address_is_unchecked(vendor: LoopbackVendor) -> None:
    check = vendor.keep(OpenAIModel(settings_with())).check_model("own", vendor.url, "gpt-6-luna")

    assert check.state == "unchecked"
    assert "private network" in check.message


def test_a_model_at_an_own_address_without_own_key_is_unchecked(vendor: LoopbackVendor) -> None:
    check = model_at(vendor, allow_private_addresses=True).check_model(None, vendor.url, "m")

    assert check.state == "unchecked"
    assert "openai_api_key" in check.message
    assert vendor.received == []
