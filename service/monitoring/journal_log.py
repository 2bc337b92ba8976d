"""The service's log out of systemd's journal: JSON lines of structlog, and whatever else was printed.

Lines are found by their identifiers, not by units: a unit has its release in its name, and the next
release's lines are to be seen too. Source: journalctl(1), journalctl's own messages of systemd 252.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Collection, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

IDENTIFIERS = ("horizonai-bots-web", "horizonai-bots-worker", "horizonai-bots-probe")
LEVELS = ("debug", "info", "warning", "error", "critical")
_FIRST = ("timestamp", "level", "event", "logger")
_FORBIDDEN = (
    "insufficient permissions",
    "not seeing messages from other users",
    "Permission denied",
)
_EMPTY = ("No journal files were found", "No entries", "No data available")


class JournalError(Exception):
    """The journal cannot be read; the message is a sentence that says what to do."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the log; `fields` is None for one that is no JSON object."""

    raw: str
    fields: Mapping[str, Any] | None

    def concerns(self, bot_ids: Collection[str]) -> bool:
        """Whether the line names one of these bots."""
        return self.fields is not None and self.fields.get("bot_id") in bot_ids

    def is_at_least(self, level: str) -> bool:
        """Whether it is as grave; a line that tells no level is."""
        own = None if self.fields is None else self.fields.get("level")
        return own not in LEVELS or LEVELS.index(str(own)) >= LEVELS.index(level)

    def text(self, zone: ZoneInfo) -> str:
        """For people: time, level, event, then the rest as name=value; control characters replaced."""
        if self.fields is None:
            return printable(self.raw)
        fields = self.fields
        rest = (f"{name}={_value(fields[name])}" for name in fields if name not in _FIRST)
        head = (_time(fields.get("timestamp"), zone), f"{fields.get('level', ''):<8}")
        return printable(" ".join((*head, str(fields.get("event", "")), *rest)))


def lines(
    *,
    count: int | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    newest_first: bool = False,
    follow: bool = False,
) -> Generator[Line, None, None]:
    """The log's last `count` lines, or those of a time; with `follow` also those to come, forever.

    Raises:
        JournalError: journalctl is missing, or may not read the journal.
    """
    program = shutil.which("journalctl")
    if program is None:
        raise JournalError(
            "There is no journalctl on this host: processes that systemd does not run write their log "
            "to their own standard output."
        )
    command = [program, "--output=cat", "--no-pager"]
    command += [f"--identifier={identifier}" for identifier in IDENTIFIERS]
    command += [] if count is None else [f"--lines={count}"]
    command += [] if since is None else [f"--since=@{since.timestamp():.6f}"]
    command += [] if until is None else [f"--until=@{until.timestamp():.6f}"]
    command += ["--reverse"] if newest_first else []
    command += ["--follow", "--no-tail"] if follow else []
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
    ) as process:
        seen = 0
        try:
            for line in process.stdout or ():
                text = line.rstrip("\n")
                if text and text != "-- No entries --":
                    seen += 1
                    yield parse(text)
        except BaseException:
            # Whoever has seen enough closes this generator.
            process.terminate()
            raise
        complaint = (process.stderr.read() if process.stderr is not None else "").strip()
        _judge(process.wait(), complaint, seen)


def last_lines(
    count: int, wanted: Callable[[Line], bool] | None, until: datetime, within: timedelta
) -> list[Line]:
    """The last `count` lines before a time, the oldest first; with a filter, those that pass it and are
    no older than `within`. Raises JournalError.
    """
    if count == 0:
        return []
    if wanted is None:
        return list(lines(count=count, until=until))
    newest = lines(since=until - within, until=until, newest_first=True)
    with closing(newest):
        found = list(islice(filter(wanted, newest), count))
    return found[::-1]


def parse(text: str) -> Line:
    """A line as it stands in the journal."""
    try:
        value = json.loads(text)
    except ValueError:
        return Line(text, None)
    return Line(text, value if isinstance(value, dict) else None)


def printable(text: str) -> str:
    """The text without what a terminal would obey: contacts and vendors may have written it."""
    return "".join(letter if letter.isprintable() else "�" for letter in text)


def _judge(code: int, complaint: str, seen: int) -> None:
    if any(words in complaint for words in _FORBIDDEN) and not seen:
        raise JournalError(
            "This user may not read the journal: run it as root (sudo horizonctl …), or as a member "
            "of the group systemd-journal."
        )
    if "No journal files were found" in complaint and not seen:
        raise JournalError("There is no journal on this host: is systemd-journald running?")
    if code != 0 and not any(words in complaint for words in _EMPTY):
        first = printable(complaint.split("\n", 1)[0]) or f"exit code {code}"
        raise JournalError(f"The journal cannot be read ({first}): look with `journalctl` itself.")


def _time(value: object, zone: ZoneInfo) -> str:
    try:
        return datetime.fromisoformat(str(value)).astimezone(zone).strftime("%Y-%m-%d %H:%M:%S")
    except ValueError:
        return str(value or "")


def _value(value: object) -> str:
    if isinstance(value, str) and value and " " not in value:
        return value
    return json.dumps(value, ensure_ascii=False)
