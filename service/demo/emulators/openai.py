"""An emulator of OpenAI: the Responses API and the models, as strict as the real ones.

Its base URL for the SDK is `url + "/v1"`. Sources: the API reference, openai-python 3.54.0, and the
deprecation pages for what was shut down.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from typing import Any

from service.demo.emulators.openai_errors import ApiError, missing, unknown, wrong_type
from service.demo.emulators.openai_input import check_input
from service.demo.emulators.openai_response import response_body
from service.demo.emulators.openai_tools import check_tools
from service.demo.emulators.personalities import demo_brain
from service.demo.emulators.replies import Brain
from service.demo.emulators.server import Emulator
from service.demo.emulators.wire import Request, Response

MODELS = ("gpt-6-luna", "gpt-6.1-terra", "gpt-6.2-sol")
SHUT_DOWN_MODELS = frozenset(
    [
        "gpt-4",
        "gpt-4-0613",
        "gpt-3.5-turbo",
        "gpt-3.5-turbo-0125",
        "o1",
        "o1-mini",
        "o3-mini",
        "gpt-4o-2024-05-13",
    ]
)
SHUT_DOWN_APIS = ("/v1/assistants", "/v1/threads")
REFUSED_KEY = "sk-invalid"
OVERLOAD = {429: ("rate_limit_exceeded", "requests"), 503: ("slow_down", "service_unavailable")}

PARAMETERS = frozenset(
    [
        "access_programs",
        "background",
        "background_options",
        "context_management",
        "conversation",
        "image",
        "include",
        "input",
        "instructions",
        "max_output_tokens",
        "max_tool_calls",
        "metadata",
        "model",
        "moderation",
        "parallel_tool_calls",
        "previous_response_id",
        "prompt",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "reasoning",
        "safety_identifier",
        "service_tier",
        "store",
        "stream",
        "stream_options",
        "temperature",
        "text",
        "tool_choice",
        "tools",
        "top_logprobs",
        "top_p",
        "truncation",
        "user",
    ]
)
INCLUDABLE = frozenset(
    [
        "file_search_call.results",
        "web_search_call.results",
        "web_search_call.action.sources",
        "message.input_image.image_url",
        "computer_call_output.output.image_url",
        "code_interpreter_call.outputs",
        "reasoning.encrypted_content",
        "message.output_text.logprobs",
    ]
)
LONGEST = {"safety_identifier": 128, "prompt_cache_key": 64}
TYPES: Mapping[str, tuple[type, str]] = {
    "instructions": (str, "a string"),
    "store": (bool, "a boolean"),
    "parallel_tool_calls": (bool, "a boolean"),
    "metadata": (dict, "an object"),
    "reasoning": (dict, "an object"),
    "text": (dict, "an object"),
    "include": (list, "an array of strings"),
    "safety_identifier": (str, "a string"),
    "prompt_cache_key": (str, "a string"),
}
MIN_OUTPUT_TOKENS = 16


class OpenAIEmulator(Emulator):
    """OpenAI on loopback; `brain` is what the model says.

    `model_delay_s` is slept before an answer; `models_endpoint=False` plays a compatible server
    without `/v1/models`. `models`, and `shutdown_dates` (YYYY-MM-DD by model), may be changed while it
    runs.
    """

    def __init__(
        self,
        brain: Brain | None = None,
        *,
        port: int = 0,
        host: str = "127.0.0.1",
        models: Collection[str] = MODELS,
        model_delay_s: float = 0.0,
        models_endpoint: bool = True,
        keep_requests: int = 20_000,
    ) -> None:
        super().__init__(port, host, keep_requests)
        self.brain: Brain = brain or demo_brain
        self.models = set(models)
        self.model_delay_s = model_delay_s
        self.models_endpoint = models_endpoint
        self.shutdown_dates: dict[str, str] = {}
        self.in_flight = 0
        self.peak_in_flight = 0
        self._flight_lock = threading.Lock()

    def handle(self, request: Request) -> Response:
        """Answer one call of the API."""
        try:
            return self._route(request)
        except ApiError as error:
            return Response(error.status, error.to_json(), {"x-request-id": "req_emulator"})

    def error_answer(self, status: int, message: str) -> Response:
        """An error in OpenAI's shape."""
        code, kind = OVERLOAD.get(status, (None, "server_error"))
        return Response(status, ApiError(status, message, code=code, kind=kind).to_json())

    def state(self) -> dict[str, Any]:
        """Models and load."""
        return {
            "models": sorted(self.models),
            "model_delay_s": self.model_delay_s,
            "in_flight": self.in_flight,
            "peak_in_flight": self.peak_in_flight,
        }

    def clear_state(self) -> None:
        """Begin to measure the peak anew."""
        with self._flight_lock:
            self.peak_in_flight = self.in_flight

    def _route(self, request: Request) -> Response:
        path = request.path.rstrip("/")
        if not self.models_endpoint and path.startswith("/v1/models"):
            return Response(404, {"detail": "Not Found"})
        _authenticate(request)
        if path.startswith(SHUT_DOWN_APIS):
            raise ApiError(
                410,
                "The Assistants API was shut down on 2026-08-26. Use the Responses API instead.",
                code="assistants_api_shut_down",
            )
        match request.method, path:
            case "POST", "/v1/responses":
                return self._respond(request)
            case "GET", "/v1/models":
                listed = [self._model(name) for name in sorted(self.models)]
                return Response(200, {"object": "list", "data": listed})
            case "GET", path if path.startswith("/v1/models/"):
                name = path.removeprefix("/v1/models/")
                self._check_model(name)
                return Response(200, self._model(name))
        raise ApiError(404, f"Invalid URL ({request.method} {request.path})")

    def _respond(self, request: Request) -> Response:
        body = self._checked(request)
        with self._flight_lock:
            self.in_flight += 1
            self.peak_in_flight = max(self.peak_in_flight, self.in_flight)
        try:
            self.pause(self.model_delay_s)
            return Response(200, response_body(body, self.brain(body)))
        finally:
            with self._flight_lock:
                self.in_flight -= 1

    def _checked(self, request: Request) -> dict[str, Any]:
        body = request.body
        if not isinstance(body, dict) or "json" not in request.headers.get("content-type", ""):
            raise ApiError(
                400,
                "We could not parse the JSON body of your request. (HINT: This likely means you "
                "aren't using your HTTP library correctly. The OpenAI API expects a JSON payload.)",
            )
        if "prompt" in body:
            raise ApiError(
                400,
                "The 'prompt' parameter is deprecated and reusable prompts are shut down on "
                "2026-11-30. Send 'instructions' and 'input' instead.",
                code="unsupported_parameter",
                param="prompt",
            )
        for name in body:
            if name not in PARAMETERS:
                raise unknown(name)
        if not body.get("model"):
            raise missing("model")
        if body.get("input") is None:
            raise missing("input")
        self._check_model(body["model"])
        _check_scalars(body)
        check_tools(body)
        check_input(body["input"], stored=body.get("store") is not False)
        return body

    def _model(self, name: str) -> dict[str, Any]:
        return {
            "id": name,
            "object": "model",
            "created": 1_780_000_000,
            "owned_by": "system",
            "shutdown_date": self.shutdown_dates.get(name),
        }

    def _check_model(self, name: Any) -> None:
        if not isinstance(name, str):
            raise wrong_type("model", "a string", name)
        if name in self.models:
            return
        if name in SHUT_DOWN_MODELS:
            message = f"The model `{name}` has been shut down. Choose a current model."
        else:
            message = f"The model `{name}` does not exist or you do not have access to it."
        raise ApiError(404, message, code="model_not_found", param="model")


def _authenticate(request: Request) -> None:
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if scheme != "Bearer" or not key:
        raise ApiError(
            401, "You didn't provide an API key in an Authorization header.", code="invalid_api_key"
        )
    if key == REFUSED_KEY:
        raise ApiError(401, f"Incorrect API key provided: {key}.", code="invalid_api_key")


def _check_scalars(body: Mapping[str, Any]) -> None:
    for name, (kind, expected) in TYPES.items():
        if body.get(name) is not None and not isinstance(body[name], kind):
            raise wrong_type(name, expected, body[name])
    for name, longest in LONGEST.items():
        length = len(body.get(name) or "")
        if length > longest:
            raise ApiError(
                400,
                f"Invalid '{name}': string too long. Expected a string with maximum length "
                f"{longest}, but got a string with length {length} instead.",
                code="string_above_max_length",
                param=name,
            )
    _check_range(body, "max_output_tokens", MIN_OUTPUT_TOKENS, None)
    _check_range(body, "temperature", 0, 2)
    _check_range(body, "top_p", 0, 1)
    for name in body.get("include") or []:
        if name not in INCLUDABLE:
            raise ApiError(
                400, f"Invalid value: '{name}'.", code="invalid_value", param="include[0]"
            )
    if body.get("stream") or body.get("background"):
        raise ApiError(400, "The emulator neither streams nor works in the background.")
    if body.get("previous_response_id") is not None or body.get("conversation") is not None:
        raise ApiError(
            400,
            "Previous response or conversation not found: the emulator keeps none.",
            code="previous_response_not_found",
            param="previous_response_id",
        )


def _check_range(body: Mapping[str, Any], name: str, lowest: float, highest: float | None) -> None:
    value = body.get(name)
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong_type(name, "a decimal number", value)
    if value < lowest:
        bound, code = f">= {lowest}", "integer_below_min_value"
    elif highest is not None and value > highest:
        bound, code = f"<= {highest}", "decimal_above_max_value"
    else:
        return
    raise ApiError(
        400,
        f"Invalid '{name}': expected a value {bound}, but got {value} instead.",
        code=code,
        param=name,
    )
