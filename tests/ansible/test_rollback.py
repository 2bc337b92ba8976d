"""Where a rollback goes, from the journals of the hosts as activations write them."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from tests.ansible import modules
from tests.ansible.conftest import load

releases = importlib.import_module("ansible.module_utils.horizon_releases")
rollback = load("filter_plugins/horizon_rollback.py")
journal_module = modules.load("horizon_journal")

P, A, B = (f"2026010{n}000000_{letter * 12}" for n, letter in enumerate("pab", 1))


class Cluster:
    """Hosts with journals of their own, and one clock."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        self._minute = 0
        monkeypatch.setattr(releases, "_now", lambda: f"2026-02-01T00:{self._minute:02}:00Z")

    def _journal(self, host: str) -> Any:
        return releases.Journal.read(self._folder / host / "state/activations.json")

    def install(self, host: str, release: str) -> None:
        folder = self._folder / host / "releases" / release
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "release.json").write_text(json.dumps({"commit": release[-12:]}))

    def runs(self, release: str, *hosts: str, left: str = "") -> None:
        """A deploy of this release; or a rollback to it, which leaves another one."""
        for host in hosts:
            self._minute += 1
            self.install(host, release)
            journal = self._journal(host)
            journal.current = {"release": release, "instance": release, "config": "c"}
            journal.bad.pop(release, None)
            journal.note(release, "deploy", "good")
            if left:
                journal.condemn(left, "rollback", "")
            journal.write()

    def taken_back(self, release: str, host: str) -> None:
        self._minute += 1
        self.install(host, release)
        journal = self._journal(host)
        journal.note(release, "deploy", "taken back")
        journal.condemn(release, "take-back", "its probe failed")
        journal.write()

    def targets(self, *hosts: str, together: bool = True, **wanted: Any) -> Any:
        reports = {host: journal_module.report(self._folder / host) for host in hosts}
        return rollback.targets(reports, together, **wanted)

    def target(self, *hosts: str, **wanted: Any) -> str:
        found = self.targets(*hosts, **wanted)
        assert len({json.dumps(target) for target in found.values()}) == 1
        target = found[hosts[0]]
        return str(target.get("release") or target["problem"])


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    return Cluster(tmp_path, monkeypatch)


def test_all_hosts_go_to_the_release_before(cluster: Cluster) -> None:
    for release in (P, A, B):
        cluster.runs(release, "one", "two")

    assert cluster.target("one", "two") == A


def test_a_deploy_that_failed_half_way_is_undone_where_it_came(cluster: Cluster) -> None:
    """The host that took it back runs the good release already, and is not sent to the one before."""
    cluster.runs(P, "one", "two")
    cluster.runs(A, "one", "two")
    cluster.runs(B, "one")
    cluster.taken_back(B, "two")

    assert cluster.target("one", "two") == A
    assert cluster.target("two", "one") == A


def test_a_deploy_that_was_broken_off_half_way_is_undone_where_it_came(cluster: Cluster) -> None:
    cluster.runs(P, "one", "two", "three")
    cluster.runs(A, "one", "two", "three")
    cluster.runs(B, "one", "two")

    assert cluster.target("one", "two", "three") == A


def test_a_rollback_that_was_broken_off_half_way_is_finished(cluster: Cluster) -> None:
    cluster.runs(P, "one", "two")
    cluster.runs(A, "one", "two")
    cluster.runs(B, "one", "two")
    cluster.runs(A, "one", left=B)

    assert cluster.target("one", "two") == A


def test_what_ran_on_both_is_left_for_the_one_that_came_first(cluster: Cluster) -> None:
    cluster.runs(B, "one", "two")
    cluster.runs(A, "one", "two")
    cluster.runs(B, "one")

    assert cluster.target("one", "two") == A


def test_a_host_that_joined_since_has_none_in_common(cluster: Cluster) -> None:
    cluster.runs(A, "one")
    cluster.runs(B, "one", "new")

    told = cluster.target("one", "new")

    assert "no release that ran well on all of these hosts" in told
    assert f"one runs {B} and has run {A}" in told
    assert f"new runs {B} and has run no other" in told
    assert "-e release=<name>" in told


def test_a_release_that_a_host_removed_is_none_to_go_to(cluster: Cluster, tmp_path: Path) -> None:
    for release in (P, A, B):
        cluster.runs(release, "one", "two")
    (tmp_path / "two/releases" / A / "release.json").unlink()

    assert cluster.target("one", "two") == P


def test_single_servers_go_each_to_its_own(cluster: Cluster) -> None:
    cluster.runs(P, "one")
    cluster.runs(B, "one")
    cluster.runs(A, "two")
    cluster.runs(B, "two")
    cluster.runs(B, "three")

    found = cluster.targets("one", "two", "three", together=False)

    assert (found["one"], found["two"]) == ({"release": P}, {"release": A})
    assert "There is no earlier good release on this host" in found["three"]["problem"]
    assert "deploy.yml" in found["three"]["problem"]


def test_a_named_release_has_to_be_on_every_host(cluster: Cluster) -> None:
    cluster.runs(A, "one")
    cluster.runs(B, "one", "two")
    cluster.install("two", P)

    assert cluster.target("one", wanted=A) == A
    told = cluster.target("one", "two", wanted=A)
    assert f"Release {A} is not installed on two. Installed on all: {B}" in told


def test_a_named_release_that_an_operator_left_is_refused(cluster: Cluster) -> None:
    cluster.runs(A, "one", "two")
    cluster.runs(B, "one", "two")
    cluster.runs(A, "two", left=B)

    assert "was marked bad on two" in cluster.target("one", "two", wanted=B)
    assert cluster.target("one", "two", wanted=B, allow_bad=True) == B


def test_a_host_without_a_release_is_set_up_first(cluster: Cluster) -> None:
    cluster.runs(A, "one")

    assert "No release runs on bare" in cluster.target("one", "bare")


def test_the_journal_of_a_bare_host_is_empty(tmp_path: Path) -> None:
    told = journal_module.report(tmp_path)

    assert (told["running"], told["commit"], told["installed"]) == ("", "", [])


def test_what_runs_is_told_with_its_commit_and_schema(cluster: Cluster, tmp_path: Path) -> None:
    cluster.runs(A, "one")
    folder = tmp_path / "one/releases" / A / "service/store/migrations/versions"
    folder.mkdir(parents=True)
    for number in (1, 2):
        (folder / f"000{number}_x.py").write_text(
            f'revision = "000{number}"\noldest_code = "0001"\n'
        )

    told = journal_module.report(tmp_path / "one")

    assert (told["running"], told["commit"], told["schema"]) == (A, A[-12:], 2)
    assert rollback.elsewhere({"one": told, "bare": {"running": "", "schema": 0}}, True) == {A: 2}
    assert rollback.elsewhere({"one": told}, False) == {}
