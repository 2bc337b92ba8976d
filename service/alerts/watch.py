"""One check: what changed since the last one becomes messages, and messages that wait are delivered.

A message is remembered before it is delivered and forgotten after: a killed check delivers it again,
with the same `id`, rather than never.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from service.alerts import texts
from service.alerts.channels import Channel, DeliveryError
from service.alerts.findings import Condition, Findings
from service.alerts.memory import MOST_WAITING, Memory, MemoryFile, Open, Waiting


@dataclass(frozen=True, slots=True)
class Sender:
    """What every message carries: who speaks, in which language, for which service."""

    host: str
    domain: str
    language: texts.Language

    def message(
        self,
        event: texts.Event,
        kind: str,
        subject: str,
        facts: Mapping[str, Any],
        since: str,
        at: str,
    ) -> dict[str, Any]:
        """The JSON that is delivered."""
        return {
            "id": secrets.token_hex(8),
            "event": event,
            "kind": kind,
            "subject": subject,
            "host": self.host,
            "domain": self.domain,
            "since": since,
            "at": at,
            "title": texts.title(self.language, event, kind, subject, self.host),
            "text": texts.text(self.language, event, kind, subject, facts),
            "facts": dict(facts),
        }


@dataclass(slots=True)
class Report:
    """What a check did. `failures` by channel: a sentence each; `dropped` messages went unread."""

    open: Mapping[str, Open] = field(default_factory=dict)
    new: list[dict[str, Any]] = field(default_factory=list)
    delivered: int = 0
    waiting: int = 0
    dropped: int = 0
    failures: dict[str, str] = field(default_factory=dict)


def check(
    file: MemoryFile,
    findings: Findings,
    channels: Sequence[Channel],
    sender: Sender,
    now: datetime,
) -> Report:
    """Compare, remember, deliver. Raises MemoryFileError."""
    report = Report()
    with file.locked():
        memory = file.read()
        report.new = _changes(memory, findings, sender, now.isoformat(timespec="seconds"))
        names = [channel.name for channel in channels]
        memory.waiting = [
            Waiting(channels=kept, message=one.message)
            for one in memory.waiting
            if (kept := [name for name in one.channels if name in names])
        ]
        memory.waiting += [Waiting(channels=list(names), message=message) for message in report.new]
        report.dropped = max(0, len(memory.waiting) - MOST_WAITING)
        memory.waiting = memory.waiting[report.dropped :]
        file.write(memory)
        for channel in channels:
            _deliver(file, memory, channel, report)
        report.open = memory.open
        report.waiting = len(memory.waiting)
    return report


def _changes(memory: Memory, findings: Findings, sender: Sender, at: str) -> list[dict[str, Any]]:
    """Messages about what is new and what is over; `memory.open` becomes what is wrong now."""
    now = {condition.key: condition for condition in findings.conditions}
    messages = []
    for key, condition in now.items():
        before = memory.open.get(key)
        if before is None and not condition.begins:
            continue
        since = at if before is None else before.since
        cases = condition.items - frozenset(before.items if before is not None else ())
        facts = {**condition.facts, **({"new": len(cases)} if condition.items else {})}
        memory.open[key] = _open(condition, since)
        if before is None or cases:
            messages.append(
                sender.message("firing", condition.kind, condition.subject, facts, since, at)
            )
    for key, before in list(memory.open.items()):
        if key in now or before.kind in findings.unknown:
            continue
        del memory.open[key]
        messages.append(
            sender.message("resolved", before.kind, before.subject, before.facts, before.since, at)
        )
    return messages


def _open(condition: Condition, since: str) -> Open:
    return Open(
        kind=condition.kind,
        subject=condition.subject,
        since=since,
        facts=dict(condition.facts),
        items=sorted(condition.items),
    )


def _deliver(file: MemoryFile, memory: Memory, channel: Channel, report: Report) -> None:
    """In order; after a failure the channel's rest waits for the next check."""
    for one in list(memory.waiting):
        if channel.name not in one.channels:
            continue
        try:
            channel.deliver(one.message)
        except DeliveryError as error:
            report.failures[channel.name] = str(error)
            return
        report.delivered += 1
        one.channels.remove(channel.name)
        if not one.channels:
            memory.waiting.remove(one)
        file.write(memory)
