"""A worker that kills itself with SIGKILL at one point, in a process of its own.

The point is what it is about to do or has done (`before:save:2` is the second `save` of the journal). The
points stand around the calls that DESIGN's table of kills names; nothing in the service knows of them.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping
from typing import Any

# The vendors' SDKs take seconds to load: this is done once, before processes are forked.
import service.integrations.openai_model
import service.integrations.twilio_messenger  # noqa: F401
from service.container import Container
from service.log import configure_logging
from service.settings import load_settings
from service.worker import Worker


def die_around(target: object, method: str, when: str, nth: int) -> None:
    """Replace a method of one object by itself with a kill before or after its nth call."""
    original: Callable[..., Any] = getattr(target, method)
    count = 0

    def wrapped(*args: Any, **options: Any) -> Any:
        nonlocal count
        count += 1
        if when == "before" and count == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*args, **options)
        if when == "after" and count == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(target, method, wrapped)


def work(point: str, variables: Mapping[str, str]) -> None:
    """Run with these settings until that point."""
    os.environ.update(variables)
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115 until the kill
    when, name, nth = point.split(":")
    settings = load_settings()
    configure_logging(settings.log_level)
    container = Container(settings)
    part, method = name.split(".")
    die_around(getattr(container, part), method, when, int(nth))
    Worker(container).run()
