"""What the service says of clients, in the words of the operator's file."""

from __future__ import annotations

import pytest

from tests.ansible.conftest import load
from tests.ansible.modules import load_module

VARIABLES = load("filter_plugins/horizon_clients.py").variables(
    ["nombre", "numero", "cliente_id", "textos", "twilio_token", "instrucciones_archivo"]
)


@pytest.mark.parametrize(
    ("told", "in_words"),
    [
        ("+1555, name: It is missing.", "+1555, nombre: It is missing."),
        ("La, Cocina, texts.stop: Too long.", "La, Cocina, textos.stop: Too long."),
        ("client 2, twilio_phone_number: name it", "client 2, numero: name it"),
        (
            "+1555, client_id: give each client_id: a.",
            "+1555, cliente_id: give each cliente_id: a.",
        ),
        ("Twilio refuses: check twilio_auth_token.", "Twilio refuses: check twilio_token."),
        ("+1555, something: as it is, name: kept", "+1555, something: as it is, name: kept"),
    ],
)
def test_faults_name_what_stands_in_the_file(told: str, in_words: str) -> None:
    said = load_module("horizon_clients").in_words(f"Nothing was changed.\n{told}", VARIABLES)

    assert said == f"Nothing was changed.\n{in_words}"
