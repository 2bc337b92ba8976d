"""The site is written as a whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.ansible.modules import load, run

site = load("horizon_nginx_site")

GOOD = "# Managed by Ansible: horizonai-bots\nserver { }\n"
BAD = "# Managed by Ansible: horizonai-bots\nbroken\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for folder in ("sites-available", "sites-enabled"):
        (tmp_path / folder).mkdir()
    (tmp_path / "nginx.conf").write_text(
        "worker_processes auto;\nevents {\n\tworker_connections 768;\n}\n"
    )
    nginx = tmp_path / "nginx"
    nginx.write_text(
        f"#!/bin/sh\nif grep -Rq broken {tmp_path}/sites-enabled/; then echo no >&2; exit 1; fi\n"
    )
    nginx.chmod(0o755)
    return tmp_path


def keep(root: Path, content: str, **more: Any) -> dict[str, Any]:
    more = {"worker_processes": "1", "worker_connections": 512, **more}
    nginx = str(root / "nginx")
    return run("horizon_nginx_site", content=content, root=str(root), nginx=nginx, **more)


def snapshot(root: Path) -> dict[str, str]:
    return {
        str(path): str(path.readlink()) if path.is_symlink() else path.read_text()
        for path in sorted(root.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def test_site_link_and_workers_are_set_once(root: Path) -> None:
    assert keep(root, GOOD)["changed"] is True
    assert (root / "sites-enabled/horizonai-bots.conf").read_text() == GOOD
    main = (root / "nginx.conf").read_text()
    assert "worker_processes 1;" in main
    assert "\tworker_connections 512;" in main
    assert keep(root, GOOD)["changed"] is False


def test_everything_is_as_before_when_nginx_refuses_it(root: Path) -> None:
    keep(root, GOOD)
    before = snapshot(root)
    answer = keep(root, BAD, worker_processes="4")
    assert answer["failed"] is True
    assert "nginx says: no" in answer["msg"]
    assert snapshot(root) == before


def test_a_first_site_that_nginx_refuses_is_gone(root: Path) -> None:
    before = snapshot(root)
    assert keep(root, BAD)["failed"] is True
    assert snapshot(root) == before


def test_a_fault_in_another_file_is_told_apart(root: Path) -> None:
    keep(root, GOOD)
    (root / "sites-enabled/other.conf").write_text("broken")
    answer = keep(root, GOOD + "\n")
    assert "another file" in answer["msg"]
    assert (root / "sites-enabled/horizonai-bots.conf").read_text() == GOOD


def test_a_foreign_site_at_our_path_is_not_touched(root: Path) -> None:
    foreign = root / "sites-available/horizonai-bots.conf"
    foreign.write_text("server { listen 80; }\n")
    assert "is not ours" in keep(root, GOOD)["msg"]
    assert foreign.read_text() == "server { listen 80; }\n"


def test_check_mode_writes_nothing_and_shows_the_difference(root: Path) -> None:
    before = snapshot(root)
    answer = keep(root, GOOD, check=True)
    assert answer["changed"] is True
    assert answer["diff"][0]["after"] == GOOD
    assert snapshot(root) == before


def test_only_debians_own_default_site_is_disabled(root: Path) -> None:
    available, enabled = root / "sites-available/default", root / "sites-enabled/default"
    assert site.default_site(root, "") == "absent"
    available.write_text("server { }\n")
    enabled.symlink_to(available)
    packaged = f" {available} d41d8cd98f00b204e9800998ecf8427e\n"
    assert site.default_site(root, packaged) == "kept"
    available.write_text("")
    packaged = f" {available} d41d8cd98f00b204e9800998ecf8427e\n"
    assert site.default_site(root, packaged) == "disabled"
