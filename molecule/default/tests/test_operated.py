"""The README's way from zero, on both servers: over SSH as root, and as a person with sudo and a password."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.request
from pathlib import Path

import pytest
import yaml
from conftest import MACHINES, domain_of, on_both
from machine import (
    EPHEMERAL,
    ROOT,
    SCENARIO,
    SUDO_PASSWORD,
    Run,
    answering,
    made,
    playbook,
    reached,
    typed,
    vendors,
)
from message import tell_vendor
from versions import Versions

MINE = EPHEMERAL / "mine"
VAULT_PASSWORD = "a vault's password"  # of a test
NUMBERS = {machine: f"+5622666030{n}" for n, machine in enumerate(MACHINES)}


@pytest.fixture(scope="module", autouse=True)
def inventory() -> None:
    """What the README's steps make of inventories/example, and an encrypted vault."""
    shutil.rmtree(MINE, ignore_errors=True)
    shutil.copytree(ROOT / "inventories/example", MINE)
    hosts = {
        machine: dict(reached(machine)) | {"app_domain": domain_of(machine)} for machine in MACHINES
    }
    groups = {
        "full": {"hosts": hosts},
        "light": {"hosts": {}},
        "horizon": {"children": {"full": None, "light": None}},
    }
    (MINE / "hosts.yml").write_text(yaml.safe_dump(groups))
    scenario = yaml.safe_load((SCENARIO / "inventory/group_vars/all/main.yml").read_text())
    settings = MINE / "group_vars/all/main.yml"
    ours = {name: value for name, value in made().items() if not name.startswith("vault_")}
    known = yaml.safe_load(settings.read_text()) | scenario | ours
    settings.write_text(yaml.safe_dump({n: v for n, v in known.items() if n != "app_domain"}))
    vault = MINE / "group_vars/all/vault.yml"
    asked_for = yaml.safe_load(vault.read_text())
    # What the scenario has no value for stays as the example has it.
    vault.write_text(yaml.safe_dump(asked_for | {n: made()[n] for n in asked_for if n in made()}))
    (EPHEMERAL / "vault-password").write_text(VAULT_PASSWORD)
    subprocess.run(
        ["ansible-vault", "encrypt", vault, "--vault-password-file", EPHEMERAL / "vault-password"],
        check=True,
        capture_output=True,
    )
    for number in NUMBERS.values():
        tell_vendor(vendors()["twilio"], "senders", {"sender_id": f"whatsapp:{number}"})


def play(name: str, *arguments: str, **extra: object) -> Run:
    """A playbook with that inventory; it succeeds."""
    password = ("--vault-password-file", str(EPHEMERAL / "vault-password"))
    run = playbook(name, *password, *arguments, inventory=str(MINE), **extra)
    assert run.code == 0, run.output
    return run


def releases() -> list[str]:
    return [
        json.loads(typed(machine, "sudo horizonctl health --json"))["release"]
        for machine in MACHINES
    ]


def test_site_asks_for_the_passwords_of_sudo_and_vault() -> None:
    passwords = {
        "BECOME password: ": SUDO_PASSWORD.read_text().strip(),
        "Vault password: ": VAULT_PASSWORD,
    }
    options = ("--ask-vault-pass", "--ask-become-pass")

    run = answering(passwords, "ansible-playbook", "site.yml", "-i", str(MINE), *options)

    assert run.code == 0, run.output
    for machine in MACHINES:
        assert f"{machine} answers: release" in run.output


@on_both
def test_a_client_is_added(machine: str, tmp_path: Path) -> None:
    (tmp_path / "prompt.txt").write_text("Eres el asistente del restaurante La Cocina.")
    client = {
        "nombre": "Restaurante La Cocina",
        "numero": NUMBERS[machine],
        "instrucciones_archivo": str(tmp_path / "prompt.txt"),
        "clientes_carpeta": str(tmp_path / "clients"),
        "servidor": machine,
    }

    run = play("nuevo-cliente.yml", **client)

    assert "Answer: " in run.output
    assert (tmp_path / "clients/restaurante-la-cocina.md").exists()
    with urllib.request.urlopen(f"{vendors()['twilio']}/_emulator/state", timeout=60) as answer:
        senders = {one["sender_id"]: one for one in json.load(answer)["senders"]}
    hook = senders[f"whatsapp:{NUMBERS[machine]}"]["webhook"]["callback_url"]
    assert hook.startswith(f"https://{domain_of(machine)}/webhook/whatsapp#rc=3")


def test_a_version_is_deployed_and_rolled_back(versions: Versions) -> None:
    before = releases()
    version = versions.next_good("second")
    repository = {
        "app_repository": str(versions.folder),
        "app_build_folder": str(EPHEMERAL / "builds"),
    }

    play("deploy.yml", version=version, **repository)

    assert all(release.endswith(version[:12]) for release in releases())
    play("rollback.yml")
    assert releases() == before


def test_a_backup_is_taken_and_restored_for_practice() -> None:
    play("backup.yml")

    run = play("restore-drill.yml")

    whole = re.findall(
        r"is whole: \d+ rows and \d+ keys were compared", " ".join(run.output.split())
    )
    assert len(whole) >= len(MACHINES), run.output


def test_both_are_monitored_and_have_nothing_to_mend() -> None:
    shown = play("monitor.yml")
    mended = play("repair.yml")

    assert (shown.changed, mended.changed) == (0, 0), shown.output + mended.output
    assert all(machine in shown.output for machine in MACHINES)


def test_a_second_run_changes_nothing() -> None:
    run = play("site.yml")

    assert run.changed == 0, run.output
