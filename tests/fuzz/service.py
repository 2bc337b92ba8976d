"""Requests to the service under fuzz, and what must hold for every answer."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import falcon
import falcon.testing
from twilio.request_validator import RequestValidator

from tests.fuzz.cases import Part
from tests.stack import AUTH_TOKEN, HORIZON_TOKEN, NUMBER, Stack

CLIENT, OTHER_CLIENT = "client_one", "client_two"
OTHER_NUMBER = "+56911110009"
MARK = "zq5text"
"""Stands in every text that a contact writes and in nothing else."""
WEBHOOK = "/webhook/whatsapp"
FORM = "application/x-www-form-urlencoded"

Pairs = Sequence[tuple[str, str]]


class Form(dict[str, list[str]]):
    """What Twilio's RequestValidator takes for a form with repeated fields."""

    @classmethod
    def of(cls, pairs: Pairs) -> Form:
        form = cls()
        for name, value in pairs:
            form.setdefault(name, []).append(value)
        return form

    def getall(self, name: str) -> list[str]:
        return self[name]


@dataclass
class FuzzedService:
    """The application, its keys, and all that it has logged since the last look."""

    stack: Stack
    app: falcon.App[Any, Any]
    log: io.StringIO
    keys: dict[str, str] = field(default_factory=dict)
    lines: int = 0
    """As many were logged and judged."""

    def __post_init__(self) -> None:
        self.client = falcon.testing.TestClient(self.app)
        create = self.stack.container.api_keys.create
        self.keys = {
            "no key": "",
            "admin key": self.stack.settings.admin_api_key,
            "client key": create("fuzz", CLIENT, "test")[1],
        }
        settings = self.stack.settings
        self.secrets = [
            AUTH_TOKEN,
            HORIZON_TOKEN,
            settings.openai_api_key or "",
            *settings.secret_key,
            *filter(None, self.keys.values()),
        ]
        assert all(self.secrets)

    def post(
        self, body: bytes, headers: Mapping[str, str], query: str = "", path: str = WEBHOOK
    ) -> Any:
        return self.client.simulate_post(path, body=body, headers=dict(headers), query_string=query)

    def post_signed(self, pairs: Pairs, query: str = "", path: str = WEBHOOK) -> Any:
        """As Twilio's own library signs it."""
        url = self.stack.settings.public_base_url + path + (f"?{query}" if query else "")
        signature = RequestValidator(AUTH_TOKEN).compute_signature(url, Form.of(pairs))
        headers = {"Content-Type": FORM, "X-Twilio-Signature": signature}
        return self.post(urlencode(pairs).encode(), headers, query, path)

    def judge(self, part: Part, status: int, body: str, headers: Mapping[str, str]) -> None:
        """No server error, no secret, and no message's text where none belongs."""
        part.outcomes[str(status)] += 1
        shown = f"{body}\n{dict(headers)}"
        assert status < 500, shown
        self.judge_words(shown)
        assert MARK not in shown
        self.judge_log()

    def judge_log(self) -> None:
        """Nothing was logged that does not belong there, since the last look."""
        logged = self.log.getvalue()
        self.lines += logged.count("\n")
        self.log.seek(0)
        self.log.truncate()
        self.judge_words(logged)
        assert MARK not in logged, logged
        assert NUMBER not in logged, logged
        assert "Traceback" not in logged, logged

    def judge_words(self, text: str) -> None:
        found = [secret for secret in self.secrets if secret in text]
        assert not found, text
