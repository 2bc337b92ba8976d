"""The demonstration's folder: one at a time works in it, and it keeps the keys between runs."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shlex
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from cryptography.fernet import Fernet

from service.demo.errors import DemoError

_LOCK_WAIT_S = 15.0
_POLL_S = 0.05


class DemoFolder:
    """Data, logs and the file `env` with the settings, which a shell can source."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.env_file = self.path / "env"

    @contextmanager
    def locked(self) -> Iterator[int]:
        """Hold the folder; the descriptor is for the children, so that it is held until all ended.

        Raises:
            DemoError: another demonstration runs in it, or it cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise DemoError(
                f"The folder {self.path} cannot be used ({error.strerror}): name another with "
                "--data-dir."
            ) from error
        try:
            self._acquire(lock)
            os.ftruncate(lock, 0)
            os.pwrite(lock, str(os.getpid()).encode(), 0)
            yield lock
        finally:
            os.close(lock)

    def known(self) -> dict[str, str]:
        """The settings of the last run; empty for the first."""
        try:
            words = shlex.split(self.env_file.read_text(), comments=True)
        except (OSError, ValueError):
            return {}
        return dict(word.split("=", 1) for word in words if "=" in word)

    def keys(self) -> dict[str, str]:
        """SECRET_KEY and ADMIN_API_KEY, made once."""
        known = self.known()
        return {
            "SECRET_KEY": known.get("SECRET_KEY") or Fernet.generate_key().decode(),
            "ADMIN_API_KEY": known.get("ADMIN_API_KEY") or secrets.token_urlsafe(36),
        }

    def keep(self, settings: Mapping[str, str]) -> None:
        """Write `env` in one step, readable by this user only."""
        lines = [f"export {name}={shlex.quote(value)}" for name, value in settings.items()]
        temporary = self.env_file.with_suffix(".new")
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write("\n".join(lines) + "\n")
        temporary.replace(self.env_file)

    def _acquire(self, lock: int) -> None:
        deadline = time.monotonic() + _LOCK_WAIT_S
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            # Its children may take a moment to follow a demonstration that was killed.
            if _is_alive(os.pread(lock, 20, 0)) or time.monotonic() > deadline:
                raise DemoError(
                    f"A demonstration runs in {self.path} already: end it, or name another folder "
                    "with --data-dir."
                )
            time.sleep(_POLL_S)


def _is_alive(pid: bytes) -> bool:
    if not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
