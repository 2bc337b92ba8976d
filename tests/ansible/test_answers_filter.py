"""What is said of the questions under the public name."""

from __future__ import annotations

from typing import Any

from tests.ansible.conftest import load

answers = load("filter_plugins/horizon_answers.py").answers
NAME = "bots.example.test"
SKIPPED: dict[str, Any] = {"skipped": True, "changed": False}


def result(problem: str = "", certificate: str = "", host: str = "bots1") -> dict[str, Any]:
    return {
        "item": [host, NAME],
        "problem": problem,
        "certificate": certificate,
        "release": "" if problem else "r2",
    }


def test_what_is_well_answers() -> None:
    outside = {"problem": "", "release": "r2", "certificate": ""}

    expected = {"problems": [], "state": "answers", "notes": []}
    assert answers([result()], SKIPPED) == expected
    assert answers([result()], outside) == expected


def test_a_problem_names_host_and_address() -> None:
    told = answers([result(), result("/health/ready says 503", host="bots2")], SKIPPED)

    assert told["problems"] == [f"https://{NAME} through nginx on bots2: /health/ready says 503"]


def test_a_self_signed_certificate_is_said_with_what_it_means() -> None:
    told = answers([result(certificate="self-signed certificate")], SKIPPED)

    assert told["problems"] == []
    assert told["state"] == "answers behind a self-signed certificate, which Twilio refuses"
    assert NAME in told["notes"][0]


def test_a_certificate_that_is_over_is_named() -> None:
    told = answers([result(certificate="certificate has expired")], SKIPPED)

    assert "certificate that is not trusted, which Twilio refuses" in told["state"]
    assert "certificate has expired" in told["notes"][0]


def test_a_name_that_leads_nowhere_yet_is_no_problem_of_the_server() -> None:
    told = answers([result()], {"problem": "no answer (Name or service not known)"})

    assert told["problems"] == []
    assert "not from here" in told["state"]
    assert "DNS" in told["notes"][0]


def test_a_name_that_leads_to_another_server_is_said() -> None:
    outside = {"problem": "", "release": "r1"}

    assert "another server answers, with release r1" in answers([result()], outside)["notes"][0]
    # Two releases side by side are no other server.
    assert answers([result()], outside, True)["notes"] == []


def test_a_balancer_that_is_gone_is_passed_over_while_another_answers() -> None:
    gone = {"item": ["bots2", NAME], "unreachable": True}

    assert answers([result(), gone], SKIPPED)["problems"] == []
    assert answers([gone], SKIPPED)["problems"] == ["no balancer can be reached (bots2)"]


def test_in_check_mode_nobody_was_asked() -> None:
    assert answers([], SKIPPED)["problems"] == []
    assert answers([{"item": ["bots1", NAME], **SKIPPED}], SKIPPED)["problems"] == []
