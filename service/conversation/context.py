"""What the model is told: the assistant's instructions, the time, and what was said before."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

import orjson

from service.conversation.bot import Bot
from service.conversation.describe import describe
from service.conversation.policy import TurnLimits
from service.conversation.ports import Item
from service.conversation.turn import Text, Turn

_CHARS_PER_TOKEN = 3
_TOKENS_PER_MESSAGE = 4


def instructions(bot: Bot, now: datetime) -> str:
    """The assistant's instructions, then the date and time where the bot's client is.

    What changes comes last: everything before it can be cached by the vendor.
    """
    local = now.astimezone(ZoneInfo(bot.timezone))
    return (
        f"{bot.assistant.instructions}\n\n"
        f"Current date and time: {local:%A} {local:%Y-%m-%d %H:%M} ({bot.timezone})."
    )


def context_items(texts: Sequence[Text], limits: TurnLimits) -> list[Item]:
    """The newest texts within the limits, as input items, oldest first."""
    return [_item(text) for text in newest(texts, limits)]


def turn_items(turn: Turn) -> list[Item]:
    """The turn's own messages as input items."""
    return [{"role": "user", "content": describe(event)} for event in turn.events]


def newest(texts: Sequence[Text], limits: TurnLimits) -> list[Text]:
    """The last texts that fit: at most `context_messages` and about `context_tokens`."""
    kept: list[Text] = []
    tokens = 0
    for text in reversed(texts[-limits.context_messages :]):
        tokens += len(text.text) // _CHARS_PER_TOKEN + _TOKENS_PER_MESSAGE
        if tokens > limits.context_tokens:
            break
        kept.append(text)
    return kept[::-1]


def turn_texts(turn: Turn, notes: Sequence[str], reply: str | None) -> list[Text]:
    """What this turn adds to the conversation, the contact's own messages included."""
    texts = [Text("in", describe(event)) for event in turn.events]
    texts += [Text("note", note) for note in notes]
    if reply is not None:
        texts.append(Text("out", reply))
    return texts


def encode_session(ordinal: int, texts: Sequence[Text]) -> bytes:
    """The context after turn `ordinal`, as Redis keeps it."""
    return orjson.dumps([ordinal, [[text.direction, text.text] for text in texts]])


def decode_session(raw: bytes, ordinal: int) -> list[Text] | None:
    """The context after turn `ordinal`; None when the session is of another turn."""
    held, texts = orjson.loads(raw)
    if held != ordinal:
        return None
    return [Text(direction, text) for direction, text in texts]


def _item(text: Text) -> Item:
    if text.direction == "out":
        return {"role": "assistant", "content": text.text}
    if text.direction == "note":
        # The user's role: data from outside must not speak with the operator's authority.
        return {"role": "user", "content": f"[note of the system, not of the contact: {text.text}]"}
    return {"role": "user", "content": text.text}
