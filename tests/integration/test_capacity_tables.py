"""The tables of docs/capacity.md are those that its command prints from the figures that were measured."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from benchmarks import capacity
from benchmarks.capacity_figures import read
from benchmarks.capacity_plan import of_rate
from benchmarks.capacity_report import LOADS, load_row
from benchmarks.lab import console

LIGHT_LOADS = LOADS[:2]
PAGE = Path(__file__).parents[2] / "docs" / "capacity.md"
TABLES = {
    "One host of each group": "What one host of each group carries",
    "Hosts for a load": "Hosts for a load",
}
"""Sections of the page, and how the titles of their tables begin."""


def printed_lines(text: str) -> list[str]:
    """Without the line above each table: machine and day of whoever printed it."""
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not re.search(r" CPUs, \d+ GiB, ", line)]


def section(title: str) -> str:
    return PAGE.read_text(encoding="utf-8").partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def blocks(title: str) -> list[str]:
    return re.findall(r"(?ms)^```text\n(.*?)^```$", section(title))


def test_each_section_has_the_table_that_it_announces() -> None:
    for title, begins in TABLES.items():
        (block,) = blocks(title)
        titles = [line for line in printed_lines(block) if ", a model of " in line]

        assert [each.partition(", a model of ")[0] for each in titles] == [begins]


def test_rows_of_light_loads_are_those_that_are_planned_now() -> None:
    """The rest of the tables takes a minute of CPU: `make bench` compares all of it."""
    options = capacity.parser().parse_args([])
    measured, _ = read()
    shown = [
        [cell.strip() for cell in line.strip("│").split("│")]
        for line in blocks("Hosts for a load")[0].splitlines()
    ]

    for size in capacity.SIZES:
        planner = capacity.planner_of(measured, size, options)
        for rate in LIGHT_LOADS:
            assert load_row(planner, of_rate(capacity.load_of(options), rate)) in shown


@pytest.mark.skipif(
    os.environ.get("HORIZON_WHOLE_TABLES") != "1", reason="`make bench` compares the whole tables"
)
def test_tables_are_those_that_the_command_prints_now() -> None:
    with console.capture() as printed:
        assert capacity.main(["--table"]) == 0

    shown = [line for title in TABLES for block in blocks(title) for line in printed_lines(block)]
    assert shown == printed_lines(printed.get())


def test_figures_of_the_page_are_those_that_were_measured() -> None:
    measured, about = read()
    told = re.findall(r"(?m)^\| (.+) \| (.+) \|$", section("What it rests on"))[1:]
    figures = [float(figure) for _, row in told for figure in re.findall(r"\d[\d.]*", row)]

    assert figures == [
        *(measured.acknowledge_cpu_ms, measured.balancer_cpu_ms, measured.turn_cpu_ms),
        *(measured.redis_accept_ms, measured.redis_turn_ms),
        *(measured.redis_commands_accept, measured.redis_commands_turn),
        *(measured.database_turn_ms, measured.transactions, measured.sync_ms),
        *(measured.redis_message_bytes, measured.redis_contact_bytes, measured.redis_waiting_bytes),
        *(measured.web_mb, measured.worker_mb, measured.turn_mb),
    ]
    assert about["date"] in section("What it rests on")
    assert about["machine"] in section("What it rests on")
