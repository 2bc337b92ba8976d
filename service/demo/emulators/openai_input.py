"""The rules that OpenAI applies to the items of `input`.

Source: the Responses API reference, and the parameter types of openai-python 3.54.0.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from typing import Any

from service.demo.emulators.openai_errors import (
    ApiError,
    missing,
    unknown,
    wrong_type,
    wrong_value,
)

ITEM_KEYS: Mapping[str, frozenset[str]] = {
    "message": frozenset(["type", "role", "content", "status", "id", "phase"]),
    "function_call": frozenset(
        ["type", "id", "call_id", "name", "arguments", "status", "namespace", "caller", "async"]
    ),
    "function_call_output": frozenset(
        ["type", "id", "call_id", "output", "status", "caller", "name", "namespace"]
    ),
    "reasoning": frozenset(["type", "id", "summary", "content", "encrypted_content", "status"]),
}
PART_KEYS: Mapping[str, frozenset[str]] = {
    "input_text": frozenset(["type", "text", "prompt_cache_breakpoint"]),
    "input_image": frozenset(["type", "image_url", "file_id", "detail", "prompt_cache_breakpoint"]),
    "input_file": frozenset(
        [
            "type",
            "filename",
            "file_data",
            "file_id",
            "file_url",
            "detail",
            "prompt_cache_breakpoint",
        ]
    ),
    "output_text": frozenset(["type", "text", "annotations", "logprobs"]),
    "refusal": frozenset(["type", "refusal"]),
}
INPUT_PARTS = ["input_text", "input_image", "input_file"]
OUTPUT_PARTS = ["output_text", "refusal"]
ROLES = ["assistant", "system", "developer", "user"]
ID_PREFIX = {"message": "msg", "function_call": "fc", "reasoning": "rs"}
IMAGE = re.compile(r"^data:image/(?:png|jpeg|gif|webp);base64,(.+)$", re.DOTALL)
FILE = re.compile(r"^data:[\w.+-]+/[\w.+-]+;base64,(.+)$", re.DOTALL)

# Not a secret: it marks reasoning as made by an emulator, also by one that was started again.
_REASONING_KEY = b"the reasoning of an emulator"
_REASONING_PREFIX = "gAAAAAB"


def new_reasoning() -> str:
    """Encrypted reasoning that `check_input` will know again."""
    nonce = secrets.token_bytes(16)
    seal = hmac.digest(_REASONING_KEY, nonce, hashlib.sha256)
    return _REASONING_PREFIX + base64.urlsafe_b64encode(nonce + seal).decode()


def check_input(items: Any, *, stored: bool) -> None:
    """Check the `input` parameter; `stored` is the request's `store`.

    Raises:
        ApiError: 400, as the API words it.
    """
    if isinstance(items, str):
        return
    if not isinstance(items, list):
        raise wrong_type("input", "one of a string or array of objects", items)
    if not items:
        raise missing("input")
    for position, item in enumerate(items):
        at = f"input[{position}]"
        if not isinstance(item, dict):
            raise wrong_type(at, "an object", item)
        _check_item(item, at, stored)
        if item.get("type") == "reasoning":
            following = items[position + 1] if position + 1 < len(items) else {}
            _check_following(item, following)
    _check_pairs(items)


def _check_item(item: Mapping[str, Any], at: str, stored: bool) -> None:
    kind = item.get("type", "message" if "role" in item else None)
    if kind is None:
        raise missing(f"{at}.type")
    if kind not in ITEM_KEYS:
        raise wrong_value(f"{at}.type", kind, list(ITEM_KEYS))
    for key in item:
        if key not in ITEM_KEYS[kind]:
            raise unknown(f"{at}.{key}")
    item_id, prefix = item.get("id"), ID_PREFIX.get(kind)
    if isinstance(item_id, str) and prefix and not item_id.startswith(prefix):
        raise ApiError(
            400,
            f"Invalid '{at}.id': '{item_id}'. Expected an ID that begins with '{prefix}'.",
            code="invalid_value",
            param=f"{at}.id",
        )
    match kind:
        case "message":
            _check_message(item, at)
        case "function_call":
            for key in ("call_id", "name", "arguments"):
                _require_text(item, key, at)
        case "function_call_output":
            _require_text(item, "call_id", at)
            if "output" not in item:
                raise missing(f"{at}.output")
            _check_content(item["output"], f"{at}.output", INPUT_PARTS)
        case "reasoning":
            _check_reasoning(item, at, stored)


def _check_message(item: Mapping[str, Any], at: str) -> None:
    role = item.get("role")
    if role is None:
        raise missing(f"{at}.role")
    if role not in ROLES:
        raise wrong_value(f"{at}.role", role, ROLES)
    if "content" not in item:
        raise missing(f"{at}.content")
    parts = OUTPUT_PARTS if role == "assistant" else INPUT_PARTS
    _check_content(item["content"], f"{at}.content", parts)


def _check_content(content: Any, at: str, supported: list[str]) -> None:
    if isinstance(content, str):
        return
    if not isinstance(content, list):
        raise wrong_type(at, "one of an array of objects or string", content)
    for position, part in enumerate(content):
        place = f"{at}[{position}]"
        if not isinstance(part, dict):
            raise wrong_type(place, "an object", part)
        kind = part.get("type")
        if kind is None:
            raise missing(f"{place}.type")
        if kind not in supported:
            raise wrong_value(f"{place}.type", kind, supported)
        for key in part:
            if key not in PART_KEYS[kind]:
                raise unknown(f"{place}.{key}")
        match kind:
            case "input_text" | "output_text":
                _require_text(part, "text", place)
            case "refusal":
                _require_text(part, "refusal", place)
            case "input_image":
                _check_image(part, place)
            case "input_file":
                _check_file(part, place)


def _check_image(part: Mapping[str, Any], at: str) -> None:
    if part.get("file_id"):
        return
    _require_text(part, "image_url", at)
    url = part["image_url"]
    if url.startswith(("http://", "https://")):
        raise ApiError(
            400,
            f"Error while downloading {url}. Upstream status code: 401.",
            code="invalid_image_url",
            param="url",
        )
    found = IMAGE.match(url)
    if not found or not _is_base64(found.group(1)):
        raise ApiError(
            400,
            f"Invalid '{at}.image_url'. Expected a base64-encoded data URL with an image MIME type "
            "(e.g. 'data:image/png;base64,aW1nIGJ5dGVzIGhlcmU='), but got a value without it.",
            code="invalid_value",
            param=f"{at}.image_url",
        )


def _check_file(part: Mapping[str, Any], at: str) -> None:
    if part.get("file_id") or part.get("file_url"):
        return
    _require_text(part, "file_data", at)
    _require_text(part, "filename", at)
    found = FILE.match(part["file_data"])
    if not found or not _is_base64(found.group(1)):
        raise ApiError(
            400,
            f"Invalid '{at}.file_data'. Expected a base64-encoded data URL with a MIME type.",
            code="invalid_value",
            param=f"{at}.file_data",
        )


def _check_reasoning(item: Mapping[str, Any], at: str, stored: bool) -> None:
    _require_text(item, "id", at)
    if not isinstance(item.get("summary"), list):
        raise missing(f"{at}.summary")
    sealed = item.get("encrypted_content")
    if sealed is None:
        if stored:
            return
        raise ApiError(
            404,
            f"Item with id '{item['id']}' not found. Items are not persisted when `store` is set "
            "to false. Try again with `store` set to true, or remove this item from your input.",
            param="input",
        )
    if not isinstance(sealed, str) or not _is_ours(sealed):
        raise ApiError(
            400,
            f"The encrypted content {str(sealed)[:12]}... could not be verified. Reason: Encrypted "
            "content could not be decrypted or parsed.",
            code="invalid_encrypted_content",
        )


def _check_following(item: Mapping[str, Any], following: Mapping[str, Any]) -> None:
    kind = following.get("type", "message" if "role" in following else None)
    if kind in ("reasoning", "function_call") or following.get("role") == "assistant":
        return
    raise ApiError(
        400,
        f"Item '{item['id']}' of type 'reasoning' was provided without its required following "
        "item.",
        param="input",
    )


def _check_pairs(items: list[dict[str, Any]]) -> None:
    open_calls: dict[str, None] = {}
    answered: set[str] = set()
    for item in items:
        call_id = item.get("call_id", "")
        if item.get("type") == "function_call":
            if call_id in open_calls or call_id in answered:
                raise ApiError(400, f"Duplicate function call id {call_id}.", param="input")
            open_calls[call_id] = None
        elif item.get("type") == "function_call_output":
            if call_id not in open_calls:
                raise ApiError(
                    400,
                    f"No tool call found for function call output with call_id {call_id}.",
                    param="input",
                )
            del open_calls[call_id]
            answered.add(call_id)
    for call_id in open_calls:
        raise ApiError(400, f"No tool output found for function call {call_id}.", param="input")


def _require_text(source: Mapping[str, Any], key: str, at: str) -> None:
    value = source.get(key)
    if value is None:
        raise missing(f"{at}.{key}")
    if not isinstance(value, str):
        raise wrong_type(f"{at}.{key}", "a string", value)


def _is_base64(data: str) -> bool:
    try:
        base64.b64decode(data, validate=True)
    except ValueError:
        return False
    return True


def _is_ours(sealed: str) -> bool:
    try:
        data = base64.urlsafe_b64decode(sealed.removeprefix(_REASONING_PREFIX))
    except ValueError:
        return False
    seal = hmac.digest(_REASONING_KEY, data[:16], hashlib.sha256)
    return sealed.startswith(_REASONING_PREFIX) and hmac.compare_digest(data[16:], seal)
