"""Stops, on a machine, what a playbook runs there, in the middle of its work; prints the processes' ids.

`python3 - PATTERN [--new GLOB] [--half FOLDER MARKER] [--alone]`, as root. PATTERN is looked for in
command lines and in the names of open files. Standard library only: this runs on the machines.
"""

from __future__ import annotations

import argparse
import contextlib
import glob
import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

WITHIN_S = 180
INIT = (0, 1)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("pattern")
    parser.add_argument("--new", help="a file of this name appears first")
    parser.add_argument("--half", nargs=2, help="the marker is gone from the folder, not the rest")
    parser.add_argument("--alone", action="store_true", help="only those that match")
    given = parser.parse_args()
    reached = condition(given.new, given.half)
    pattern = re.compile(given.pattern)
    deadline = time.monotonic() + WITHIN_S
    ours = {os.getpid(), *above(os.getpid())}
    while time.monotonic() < deadline:
        found = [pid for pid in matching(pattern) if pid not in ours] if reached() else []
        if found:
            stopped = (
                found if given.alone else sorted({pid for each in found for pid in all_of(each)})
            )
            for pid in stopped:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP)
            # One that had come to its end meanwhile was not in the middle.
            if not reached() or any(pid not in matching(pattern) for pid in found):
                for pid in stopped:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                print("It ended before it could be stopped.", file=sys.stderr)
                return 1
            print(json.dumps({"pids": stopped, "words": [words(pid) for pid in stopped]}))
            return 0
        time.sleep(0.001)
    print("The moment did not come.", file=sys.stderr)
    return 1


def condition(new: str | None, half: list[str] | None) -> Callable[[], bool]:
    """Whether the moment is there."""
    before = set(glob.glob(new)) if new else set()
    # An open folder is followed wherever it is moved.
    folder = os.open(half[0], os.O_RDONLY | os.O_DIRECTORY) if half else -1

    def reached() -> bool:
        if new and not set(glob.glob(new)) - before:
            return False
        if half:
            names = os.listdir(folder)
            return bool(names) and half[1] not in names
        return True

    return reached


def processes() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


def words(pid: int) -> str:
    try:
        return (
            Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        )
    except OSError:
        return ""


def matching(pattern: re.Pattern[str]) -> list[int]:
    """Those that have not ended."""
    return [pid for pid in processes() if pattern.search(words(pid)) or holds(pid, pattern)]


def holds(pid: int, pattern: re.Pattern[str]) -> bool:
    try:
        for file in os.scandir(f"/proc/{pid}/fd"):
            if pattern.search(os.readlink(file.path)):
                return True
    except OSError:
        pass
    return False


def parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def above(pid: int) -> list[int]:
    found = []
    while (pid := parent(pid)) not in INIT and not is_door(pid):
        found.append(pid)
    return found


def is_door(pid: int) -> bool:
    """Whether it is SSH's: stopped, it would let nobody in."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().startswith("sshd")
    except OSError:
        return False


def all_of(pid: int) -> list[int]:
    """The command that it belongs to, from what was called from outside down."""
    top = [pid, *above(pid)][-1]
    return [each for each in processes() if each == top or top in above(each)]


if __name__ == "__main__":
    sys.exit(main())
