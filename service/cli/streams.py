"""The standard streams as commands need them: open, and fit for any text."""

from __future__ import annotations

import io
import os
import sys

from service.cli.output import is_utf8


def open_streams() -> None:
    """Put what a shell closed (`<&-`) in order, and let no stream fail over a letter it lacks."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # The lowest free descriptor is the one that was closed.
            nowhere = os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, os.fdopen(nowhere, mode, encoding="utf-8"))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and not is_utf8(stream):
            stream.reconfigure(errors="replace")


def discard_output() -> None:
    """Let what is still buffered for standard output go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
