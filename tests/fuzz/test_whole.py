"""What a whole run promises."""

from __future__ import annotations

import pytest

from tests.fuzz.cases import CASES, MIN_SIGNED, PARTS


def test_a_whole_run_has_as_many_cases_as_it_promises(request: pytest.FixtureRequest) -> None:
    expected = {"webhook", "status callback", "API", "replies", "templates", "numbers"}
    ran = {name.partition(",")[0] for name in PARTS}
    if expected - ran:
        pytest.skip(f"did not run: {', '.join(sorted(expected - ran))}")
    webhook = [part for name, part in PARTS.items() if name.startswith(("webhook", "status"))]

    assert sum(part.cases for part in PARTS.values()) >= CASES
    assert sum(part.server_errors for part in PARTS.values()) == 0
    assert sum(part.signed for part in webhook) >= MIN_SIGNED * sum(part.cases for part in webhook)
