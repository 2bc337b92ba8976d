"""The Response object of the Responses API, made from a brain's reply.

Source: the types of openai-python 3.54.0.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping
from typing import Any

from service.demo.emulators.openai_input import new_reasoning
from service.demo.emulators.replies import Call, Reply

ENCRYPTED = "reasoning.encrypted_content"
REASONING_TOKENS = 64
CHARACTERS_PER_TOKEN = 4
NO_TOOLS_TEXT = "(sin herramientas)"


def response_body(request: Mapping[str, Any], reply: Reply) -> dict[str, Any]:
    """The answer's JSON. What the request forbids, the reply does not do: no calls with
    `tool_choice: none`, one call without `parallel_tool_calls`."""
    if reply.kind == "raw":
        return dict(reply.body)
    status = reply.kind if reply.kind in ("failed", "incomplete") else "completed"
    output = _output(request, reply)
    now = int(time.time())
    return {
        "id": _new_id("resp"),
        "object": "response",
        "created_at": now,
        "completed_at": now if status == "completed" else None,
        "status": status,
        "background": False,
        "error": {"code": reply.code, "message": reply.text} if status == "failed" else None,
        "incomplete_details": {"reason": reply.code} if status == "incomplete" else None,
        "instructions": request.get("instructions"),
        "max_output_tokens": request.get("max_output_tokens"),
        "max_tool_calls": request.get("max_tool_calls"),
        "model": request["model"],
        "output": output,
        "parallel_tool_calls": request.get("parallel_tool_calls") is not False,
        "previous_response_id": None,
        "prompt_cache_key": request.get("prompt_cache_key"),
        "reasoning": {
            "effort": (request.get("reasoning") or {}).get("effort", "medium"),
            "summary": None,
        },
        "safety_identifier": request.get("safety_identifier"),
        "service_tier": "default",
        "store": request.get("store") is not False,
        "temperature": _or_default(request.get("temperature"), 1.0),
        "text": request.get("text") or {"format": {"type": "text"}},
        "tool_choice": request.get("tool_choice") or "auto",
        "tools": [_tool(tool) for tool in request.get("tools") or []],
        "top_logprobs": 0,
        "top_p": _or_default(request.get("top_p"), 1.0),
        "truncation": request.get("truncation") or "disabled",
        "usage": None if status == "failed" else _usage(request, output),
        "user": None,
        "metadata": request.get("metadata") or {},
    }


def _output(request: Mapping[str, Any], reply: Reply) -> list[dict[str, Any]]:
    match reply.kind:
        case "calls" if request.get("tool_choice") == "none":
            return [_message("completed", _text_part(reply.text or NO_TOOLS_TEXT))]
        case "calls":
            wanted = list(reply.calls)
            if request.get("parallel_tool_calls") is False:
                wanted = wanted[:1]
            items = [_reasoning(request)]
            if reply.text:
                items.append(_message("completed", _text_part(reply.text)))
            return items + [_call(call) for call in wanted]
        case "text":
            return [_message("completed", _text_part(reply.text))]
        case "refusal":
            return [_message("completed", {"type": "refusal", "refusal": reply.text})]
        case "incomplete" if reply.text:
            return [_message("incomplete", _text_part(reply.text))]
        case _:
            return []


def _message(status: str, part: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": _new_id("msg"),
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": [part],
    }


def _text_part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _reasoning(request: Mapping[str, Any]) -> dict[str, Any]:
    item: dict[str, Any] = {"id": _new_id("rs"), "type": "reasoning", "summary": []}
    if ENCRYPTED in (request.get("include") or []):
        item["encrypted_content"] = new_reasoning()
    return item


def _call(call: Call) -> dict[str, Any]:
    arguments = call.arguments
    return {
        "id": _new_id("fc"),
        "type": "function_call",
        "status": "completed",
        "call_id": "call_" + secrets.token_hex(12),
        "name": call.name,
        "arguments": arguments
        if isinstance(arguments, str)
        else json.dumps(arguments, ensure_ascii=False),
    }


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    if tool["type"] != "function":
        return dict(tool)
    return {"description": None, "parameters": {}, "strict": True, **tool}


def _usage(request: Mapping[str, Any], output: list[dict[str, Any]]) -> dict[str, Any]:
    asked = [request.get("instructions"), request.get("input"), request.get("tools")]
    input_tokens = _tokens(asked)
    reasoning = REASONING_TOKENS if any(item["type"] == "reasoning" for item in output) else 0
    output_tokens = reasoning + _tokens([item for item in output if item["type"] != "reasoning"])
    return {
        "input_tokens": input_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": output_tokens,
        "output_tokens_details": {"reasoning_tokens": reasoning},
        "total_tokens": input_tokens + output_tokens,
    }


def _tokens(value: Any) -> int:
    return -(-len(json.dumps(value, ensure_ascii=False)) // CHARACTERS_PER_TOKEN)


def _or_default(value: Any, default: float) -> Any:
    return default if value is None else value


def _new_id(prefix: str) -> str:
    return f"{prefix}_{secrets.token_hex(24)}"
