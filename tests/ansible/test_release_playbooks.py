"""deploy.yml and rollback.yml on several hosts: what is settled before the first of them is changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.ansible.cluster import inventory, play
from tests.ansible.test_build_module import checkout, commit

__all__ = ["checkout"]  # fixture

A, B = "20260101000000_aaaaaaaaaaaa", "20260102000000_bbbbbbbbbbbb"
CLUSTER = {"balancer": ["one"], "web": ["one", "two"], "workers": ["one", "two"]}


def host(folder: Path, name: str, *ran: str, taken_back: str = "") -> dict[str, Any]:
    """The variables of a host where these releases ran, the last of them now."""
    root = folder / name
    (root / "state").mkdir(parents=True)
    for release in {*ran, taken_back} - {""}:
        (root / "releases" / release).mkdir(parents=True)
        (root / "releases" / release / "release.json").write_text("{}")
    activations = [
        {"release": release, "at": f"2026-02-01T00:0{number}:00Z", "result": "good"}
        for number, release in enumerate(ran)
    ]
    bad = {taken_back: {"at": "", "by": "take-back", "reason": ""}} if taken_back else {}
    current = {"release": ran[-1], "instance": ran[-1], "config": "another"}
    (root / "state" / "activations.json").write_text(
        json.dumps({"current": current, "activations": activations, "bad": bad})
    )
    address = {"one": "127.0.0.11", "two": "127.0.0.12"}.get(name)
    return {
        "cluster_address": address,
        "ansible_become": False,
    }


def folders(folder: Path) -> list[str]:
    """Where each host has its releases and settings: a folder of its name."""
    own = f"{folder}/{{{{ inventory_hostname }}}}"
    return ["-e", json.dumps({"app_root": own, "app_env_file": f"{own}/env"})]


def rollback(folder: Path, groups: Any, hosts: dict[str, Any]) -> tuple[int, str]:
    """What it would do; nothing of this machine is touched."""
    done = play(
        inventory(folder, groups, hosts), "ansible/rollback.yml", "--check", *folders(folder)
    )
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def test_a_cluster_goes_to_one_release_after_a_deploy_that_failed_half_way(tmp_path: Path) -> None:
    hosts = {"one": host(tmp_path, "one", A, B), "two": host(tmp_path, "two", A, taken_back=B)}

    code, told = rollback(tmp_path, CLUSTER, hosts)

    assert code == 0, told[-1500:]
    assert f"one: {A} would run, before it {B}" in told
    assert f"two: {A}" in told


def test_nothing_is_changed_when_a_host_has_none_in_common(tmp_path: Path) -> None:
    hosts = {"one": host(tmp_path, "one", A, B), "two": host(tmp_path, "two", B)}

    code, told = rollback(tmp_path, CLUSTER, hosts)

    assert code != 0
    assert "There is no release that ran well on all of these hosts before" in told
    assert "would run" not in told


def test_single_servers_go_each_to_its_own(tmp_path: Path) -> None:
    hosts = {"one": host(tmp_path, "one", A, B), "two": host(tmp_path, "two", B, A)}

    code, told = rollback(tmp_path, {"full": ["one", "two"]}, hosts)

    assert code == 0, told[-1500:]
    assert f"one: {A} would run, before it {B}" in told
    assert f"two: {B} would run, before it {A}" in told


def test_an_old_checkout_is_shipped_to_no_host_when_one_of_them_runs_a_newer_one(
    tmp_path: Path, checkout: Path
) -> None:
    older = commit(checkout, "older")
    newer = commit(checkout, "newer")
    hosts = {"one": host(tmp_path, "one", A), "two": host(tmp_path, "two", B)}
    for name, release, running in (("one", A, older), ("two", B, newer)):
        told = {"commit": running}
        (tmp_path / name / "releases" / release / "release.json").write_text(json.dumps(told))
    variables = {"app_repository": str(checkout), "app_build_folder": str(tmp_path / "builds")}
    file = inventory(tmp_path, CLUSTER, hosts, **variables)

    words = ["--check", "-e", f"version={older}", *folders(tmp_path)]
    done = play(file, "ansible/deploy.yml", *words)

    told_words = " ".join((done.stdout + done.stderr).split())
    assert done.returncode != 0
    assert f"is older than {newer[:12]}, which runs" in told_words
    assert "PLAY [A version is shipped]" not in told_words
