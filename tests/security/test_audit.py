"""The audit of the lock says "passed" only when every package was looked up."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from tests.security.audit import PASSED, UNAUDITED, VULNERABLE, audit, command, judge

KNOWN = {"id": "CVE-2026-1", "fix_versions": ["2.0"], "description": "x"}


def answer(*packages: dict[str, Any]) -> str:
    return json.dumps({"dependencies": list(packages), "fixes": []})


def package(name: str = "falcon", **more: Any) -> dict[str, Any]:
    return {"name": name, "version": "1.0", "vulns": [], **more}


def test_a_lock_without_known_vulnerabilities_passes() -> None:
    report = judge(0, answer(package(), package("redis")), "")

    assert report.code == PASSED
    assert "2 packages" in report.lines[0]


def test_a_known_vulnerability_fails_with_its_name_and_its_remedy() -> None:
    report = judge(1, answer(package(vulns=[KNOWN]), package("redis")), "Found 1 vulnerability")

    assert report.code == VULNERABLE
    assert report.lines[1] == "falcon 1.0: CVE-2026-1, mended in 2.0"


@pytest.mark.parametrize(
    ("code", "output", "errors"),
    [
        (1, "", "ERROR: Dependency not found on PyPI and could not be audited: falcon"),
        (1, "", "requests.exceptions.ConnectionError"),
        (0, "", ""),
        (0, "{}", ""),
        (0, answer(), ""),
        (0, answer(package(), {"name": "redis", "skip_reason": "not found"}), ""),
        (1, answer(package()), "ERROR"),
        (0, "[]", ""),
    ],
)
def test_whatever_is_no_whole_answer_is_unaudited(code: int, output: str, errors: str) -> None:
    report = judge(code, output, errors)

    assert report.code == UNAUDITED
    assert report.lines[0].startswith("UNAUDITED")
    assert "passed" not in " ".join(report.lines)


def test_a_vulnerability_counts_even_when_not_all_was_looked_at() -> None:
    found = answer(package(vulns=[KNOWN]), {"name": "redis", "skip_reason": "not found"})

    assert judge(1, found, "").code == VULNERABLE


def test_an_audit_that_cannot_be_run_is_unaudited() -> None:
    assert audit([sys.executable, "-c", "raise SystemExit('no network')"]).code == UNAUDITED
    assert audit(["/nowhere/pip-audit"]).code == UNAUDITED


def test_the_whole_lock_is_asked_for_strictly() -> None:
    words = command()

    assert {"--strict", "--require-hashes"} <= set(words)
    assert words[-1].endswith("requirements.txt")
