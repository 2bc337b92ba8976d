"""The application of one web process, with what it does besides answering."""

from __future__ import annotations

import sys
from typing import Any

import falcon

from service.app import create_app
from service.container import Container
from service.log import configure_logging
from service.settings import SettingsError, load_settings
from service.web.background import start_background

_CANNOT_BE_LOADED = 4
"""gunicorn's own code for "the application cannot be loaded": it does not try again."""


def load_application(release: str = "", *, probe: bool = False) -> falcon.App[Any, Any]:
    """The application from the environment's settings; a probe has no background threads.

    Raises:
        SystemExit: the settings are not right; standard error says what.
    """
    try:
        settings = load_settings()
        configure_logging(settings.log_level)
        container = Container.for_web(settings)
        app = create_app(container, release, probe=probe)
    except SettingsError as error:
        print(f"The service cannot start:\n{error}", file=sys.stderr)
        sys.exit(_CANNOT_BE_LOADED)
    if not probe:
        start_background(container)
    return app
