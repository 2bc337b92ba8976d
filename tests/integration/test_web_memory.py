"""A web process loads no vendor's SDK as long as it only takes messages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlencode

from twilio.request_validator import RequestValidator

from service.demo.emulators.phone import inbound_form
from tests.stack import ACCOUNT_SID, AUTH_TOKEN, CONTACT, NUMBER, Stack

ROOT = Path(__file__).parents[2]

SCRIPT = """
import json, sys
import falcon.testing
from service.wsgi import app

body, signature = sys.argv[1:]
answer = falcon.testing.TestClient(app).simulate_post(
    "/webhook/whatsapp",
    body=body,
    headers={
        "Content-Type": "application/x-www-form-urlencoded",
        "X-Twilio-Signature": signature,
    },
)
loaded = [name for name in ("openai", "twilio", "httpx2") if name in sys.modules]
print(json.dumps([answer.status_code, loaded]))
"""


def test_no_vendors_sdk_is_loaded_by_a_process_that_has_served_a_webhook(stack: Stack) -> None:
    form = inbound_form(ACCOUNT_SID, NUMBER, CONTACT, "hola")
    url = f"{stack.settings.public_base_url}/webhook/whatsapp"
    signature = RequestValidator(AUTH_TOKEN).compute_signature(url, form)

    process = subprocess.run(
        [sys.executable, "-c", SCRIPT, urlencode(form), signature],
        env={**os.environ, **stack.variables, "PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
        text=True,
        timeout=300,
    )

    assert json.loads(process.stdout.splitlines()[-1]) == [200, []]
