"""Where a rollback goes: chosen for all hosts before it changes one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

Report = Mapping[str, Any]
"""What the module horizon_journal tells of a host."""
Target = dict[str, str]
"""`release` to go to; or `problem`, a sentence that says why there is none."""

_DEPLOY = "Remedy: ansible-playbook deploy.yml -i <inventory> -e version=<tag or commit>."


def told_by(hosts: Iterable[str], hostvars: Mapping[str, Mapping[str, Any]]) -> dict[str, Report]:
    """What the hosts of this run have told of themselves (roles/app/tasks/journal.yml)."""
    told = {host: hostvars[host].get("app_journal") for host in hosts}
    return {host: report for host, report in told.items() if report and "running" in report}


def targets(
    reports: Mapping[str, Report],
    together: bool,
    wanted: str = "",
    allow_bad: bool = False,
) -> dict[str, Target]:
    """The target of each host: one for all that share their data, else each host's own."""
    if together:
        target = _target(reports, wanted, allow_bad)
        return dict.fromkeys(reports, target)
    return {host: _target({host: report}, wanted, allow_bad) for host, report in reports.items()}


def elsewhere(reports: Mapping[str, Report], together: bool) -> dict[str, int]:
    """The releases that run on hosts with the same database, each with the newest schema it knows."""
    if not together:
        return {}
    return {
        report["running"]: int(report["schema"])
        for report in reports.values()
        if report.get("running")
    }


def _target(reports: Mapping[str, Report], wanted: str, allow_bad: bool) -> Target:
    bare = [host for host, report in reports.items() if not report["running"]]
    if bare:
        return _problem(
            f"No release runs on {', '.join(bare)}. "
            "Remedy: ansible-playbook site.yml -i <inventory>, then this again."
        )
    if wanted:
        return _named(reports, wanted, allow_bad)
    running = {report["running"] for report in reports.values()}
    good = set.intersection(*(set(report["good"]) for report in reports.values()))
    # A deploy or a rollback that ended between two hosts: back to the one before it, where some are.
    if len(running) > 1:
        last = max(running, key=lambda release: _began(reports, release, only_running=True))
        among = (good & running) - {last} or good & running
        if among:
            return {"release": max(among, key=lambda release: _began(reports, release))}
    among = good - running
    if among:
        return {"release": max(among, key=lambda release: _began(reports, release))}
    if len(reports) == 1:
        return _problem(
            "There is no earlier good release on this host to go back to; "
            f"{next(iter(running))} goes on. {_DEPLOY}"
        )
    told = "; ".join(
        f"{host} runs {report['running']} and has run {', '.join(_others(report)) or 'no other'}"
        for host, report in reports.items()
    )
    return _problem(
        f"There is no release that ran well on all of these hosts before: {told}. Nothing was changed. "
        "Remedy: name one that all have installed (-e release=<name>), or ansible-playbook deploy.yml "
        "-i <inventory> -e version=<tag or commit>."
    )


def _named(reports: Mapping[str, Report], wanted: str, allow_bad: bool) -> Target:
    lacking = [host for host, report in reports.items() if wanted not in report["installed"]]
    if lacking:
        there: set[str] = set.intersection(
            *(set(report["installed"]) for report in reports.values())
        )
        return _problem(
            f"Release {wanted} is not installed on {', '.join(lacking)}. Installed on all: "
            f"{', '.join(sorted(there)) or 'none'}. Remedy: name one of these. {_DEPLOY}"
        )
    marked = [host for host, report in reports.items() if wanted in report["marked"]]
    if marked and not allow_bad:
        return _problem(
            f"Release {wanted} was marked bad on {', '.join(marked)}, by a rollback from it. Remedy: "
            "take another one, or say -e app_allow_bad=true."
        )
    return {"release": wanted}


def _others(report: Report) -> list[str]:
    return sorted(set(report["good"]) - {report["running"]})


def _began(reports: Mapping[str, Report], release: str, *, only_running: bool = False) -> str:
    """When a release began to run well last, on any of the hosts."""
    return max(
        report["good"].get(release, "")
        for report in reports.values()
        if not only_running or report["running"] == release
    )


def _problem(sentence: str) -> Target:
    return {"problem": sentence}


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> Mapping[str, Callable[..., Any]]:
        return {
            "horizon_reports": told_by,
            "horizon_rollback_targets": targets,
            "horizon_elsewhere": elsewhere,
        }
