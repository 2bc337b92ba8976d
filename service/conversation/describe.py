"""What the assistant reads for a message: its text, and one line for everything that is not text."""

from __future__ import annotations

from collections.abc import Mapping

from service.conversation.event import Event

_MAX_MEDIA = 10
_MAX_COUNT_DIGITS = 4
_MAX_CHARS = 4_000


def describe(event: Event) -> str:
    """The text of a message with bracketed notes of its media, location, button and the like."""
    fields = event.fields
    lines = [*_media(fields), *_location(fields), *_reply(fields), *_referral(fields)]
    if text := event.text.strip():
        lines.append(text)
    if not lines:
        kind = fields.get("MessageType") or "unknown"
        lines.append(f"[message of type {kind[:40]} without text]")
    return "\n".join(lines)[:_MAX_CHARS]


def _media(fields: Mapping[str, str]) -> list[str]:
    count = fields.get("NumMedia", "0")
    if not (count.isdecimal() and len(count) <= _MAX_COUNT_DIGITS):
        return []
    return [
        f"[attached {fields.get(f'MediaContentType{i}', 'file')[:80]}, which cannot be opened here]"
        for i in range(min(int(count), _MAX_MEDIA))
    ]


def _location(fields: Mapping[str, str]) -> list[str]:
    if not (fields.get("Latitude") and fields.get("Longitude")):
        return []
    place = " ".join(filter(None, (fields.get("Label"), fields.get("Address"))))
    where = f"{fields['Latitude'][:20]}, {fields['Longitude'][:20]}"
    return [f"[location {where}{': ' + place[:200] if place else ''}]"]


def _reply(fields: Mapping[str, str]) -> list[str]:
    lines = []
    if fields.get("ButtonText") or fields.get("ButtonPayload"):
        shown = fields.get("ButtonText") or fields["ButtonPayload"]
        lines.append(f"[button pressed: {shown[:200]}]")
    if fields.get("ListTitle") or fields.get("ListId"):
        lines.append(f"[list item chosen: {(fields.get('ListTitle') or fields['ListId'])[:200]}]")
    for name, label in (("FlowData", "form filled in"), ("InteractiveData", "interactive answer")):
        if fields.get(name):
            lines.append(f"[{label}: {fields[name][:1000]}]")
    return lines


def _referral(fields: Mapping[str, str]) -> list[str]:
    if not (fields.get("ReferralHeadline") or fields.get("ReferralBody")):
        return []
    shown = " ".join(filter(None, (fields.get("ReferralHeadline"), fields.get("ReferralBody"))))
    return [f"[came from the advertisement: {shown[:300]}]"]
