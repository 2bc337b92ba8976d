"""What the questions of tasks/answers.yml found, in sentences."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

_SELF_SIGNED = ("self-signed certificate", "self signed certificate")


def answers(
    asked: Sequence[Mapping[str, Any]], outside: Mapping[str, Any], together: bool = False
) -> dict[str, Any]:
    """What holds for a host.

    Args:
        asked: Results of the module horizon_answers, each with `item`: the balancer and the name.
        outside: The result of the question from the machine that runs Ansible; it may be skipped.
        together: Whether several hosts answer, which may run two releases for a while.

    Returns:
        `problems`: why it does not answer, a sentence for each balancer and name; `state`: "answers", and
        with what restriction; `notes`: what that restriction means.
    """
    told = [result for result in asked if "problem" in result]
    gone = [str(result["item"][0]) for result in asked if result.get("unreachable")]
    problems = [
        f"https://{result['item'][1]} through nginx on {result['item'][0]}: {result['problem']}"
        for result in told
        if result["problem"]
    ]
    if gone and not told:
        problems = [f"no balancer can be reached ({', '.join(gone)})"]
    untrusted = {
        str(result["item"][1]): str(result["certificate"])
        for result in told
        if result["certificate"]
    }
    notes = [
        f"The certificate of {name} is not trusted ({reason}): Twilio refuses it, and no message comes in."
        for name, reason in untrusted.items()
    ]
    state = "answers"
    if untrusted:
        is_self_signed = all(reason in _SELF_SIGNED for reason in untrusted.values())
        kind = (
            "a self-signed certificate" if is_self_signed else "a certificate that is not trusted"
        )
        state = f"answers behind {kind}, which Twilio refuses"
    words = _outside(told, outside, together)
    if words:
        notes.append(words)
        state += " (on the server itself; not from here)"
    return {"problems": problems, "state": state, "notes": notes}


def _outside(told: Sequence[Mapping[str, Any]], outside: Mapping[str, Any], together: bool) -> str:
    """What is different from here; nothing where it was not asked."""
    if "problem" not in outside:
        return ""
    if outside["problem"]:
        return (
            f"From the machine that runs Ansible the public name gives {outside['problem']}: look at its "
            "DNS record and at a firewall of the provider (ports 80 and 443). Where this machine cannot "
            "reach it: app_repair_from_outside: false."
        )
    releases = {result["release"] for result in told if result["release"]}
    if releases and not together and outside["release"] not in releases:
        return (
            f"Under the public name another server answers, with release {outside['release']}: its DNS "
            "record leads there."
        )
    return ""


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> Mapping[str, Callable[..., Any]]:
        return {"horizon_answers": answers}
