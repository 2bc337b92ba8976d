"""The OpenAI emulator, through the real SDK: what it answers and what it refuses."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest
import requests

from service.demo.emulators import replies
from service.demo.emulators.brains import ScriptedBrain, echo_brain
from service.demo.emulators.faults import Fault
from service.demo.emulators.openai import OpenAIEmulator
from tests.server_process import PATIENCE_S

MODEL = "gpt-6-luna"
PARAMETERS = {
    "type": "object",
    "properties": {"nombre": {"type": "string"}},
    "required": ["nombre"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "name": "create_lead", "parameters": PARAMETERS, "strict": True}
IMAGE = "data:image/jpeg;base64,aG9sYQ=="


@pytest.fixture
def emulator() -> Iterator[OpenAIEmulator]:
    with OpenAIEmulator(echo_brain) as running:
        yield running


@pytest.fixture
def client(emulator: OpenAIEmulator) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=f"{emulator.url}/v1", api_key="sk-test", max_retries=0, timeout=PATIENCE_S
    ) as made:
        yield made


def respond(client: openai.OpenAI, input: Any = "hola", **parameters: Any) -> Any:
    given = {"model": MODEL, "store": False, "include": ["reasoning.encrypted_content"]}
    return client.responses.create(**{**given, "input": input, **parameters})


def refused(client: openai.OpenAI, input: Any = "hola", **parameters: Any) -> dict[str, Any]:
    with pytest.raises(openai.BadRequestError) as caught:
        respond(client, input, **parameters)
    body = caught.value.body
    assert isinstance(body, dict)
    return body


def message(role: str, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}


def call(call_id: str = "call_1") -> dict[str, Any]:
    return {"type": "function_call", "call_id": call_id, "name": "f", "arguments": "{}"}


def output(call_id: str = "call_1") -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": call_id, "output": "ok"}


def test_text_arrives_as_a_complete_response(client: openai.OpenAI) -> None:
    response = respond(client, instructions="Eres amable", temperature=0.5)

    assert response.output_text == "eco: hola"
    assert (response.status, response.error, response.incomplete_details) == (
        "completed",
        None,
        None,
    )
    assert response.id.startswith("resp_")
    assert response.model == MODEL
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens
    assert response.usage.output_tokens_details.reasoning_tokens == 0


def test_every_field_parses_as_the_sdk_declares_it(
    client: openai.OpenAI, emulator: OpenAIEmulator
) -> None:
    emulator.brain = ScriptedBrain([replies.calls([("create_lead", {"nombre": "Ana"})])])
    response = respond(client, tools=[TOOL])

    strict = openai.types.responses.Response.model_validate(response.to_dict(), strict=False)

    assert strict.output[0].type == "reasoning"
    assert strict.output[1].type == "function_call"


def test_echo_answers_the_messages_since_the_last_answer(client: openai.OpenAI) -> None:
    response = respond(
        client,
        [
            message("user", "uno"),
            message("assistant", "bien"),
            message("user", "dos"),
            message("user", [{"type": "input_text", "text": "tres"}]),
        ],
    )

    assert response.output_text == "eco: dos | tres"


def test_calls_come_after_reasoning_and_can_be_answered(
    client: openai.OpenAI, emulator: OpenAIEmulator
) -> None:
    emulator.brain = ScriptedBrain(
        [replies.calls([("create_lead", {"nombre": "Ana"})]), replies.text("listo")]
    )
    first = respond(client, tools=[TOOL])
    reasoning, asked = first.output
    items = [item.to_dict() for item in first.output]
    answer = {"type": "function_call_output", "call_id": asked.call_id, "output": '{"id": 1}'}

    second = respond(client, [message("user", "hola"), *items, answer], tools=[TOOL])

    assert reasoning.type == "reasoning"
    assert reasoning.encrypted_content
    assert json.loads(asked.arguments) == {"nombre": "Ana"}
    assert second.output_text == "listo"


def test_without_include_the_reasoning_cannot_be_sent_back(
    client: openai.OpenAI, emulator: OpenAIEmulator
) -> None:
    emulator.brain = ScriptedBrain([replies.calls([("create_lead", {"nombre": "Ana"})])])
    first = respond(client, tools=[TOOL], include=[])
    items = [item.to_dict() for item in first.output]

    with pytest.raises(openai.NotFoundError, match="Items are not persisted"):
        respond(client, [message("user", "hola"), *items, output(first.output[1].call_id)])


def test_reasoning_of_someone_else_is_refused(client: openai.OpenAI) -> None:
    foreign = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAAABxx"}

    error = refused(client, [message("user", "a"), foreign, call(), output()])

    assert error["code"] == "invalid_encrypted_content"


def test_tool_choice_none_gets_words_instead_of_calls(
    client: openai.OpenAI, emulator: OpenAIEmulator
) -> None:
    emulator.brain = ScriptedBrain([replies.calls([("create_lead", {})], "ya está")])

    response = respond(client, tools=[TOOL], tool_choice="none")

    assert [item.type for item in response.output] == ["message"]
    assert response.output_text == "ya está"


def test_one_call_at_a_time_without_parallel_calls(
    client: openai.OpenAI, emulator: OpenAIEmulator
) -> None:
    emulator.brain = ScriptedBrain([replies.calls([("create_lead", {}), ("create_lead", {})])])

    response = respond(client, tools=[TOOL], parallel_tool_calls=False)

    assert [item.type for item in response.output] == ["reasoning", "function_call"]


def test_the_other_ends_of_a_response(client: openai.OpenAI, emulator: OpenAIEmulator) -> None:
    emulator.brain = ScriptedBrain(
        [
            replies.refusal("no puedo"),
            replies.incomplete("max_output_tokens", "a medias"),
            replies.failed("server_error", "se cayó"),
            replies.empty(),
            replies.raw({"id": "x", "output": []}),
        ]
    )

    refusal, incomplete, failed, empty, raw = (respond(client) for _ in range(5))

    assert refusal.output[0].content[0].refusal == "no puedo"
    assert (incomplete.status, incomplete.incomplete_details.reason, incomplete.output_text) == (
        "incomplete",
        "max_output_tokens",
        "a medias",
    )
    assert (failed.status, failed.error.code, failed.usage) == ("failed", "server_error", None)
    assert (empty.status, empty.output) == ("completed", [])
    assert raw.id == "x"


def test_malformed_arguments_go_out_unchanged(
    client: openai.OpenAI, emulator: OpenAIEmulator
) -> None:
    emulator.brain = ScriptedBrain([replies.calls([("create_lead", '{"nombre": ')])])

    assert respond(client, tools=[TOOL]).output[1].arguments == '{"nombre": '


@pytest.mark.parametrize("key", [None, "Bearer", "Bearer sk-invalid"])
def test_missing_or_wrong_key_is_refused(emulator: OpenAIEmulator, key: str | None) -> None:
    headers = {"Authorization": key} if key else {}

    answer = requests.post(
        f"{emulator.url}/v1/responses", json={"model": MODEL}, headers=headers, timeout=PATIENCE_S
    )

    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_api_key"


@pytest.mark.parametrize(("model", "words"), [("gpt-9", "does not exist"), ("gpt-4", "shut down")])
def test_unknown_and_shut_down_models_are_not_found(
    client: openai.OpenAI, model: str, words: str
) -> None:
    with pytest.raises(openai.NotFoundError, match=words) as caught:
        respond(client, model=model)

    assert caught.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("parameters", "code", "param"),
    [
        ({"extra_body": {"foo": 1}}, "unknown_parameter", "foo"),
        ({"extra_body": {"prompt": {"id": "pmpt_1"}}}, "unsupported_parameter", "prompt"),
        ({"input": []}, "missing_required_parameter", "input"),
        ({"max_output_tokens": 15}, "integer_below_min_value", "max_output_tokens"),
        ({"temperature": 2.1}, "decimal_above_max_value", "temperature"),
        ({"safety_identifier": "x" * 129}, "string_above_max_length", "safety_identifier"),
        ({"prompt_cache_key": "x" * 65}, "string_above_max_length", "prompt_cache_key"),
        ({"instructions": ["a"]}, "invalid_type", "instructions"),
        ({"tool_choice": "maybe"}, "invalid_value", "tool_choice"),
        ({"tool_choice": "required"}, None, "tool_choice"),
        ({"tool_choice": {"type": "function", "name": "f"}}, None, "tool_choice"),
        ({"include": ["all"]}, "invalid_value", "include[0]"),
        ({"previous_response_id": "resp_1"}, "previous_response_not_found", None),
    ],
)
def test_wrong_parameters_are_refused(
    client: openai.OpenAI, parameters: dict[str, Any], code: str | None, param: str | None
) -> None:
    error = refused(client, **{"input": "hola", **parameters})

    assert error["code"] == code
    assert param is None or error["param"] == param


@pytest.mark.parametrize(
    ("tool", "code"),
    [
        ({"type": "function", "function": {"name": "f", "parameters": {}}}, "missing_required"),
        ({**TOOL, "name": "créate"}, "invalid_value"),
        ({**TOOL, "name": "x" * 65}, "invalid_value"),
        ({**TOOL, "type": "nonsense"}, "invalid_value"),
        ({**TOOL, "foo": 1}, "unknown_parameter"),
        ({**TOOL, "parameters": {"type": "string"}}, "invalid_function_parameters"),
        (
            {**TOOL, "parameters": {**PARAMETERS, "additionalProperties": True}},
            "invalid_function_parameters",
        ),
        ({**TOOL, "parameters": {**PARAMETERS, "required": []}}, "invalid_function_parameters"),
        (
            {
                **TOOL,
                "parameters": {
                    **PARAMETERS,
                    "properties": {
                        "nombre": {"type": "array", "items": {"type": "object", "properties": {}}}
                    },
                },
            },
            "invalid_function_parameters",
        ),
    ],
)
def test_wrong_tools_are_refused(client: openai.OpenAI, tool: dict[str, Any], code: str) -> None:
    assert refused(client, tools=[tool])["code"].startswith(code)


def test_duplicate_tool_names_are_refused(client: openai.OpenAI) -> None:
    assert "Duplicate tool name" in refused(client, tools=[TOOL, TOOL])["message"]


def test_tools_that_are_not_strict_may_be_loose(client: openai.OpenAI) -> None:
    loose = {**TOOL, "strict": False, "parameters": {**PARAMETERS, "additionalProperties": True}}

    assert respond(client, tools=[loose, {"type": "web_search"}]).status == "completed"


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ([message("user", "a"), call()], "No tool output found for function call call_1"),
        ([output()], "No tool call found for function call output with call_id call_1"),
        ([output(), call()], "No tool call found"),
        ([call(), output(), output()], "No tool call found"),
        ([call(), call(), output()], "Duplicate"),
        ([{**call(), "id": "call_1"}, output()], "begins with 'fc'"),
        ([{**call(), "parsed_arguments": {}}, output()], "Unknown parameter"),
        ([{**call(), "arguments": {}}, output()], "Invalid type"),
        ([message("bot", "a")], "Invalid value: 'bot'"),
        ([message("user", None)], "Invalid type"),
        ([message("user", [{"type": "output_text", "text": "a"}])], "Invalid value"),
        ([message("assistant", [{"type": "input_text", "text": "a"}])], "Invalid value"),
        ([message("user", [{"type": "text", "text": "a"}])], "Invalid value: 'text'"),
        ([message("user", [{"type": "input_text"}])], "input[0].content[0].text"),
        (
            [message("user", [{"type": "input_image", "image_url": "https://x.test/a.jpg"}])],
            "Error while downloading",
        ),
        (
            [message("user", [{"type": "input_image", "image_url": "data:image/heic;base64,aa"}])],
            "Expected a base64-encoded data URL",
        ),
        (
            [message("user", [{"type": "input_file", "file_data": IMAGE}])],
            "input[0].content[0].filename",
        ),
        ([{"type": "unheard_of"}], "Invalid value: 'unheard_of'"),
        ([{"content": "a"}], "input[0].type"),
    ],
)
def test_wrong_items_are_refused(
    client: openai.OpenAI, items: list[dict[str, Any]], words: str
) -> None:
    assert words in refused(client, items)["message"]


def test_images_files_and_notes_are_taken(client: openai.OpenAI) -> None:
    parts = [
        {"type": "input_text", "text": "mira"},
        {"type": "input_image", "image_url": IMAGE},
        {
            "type": "input_file",
            "filename": "a.pdf",
            "file_data": "data:application/pdf;base64,aG9s",
        },
    ]

    response = respond(client, [message("developer", "nota"), message("user", parts)])

    assert response.output_text == "eco: mira"


def test_models_can_be_looked_up(client: openai.OpenAI) -> None:
    assert client.models.retrieve(MODEL).id == MODEL
    assert MODEL in [model.id for model in client.models.list()]
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-9")


def test_compatible_server_may_lack_the_models() -> None:
    with OpenAIEmulator(echo_brain, models_endpoint=False) as emulator:
        answer = requests.get(f"{emulator.url}/v1/models/{MODEL}", timeout=PATIENCE_S)

    assert (answer.status_code, answer.json()) == (404, {"detail": "Not Found"})


@pytest.mark.parametrize("path", ["/v1/assistants", "/v1/threads/thread_1/runs"])
def test_assistants_are_gone(emulator: OpenAIEmulator, path: str) -> None:
    answer = requests.post(
        emulator.url + path, headers={"Authorization": "Bearer sk-test"}, timeout=PATIENCE_S
    )

    assert answer.status_code == 410
    assert "2026-08-26" in answer.json()["error"]["message"]


def test_ordered_429_looks_like_openai(client: openai.OpenAI, emulator: OpenAIEmulator) -> None:
    emulator.fail(Fault.status(429, headers={"Retry-After": "1"}))

    with pytest.raises(openai.RateLimitError) as caught:
        respond(client)

    assert caught.value.code == "rate_limit_exceeded"
    assert caught.value.response.headers["retry-after"] == "1"


def test_peak_counts_the_calls_in_flight(client: openai.OpenAI, emulator: OpenAIEmulator) -> None:
    together = threading.Barrier(5, timeout=PATIENCE_S)

    def wait_for_all(request: dict[str, Any]) -> replies.Reply:
        together.wait()
        return echo_brain(request)

    emulator.brain = wait_for_all
    with ThreadPoolExecutor(5) as pool:
        list(pool.map(lambda _: respond(client), range(5)))

    assert (emulator.peak_in_flight, emulator.in_flight) == (5, 0)
