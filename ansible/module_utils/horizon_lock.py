"""What changes the releases or the data of a host does so alone.

The lock is the kernel's: it ends with the process that has it, however that ends. What the file says
only tells the next one who that is. `horizon_backup` takes the same lock for a restore.

Standard library only: this runs on the hosts.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


class BusyError(Exception):
    """Another one has the lock; the text says who, and what to do."""


@contextmanager
def alone(state: Path, what: str) -> Iterator[None]:
    """Nothing else of this kind runs meanwhile; `what` like "A deploy". Raises BusyError."""
    with open(state / "lock", "a+", encoding="utf-8") as file:
        _take(file)
        file.truncate(0)
        since = time.strftime("%H:%M UTC", time.gmtime())
        file.write(json.dumps({"what": what, "since": since, "pid": os.getpid()}))
        file.flush()
        yield


def check_free(state: Path) -> None:
    """Raises BusyError when something runs now."""
    try:
        with open(state / "lock", encoding="utf-8") as file:
            _take(file)
    except FileNotFoundError:
        pass


def _take(file: TextIO) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        raise BusyError(holder(file.read())) from None


def holder(text: str) -> str:
    """The sentence for whoever finds the lock taken, from what is written in it."""
    try:
        told = json.loads(text)
        who = f"{told['what']} runs on this host since {told['since']} (process {told['pid']})."
        look = f"`sudo ps -fp {told['pid']}` shows whether it still works"
    except (ValueError, TypeError, KeyError):
        # It took the lock a moment ago, or is of an older release.
        who = "A deploy or a restore runs on this host."
        look = "`sudo lslocks` shows its process"
    return f"{who} Remedy: wait until it has ended ({look}), then run this again."
