"""`horizonctl web` as a process of its own, on sockets that a test holds as systemd does."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any, Self

import orjson

from service.cli.http import ask_socket
from tests.server_process import PATIENCE_S, wait_until

ROOT = Path(__file__).parents[1]

AS_SYSTEMD = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.executable, [sys.executable, "-m", "service", "web", *sys.argv[2:]])
"""
"""sd_listen_fds(3): the sockets come from number 3 on, and LISTEN_PID is the process's own."""


class WebProcess:
    """One release. `shared` is passed the systemd way; without it WEB_BIND or `--bind` holds."""

    def __init__(
        self,
        variables: Mapping[str, str],
        *options: str,
        shared: socket.socket | None = None,
        private: Path | None = None,
    ) -> None:
        self.private = private
        words = [*options, *(("--private-socket", str(private)) if private else ())]
        command = [sys.executable, "-m", "service", "web", *words]
        if shared is not None:
            command = [sys.executable, "-c", AS_SYSTEMD, str(shared.fileno()), *words]
        self.process = subprocess.Popen(
            command,
            env={**os.environ, "WEB_WORKERS": "1", **variables, "PYTHONPATH": str(ROOT)},
            pass_fds=() if shared is None else (shared.fileno(),),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.output: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._reader.join(PATIENCE_S)

    def wait_until_ready(self) -> Self:
        def ready() -> bool:
            if self.process.poll() is not None:
                raise AssertionError("".join(self.output))
            try:
                return self.ask("/health/ready")[0] == 200
            except (OSError, HTTPException):
                return False

        wait_until(ready, "ready web process")
        return self

    def ask(self, target: str, **options: Any) -> tuple[int, bytes]:
        """On the private socket."""
        return ask_socket(str(self.private), target, PATIENCE_S, **options)

    def release(self, path: Path | None = None) -> str:
        """The release that answers, on the private socket or on another."""
        _, body = ask_socket(str(path or self.private), "/health", PATIENCE_S)
        release: str = orjson.loads(body)["release"]
        return release

    def stop(self) -> int:
        """The exit code after SIGTERM."""
        self.process.terminate()
        return self.process.wait(PATIENCE_S)

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            self.output.extend(lines)


@contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    """The socket that outlives every release."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(2048)
        yield listener


@dataclass
class Load:
    """Requests one after another, each on a new connection, from `clients` threads."""

    path: Path
    clients: int = 3
    failures: list[str] = field(default_factory=list)
    asked: int = 0
    _stopping: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self._threads = [threading.Thread(target=self._send) for _ in range(self.clients)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, more: int) -> None:
        """Until this many more were answered."""
        until = self.asked + more
        wait_until(lambda: self.asked >= until, f"{more} answers")

    def _send(self) -> None:
        while not self._stopping.is_set():
            try:
                answer = ask_socket(str(self.path), "/webhook/whatsapp", PATIENCE_S)
                if answer != (200, b"ok"):
                    self.failures.append(str(answer))
            except (OSError, HTTPException) as error:
                self.failures.append(repr(error))
            self.asked += 1
            time.sleep(0.01)
