"""What alerts remember from check to check: what is wrong, and what could not be delivered yet.

One small file, written whole or not at all, for its owner only. Only Python's own library: hosts
without the service run this too.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

MOST_WAITING = 500
"""Messages that wait for a channel that is away; beyond them the oldest go."""
_VERSION = 1


class MemoryFileError(Exception):
    """The file cannot be read or written; the message is a sentence."""


@dataclass(slots=True)
class Open:
    """A condition that holds; `since` is ISO 8601."""

    kind: str
    subject: str
    since: str
    facts: dict[str, Any] = field(default_factory=dict)
    items: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Waiting:
    """A message and the channels that have not taken it yet."""

    channels: list[str]
    message: dict[str, Any]


@dataclass(slots=True)
class Memory:
    """`open` by the condition's key; `waiting` in the order of what happened."""

    open: dict[str, Open] = field(default_factory=dict)
    waiting: list[Waiting] = field(default_factory=list)

    @classmethod
    def from_json(cls, raw: bytes) -> Memory:
        """Raises ValueError, KeyError, TypeError or AttributeError when it is no file of ours."""
        told = json.loads(raw)
        if told["version"] != _VERSION:
            raise ValueError(told["version"])
        return cls(
            {str(key): Open(**one) for key, one in told["open"].items()},
            [Waiting(**one) for one in told["waiting"]],
        )

    def to_json(self) -> bytes:
        """The file's content."""
        return json.dumps({"version": _VERSION, **asdict(self)}, ensure_ascii=False).encode()


@dataclass(slots=True)
class MemoryFile:
    """`notes` are sentences about what happened to the file."""

    path: Path
    notes: list[str] = field(default_factory=list)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One check at a time. Raises MemoryFileError."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(
                self.path.with_name(f"{self.path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600
            )
        except OSError as error:
            raise self._failed("used", error) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def read(self) -> Memory:
        """What is remembered; nothing when there is no file. Raises MemoryFileError.

        What is no file of ours is put aside: then everything that is wrong is told once more.
        """
        try:
            raw = self.path.read_bytes()
        except FileNotFoundError:
            return Memory()
        except OSError as error:
            raise self._failed("read", error) from None
        try:
            return Memory.from_json(raw)
        except (ValueError, KeyError, TypeError, AttributeError):
            aside = self.path.with_name(f"{self.path.name}.unreadable")
            try:
                self.path.replace(aside)
            except OSError as error:
                raise self._failed("put aside", error) from None
            self.notes.append(f"{self.path} could not be understood and is {aside.name} now.")
            return Memory()

    def write(self, memory: Memory) -> None:
        """Replace the file. Raises MemoryFileError."""
        new = self.path.with_name(f".{self.path.name}.new")
        try:
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with open(descriptor, "wb") as file:
                file.write(memory.to_json())
                file.flush()
                os.fsync(file.fileno())
            new.replace(self.path)
        except OSError as error:
            raise self._failed("written", error) from None

    def _failed(self, what: str, error: OSError) -> MemoryFileError:
        return MemoryFileError(
            f"{self.path} cannot be {what} ({error.strerror}): correct ALERT_STATE_FILE or the "
            "rights of its folder."
        )


def waiting_for(memory: Memory) -> Mapping[str, int]:
    """How many messages wait for each channel."""
    counted: dict[str, int] = {}
    for one in memory.waiting:
        for channel in one.channels:
            counted[channel] = counted.get(channel, 0) + 1
    return counted
