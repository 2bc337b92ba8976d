"""Every benchmark runs, on as little as shows that; figures are not judged here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SMALL = {
    "answers": "--bursts 5 --model 0.2 --runs 1",
    "backlog": "--workers 1 --turns 10 --messages 50 --seconds 1",
    "fairness": "--flood 200 --probes 2 --runs 1",
    "figures": "--messages 400 --runs 1",
    "in_flight": "--turns 5 --model-delay 0.2",
    "stores": "--seconds 1 --runs 1",
    "turns": "--seconds 1 --runs 1",
}
NEED_WRK = {"acknowledge", "bots", "history"}
"""Left out: `wrk` is no Python package."""


def test_every_benchmark_is_run_here_or_needs_wrk() -> None:
    found = {
        file.stem
        for file in (ROOT / "benchmarks").glob("*.py")
        if "def main()" in file.read_text(encoding="utf-8") and file.stem != "load"
    }

    assert found == set(SMALL) | NEED_WRK


def test_make_bench_runs_every_benchmark() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    names = text.partition("\nbench: ")[2].partition("for name in ")[2].partition(";")[0].split()

    assert set(names) == set(SMALL) | NEED_WRK


@pytest.mark.servers
@pytest.mark.parametrize("name", SMALL)
def test_benchmark_prints_its_table(name: str) -> None:
    result = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", *SMALL[name].split()],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )

    assert result.returncode == 0, result.stderr
    assert "┏" in result.stdout
