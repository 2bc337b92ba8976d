"""The spool: accepted messages on disk while Redis is away. One folder a host, one file a message.

A message is in the spool once its file has its final name and the folder is synced. File names sort
in the order of acceptance. One replayer a host (a file lock) empties it in that order.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import orjson
import structlog

from service.conversation.event import decode
from service.conversation.mailbox import Inbound
from service.conversation.outage import OutageError

_log = structlog.get_logger(__name__)

_SUFFIX = ".msg"
_TEMPORARY = ".tmp-"
_EMPTY, _MARKED = 0, 1
"""The byte that all processes of the host share; written under the order's lock."""
_CORRUPT = ".corrupt"
_STALE_PROBE_S = 3600
_SIZE_AGE_S = 1.0


class SpoolFullError(OutageError):
    """The spool cannot take the message: its folder is full, read only or at its limit."""


class Spool:
    """Raises SpoolFullError where a message cannot be kept; nothing else is swallowed."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._size = (0, 0.0)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._waiting = _shared_byte(folder / ".waiting")
        if self._names():
            self._waiting[0] = _MARKED

    def __bool__(self) -> bool:
        """Whether a message may lie in it. No system call: it is on the way of every message."""
        return self._waiting[0] != _EMPTY

    def put(self, inbound: Inbound) -> None:
        """Keep the message for good, after every message that was kept before. Raises SpoolFullError."""
        body = orjson.dumps(
            {
                "client": inbound.client_id,
                "number": inbound.number,
                "sender": inbound.sender,
                "external": inbound.external_id,
                "event": inbound.event.raw.decode(),
            }
        )
        try:
            with self._lock, self._order_lock() as last:
                self._check_size(len(body))
                name = f"{max(time.time_ns(), last + 1):020d}"
                self._waiting[0] = _MARKED
                self._write(name, body)
                self._remember(name)
        except OSError as error:
            raise SpoolFullError(f"the spool cannot be written: {error.strerror}") from error

    def check(self) -> None:
        """See that a message could be kept. Raises SpoolFullError."""
        probe = self._folder / f"{_TEMPORARY}probe-{os.getpid()}-{threading.get_ident()}"
        try:
            with self._lock:
                self._check_size(1)
                probe.write_bytes(b"probe")
                probe.unlink()
        except OSError as error:
            raise SpoolFullError(f"the spool cannot be written: {error.strerror}") from error

    def _check_size(self, more_bytes: int) -> None:
        # Measured once a second: a folder of many thousand files is slow to sum up.
        size, measured_at = self._size
        if time.monotonic() - measured_at > _SIZE_AGE_S:
            size, measured_at = self.size_bytes(), time.monotonic()
        if size + more_bytes > self._max_bytes:
            raise SpoolFullError(
                f"the spool has reached {self._max_bytes // 2**20} MB (SPOOL_MAX_MB)"
            )
        self._size = (size + more_bytes, measured_at)

    def size_bytes(self) -> int:
        total = 0
        with os.scandir(self._folder) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    total += entry.stat().st_size
        return total

    def depth(self) -> int:
        """How many messages lie in it."""
        return len(self._names())

    def replay(self, accept: Callable[[Inbound], object]) -> int:
        """Hand every message to `accept`, oldest first, and remove it. Returns how many.

        Does nothing while another process of this host replays. What `accept` raises ends it: the
        message stays and is first again next time.
        """
        with self._replay_lock() as ours:
            if not ours:
                return 0
            self._remove_stale()
            handed = 0
            # Messages arrive while this runs: look again until none is left.
            while names := self._names_or_done():
                for name in names:
                    path = self._folder / name
                    try:
                        inbound = _inbound(path.read_bytes())
                    except (ValueError, KeyError, TypeError, AttributeError):
                        _log.error("spool_entry_unreadable", file=name, kept_as=name + _CORRUPT)
                        path.rename(path.with_name(name + _CORRUPT))
                        continue
                    accept(inbound)
                    path.unlink()
                    handed += 1
            return handed

    def _names_or_done(self) -> list[str]:
        """The messages that wait; when there is none, the mark is taken away."""
        names = self._names()
        if not names:
            with self._order_lock():
                names = self._names()
                if not names:
                    self._waiting[0] = _EMPTY
        return names

    def _names(self) -> list[str]:
        with os.scandir(self._folder) as entries:
            return sorted(entry.name for entry in entries if entry.name.endswith(_SUFFIX))

    def _write(self, name: str, body: bytes) -> None:
        temporary = self._folder / f"{_TEMPORARY}{name}"
        try:
            with open(temporary, "wb") as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
            os.rename(temporary, self._folder / (name + _SUFFIX))
        except OSError:
            with suppress(OSError):
                temporary.unlink()
            raise
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    @contextmanager
    def _order_lock(self) -> Iterator[int]:
        """Hold the host's order; yields the highest name given so far, whatever the clock says."""
        with open(self._folder / ".order", "a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            text = file.read(20)
            if len(text) == 20 and text.isdigit():
                yield int(text)
            else:
                yield max((int(name.split(".")[0]) for name in self._names()), default=0)

    def _remember(self, name: str) -> None:
        with open(self._folder / ".order", "r+b") as file:
            file.write(name.encode())

    @contextmanager
    def _replay_lock(self) -> Iterator[bool]:
        with open(self._folder / ".replay", "ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True

    def _remove_stale(self) -> None:
        # Messages are written under the order's lock: what lies there now was left by a killed writer.
        with self._order_lock():
            for path in self._folder.glob(f"{_TEMPORARY}[0-9]*"):
                path.unlink()
        for path in self._folder.glob(f"{_TEMPORARY}probe-*"):
            with suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > _STALE_PROBE_S:
                    path.unlink()


def depth_of(folder: Path) -> int | None:
    """How many messages lie in a host's spool, which is neither made nor opened; None: cannot be told."""
    try:
        with os.scandir(folder) as entries:
            return sum(entry.name.endswith(_SUFFIX) for entry in entries)
    except FileNotFoundError:
        return 0
    except OSError:
        return None


def _shared_byte(path: Path) -> mmap.mmap:
    with open(path, "a+b") as file:
        if file.tell() == 0:
            file.write(bytes([_EMPTY]))
            file.flush()
        return mmap.mmap(file.fileno(), 1)


def _inbound(body: bytes) -> Inbound:
    data = orjson.loads(body)
    return Inbound(
        event=decode(data["event"].encode()),
        client_id=data["client"],
        number=data["number"],
        sender=data["sender"],
        external_id=data["external"],
    )
