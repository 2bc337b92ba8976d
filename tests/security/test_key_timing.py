"""How long a refusal takes tells nothing of the key, the token or the signature that was tried.

Every comparison of a secret is `hmac.compare_digest`, and around it the same lines run whatever the
secret has in common with the right one: nothing here is judged by a clock.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import falcon.testing
import pytest
from twilio.request_validator import RequestValidator

from service.store.api_keys import ApiKeys
from service.web.twilio_request import TwilioRequest
from tests.stack import Stack
from tests.web_process import ROOT

FOLLOWED = (str(ROOT / "service"), __file__)
COMPARING = {
    "service/store/api_keys.py": 2,
    "service/web/trial_mark.py": 1,
    "service/web/twilio_request.py": 2,
}
SECRET_WORDS = (
    "signature",
    "token",
    "secret",
    "api_key",
    "key_hash",
    "admin_hash",
    "expected",
    "given",
)


def test_secrets_are_compared_in_constant_time() -> None:
    for name, wanted in COMPARING.items():
        source = (ROOT / name).read_text()
        assert source.count("hmac.compare_digest(") == wanted, name


@pytest.mark.parametrize("name", sorted(COMPARING))
def test_no_secret_is_compared_with_an_operator(name: str) -> None:
    tree = ast.parse((ROOT / name).read_text())

    compared = [
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Compare)
        and any(isinstance(operator, ast.Eq | ast.NotEq | ast.In) for operator in node.ops)
        and any(
            word in ast.unparse(side).lower()
            for side in (node.left, *node.comparators)
            for word in SECRET_WORDS
        )
    ]

    # The look-up in SQL is by the key's SHA-256: its time says nothing about the key.
    allowed = {
        "_KEYS.c.key_hash == key_hash",
        "_algorithm(self._algorithm) != 'HMAC_SHA1'",
        "_KEYS.c.id == key_id",
    }
    assert set(compared) <= allowed


def test_nothing_else_compares_keys_or_signatures() -> None:
    """A new place that authenticates has to be listed here, and is then looked at as above."""
    found = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "service").rglob("*.py")
        if "compare_digest(" in path.read_text() and "demo" not in path.parts
    }
    assert found == set(COMPARING)


Steps = list[tuple[str, int]]


def steps(call: Callable[[], object]) -> Steps:
    """Every line of Python that the call runs, in order: what takes longer runs more of them."""
    lines: Steps = []

    def trace(frame: FrameType, event: str, _argument: Any) -> Any:
        if event == "line" and frame.f_code.co_filename.startswith(FOLLOWED):
            lines.append((frame.f_code.co_filename, frame.f_lineno))
        return trace

    # What only a first call does, as filling a cache, is not looked at.
    call()
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return lines


def test_an_unknown_key_takes_as_long_whatever_it_begins_with(stack: Stack) -> None:
    keys: ApiKeys = stack.container.api_keys
    admin = stack.settings.admin_api_key
    close, far = admin[:-1] + ("a" if admin[-1] != "a" else "b"), "x" * len(admin)
    assert keys.authenticate(close) is None

    def tried(key: str) -> Steps:
        return steps(lambda: keys.authenticate(key))

    assert tried(close)
    assert tried(close) == tried(far)


def test_a_false_signature_takes_as_long_whatever_it_begins_with() -> None:
    token, url, form = "token", "https://a.example/webhook/whatsapp", {"Body": "hola", "To": "+569"}
    genuine = RequestValidator(token).compute_signature(url, form)
    close = genuine[:-2] + ("A=" if genuine[-2] != "A" else "B=")
    far = "A" * 27 + "="

    def check(given: str) -> Callable[[], object]:
        request = TwilioRequest(url, form, given, "")
        assert request.signature_fault(token)
        return lambda: request.signature_fault(token)

    assert steps(check(close))
    assert steps(check(close)) == steps(check(far))


def test_a_check_that_stops_early_is_found() -> None:
    def early(key: str) -> bool:
        return all(ours == theirs for ours, theirs in zip(key, "k" * 64, strict=True))

    def tried(key: str) -> Steps:
        return steps(lambda: early(key))

    assert tried("k" * 63 + "x") != tried("x" * 64)


def test_an_unknown_and_a_revoked_key_are_refused_alike(stack: Stack) -> None:
    from service.app import create_app

    keys = stack.container.api_keys
    key, text = keys.create("test", "client", "test")
    keys.revoke(key.id, "test")
    client = falcon.testing.TestClient(create_app(stack.container))
    answers = [
        client.simulate_get("/bots", headers={"Authorization": f"Bearer {tried}"})
        for tried in (text, "hk_" + "A" * 43, "x")
    ]

    told = {
        (answer.status_code, answer.json["detail"], answer.headers["www-authenticate"])
        for answer in answers
    }
    assert len(told) == 1
