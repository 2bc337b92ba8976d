"""One machine, one stream of signed messages for the whole session, one copy of the repository."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "shared"))

from installed import add_bot
from machine import EPHEMERAL, ROOT, address_of, made, vendors, wait_for
from versions import Versions

MACHINE = "deploy-bookworm"
DOMAIN = "deploy.horizon.test"
NUMBER = "+56226660001"
RATE = 50
LONGEST_S = 2400


class Load:
    """Signed messages at a steady rate, from before the first test to after the last."""

    def __init__(self) -> None:
        self._phase = EPHEMERAL / "phase"
        self._stop = EPHEMERAL / "stop"
        self.result = EPHEMERAL / "load.json"
        self._stop.unlink(missing_ok=True)
        self.result.unlink(missing_ok=True)
        self.phase("before")
        with open(EPHEMERAL / "load.log", "w", encoding="utf-8") as log:
            self._process = subprocess.Popen(
                [*self._command(), "--rate", str(RATE), "--duration", str(LONGEST_S)],
                stdout=log,
                stderr=log,
            )

    def _command(self) -> list[str]:
        secrets = made()
        return [
            *(sys.executable, str(ROOT / "molecule/shared/load.py")),
            *("--base-url", f"https://{address_of(MACHINE)}:443", "--host", DOMAIN),
            *("--number", NUMBER, "--account", secrets["vault_twilio_account_sid"]),
            *("--auth-token", secrets["vault_twilio_auth_token"], "--twilio", vendors()["twilio"]),
            *("--stop-file", str(self._stop), "--phase-file", str(self._phase)),
            *("--result", str(self.result)),
        ]

    def phase(self, name: str) -> None:
        self._phase.write_text(name, encoding="utf-8")

    def alive(self) -> bool:
        return self._process.poll() is None

    def end(self) -> None:
        self._stop.touch()
        self._process.wait(60)

    def checked(self) -> dict[str, Any]:
        """The figures of all phases, once every accepted message has had its time to be answered."""
        subprocess.run([*self._command(), "--check"], check=False, timeout=300)
        return dict(json.loads(self.result.read_text(encoding="utf-8")))


@pytest.fixture(scope="session")
def versions() -> Versions:
    return Versions(ROOT, EPHEMERAL / "repository")


@pytest.fixture(scope="session")
def load() -> Iterator[Load]:
    add_bot(MACHINE, NUMBER)
    running = Load()
    wait_for(running.alive, 5, "the load runs")
    yield running
    running.end()
