"""Reads what the Responses API answers: the model's output, or which kind of failure it was.

The JSON is read as it is, not through the SDK's classes: items go back to the model unchanged, and
building those classes costs 9 ms of processor time for each call.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import httpx2
from openai import APIConnectionError, APIStatusError, APITimeoutError

from service.conversation.ports import (
    Item,
    ModelAnswer,
    PermanentError,
    ToolCall,
    TransientError,
    Usage,
    VendorError,
)
from service.conversation.storable import storable
from service.integrations.error_answers import REFUSED_KEY, code_of, plain, retry_after_s

UNPAID = {
    "insufficient_quota",
    "credit_balance_exhausted",
    "billing_hard_limit_reached",
    "billing_not_active",
}
"""429 of these codes lasts until a person pays; so do all that end in _spend_limit_exceeded."""

PASSING_FAILURES = {
    "server_error",
    "rate_limit_exceeded",
    "slow_down",
    "server_overloaded",
    "vector_store_timeout",
    "failed_to_download_image",
}
"""`error.code` of a failed response (HTTP 200) that the same request may not meet again."""

INCOMPLETE_REASONS = ("max_output_tokens", "content_filter")


def read_answer(body: object, key: str = "") -> ModelAnswer:
    """Turn a response's JSON into an answer; the `key` that was used is kept out of errors.

    Raises:
        TransientError: it failed, was cancelled or has not ended; or it is no response at all.
        PermanentError: it failed for a reason that stays.
    """
    if not isinstance(body, Mapping):
        raise TransientError(
            "bad_answer", "the server answered 200 with something else than a response"
        )
    status = body.get("status") or ("failed" if body.get("error") else "completed")
    if status == "failed":
        raise _failed(body.get("error"), key)
    output = body.get("output")
    if status not in ("completed", "incomplete") or not isinstance(output, list):
        raise TransientError(
            "bad_answer", f"the response's status is {plain(status, key)}, without an output"
        )
    items = [_without_nulls(item) for item in output if isinstance(item, Mapping)]
    contents = [part for item in items if item.get("type") == "message" for part in _parts(item)]
    refusals = [str(part["refusal"]) for part in contents if part.get("refusal")]
    return ModelAnswer(
        items=items,
        text=_text(items),
        refusal="\n\n".join(refusals) or None,
        calls=[_call(item) for item in items if _is_whole_call(item)],
        incomplete_reason=_incomplete_reason(status, body.get("incomplete_details")),
        usage=_usage(body.get("usage")),
        model=str(body.get("model") or ""),
    )


def _failed(error: object, key: str) -> VendorError:
    details = error if isinstance(error, Mapping) else {}
    code = code_of(details.get("code"), "failed", key)
    message = plain(details.get("message") or "the response failed without a reason", key)
    kind = TransientError if code in PASSING_FAILURES or code == "failed" else PermanentError
    return kind(code, message)


def _without_nulls(value: Any) -> Any:
    """Drop keys whose value is null: the API answers some that it refuses as input.

    Texts become storable: a lone surrogate could be neither journaled nor sent back.
    """
    if isinstance(value, Mapping):
        return {
            storable(key): _without_nulls(inner)
            for key, inner in value.items()
            if inner is not None
        }
    if isinstance(value, list):
        return [_without_nulls(inner) for inner in value]
    return storable(value) if isinstance(value, str) else value


def _parts(message: Item) -> list[Item]:
    content = message.get("content")
    if isinstance(content, str):
        return [{"type": "output_text", "text": content}]
    return [part for part in content or [] if isinstance(part, Mapping)]


def _text(items: list[Item]) -> str:
    """The final answer's text; the commentary before tool calls only when there is nothing else."""
    final: list[str] = []
    commentary: list[str] = []
    for item in items:
        if item.get("type") == "message":
            text = "".join(str(part.get("text", "")) for part in _parts(item))
            (commentary if item.get("phase") == "commentary" else final).append(text)
    return "\n\n".join(text for text in final or commentary if text)


def _is_whole_call(item: Item) -> bool:
    """Whether it is a call whose arguments were written to their end."""
    return item.get("type") == "function_call" and item.get("status", "completed") == "completed"


def _call(item: Item) -> ToolCall:
    call_id, name = item.get("call_id"), item.get("name")
    if not call_id or not name:
        raise TransientError("bad_answer", "the response calls a function without call_id or name")
    arguments = item.get("arguments", "{}")
    # Some compatible servers answer an object where the API has a JSON text
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return ToolCall(call_id=str(call_id), name=str(name), arguments=text)


def _incomplete_reason(status: object, details: object) -> str | None:
    if status != "incomplete":
        return None
    reason = details.get("reason") if isinstance(details, Mapping) else None
    return str(reason) if reason in INCOMPLETE_REASONS else "other"


def _usage(usage: object) -> Usage:
    return Usage(
        input_tokens=_tokens(usage, "input_tokens"),
        cached_tokens=_tokens(usage, "input_tokens_details", "cached_tokens"),
        output_tokens=_tokens(usage, "output_tokens"),
        reasoning_tokens=_tokens(usage, "output_tokens_details", "reasoning_tokens"),
    )


def _tokens(usage: object, *path: str) -> int:
    for key in path:
        usage = usage.get(key) if isinstance(usage, Mapping) else None
    return usage if isinstance(usage, int) else 0


def connection_error(error: APIConnectionError) -> TransientError:
    """No answer came; asking the model again does no harm."""
    if isinstance(error, APITimeoutError):
        return TransientError("timeout", "the model's server did not answer in time")
    cause = plain(error.__cause__ or error, _key_of(error.request))
    return TransientError("connection", f"the model's server could not be reached: {cause}")


def status_error(error: APIStatusError) -> VendorError:
    """Which kind of failure an HTTP status and the error's code are."""
    status = error.status_code
    key = _key_of(error.request)
    code = code_of(error.code or error.type, f"http_{status}", key)
    message = words_of(error)
    if status == 429 and _is_unpaid({error.code, error.type}):
        return PermanentError(code, message)
    if status in (408, 409, 425, 429) or status >= 500:
        return TransientError(code, message, retry_after_s(error.response.headers))
    return PermanentError(code, message)


def words_of(error: APIStatusError) -> str:
    """What the server says of a failure, without keys."""
    if error.status_code in (401, 403):
        return REFUSED_KEY
    return plain(error.message, _key_of(error.request))


def _key_of(request: httpx2.Request) -> str:
    return request.headers.get("authorization", "").removeprefix("Bearer ").strip()


def _is_unpaid(codes: set[str | None]) -> bool:
    return any(code in UNPAID or (code or "").endswith("_spend_limit_exceeded") for code in codes)
