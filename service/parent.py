"""Processes that end with the one that started them, however that one ends.

Source: prctl(2), PR_SET_PDEATHSIG.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


def ends_with_parent(end_with: signal.Signals) -> Callable[[], None]:
    """A `preexec_fn`: on Linux the child gets this signal when the thread that starts it ends."""
    parent = os.getpid()

    def ask_for_signal() -> None:
        if sys.platform == "linux":
            _LIBC.prctl(_PR_SET_PDEATHSIG, end_with)
            if os.getppid() != parent:
                os._exit(1)

    return ask_for_signal
