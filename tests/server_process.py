"""A server of the tests: one process on a fixed port of loopback that can be made to fail."""

from __future__ import annotations

import ctypes
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

PATIENCE_S = 120.0
"""How long a test waits for what has to happen: so long that only a fault can use it up, however slow the
machine is. No test passes or fails by how long something took."""
_MEMORY_BYTES = 4 * 2**30
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)
_reserved_ports: list[socket.socket] = []


def memory_folder() -> Path | None:
    """A folder in memory, where there is one with room from which programs can be run.

    A disk that others keep busy takes seconds for what Redis or restic has to have on it.
    """
    memory = Path("/dev/shm")  # noqa: S108  # only folders that are ours are made there
    if not os.access(memory, os.W_OK) or os.statvfs(memory).f_flag & os.ST_NOEXEC:
        return None
    return memory if shutil.disk_usage(memory).free > _MEMORY_BYTES else None


def data_folder() -> Path:
    """A new folder for a server's data, which its caller removes: in memory where that is possible."""
    return Path(tempfile.mkdtemp(prefix="horizon-server-", dir=memory_folder()))


class ServerUnavailableError(Exception):
    """A server cannot be started on this machine; the message says why."""


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Return as soon as `condition()` holds. Raises TimeoutError that names `what`."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {PATIENCE_S:g} s: {what}")
        time.sleep(0.01)


def free_port() -> int:
    """A TCP port of loopback that nobody uses, and that no other test process is given.

    It lies below the range that Linux gives to outgoing connections (32768 and up): otherwise a
    client that keeps trying a stopped server can come to hold the server's port itself. A socket of
    the abstract namespace (unix(7)) reserves it until this process ends, also from test runs of other
    checkouts: a server that was stopped finds its port free when it starts again.
    """
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        reservation = socket.socket(socket.AF_UNIX)
        try:
            reservation.bind(f"\0horizon-test-port-{port}")
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
        except OSError:
            reservation.close()
            continue
        _reserved_ports.append(reservation)
        return port


def _die_with_parent() -> None:
    """Runs in the child: prctl(2), PR_SET_PDEATHSIG. The signal comes when the thread ends."""
    if sys.platform == "linux":
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class ServerProcess(ABC):
    """One server process on a fixed port of loopback, with its data in a folder of its own.

    The thread that starts it must live as long as it does (see `_die_with_parent`).
    """

    user: pwd.struct_passwd | None = None
    """Whom it runs as, when that is not the user of the tests."""

    def __init__(self) -> None:
        self.folder = data_folder()
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop it and forget its data."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def log(self) -> Path:
        """What the server printed."""
        return self.folder / "log"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it, on the same port and data as before, and return when it answers.

        Does nothing when it runs. Raises ServerUnavailableError.
        """
        if self.running:
            return
        command = self._command()
        with self.log.open("ab") as log:
            try:
                self._process = process = subprocess.Popen(
                    command,
                    cwd=self.folder,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    preexec_fn=_die_with_parent,
                    **self.identity(),
                )
            except OSError as error:
                raise ServerUnavailableError(f"{command[0]} cannot be run: {error}") from error
        try:
            wait_until(lambda: process.poll() is not None or self._answers(), "start")
        except TimeoutError:
            self.kill()
        if not self.running:
            tail = self.log.read_text(errors="replace")[-1000:]
            raise ServerUnavailableError(f"{command[0]} did not start: {tail}")

    def stop(self) -> None:
        """End it in good order; its data stays."""
        self._end(self._stop_signal())

    def kill(self) -> None:
        """End it as a crash does: SIGKILL."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Stop it from running: connections stay open and nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it run on after `pause`."""
        self._signal(signal.SIGCONT)

    def restart(self) -> None:
        """Stop and start, on the same port and data."""
        self.stop()
        self.start()

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(number)
        process.send_signal(signal.SIGCONT)
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is None:
            raise RuntimeError("the server does not run")
        self._process.send_signal(number)

    def identity(self) -> dict[str, Any]:
        """The arguments of `subprocess` that make a child run as `user`."""
        if self.user is None:
            return {}
        return {"user": self.user.pw_uid, "group": self.user.pw_gid, "extra_groups": []}

    def _stop_signal(self) -> signal.Signals:
        return signal.SIGTERM

    @abstractmethod
    def _command(self) -> Sequence[str | Path]:
        """The command; its data are ready. Raises ServerUnavailableError."""

    @abstractmethod
    def _answers(self) -> bool: ...
