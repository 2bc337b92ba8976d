"""What is read from every vendor's error answers."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.integrations.error_answers import is_header_safe, plain, retry_after_s


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


@given(st.text())
def test_a_message_is_always_one_short_line(text: str) -> None:
    assert len(plain(text)) <= 300
    assert "\n" not in plain(text)


@given(st.text())
def test_a_value_that_is_safe_for_a_header_cannot_end_it(text: str) -> None:
    if is_header_safe(text):
        assert not set(text) & set("\r\n\0")
