"""`gunicorn service.wsgi:app`"""

from __future__ import annotations

from service.web.application import load_application

app = load_application()
