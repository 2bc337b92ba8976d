"""Where preflight knows that no address moves, by the firmware's words."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ansible.conftest import load

cloud = load("module_utils/horizon_cloud.py")


def firmware(root: Path, **fields: str) -> Path:
    folder = root / "sys/class/dmi/id"
    folder.mkdir(parents=True)
    for name, text in fields.items():
        (folder / name).write_text(f"{text}\n")
    return root


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"sys_vendor": "Amazon EC2", "product_name": "t3.small"}, "Amazon EC2"),
        ({"sys_vendor": "Xen", "bios_version": "4.11.amazon"}, "Amazon EC2"),
        ({"sys_vendor": "Google", "product_name": "Google Compute Engine"}, "Google Cloud"),
        (
            {
                "sys_vendor": "Microsoft Corporation",
                "chassis_asset_tag": "7783-7084-3265-9085-8269-3286-77",
            },
            "Azure",
        ),
        ({"sys_vendor": "DigitalOcean"}, "DigitalOcean"),
        ({"sys_vendor": "Hetzner", "product_name": "vServer"}, "Hetzner Cloud"),
        ({"sys_vendor": "QEMU", "chassis_asset_tag": "OracleCloud.com"}, "Oracle Cloud"),
    ],
)
def test_a_cloud_without_vrrp_is_a_problem_with_a_way_out(
    tmp_path: Path, fields: dict[str, str], name: str
) -> None:
    (found,), notes = cloud.vrrp(firmware(tmp_path, **fields))

    assert found.problem.startswith(f"This is {name}, which carries no VRRP")
    assert "load balancer" in found.remedy
    assert "keepalived_enabled: false" in found.remedy
    assert "keepalived_on_cloud: true" in found.remedy
    assert notes == []


@pytest.mark.parametrize("vendor", ["OpenStack Foundation", "Alibaba Cloud", "Linode", "Scaleway"])
def test_a_cloud_that_has_to_allow_it_is_a_warning(tmp_path: Path, vendor: str) -> None:
    problems, (note,) = cloud.vrrp(firmware(tmp_path, sys_vendor=vendor))

    assert problems == []
    assert "only where that is set up there" in note.problem


@pytest.mark.parametrize(
    "fields",
    [
        {"sys_vendor": "Dell Inc.", "product_name": "PowerEdge R640"},
        # Hyper-V of one's own.
        {"sys_vendor": "Microsoft Corporation", "product_name": "Virtual Machine"},
        {"sys_vendor": "QEMU", "product_name": "Standard PC (Q35 + ICH9, 2009)"},
    ],
)
def test_other_machines_are_let_be(tmp_path: Path, fields: dict[str, str]) -> None:
    assert cloud.vrrp(firmware(tmp_path, **fields)) == ([], [])


def test_a_machine_without_firmware_is_let_be(tmp_path: Path) -> None:
    assert cloud.vrrp(tmp_path) == ([], [])
