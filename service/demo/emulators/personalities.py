"""The demonstration's model: a restaurant, an estate agency and an echo, in two languages.

Which one speaks follows from the instructions and the offered tools, as with a real model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from service.demo.emulators.agency import agency_reply
from service.demo.emulators.brains import echo_brain, turn_messages, turn_texts
from service.demo.emulators.replies import Reply, text

Language = Literal["es", "en"]

RESTAURANT = re.compile(r"la cocina|restaurant|kitchen", re.IGNORECASE)
AGENCY = re.compile(r"inmobiliari|propiedades|real[ -]estate", re.IGNORECASE)
ECHO = re.compile(r"^(?:eco|echo)\b", re.IGNORECASE)
AGENCY_TOOLS = {"create_lead", "get_lead"}
ENGLISH = re.compile(r"\b(?:you|your|are|the|answer|with|customers?)\b", re.IGNORECASE)
SPANISH = re.compile(r"\b(?:eres|tu|el|la|los|responde|con|clientes?)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Topic:
    """What is said when the contact's words match; `{words}` is what the contact wrote."""

    pattern: re.Pattern[str]
    answer: str


def _topics(*pairs: tuple[str, str]) -> Sequence[Topic]:
    return [Topic(re.compile(pattern, re.IGNORECASE), answer) for pattern, answer in pairs]


MENU_ES = (
    "Nuestra carta de hoy:\n"
    "• Cazuela de vacuno: $8.900\n"
    "• Pastel de choclo: $9.500\n"
    "• Ceviche de reineta: $10.900\n"
    "• Leche asada: $3.500\n"
    "¿Te reservo una mesa?"
)
MENU_EN = (
    "Today's menu:\n"
    "• Beef stew: $8,900\n"
    "• Corn pie: $9,500\n"
    "• Ceviche: $10,900\n"
    "• Baked custard: $3,500\n"
    "Shall I book you a table?"
)
RESTAURANT_TOPICS: Mapping[Language, Sequence[Topic]] = {
    "es": _topics(
        (r"\b(?:men[uú]|carta|platos?)\b", MENU_ES),
        (
            r"\b(?:horarios?|abren|abierto|cierran|hora)\b",
            "Abrimos de martes a domingo, de 13:00 a 23:00. Los lunes descansamos.",
        ),
        (
            r"\b(?:reserv\w*|mesa)\b",
            "¡Con gusto! ¿Para qué día, a qué hora y para cuántas personas es la mesa?",
        ),
        (r"\b(?:direcci[oó]n|d[oó]nde|ubicaci[oó]n)\b", "Estamos en Av. Italia 1250, Providencia."),
        (r"\bgracias\b", "¡A ti! Te esperamos en La Cocina."),
        (
            r"\b(?:hola|buen[oa]s|saludos)\b",
            "¡Hola! Soy el asistente de La Cocina. Puedo contarte la carta, el horario o ayudarte "
            "a reservar. ¿Qué necesitas?",
        ),
    ),
    "en": _topics(
        (r"\b(?:menu|dish(?:es)?)\b", MENU_EN),
        (
            r"\b(?:hours|open|close|time)\b",
            "We are open Tuesday to Sunday, 13:00 to 23:00. On Mondays we rest.",
        ),
        (
            r"\b(?:book\w*|table|reserv\w*)\b",
            "Gladly! For which day, what time and how many people?",
        ),
        (r"\b(?:address|where)\b", "You find us at Av. Italia 1250, Providencia."),
        (r"\bthank", "Thank you! We look forward to seeing you at La Cocina."),
        (
            r"\b(?:hi|hello|hey|good (?:morning|evening))\b",
            "Hello! I am the assistant of La Cocina. I can tell you the menu, our hours, or help "
            "you book. What do you need?",
        ),
    ),
}
RESTAURANT_OTHERWISE: Mapping[Language, str] = {
    "es": "Entiendo: «{words}». Lo comento con la cocina; mientras tanto puedo mostrarte la carta, "
    "decirte el horario o reservarte una mesa.",
    "en": "I see: “{words}”. I will pass it on to the kitchen; meanwhile I can show you the menu, "
    "tell you our hours or book you a table.",
}
GENERAL_TOPICS: Mapping[Language, Sequence[Topic]] = {
    "es": _topics(
        (r"\bgracias\b", "¡De nada! Aquí estoy si necesitas algo más."),
        (r"\b(?:hola|buen[oa]s|saludos)\b", "¡Hola! ¿En qué te puedo ayudar?"),
    ),
    "en": _topics(
        (r"\bthank", "You are welcome! I am here if you need anything else."),
        (r"\b(?:hi|hello|hey)\b", "Hello! How can I help you?"),
    ),
}
GENERAL_OTHERWISE: Mapping[Language, str] = {
    "es": "Entiendo: «{words}». ¿Qué más me puedes contar?",
    "en": "I see: “{words}”. What else can you tell me?",
}
SEEN: Mapping[Language, str] = {
    "es": "Recibí tu archivo, gracias. ¿Qué te gustaría que haga con él?",
    "en": "I received your file, thank you. What would you like me to do with it?",
}


def demo_brain(request: dict[str, Any]) -> Reply:
    """The brain of the demonstration; instructions that begin with `Eco` or `Echo` make an echo."""
    instructions = request.get("instructions") or ""
    if ECHO.match(instructions):
        return echo_brain(request)
    language = _language(instructions)
    offered = {tool.get("name") for tool in request.get("tools") or []}
    if AGENCY.search(instructions) or (
        offered & AGENCY_TOOLS and not RESTAURANT.search(instructions)
    ):
        return agency_reply(request, language)
    words = " ".join(turn_texts(request)).strip()
    if not words and _has_file(request):
        return text(SEEN[language])
    if RESTAURANT.search(instructions):
        return text(_say(RESTAURANT_TOPICS[language], RESTAURANT_OTHERWISE[language], words))
    return text(_say(GENERAL_TOPICS[language], GENERAL_OTHERWISE[language], words))


def _language(instructions: str) -> Language:
    english = len(ENGLISH.findall(instructions))
    return "en" if english > len(SPANISH.findall(instructions)) else "es"


def _say(topics: Sequence[Topic], otherwise: str, words: str) -> str:
    for topic in topics:
        if topic.pattern.search(words):
            return topic.answer
    return otherwise.format(words=words)


def _has_file(request: Mapping[str, Any]) -> bool:
    contents = [item.get("content") for item in turn_messages(request)]
    parts = [part for content in contents if isinstance(content, list) for part in content]
    return any(part.get("type") in ("input_image", "input_file") for part in parts)
