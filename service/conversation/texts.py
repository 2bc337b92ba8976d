"""What a bot says without its model and the words that it obeys, in Spanish and English."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from service.conversation.bot import Texts

# Whole messages only, and none that people use in normal talk ("cancelar", "no", "fin", "end").
_OPT_OUT_WORDS = (
    "STOP",
    "STOPALL",
    "BAJA",
    "ALTO",
    "DARME DE BAJA",
    "CANCELAR SUSCRIPCION",
    "DESUSCRIBIR",
    "DESUSCRIBIRME",
    "UNSUBSCRIBE",
    "OPT OUT",
)
_OPT_IN_WORDS = {
    "es": ("ALTA", "START", "DARME DE ALTA", "SUSCRIBIR", "SUSCRIBIRME", "UNSTOP", "SUBSCRIBE"),
    "en": ("START", "UNSTOP", "SUBSCRIBE", "OPT IN", "ALTA"),
}
_SENTENCES = {
    "es": {
        "apology": (
            "Disculpa, en este momento tengo un problema técnico y no puedo responderte. "
            "Por favor, vuelve a escribirme en unos minutos."
        ),
        "no_answer": (
            "Disculpa, no logré preparar una respuesta. ¿Me lo puedes escribir de otra manera?"
        ),
        "opt_out_confirmation": (
            "Listo, no volveremos a escribirte por este medio. "
            "Si cambias de opinión, envía {opt_in_word}."
        ),
        "opt_in_confirmation": "¡Gracias! Volverás a recibir nuestras respuestas por este medio.",
    },
    "en": {
        "apology": (
            "Sorry, I am having a technical problem and cannot answer right now. "
            "Please write to me again in a few minutes."
        ),
        "no_answer": "Sorry, I could not find an answer. Could you put it another way?",
        "opt_out_confirmation": (
            "Done, we will not write to you here again. "
            "If you change your mind, send {opt_in_word}."
        ),
        "opt_in_confirmation": "Thank you! You will receive our answers here again.",
    },
}


def texts_for(language: str, overrides: Mapping[str, Any]) -> Texts:
    """The texts of a bot: its own where it has one, else those of its language.

    An unknown language gets the Spanish ones; an override that is None or empty does not count.
    """
    sentences = _SENTENCES.get(language, _SENTENCES["es"])
    opt_in_words = _words(
        overrides.get("opt_in_words"), _OPT_IN_WORDS.get(language, _OPT_IN_WORDS["es"])
    )

    def sentence(name: str) -> str:
        own = overrides.get(name)
        if isinstance(own, str) and own.strip():
            return own
        return sentences[name].replace("{opt_in_word}", opt_in_words[0])

    return Texts(
        apology=sentence("apology"),
        no_answer=sentence("no_answer"),
        opt_out_confirmation=sentence("opt_out_confirmation"),
        opt_in_confirmation=sentence("opt_in_confirmation"),
        opt_out_words=_words(overrides.get("opt_out_words"), _OPT_OUT_WORDS),
        opt_in_words=opt_in_words,
    )


def _words(own: object, defaults: Sequence[str]) -> tuple[str, ...]:
    if isinstance(own, (list, tuple)):
        words = tuple(word for word in own if isinstance(word, str) and word.strip())
        if words:
            return words
    return tuple(defaults)
