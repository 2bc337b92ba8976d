"""What is read from every vendor's error answers."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.integrations.error_answers import (
    code_of,
    is_header_safe,
    plain,
    retry_after_s,
)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "999999"}, 3600.0),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({}, None),
    ],
)
def test_retry_after_is_read_in_seconds(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers) == seconds


def test_retry_after_is_read_as_a_date() -> None:
    wait_s = retry_after_s({"retry-after": formatdate(time.time() + 60, usegmt=True)})

    assert wait_s is not None
    assert 50 < wait_s <= 60


def test_phone_numbers_in_a_message_are_masked() -> None:
    assert plain("The 'To' number +56912345678 is invalid") == "The 'To' number +56...78 is invalid"


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("Incorrect API key provided: sk-inval***lid.", "Incorrect API key provided: ***"),
        ("Bearer x1y2 was refused", "*** was refused"),
        ("the token 0123456789abcdef0123456789abcdef is old", "the token *** is old"),
        ("the token xYz0_-123456789-abcdefgh-ABCDEF is old", "the token *** is old"),
        (
            "no model gpt-4o-mini-realtime-preview-2024-12-17",
            "no model gpt-4o-mini-realtime-preview-2024-12-17",
        ),
        ("set max_output_tokens to 16", "set max_output_tokens to 16"),
    ],
)
def test_what_looks_like_a_key_is_masked(words: str, shown: str) -> None:
    assert plain(words) == shown


def test_the_key_that_was_used_is_masked_whatever_it_looks_like() -> None:
    assert plain("the key letmein is wrong", "letmein") == "the key *** is wrong"


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("invalid_api_key", "invalid_api_key"),
        (20003, "20003"),
        (None, "http_401"),
        ("sk-live-1", "http_401"),
        ("letmein", "http_401"),
        ("a sentence", "http_401"),
        ({"a": 1}, "http_401"),
    ],
)
def test_a_code_is_a_code_or_the_status(value: object, code: str) -> None:
    assert code_of(value, "http_401", "letmein") == code


@given(st.text())
def test_a_message_is_always_one_short_line(text: str) -> None:
    assert len(plain(text)) <= 300
    assert "\n" not in plain(text)


@given(st.text())
def test_a_value_that_is_safe_for_a_header_cannot_end_it(text: str) -> None:
    if is_header_safe(text):
        assert not set(text) & set("\r\n\0")
