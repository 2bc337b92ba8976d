"""The sockets of a web process: systemd's or those of WEB_BIND, and one that is its own.

During a deploy two releases share the listening socket, so an answer on it does not tell whose it
is. On its private socket a process answers alone.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

from gunicorn import sock, systemd

_BACKLOG = 64
_MODE_MASK = 0o117
_LONGEST_PATH = 107
"""Bytes that the kernel takes as the path of a Unix socket (unix(7): 108 with the final NUL)."""


class SocketError(Exception):
    """The private socket cannot be made; the message is a sentence."""


class PrivateSocket:
    """A Unix socket with mode 0660, made at once; its file goes when the process ends."""

    def __init__(self, path: Path) -> None:
        """Raises SocketError: a live process listens there, or nothing can be made there."""
        self._path = path
        if len(os.fsencode(path)) > _LONGEST_PATH:
            raise SocketError(
                f"The path of the private socket has more than {_LONGEST_PATH} bytes: {path}."
            )
        try:
            self._remove_stale()
            self._socket = socket.socket(socket.AF_UNIX)
            mask = os.umask(_MODE_MASK)
            try:
                self._socket.bind(os.fspath(path))
            finally:
                os.umask(mask)
            self._socket.listen(_BACKLOG)
            self._inode = path.stat().st_ino
        except OSError as error:
            raise SocketError(
                f"The private socket {path} cannot be made: {error.strerror or error}."
            ) from error

    def listener(self, config: Any, log: Any) -> Any:
        """gunicorn's object for it, which takes the descriptor over."""
        return sock.UnixSocket(os.fspath(self._path), config, log, fd=self._socket.detach())

    def remove(self) -> None:
        """Remove the file, unless another process has made its own there since."""
        with suppress(FileNotFoundError):
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()

    def _remove_stale(self) -> None:
        try:
            is_socket = stat.S_ISSOCK(self._path.lstat().st_mode)
        except FileNotFoundError:
            return
        if not is_socket:
            raise SocketError(
                f"{self._path} exists and is no socket: name another path for the private socket."
            )
        with socket.socket(socket.AF_UNIX) as client:
            client.setblocking(False)
            code = client.connect_ex(os.fspath(self._path))
        # A full backlog refuses too, with EAGAIN: somebody owns it.
        if code != errno.ECONNREFUSED:
            raise SocketError(
                f"A live process listens on {self._path}: end it first, or name another path."
            )
        self._path.unlink()


def listen(arbiter: Any, private: PrivateSocket | None, *, alone: bool = False) -> None:
    """Give gunicorn its listening sockets before it makes its own; the private one `alone` if wanted.

    Its `create_sockets` leaves out every address as soon as one descriptor is given, so a private
    socket beside WEB_BIND has to be added here. At its end it removes the files of all its Unix
    sockets, unless systemd passed them: a descriptor that was passed in any way is not ours.
    """
    config, log = arbiter.cfg, arbiter.log
    if private is not None and alone:
        arbiter.LISTENERS = [private.listener(config, log)]
        return
    first = systemd.SD_LISTEN_FDS_START
    passed = range(first, first + systemd.listen_fds())
    named = [address for address in config.address if isinstance(address, int)]
    arbiter.systemd = bool(passed or named)
    arbiter.LISTENERS = sock.create_sockets(config, log, [fd for fd in passed if fd not in named])
    if private is not None:
        arbiter.LISTENERS.append(private.listener(config, log))
