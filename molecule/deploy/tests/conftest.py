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
ECHO = "Echo, so that every message is found again in its answer."
LONGEST_S = 2400


class Load:
    """Signed messages at a steady rate, from before the first test to after the last."""

    def __init__(self) -> None:
        self.result = EPHEMERAL / "load.json"
        self._phases = EPHEMERAL / "phases"
        self._stop = EPHEMERAL / "stop"
        for file in (self.result, self._phases, self._stop):
            file.unlink(missing_ok=True)
        secrets = made()
        self._process = subprocess.Popen(
            [
                *self._command(
                    "--base-url", f"https://{address_of(MACHINE)}:443", "--host", DOMAIN
                ),
                *("--number", NUMBER, "--account", secrets["vault_twilio_account_sid"]),
                *("--auth-token", secrets["vault_twilio_auth_token"]),
                *(
                    "--rate",
                    str(RATE),
                    "--duration",
                    str(LONGEST_S),
                    "--stop-file",
                    str(self._stop),
                ),
            ],
            stdout=subprocess.DEVNULL,
        )

    def phase(self, name: str) -> None:
        """What follows belongs to this phase."""
        subprocess.run(self._command("--mark", name), check=True)

    @property
    def runs(self) -> bool:
        return self._process.poll() is None

    def end(self) -> None:
        self._stop.touch()
        self._process.wait(60)

    def checked(self) -> tuple[str, dict[str, Any]]:
        """A table and its figures, once every accepted message has had its time to be answered."""
        check = self._command("--check", "--twilio", vendors()["twilio"])
        table = subprocess.run(check, stdout=subprocess.PIPE, text=True, check=False, timeout=300)
        return table.stdout, dict(json.loads(self.result.read_text(encoding="utf-8")))

    def _command(self, *options: str) -> list[str]:
        driver = str(ROOT / "molecule/shared/load.py")
        files = ("--phase-file", str(self._phases), "--result", str(self.result))
        return [sys.executable, driver, *files, *options]


@pytest.fixture(scope="session")
def versions() -> Versions:
    return Versions(ROOT, EPHEMERAL / "repository")


@pytest.fixture(scope="session")
def load() -> Iterator[Load]:
    add_bot(MACHINE, NUMBER, ECHO)
    running = Load()
    wait_for(lambda: running.runs, 120, "the load runs")
    yield running
    running.end()
