"""The table that repair.yml prints."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

PLUGIN = Path(__file__).parents[2] / "ansible" / "filter_plugins" / "horizon_repair.py"


def plugin() -> Any:
    spec = importlib.util.spec_from_file_location("horizon_repair_filters", PLUGIN)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def finding(check: str, state: str = "ok", found: str = "", remedy: str = "") -> dict[str, str]:
    return {"check": check, "state": state, "found": found, "remedy": remedy}


FINDINGS = {
    "one": [finding("disk"), finding("web", "mended", "it was failed")],
    "second": [finding("disk", "wrong", "/ has 10 MB left", "clean up"), finding("web")],
}


def test_a_line_for_each_check_and_a_column_for_each_host() -> None:
    assert plugin().table(FINDINGS) == [
        "check  one     second",
        "disk   ok      WRONG",
        "web    mended  ok",
        "one, web: it was failed. Mended.",
        "second, disk: / has 10 MB left. Remedy: clean up.",
    ]


def test_a_check_that_a_host_does_not_have_is_a_dash() -> None:
    lines = plugin().table({"one": [finding("disk")], "two": [finding("web")]})

    assert lines[1:] == ["disk   ok   -", "web    -    ok"]


def test_what_was_not_looked_at_is_left_to_do() -> None:
    found = {
        "one": [finding("web", "unchecked", "no answer", "logs"), finding("disk", "mended", "x")]
    }

    assert plugin().left(found) == ["one: web"]
    assert "it could not be checked" in plugin().table(found)[-2]
