"""`horizonctl check` and `horizonctl cleanup`, as an operator or a playbook calls them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import CliRunner

from service.cli.main import app
from service.demo.emulators.faults import Fault
from tests.stack import Stack

# Credentials and Redis are looked at, no SQL of one kind.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

Ctl = Callable[..., tuple[int, Any]]


@pytest.fixture
def ctl(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Ctl:
    """Runs a command with `--json` on the stack's stores; its exit code and answer."""
    for name, value in stack.variables.items():
        monkeypatch.setenv(name, value)

    def run(*words: str) -> tuple[int, Any]:
        result = CliRunner().invoke(app, [*words, "--json"])
        return result.exit_code, json.loads(result.stdout)

    return run


def wrong(found: list[dict[str, Any]]) -> dict[str, str]:
    return {each["what"]: each["message"] for each in found if not each["ok"]}


def test_good_credentials_and_a_redis_that_keeps_messages_are_ok(ctl: Ctl) -> None:
    code, found = ctl("check")

    assert (code, wrong(found)) == (0, {})
    assert {each["what"] for each in found} == {"redis", "twilio", "openai"}


def test_nothing_is_sent_to_anybody(stack: Stack, ctl: Ctl) -> None:
    ctl("check")

    assert {request.method for request in stack.twilio.requests} == {"GET"}
    assert {request.method for request in stack.openai.requests} == {"GET"}


def test_a_refused_token_of_twilios_is_named(stack: Stack, ctl: Ctl) -> None:
    stack.twilio.accounts.update(dict.fromkeys(stack.twilio.accounts, "another-token"))

    code, found = ctl("check")

    assert code == 1
    assert "20003" in wrong(found)["twilio"]


def test_a_refused_key_of_openais_is_named(stack: Stack, ctl: Ctl) -> None:
    stack.openai.fail(Fault.status(401, {"error": {"message": "no", "code": "invalid_api_key"}}))

    code, found = ctl("check")

    assert (code, list(wrong(found))) == (1, ["openai"])
    assert "refused" in wrong(found)["openai"]


def test_the_same_credentials_are_tried_once(stack: Stack, ctl: Ctl) -> None:
    stack.add_bot("bot_second", "+56226660099")

    ctl("check")

    assert len(stack.twilio.requests) == 1
    assert len(stack.openai.requests) == 1


def test_every_bot_with_credentials_that_do_not_serve_is_named(stack: Stack, ctl: Ctl) -> None:
    stack.add_bot("bot_first", "+56226660098")
    stack.add_bot("bot_second", "+56226660099")
    stack.twilio.accounts.update(dict.fromkeys(stack.twilio.accounts, "another-token"))

    _, found = ctl("check")

    hit = [each["whose"] for each in found if each["what"] == "twilio" and not each["ok"]]
    assert sorted(hit) == ["bot_first", "bot_second", "bot_test"]
    assert len(stack.twilio.requests) == 1


def test_a_redis_that_forgets_is_named(stack: Stack, ctl: Ctl) -> None:
    client = stack.container.redis.client
    client.config_set("appendonly", "no")
    try:
        code, found = ctl("check")
    finally:
        client.config_set("appendonly", "yes")

    assert code == 1
    assert "appendonly" in wrong(found)["redis"]


def test_cleanup_tells_what_it_removed(ctl: Ctl) -> None:
    code, told = ctl("cleanup", "--dry-run")
    assert (code, told["dry_run"], told["turns"]) == (0, True, 0)

    code, told = ctl("cleanup")
    assert (code, told["dry_run"], told["contacts"]) == (0, False, 0)


def test_cleanup_refuses_days_that_are_too_few(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = CliRunner().invoke(app, ["cleanup", "--days", "1"])

    assert result.exit_code == 2
