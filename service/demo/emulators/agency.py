"""The real-estate agency of the demonstration: it notes what a contact seeks and tells its state.

It calls `create_lead` and `get_lead` when they are offered, with the arguments that their schemas
have room for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from service.demo.emulators.brains import said_texts, tool_answers, turn_texts
from service.demo.emulators.replies import Reply, calls, text

CREATE, GET = "create_lead", "get_lead"

_NAME = re.compile(
    r"(?:(?i:me llamo|mi nombre es|my name is)\s+(\w+)|(?:(?i:soy|i'm|i am)\s+([A-ZÁÉÍÓÚÑ]\w+)))"
    r"((?:\s+[A-ZÁÉÍÓÚÑ]\w+){0,2})"
)
_INTEREST = re.compile(
    r"(?:busco|buscando|quiero|quisiera|necesito|me interesa|looking for|i want|i need)\s+"
    r"(?:arrendar |comprar |to rent |to buy )?(.+?)"
    r"(?=[.!?;\n]|,?\s+(?:y |and )?(?:me llamo|mi nombre|soy |my name|i am |i'm )|$)",
    re.IGNORECASE,
)
_STATE = re.compile(
    r"\bestado\b|\bmi solicitud\b|\bc[oó]mo va\b|\bstatus\b|\bmy request\b", re.IGNORECASE
)
_NUMBER = re.compile(
    r"(?:solicitud|lead|request|n[uú]mero|number|\bid\b|#)\D{0,15}?(\d{1,9})", re.IGNORECASE
)
_GREETING = re.compile(r"\b(?:hola|buen[oa]s|hi|hello|hey)\b", re.IGNORECASE)
_THANKS = re.compile(r"\b(?:gracias|thanks?|thank you)\b", re.IGNORECASE)

_SAY: Mapping[str, Mapping[str, str]] = {
    "es": {
        "greeting": "¡Hola! Soy el asistente de Inmobiliaria Andes. Cuéntame cómo te llamas y qué "
        "propiedad buscas.",
        "thanks": "¡Gracias a ti! Cualquier novedad te escribo por aquí.",
        "name": "¡Perfecto! ¿Me dices tu nombre para registrar tu solicitud?",
        "interest": "Mucho gusto, {name}. ¿Qué tipo de propiedad buscas y en qué comuna?",
        "number": "¿Me indicas el número de tu solicitud, por favor?",
        "created": "¡Listo{name}! Registré tu solicitud con el número {id}. Un ejecutivo te "
        "contactará pronto.",
        "not_created": "No pude confirmar el registro de tu solicitud. Un ejecutivo la revisará y "
        "te escribirá.",
        "state": "Tu solicitud {id} está en estado: {state}.",
        "not_found": "No encontré esa solicitud. ¿Puedes revisar el número?",
        "noted": "Gracias, {name}. Tomé nota de que buscas {interest}; un ejecutivo te contactará.",
        "no_state": "Ahora no puedo consultar tu solicitud; un ejecutivo te responderá.",
        "otherwise": "Entiendo: «{words}». Si me dices tu nombre y qué propiedad buscas, registro "
        "tu solicitud.",
    },
    "en": {
        "greeting": "Hello! I am the assistant of Inmobiliaria Andes. Tell me your name and what "
        "property you are looking for.",
        "thanks": "Thank you! I will write to you here when there is news.",
        "name": "Great! What is your name, so that I can register your request?",
        "interest": "Nice to meet you, {name}. What property are you looking for, and where?",
        "number": "Could you tell me the number of your request, please?",
        "created": "Done{name}! I registered your request with number {id}. An agent will contact "
        "you soon.",
        "not_created": "I could not confirm that your request was registered. An agent will check "
        "it and write to you.",
        "state": "Your request {id} is in state: {state}.",
        "not_found": "I did not find that request. Could you check the number?",
        "noted": "Thank you, {name}. I noted that you are looking for {interest}; an agent will "
        "contact you.",
        "no_state": "I cannot look up your request now; an agent will answer you.",
        "otherwise": "I see: “{words}”. Tell me your name and what property you are looking for, "
        "and I will register your request.",
    },
}


def agency_reply(request: Mapping[str, Any], language: Literal["es", "en"]) -> Reply:
    """What the agency's assistant answers to this request."""
    say = _SAY[language]
    answers = tool_answers(request)
    if answers:
        return text("\n".join(_tell(name, output, request, say) for name, output in answers))
    tools = _offered(request)
    words = " ".join(turn_texts(request)).strip()
    if _STATE.search(words):
        return _look_up(request, words, tools, say)
    name, interest = _name(words), _interest(words)
    if name or interest:
        earlier = said_texts(request, "user")
        name = name or _last(_name, earlier)
        interest = interest or _last(_interest, earlier)
        return _register(name, interest, tools, say)
    if _THANKS.search(words):
        return text(say["thanks"])
    if _GREETING.search(words):
        return text(say["greeting"])
    return text(say["otherwise"].format(words=words))


def _look_up(
    request: Mapping[str, Any], words: str, tools: Mapping[str, Any], say: Mapping[str, str]
) -> Reply:
    number = _number(words) or _last(_number, said_texts(request))
    if number is None:
        return text(say["number"])
    if GET not in tools:
        return text(say["no_state"])
    return calls([(GET, _arguments(tools[GET], {"id": int(number)}))])


def _register(
    name: str | None, interest: str | None, tools: Mapping[str, Any], say: Mapping[str, str]
) -> Reply:
    if name is None:
        return text(say["name"])
    if interest is None:
        return text(say["interest"].format(name=name))
    if CREATE not in tools:
        return text(say["noted"].format(name=name, interest=interest))
    return calls([(CREATE, _arguments(tools[CREATE], {"nombre": name, "interes": interest}))])


def _tell(name: str, output: Any, request: Mapping[str, Any], say: Mapping[str, str]) -> str:
    number, state = _find(output, "id"), _find(output, "estado")
    if name == CREATE:
        if number is None:
            return say["not_created"]
        contact = _last(_name, said_texts(request, "user"))
        return say["created"].format(id=number, name=f", {contact}" if contact else "")
    if state is None:
        return say["not_found"]
    return say["state"].format(id="" if number is None else number, state=state)


def _offered(request: Mapping[str, Any]) -> dict[str, Any]:
    if request.get("tool_choice") == "none":
        return {}
    return {tool.get("name"): tool.get("parameters") or {} for tool in request.get("tools") or []}


def _arguments(schema: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """Fill the schema's properties with what is known, and the other required ones with nothing."""
    properties: Mapping[str, Any] = schema.get("properties") or {}
    if not properties:
        return dict(known)
    required: Sequence[str] = schema.get("required") or []
    arguments: dict[str, Any] = {}
    for key, part in properties.items():
        value = _known_value(key, known)
        if value is not None:
            arguments[key] = str(value) if "string" in _types(part) else value
        elif key in required:
            arguments[key] = _nothing(part)
    return arguments


def _known_value(key: str, known: Mapping[str, Any]) -> Any:
    folded = key.lower()
    if re.search(r"nombre|name", folded):
        return known.get("nombre")
    if re.search(r"inter|busca|descripci|detalle|motivo|request", folded):
        return known.get("interes")
    if re.search(r"(?:^|_)id$|numero|number", folded):
        return known.get("id")
    return None


def _types(part: Mapping[str, Any]) -> list[str]:
    kind = part.get("type", "string")
    return kind if isinstance(kind, list) else [kind]


def _nothing(part: Mapping[str, Any]) -> Any:
    if part.get("enum"):
        return part["enum"][0]
    kinds = _types(part)
    if "null" in kinds:
        return None
    empty: dict[str, Any] = {
        "integer": 0,
        "number": 0,
        "boolean": False,
        "array": [],
        "object": {},
    }
    return empty.get(kinds[0], "")


def _find(value: Any, key: str) -> Any:
    """The first value of `key` anywhere in JSON, outermost first; None when there is none."""
    if isinstance(value, dict):
        if value.get(key) is not None:
            return value[key]
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            found = _find(part, key)
            if found is not None:
                return found
    return None


def _name(words: str) -> str | None:
    found = _NAME.search(words)
    if not found:
        return None
    first = found.group(1) or found.group(2)
    return first[0].upper() + first[1:] + found.group(3)


def _interest(words: str) -> str | None:
    found = _INTEREST.search(words)
    return found.group(1).strip(" ,") if found else None


def _number(words: str) -> str | None:
    found = _NUMBER.search(words)
    return found.group(1) if found else None


def _last(read: Callable[[str], str | None], texts: Sequence[str]) -> str | None:
    """What `read` finds in the newest text that has it."""
    for words in reversed(texts):
        found = read(words)
        if found:
            return found
    return None
