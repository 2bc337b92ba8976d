"""Every fault of what clients would become is told, also beside another of the same client."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from service.bots.checks import BotChecks
from service.clients.declaration import DeclarationError, read
from service.clients.plan import Existing, plan
from service.container import Container

COCINA = {"name": "La Cocina", "twilio_phone_number": "+15551234567"}
BAD = "https://10.0.0.1"


class Models:
    """Knows no model, and what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str | None] = []

    def check_model(self, api_key: str | None, base_url: str | None, model: str) -> Any:
        self.asked.append(base_url)
        return SimpleNamespace(state="unknown", message=f"There is no model {model}.")


def refuse(url: str) -> None:
    if url.startswith(BAD):
        raise ValueError("It leads inside.")


def faults_of(models: Models, *clients: dict[str, Any], rows: Any = ()) -> list[str]:
    settings = SimpleNamespace(openai_api_key="sk-operator", openai_default_model="gpt-6-luna")
    checks = BotChecks(cast("Any", settings), cast("Any", None), lambda: models, refuse)
    container = SimpleNamespace(bot_checks=checks, cipher=None, settings=settings)
    with pytest.raises(DeclarationError) as caught:
        plan(cast("Container", container), read({"clients": list(clients)}), Existing(rows, {}))
    return [f"{fault.client} {fault.field}" for fault in caught.value.faults]


def test_a_wrong_address_hides_no_wrong_model() -> None:
    models = Models()

    faults = faults_of(models, {**COCINA, "horizon_base_url": BAD, "openai_model": "gpt-4"})

    assert faults == ["+15551234567 horizon_base_url", "+15551234567 openai_model"]


def test_a_server_that_bots_may_not_have_is_not_asked() -> None:
    models = Models()

    assert faults_of(models, {**COCINA, "openai_base_url": BAD}) == ["+15551234567 openai_base_url"]
    assert models.asked == []


def test_a_number_of_another_client_hides_no_wrong_address() -> None:
    row = {
        "id": "bot_1",
        "twilio_phone_number": "+15551234567",
        "client_id": "andes",
        "name": "Andes",
    }

    models = Models()

    faults = faults_of(models, {**COCINA, "horizon_base_url": BAD}, rows=[row])

    assert faults == ["+15551234567 twilio_phone_number", "+15551234567 horizon_base_url"]
    assert models.asked == []
