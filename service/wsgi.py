"""`gunicorn service.wsgi:app`"""

from __future__ import annotations

import sys

from service.app import create_app
from service.container import Container
from service.log import configure_logging
from service.settings import SettingsError, load_settings
from service.web.background import start_background

try:
    _settings = load_settings()
    configure_logging(_settings.log_level)
    _container = Container.for_web(_settings)
    app = create_app(_container)
except SettingsError as error:
    print(f"The service cannot start:\n{error}", file=sys.stderr)
    # gunicorn's own code for "the application cannot be loaded": it does not try again.
    sys.exit(4)
start_background(_container)
