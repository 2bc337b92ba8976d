"""The older Flask service has made room for this one, and its bots come along."""

from __future__ import annotations

from conftest import MACHINE, answers, ctl
from machine import code_on, on, playbook, typed

ASIDE = "/var/backups/horizonai-bots-legacy"
IMPORT = "sudo horizonctl import --registry registry.json --env env"
PANADERIA, KIOSKO = "+56226660101", "+56226660102"


def test_the_older_service_is_kept_aside() -> None:
    kept = "/opt/horizonai-bots.before-horizonai-bots"
    assert "flask" in on(MACHINE, f"cat {kept}/app.py")
    assert "5000" in on(MACHINE, f"cat {ASIDE}/sites-available.horizonai-bots")
    assert "gunicorn" in on(MACHINE, f"cat {ASIDE}/system.horizonai-bots.service")
    assert "127.0.0.1:5000" not in on(MACHINE, "ss --listening --tcp --numeric")
    assert code_on(MACHINE, "test -e /etc/nginx/sites-enabled/horizonai-bots") != 0


def test_its_bots_are_imported_and_answer() -> None:
    files = f"{ASIDE}/registry.json {ASIDE}/env"
    typed(MACHINE, f'sudo install -o "$(whoami)" -m 0600 {files} ~/')
    before = ctl("bots list")

    dry = typed(MACHINE, f"{IMPORT} --dry-run; true")
    assert ctl("bots list") == before
    # One entry cannot be taken: its instructions were kept at OpenAI. It stops no other.
    said = typed(MACHINE, f"{IMPORT} 2>&1; echo ended with $?")

    print(dry, said)
    numbers = {bot["twilio_phone_number"] for bot in ctl("bots list")}
    assert PANADERIA in numbers
    assert "asst_of_another_time" in dry + said
    assert answers(PANADERIA)
    typed(MACHINE, "rm registry.json env")


def test_the_first_backup_is_there() -> None:
    assert ctl("health")["backup"]["status"] == "ok"


def test_a_second_run_changes_nothing() -> None:
    run = playbook("site.yml", app_adopt_legacy=True)

    assert (run.code, run.changed) == (0, 0), run.output
