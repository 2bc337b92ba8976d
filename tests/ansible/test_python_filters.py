"""Servers get uv as the lock pins it, and an environment by the rules of service/bootstrap.py."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest
from ansible.errors import AnsibleFilterError

LOCK = Path(__file__).parents[2] / "requirements.txt"
BUNDLE = "/etc/ssl/certs/ca-certificates.crt"


def test_pin_is_the_locks_own(python_filters: ModuleType) -> None:
    lock = LOCK.read_text()
    pin = python_filters.uv_pin(lock)
    assert re.fullmatch(r"[0-9]+(\.[0-9]+)+", pin["version"])
    assert pin["requirement"].startswith(f"uv=={pin['version']} ")
    assert "--hash=sha256:" in pin["requirement"]
    assert pin["requirement"] in lock


def test_lock_without_uv_is_refused(python_filters: ModuleType) -> None:
    with pytest.raises(AnsibleFilterError, match="does not pin uv"):
        python_filters.uv_pin("falcon==4.0.0\n")


def test_tools_use_the_systems_certificates(python_filters: ModuleType) -> None:
    environment = python_filters.tool_environment({})
    assert environment["PIP_CERT"] == environment["SSL_CERT_FILE"] == BUNDLE
    assert environment["UV_PYTHON_DOWNLOADS"] == "never"


def test_inventorys_own_settings_win_and_reach_uv(python_filters: ModuleType) -> None:
    own = {"PIP_INDEX_URL": "https://pypi.agency.test/simple", "SSL_CERT_FILE": "/srv/ca.pem"}
    environment = python_filters.tool_environment(own)
    assert environment["UV_DEFAULT_INDEX"] == own["PIP_INDEX_URL"]
    assert environment["SSL_CERT_FILE"] == "/srv/ca.pem"
