"""What already stands on a machine is told apart: ours, an older Flask installation, others'."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

MARKER = "# Managed by Ansible: horizonai-bots\n"
DOMAIN = "bots.agency.test"


def write(root: Path, path: str, text: str) -> None:
    """A file of the machine."""
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def problems(foreign: ModuleType, root: Path) -> list[str]:
    """The sentences about this machine."""
    return [finding.problem for finding in foreign.findings(root, DOMAIN)]


def test_bare_machine_has_nothing(foreign: ModuleType, tmp_path: Path) -> None:
    assert problems(foreign, tmp_path) == []


def test_what_is_ours_is_left_in_peace(foreign: ModuleType, tmp_path: Path) -> None:
    for folder in foreign.FOLDERS:
        write(tmp_path, f"{folder}/{foreign.FOLDER_MARKER}", "")
        write(tmp_path, f"{folder}/app.py", "from flask import Flask\n")
    write(tmp_path, "etc/systemd/system/horizonai-bots@.service", MARKER + "[Service]\n")
    write(tmp_path, "etc/nginx/conf.d/horizonai-bots.conf", MARKER + f"server_name {DOMAIN};")
    write(tmp_path, "etc/passwd", "horizonai-bots:x:99:99:x:/var/lib/horizonai-bots:/bin/false\n")
    assert problems(foreign, tmp_path) == []


def test_empty_folder_is_fine_and_a_full_one_is_not(foreign: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "opt/horizonai-bots").mkdir(parents=True)
    assert problems(foreign, tmp_path) == []
    write(tmp_path, "opt/horizonai-bots/readme", "")
    write(tmp_path, "var/lib/horizonai-bots", "a file where a folder will be")
    assert problems(foreign, tmp_path) == [
        "/opt/horizonai-bots holds files that are not ours.",
        "/var/lib/horizonai-bots holds files that are not ours.",
    ]


@pytest.mark.parametrize("folder", ["etc/systemd/system", "lib/systemd/system"])
def test_foreign_unit_is_named_with_its_commands(
    foreign: ModuleType, tmp_path: Path, folder: str
) -> None:
    write(tmp_path, f"{folder}/horizonai-bots.socket", "[Socket]\nListenStream=1\n")
    (finding,) = foreign.findings(tmp_path, DOMAIN)
    assert finding.problem == f"The unit /{folder}/horizonai-bots.socket is not ours."
    assert "systemctl disable --now horizonai-bots.socket" in finding.remedy


def test_linked_lib_names_a_unit_once(foreign: ModuleType, tmp_path: Path) -> None:
    write(tmp_path, "usr/lib/systemd/system/horizonai-bots.timer", "[Timer]\n")
    (tmp_path / "lib").symlink_to("usr/lib")
    assert len(problems(foreign, tmp_path)) == 1


@pytest.mark.parametrize("name", ["horizonai-bots", "horizon-bots", "whatsapp-bot-acme"])
@pytest.mark.parametrize(
    "setting", ["WorkingDirectory={}", "ExecStart={}/venv/bin/gunicorn app:app"]
)
def test_older_flask_installation_is_named_once(
    foreign: ModuleType, tmp_path: Path, name: str, setting: str
) -> None:
    folder = "/opt/horizonai-bots"
    write(tmp_path, f"etc/systemd/system/{name}.service", f"[Service]\n{setting.format(folder)}\n")
    write(tmp_path, "opt/horizonai-bots/src/app.py", "import os\nfrom flask import Flask\n")
    (finding,) = foreign.findings(tmp_path, DOMAIN)
    assert finding.problem == (
        f"An older Flask installation stands here: {name}.service with the folder {folder}."
    )
    assert f"systemctl disable --now {name}.service && mv /etc/systemd/" in finding.remedy
    assert finding.remedy.endswith(f"mv {folder} {folder}.flask")


def test_older_flask_elsewhere_in_opt_is_found_by_its_unit(
    foreign: ModuleType, tmp_path: Path
) -> None:
    unit = "[Service]\nWorkingDirectory=/opt/horizon-whatsapp\n"
    write(tmp_path, "etc/systemd/system/whatsapp-bots.service", unit)
    write(tmp_path, "opt/horizon-whatsapp/main.py", "import flask\n")
    assert "/opt/horizon-whatsapp" in problems(foreign, tmp_path)[0]


def test_older_flask_folder_without_a_unit_is_recognised(
    foreign: ModuleType, tmp_path: Path
) -> None:
    write(tmp_path, "opt/horizonai-bots/app.py", "from flask import Flask\n")
    assert problems(foreign, tmp_path) == [
        "An older Flask installation stands here: no unit with the folder /opt/horizonai-bots."
    ]


def test_other_bots_without_flask_are_not_our_business(foreign: ModuleType, tmp_path: Path) -> None:
    unit = "[Service]\nWorkingDirectory=/opt/horizon-node\n"
    write(tmp_path, "etc/systemd/system/whatsapp-bot.service", unit)
    write(tmp_path, "opt/horizon-node/app.py", "# import flask\n")
    assert problems(foreign, tmp_path) == []


def test_user_with_another_home_is_a_problem(foreign: ModuleType, tmp_path: Path) -> None:
    write(tmp_path, "etc/passwd", "horizonai-bots:x:1001:1001::/home/bots:/bin/bash\n")
    assert problems(foreign, tmp_path) == [
        "There is a user horizonai-bots whose home is /home/bots."
    ]


def test_site_of_our_name_is_a_problem(foreign: ModuleType, tmp_path: Path) -> None:
    write(tmp_path, "etc/nginx/sites-available/horizonai-bots", "server { listen 80; }")
    (tmp_path / "etc/nginx/sites-enabled").mkdir()
    (tmp_path / "etc/nginx/sites-enabled/horizonai-bots").symlink_to(
        tmp_path / "etc/nginx/sites-available/horizonai-bots"
    )
    assert problems(foreign, tmp_path) == [
        "The nginx site /etc/nginx/sites-enabled/horizonai-bots is not ours.",
        "The nginx site /etc/nginx/sites-available/horizonai-bots is not ours.",
    ]


@pytest.mark.parametrize(
    ("text", "claimed"),
    [
        (f"server {{ server_name www.agency.test\n {DOMAIN}; }}", True),
        (f'server {{ server_name "{DOMAIN.upper()}"; }}', True),
        (f"server {{ server_name .{DOMAIN}; }}", True),
        (f"server {{ server_name other.test; # {DOMAIN}\n }}", False),
        (f"# server_name {DOMAIN};\n", False),
        (f"server {{ server_name my{DOMAIN} {DOMAIN}.org; }}", False),
        ("server { server_name *.agency.test _; }", False),
    ],
)
@pytest.mark.parametrize("path", ["sites-enabled/blog", "conf.d/blog.conf"])
def test_other_enabled_site_must_not_claim_the_domain(
    foreign: ModuleType, tmp_path: Path, path: str, text: str, claimed: bool
) -> None:
    write(tmp_path, f"etc/nginx/{path}", text)
    expected = [f"The nginx site /etc/nginx/{path} answers for {DOMAIN} already."]
    assert problems(foreign, tmp_path) == (expected if claimed else [])


def test_site_that_is_not_enabled_may_claim_it(foreign: ModuleType, tmp_path: Path) -> None:
    write(tmp_path, "etc/nginx/sites-available/blog", f"server_name {DOMAIN};")
    assert problems(foreign, tmp_path) == []
