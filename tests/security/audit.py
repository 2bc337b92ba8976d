"""Known vulnerabilities of the locked packages: `python -m tests.security.audit`, or `make audit`.

`pip-audit --strict` asks a database on the internet for every package of the lock. Where it cannot be
asked the word is UNAUDITED, which is neither passed nor failed: the exit code is its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "requirements.txt"
TIMEOUT_S = 300
PASSED, VULNERABLE, UNAUDITED = 0, 1, 3
"""Exit codes."""


@dataclass(frozen=True)
class Report:
    """What is known. `lines` are for a person."""

    code: int
    lines: Sequence[str]


def command(lock: Path = LOCK) -> list[str]:
    """The lock is complete and has hashes, so nothing has to be resolved or installed."""
    options = ["--strict", "--disable-pip", "--require-hashes", "--progress-spinner", "off"]
    return [sys.executable, "-m", "pip_audit", *options, "--format", "json", "-r", str(lock)]


def audit(words: Sequence[str]) -> Report:
    """Run pip-audit. Whatever is no complete answer of it is UNAUDITED."""
    try:
        ended = subprocess.run(
            list(words), capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return _unaudited(str(error))
    return judge(ended.returncode, ended.stdout, ended.stderr)


def judge(code: int, output: str, errors: str) -> Report:
    """pip-audit ends with 1 both when it finds something and when it cannot say: its JSON tells."""
    try:
        packages: list[dict[str, Any]] = json.loads(output)["dependencies"]
        skipped = [package for package in packages if "skip_reason" in package]
        found = [(package, known) for package in packages for known in package.get("vulns", [])]
    except (ValueError, KeyError, TypeError, AttributeError):
        return _unaudited(errors.strip().rpartition("\n")[2] or f"pip-audit ended with {code}")
    if found:
        lines = [
            f"{package['name']} {package['version']}: {known['id']}, "
            f"mended in {', '.join(known.get('fix_versions') or ()) or 'no version yet'}"
            for package, known in found
        ]
        return Report(VULNERABLE, [f"VULNERABLE: {len(found)} known in the lock", *lines])
    if skipped or not packages or code != 0:
        names = ", ".join(str(package.get("name")) for package in skipped)
        return _unaudited(f"not all was looked at: {names}" if names else "nothing was looked at")
    return Report(PASSED, [f"passed: no known vulnerability in {len(packages)} packages"])


def _unaudited(reason: str) -> Report:
    return Report(
        UNAUDITED, [f"UNAUDITED: the database did not answer for the whole lock: {reason}"]
    )


if __name__ == "__main__":
    report = audit(command())
    print("\n".join(report.lines))
    sys.exit(report.code)
