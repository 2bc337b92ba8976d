"""Replies are cut where a person would cut them, and nothing is lost."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from service.conversation.reply import MAX_PART_CHARS, split_reply

URL = "https://example.com/" + "a" * 60


def squeezed(text: str) -> str:
    return re.sub(r"\s+", "", text)


def test_a_short_reply_stays_whole() -> None:
    assert split_reply("  hola  ") == ["hola"]


def test_nothing_becomes_nothing() -> None:
    assert split_reply(" \n ") == []


def test_a_paragraph_is_the_best_place() -> None:
    first, second = "a" * 60 + ". Fin.", "b" * 60
    assert split_reply(f"{first}\n\n{second}", limit=100) == [first, second]


def test_a_sentence_is_the_next_best() -> None:
    text = "Primera frase de la respuesta. Segunda frase que no cabe entera aquí."
    assert split_reply(text, limit=40)[0] == "Primera frase de la respuesta."


def test_a_word_is_better_than_nothing() -> None:
    assert split_reply("palabra " * 10, limit=20) == ["palabra palabra"] * 5


def test_a_url_is_never_cut() -> None:
    parts = split_reply(f"mira esto{URL} y esto,{URL}.", limit=100)
    assert [part for part in parts if URL in part] == [part for part in parts if "http" in part]
    assert sum(part.count(URL) for part in parts) == 2


def test_the_tenth_part_is_the_last_and_says_so() -> None:
    parts = split_reply("palabra " * 4000)
    assert len(parts) == 10
    assert parts[-1].endswith("…")


def test_emoji_count_as_two() -> None:
    parts = split_reply("😀" * 1000)
    assert [len(part.encode("utf-16-le")) // 2 for part in parts] == [1600, 400]


@given(st.text(alphabet=st.sampled_from("ab .!\n😀/:?htps"), max_size=600), st.integers(10, 80))
def test_parts_fit_and_hold_everything_in_order(text: str, limit: int) -> None:
    parts = split_reply(text, limit=limit, most=1000)
    assert all(0 < len(part.encode("utf-16-le")) // 2 <= limit for part in parts)
    assert squeezed("".join(parts)) == squeezed(text)


@given(st.text(max_size=20_000))
def test_any_text_gives_at_most_ten_parts_that_fit(text: str) -> None:
    parts = split_reply(text)
    assert len(parts) <= 10
    assert all(
        len(part.encode("utf-16-le", "surrogatepass")) // 2 <= MAX_PART_CHARS for part in parts
    )
