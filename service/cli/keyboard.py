"""Keys one by one, as they are pressed. The terminal is as before when it ends."""

from __future__ import annotations

import os
import select
import sys
import termios
import tty
from types import TracebackType
from typing import Self

UP, DOWN, ENTER, ENDED = "up", "down", "enter", "ended"
_SEQUENCES = {
    b"\x1b[A": UP,
    b"\x1bOA": UP,
    b"\x1b[B": DOWN,
    b"\x1bOB": DOWN,
    b"\r": ENTER,
    b"\n": ENTER,
    b"k": UP,
    b"j": DOWN,
}
_LONGEST = 16


class Keyboard:
    """The terminal on standard input. Ctrl-C stays what it is: KeyboardInterrupt."""

    def __enter__(self) -> Self:
        self._descriptor = sys.stdin.fileno()
        self._before = termios.tcgetattr(self._descriptor)
        tty.setcbreak(self._descriptor)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._before)

    def read(self, wait_s: float) -> str | None:
        """The next key; None when none was pressed in this time, ENDED when the terminal is gone."""
        ready, _, _ = select.select([self._descriptor], [], [], wait_s)
        if not ready:
            return None
        first = os.read(self._descriptor, 1)
        if not first:
            return ENDED
        key = first + (self._rest_of_sequence() if first == b"\x1b" else b"")
        return _SEQUENCES.get(key) or key.decode(errors="replace")

    def _rest_of_sequence(self) -> bytes:
        """What follows Escape at once, up to the end of one key: the next may be there already."""
        found = b""
        while len(found) < _LONGEST and select.select([self._descriptor], [], [], 0.02)[0]:
            letter = os.read(self._descriptor, 1)
            found += letter
            if not letter or (len(found) > 1 and b"@" <= letter <= b"~"):
                break
        return found
