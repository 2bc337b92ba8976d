"""Files that a person names on the command line, opened with that person's rights.

On a server horizonctl runs as the service's user, who may not enter the person's home and whose files
the person may not read. `roles/app/files/run_as_service` opens them then, as the person, and hands the
descriptors over. Elsewhere the process opens them itself. Standard library only.
"""

from __future__ import annotations

import json
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

VARIABLE = "HORIZONCTL_FILES"
"""Environment variable with the descriptor of the socket to `run_as_service`."""

_MAX_BYTES = 65_536


def open_named(path: Path) -> BinaryIO:
    """The file, open for reading. Raises OSError."""
    helper = _helper()
    return open(path if helper is None else _ask(helper, "read", path, replace=False), "rb")


@contextmanager
def writing_named(path: Path, *, replace: bool) -> Iterator[BinaryIO]:
    """A file for its owner alone, which is there in whole when the block ends, or not at all.

    Raises:
        FileExistsError: `replace` is false, and there is one.
        OSError: it cannot be written.
    """
    helper = _helper()
    if helper is None:
        with _writing_here(path, replace) as file:
            yield file
        return
    with open(_ask(helper, "write", path, replace=replace), "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    _ask(helper, "keep", path, replace=replace)


@contextmanager
def _writing_here(path: Path, replace: bool) -> Iterator[BinaryIO]:
    if not replace and os.path.lexists(path):
        raise FileExistsError(17, os.strerror(17))
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if replace:
            os.replace(temporary, path)
        else:
            os.link(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


@lru_cache(maxsize=1)
def _helper() -> socket.socket | None:
    descriptor = os.environ.get(VARIABLE)
    return socket.socket(fileno=int(descriptor)) if descriptor else None


def _ask(helper: socket.socket, do: str, path: Path, *, replace: bool) -> int:
    """The descriptor that came, -1 for none. Raises OSError."""
    request = {"do": do, "path": os.fspath(path), "replace": replace}
    helper.send(json.dumps(request).encode())
    message, descriptors, _flags, _address = socket.recv_fds(helper, _MAX_BYTES, 1)
    if not message:
        raise ConnectionError(104, "run_as_service has ended")
    answer = json.loads(message)
    if answer["errno"]:
        raise OSError(answer["errno"], answer["strerror"])
    return descriptors[0] if descriptors else -1
