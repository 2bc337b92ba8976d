"""The assistant of a run: it repeats what it was asked, and what it does follows from the message.

Nothing is kept between calls, so a model that is asked again after a crash answers the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.demo.emulators.brains import tool_answers, turn_texts
from service.demo.emulators.replies import Reply, calls, text
from tests.chaos.checker import TOKEN

LEAD, VISIT, LIST = "create_lead", "book_visit", "list_leads"
ACTIONS: list[dict[str, Any]] = [
    {
        "name": LEAD,
        "method": "POST",
        "path": "/api/leads/",
        "body": {"nombre": "{nombre}", "interes": LEAD},
    },
    {
        "name": VISIT,
        "method": "POST",
        "path": "/api/leads/",
        "body": {"nombre": "{nombre}", "interes": VISIT},
        "idempotency": "key",
    },
    {"name": LIST, "method": "GET", "path": "/api/bot/control-status/", "query": {"telefono": "1"}},
]
BURST = 3
"""Messages that a contact writes one after the other, so that turns are put together."""
PARAGRAPHS = 3
PARAGRAPH_CHARS = 1_000
"""Two do not fit into one message, so each becomes a part."""


def words_of(token: str) -> str:
    """What a contact writes."""
    return f"mensaje {token}"


def chaos_brain(request: Mapping[str, Any]) -> Reply:
    """One tool call for the newest message of most turns, then the tokens of the turn.

    A third of the replies has several parts.
    """
    asked = [
        token
        for words in turn_texts(request)
        if words.startswith("mensaje ")
        for token in TOKEN.findall(words)
    ]
    if not asked:
        return text("…")
    newest = asked[-1]
    burst = int(newest.rpartition("-")[2]) // BURST
    if not tool_answers(request) and request.get("tool_choice") != "none":
        match burst % 4:
            case 0:
                return calls([(LEAD, {"nombre": newest})])
            case 1:
                return calls([(VISIT, {"nombre": newest})])
            case 2:
                return calls([(LIST, {})])
    answer = f"Recibido: {' '.join(dict.fromkeys(asked))}"
    if burst % 3:
        return text(answer)
    # Without tokens: only the first paragraph answers.
    more = (f"[{newest[3:]} {n}/{PARAGRAPHS}] ".ljust(PARAGRAPH_CHARS, "y") for n in range(2, 4))
    return text("\n\n".join([answer.ljust(PARAGRAPH_CHARS, "."), *more]))
