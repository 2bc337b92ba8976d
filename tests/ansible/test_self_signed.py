"""Self-signed certificates at first, and never in the place of a better one."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

from tests.ansible.modules import run

DOMAIN = "bots.example.com"


def keep(folder: Path, *, check: bool = False, **more: Any) -> dict[str, Any]:
    return run("horizon_self_signed", check=check, domains=[DOMAIN], directory=str(folder), **more)


def test_a_pair_is_made_once_and_only_root_reads_its_key(tmp_path: Path) -> None:
    assert keep(tmp_path)["made"] == [DOMAIN]
    assert keep(tmp_path)["changed"] is False
    assert (tmp_path / f"{DOMAIN}.key").stat().st_mode & 0o777 == 0o640
    certificate = str(tmp_path / f"{DOMAIN}.crt")
    command = ["/usr/bin/openssl", "x509", "-noout", "-ext", "subjectAltName", "-in", certificate]
    text = subprocess.run([*command, "-checkend", "70000000"], capture_output=True, text=True)
    assert f"DNS:{DOMAIN}" in text.stdout
    assert text.returncode == 0


def test_check_mode_writes_nothing(tmp_path: Path) -> None:
    answer = keep(tmp_path / "tls", check=True)
    assert answer["changed"] is True
    assert not (tmp_path / "tls").exists()


def test_one_that_ends_soon_is_made_anew(tmp_path: Path) -> None:
    keep(tmp_path, days=10)
    before = (tmp_path / f"{DOMAIN}.crt").read_text()
    assert keep(tmp_path)["made"] == [DOMAIN]
    assert (tmp_path / f"{DOMAIN}.crt").read_text() != before


def test_a_key_that_others_could_read_is_closed(tmp_path: Path) -> None:
    keep(tmp_path)
    (tmp_path / f"{DOMAIN}.key").chmod(0o644)
    assert keep(tmp_path)["changed"] is True
    assert (tmp_path / f"{DOMAIN}.key").stat().st_mode & 0o777 == 0o640


def test_links_to_another_certificate_are_left_alone(tmp_path: Path) -> None:
    for suffix in ("crt", "key"):
        (tmp_path / f"other.{suffix}").write_text("of an authority")
        (tmp_path / f"{DOMAIN}.{suffix}").symlink_to(tmp_path / f"other.{suffix}")
    assert keep(tmp_path)["changed"] is False
    assert os.readlink(tmp_path / f"{DOMAIN}.crt") == str(tmp_path / "other.crt")


def test_links_that_lead_nowhere_lead_to_a_self_signed_pair(tmp_path: Path) -> None:
    for suffix in ("crt", "key"):
        (tmp_path / f"{DOMAIN}.{suffix}").symlink_to("/nowhere/at/all")
    assert keep(tmp_path)["linked"] == [DOMAIN]
    assert (tmp_path / f"{DOMAIN}.crt").exists()


def test_a_failing_openssl_is_told(tmp_path: Path) -> None:
    answer = keep(tmp_path, openssl="/bin/false")
    assert answer["failed"] is True
    assert DOMAIN in answer["msg"]
