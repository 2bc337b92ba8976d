"""The older Flask service has made room for this one, and its bots come along."""

from __future__ import annotations

from conftest import MACHINE, answers, ctl
from machine import code_on, on, playbook

ASIDE = "/var/backups/horizonai-bots-legacy"
GIVEN = "/var/lib/horizonai-bots/import"
IMPORT = f"horizonctl import --registry {GIVEN}/registry.json --env {GIVEN}/env"
PANADERIA, KIOSKO = "+56226660101", "+56226660102"


def test_the_older_service_is_kept_aside() -> None:
    kept = "/opt/horizonai-bots.before-horizonai-bots"
    assert "flask" in on(MACHINE, f"cat {kept}/app.py")
    assert "5000" in on(MACHINE, f"cat {ASIDE}/sites-available.horizonai-bots")
    assert "gunicorn" in on(MACHINE, f"cat {ASIDE}/system.horizonai-bots.service")
    assert "127.0.0.1:5000" not in on(MACHINE, "ss --listening --tcp --numeric")
    assert code_on(MACHINE, "test -e /etc/nginx/sites-enabled/horizonai-bots") != 0


def test_its_bots_are_imported_and_answer() -> None:
    on(
        MACHINE,
        f"install -d -o horizonai-bots -m 0700 {GIVEN} && cd {ASIDE} "
        f"&& install -o horizonai-bots -m 0600 registry.json env {GIVEN}/",
    )
    before = ctl("bots list")

    dry = on(MACHINE, f"{IMPORT} --dry-run; true")
    assert ctl("bots list") == before
    # One entry cannot be taken: its instructions were kept at OpenAI. It stops no other.
    said = on(MACHINE, f"{IMPORT} 2>&1; echo ended with $?")

    print(dry, said)
    numbers = {bot["twilio_phone_number"] for bot in ctl("bots list")}
    assert PANADERIA in numbers
    assert "asst_of_another_time" in dry + said
    assert answers(PANADERIA)
    on(MACHINE, f"rm -r {GIVEN}")


def test_the_first_backup_is_there() -> None:
    assert ctl("health")["backup"]["status"] == "ok"


def test_a_second_run_changes_nothing() -> None:
    run = playbook("site.yml", app_adopt_legacy=True)

    assert (run.code, run.changed) == (0, 0), run.output
