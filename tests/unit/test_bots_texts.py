"""The texts of bots."""

from __future__ import annotations

import pytest

from service.conversation.texts import texts_for


@pytest.mark.parametrize("language", ["es", "en", "unknown"])
def test_every_language_has_every_text(language: str) -> None:
    texts = texts_for(language, {})

    assert all(
        (
            texts.apology,
            texts.no_answer,
            texts.opt_out_confirmation,
            texts.opt_in_confirmation,
            texts.opt_out_words,
            texts.opt_in_words,
        )
    )


def test_an_own_text_replaces_only_itself() -> None:
    texts = texts_for("es", {"apology": "Perdón.", "no_answer": None, "opt_in_words": []})

    assert texts.apology == "Perdón."
    assert texts.no_answer == texts_for("es", {}).no_answer
    assert texts.opt_in_words == texts_for("es", {}).opt_in_words


@pytest.mark.parametrize(("own", "word"), [([], "ALTA"), (["VOLVER"], "VOLVER")])
def test_the_farewell_names_a_word_that_really_brings_the_bot_back(
    own: list[str], word: str
) -> None:
    texts = texts_for("es", {"opt_in_words": own})

    assert texts.opt_out_confirmation.endswith(f"envía {word}.")
    assert word in texts.opt_in_words


@pytest.mark.parametrize("word", ["NO", "FIN", "END", "CANCELAR", "CANCEL", "QUIT", "SALIR"])
@pytest.mark.parametrize("language", ["es", "en"])
def test_words_of_normal_talk_never_silence_a_bot(language: str, word: str) -> None:
    assert word not in texts_for(language, {}).opt_out_words
