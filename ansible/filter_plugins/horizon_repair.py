"""The table host × check of repair.yml, as lines of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

WORDS = {
    "ok": "ok",
    "mended": "mended",
    "would mend": "to mend",
    "wrong": "WRONG",
    "unchecked": "unknown",
}
GAP = "  "


def table(findings: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """A line for each check, a column for each host; below it what was found, with the remedy.

    `findings` has for each host what the module horizon_repair returned, and "webhook from outside".
    """
    hosts = list(findings)
    checks: list[str] = []
    for found in findings.values():
        checks += [each["check"] for each in found if each["check"] not in checks]
    rows = [["check", *hosts]]
    for check in checks:
        rows.append([check, *(_word(findings[host], check) for host in hosts)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return [
        *lines,
        *(_sentence(host, each) for host in hosts for each in findings[host] if each["found"]),
    ]


def left(findings: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """Host and check of what is not well yet."""
    return [
        f"{host}: {each['check']}"
        for host, found in findings.items()
        for each in found
        if each["state"] not in ("ok", "mended")
    ]


def _word(found: Sequence[Mapping[str, Any]], check: str) -> str:
    return next((WORDS[each["state"]] for each in found if each["check"] == check), "-")


def _sentence(host: str, finding: Mapping[str, Any]) -> str:
    if finding["state"] == "mended":
        return f"{host}, {finding['check']}: {finding['found']}. Mended."
    word = "it could not be checked: " if finding["state"] == "unchecked" else ""
    return f"{host}, {finding['check']}: {word}{finding['found']}. Remedy: {finding['remedy']}."


class FilterModule:
    """Ansible's entry."""

    def filters(self) -> dict[str, Any]:
        return {"horizon_repair_table": table, "horizon_repair_left": left}
