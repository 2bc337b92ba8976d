"""A process of the demonstration that ends with it, however it ends.

On Linux the kernel sees to that, also after SIGKILL. On other systems a
killed demonstration leaves them running; they hold its lock, so that a second one says so.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from service.demo.errors import DemoError
from service.parent import ends_with_parent

START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 5.0
_POLL_S = 0.02


class Child:
    """One process with a log of its own. The thread that starts it must outlive it."""

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        folder: Path,
        environment: Mapping[str, str],
        keep_open: int,
        end_with: signal.Signals = signal.SIGKILL,
    ) -> None:
        """Start it. `keep_open` is a descriptor that it shares for as long as it lives.

        Raises:
            DemoError: the command cannot be run.
        """
        self.name = name
        self.log = folder / f"{name}.log"
        self._is_asked = False
        try:
            with self.log.open("wb") as log:
                self._process = subprocess.Popen(
                    command,
                    cwd=folder,
                    env=dict(environment),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=(keep_open,),
                    # Ctrl-C at the terminal is for the demonstration, which then stops its children.
                    start_new_session=True,
                    preexec_fn=ends_with_parent(end_with),
                )
        except OSError as error:
            raise DemoError(f"{command[0]} cannot be run: {error.strerror}.") from error

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_for(self, condition: Callable[[], bool], what: str) -> None:
        """Return once `condition()` holds.

        Raises:
            DemoError: the process ended, or it takes too long.
        """
        deadline = time.monotonic() + START_TIMEOUT_S
        while not condition():
            if self._process.poll() is not None:
                raise DemoError(f"{what}: {self.name} ended. {self._last_words()}")
            if time.monotonic() > deadline:
                raise DemoError(f"{what}: not within {START_TIMEOUT_S:.0f} s. See {self.log}.")
            time.sleep(_POLL_S)

    def ask_to_stop(self) -> None:
        """Begin its ordinary end; asked once, however often this is called."""
        if not self._is_asked:
            self._is_asked = True
            self._process.terminate()

    def stop(self) -> None:
        """Return when it and its own children have ended; what does not end in time is killed."""
        self.ask_to_stop()
        deadline = time.monotonic() + _STOP_TIMEOUT_S
        while not self._has_ended() and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        self.kill()

    def kill(self) -> None:
        """End it and its own children at once."""
        # Before it is reaped: until then its number is that of its process group and of no other.
        if self._process.returncode is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _has_ended(self) -> bool:
        if self._process.returncode is not None:
            return True
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self._process.pid, options) is not None

    def _last_words(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return f"Its log {self.log} ends with: {lines[-1][:300]}" if lines else f"See {self.log}."
