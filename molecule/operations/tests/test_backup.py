"""Everything is lost and comes back: nobody is answered twice, nobody is forgotten."""

from __future__ import annotations

import re

from conftest import MACHINE, NUMBER, answers, ctl, told, write
from installed import add_bot
from machine import made, on, playbook, typed, vendors, wait_for
from message import replies

OTHER = "+56226660002"
WORKERS = "'horizonai-bots-worker@*'"
ANSWERED, PENDING = 20, 5
PAUSED = '{"status": "paused"}'


def _workers(verb: str) -> None:
    units = on(MACHINE, f"systemctl list-units --all --plain --no-legend {WORKERS} | cut -d' ' -f1")
    on(MACHINE, f"systemctl {verb} {' '.join(units.split())}")


def _answered(contacts: list[str]) -> bool:
    return all(replies(vendors()["twilio"], contact) for contact in contacts)


def _bots() -> list[dict[str, object]]:
    return sorted(ctl("bots list"), key=lambda bot: str(bot["id"]))


def _destroy() -> None:
    """A disk is lost: database, Redis, spool and certificates. The repository is elsewhere."""
    on(
        MACHINE,
        "systemctl stop horizonai-bots.socket 'horizonai-bots@*' 'horizonai-bots-worker@*' "
        "redis-server.service && rm -rf /var/lib/redis/* /var/lib/horizonai-bots/* /etc/letsencrypt/* "
        "&& su postgres -c 'psql --quiet -c \"DROP DATABASE horizonai_bots WITH (FORCE)\"'",
    )


def test_everything_comes_back_and_nobody_is_answered_twice() -> None:
    add_bot(MACHINE, OTHER)
    known = write(NUMBER, "antes de todo")
    wait_for(lambda: _answered([known]), 120, "an answer before the backup")
    bots, conversations = _bots(), ctl("conversations list")
    _workers("stop")
    answered = [write(NUMBER, f"pregunta {n}") for n in range(ANSWERED)]
    pending = [write(OTHER, f"pendiente {n}") for n in range(PENDING)]

    taken = playbook("backup.yml")

    assert taken.code == 0, taken.output
    assert "Keep vault_backup_password" in told(taken.output)
    # After it: twenty are answered, five wait behind a pause, three more are taken and answered.
    typed(MACHINE, f"sudo horizonctl bots set {OTHER} --file -", stdin=PAUSED)
    _workers("start")
    late = [write(NUMBER, f"después {n}") for n in range(3)]
    wait_for(lambda: _answered(answered + late), 120, "answers after the backup")
    assert not any(replies(vendors()["twilio"], contact) for contact in pending)
    _destroy()

    made_anew = playbook("site.yml")
    restored = playbook("restore.yml", snapshot="latest", confirmar=MACHINE)

    assert made_anew.code == 0, made_anew.output
    assert restored.code == 0, restored.output
    print(restored.output.partition("TASK [Summary")[2])
    assert "20 after it" in told(restored.output)
    assert "messages that Twilio delivered and no backup has" in told(restored.output)
    assert all(contact in restored.output for contact in late)
    assert _bots() == bots
    wait_for(lambda: _answered(pending), 120, "answers to what was pending")
    assert {row["id"] for row in conversations} <= {row["id"] for row in ctl("conversations list")}
    assert answers()
    assert answers(OTHER)
    for contact in (known, *answered, *pending, *late):
        assert len(replies(vendors()["twilio"], contact)) == 1, contact


def test_a_drill_restores_beside_the_running_service() -> None:
    assert playbook("backup.yml").code == 0

    run = playbook("restore-drill.yml")

    assert run.code == 0, run.output
    assert re.search(r"is whole: \d+ rows and \d+ keys were compared", told(run.output)), run.output
    assert "a test message was answered" in told(run.output)
    assert answers()


def test_a_backup_under_load_is_whole() -> None:
    contacts = [write(NUMBER, f"mientras tanto {n}") for n in range(30)]

    taken, drilled = playbook("backup.yml"), playbook("restore-drill.yml")

    assert (taken.code, drilled.code) == (0, 0), taken.output + drilled.output
    wait_for(lambda: _answered(contacts), 120, "answers")


def test_what_cannot_be_restored_is_said_and_nothing_is_touched() -> None:
    before = _bots()
    for variables, words in (
        ({"confirmar": MACHINE, "snapshot": "ffffffff"}, "There is no snapshot"),
        ({"snapshot": "latest"}, "Nada se ha tocado"),
        ({"snapshot": "latest", "confirmar": "another"}, "Nada se ha tocado"),
    ):
        run = playbook("restore.yml", **variables)
        assert run.code != 0, run.output
        assert words in told(run.output), run.output
    assert _bots() == before
    assert answers()


def test_a_wrong_password_fails_the_unit_and_stands_in_health() -> None:
    on(MACHINE, "systemctl stop horizonai-bots-backup.timer")
    wrong = playbook("site.yml", "--tags", "backup", vault_backup_password="w" * 32)

    assert wrong.code != 0
    assert "password does not open" in told(wrong.output), wrong.output
    on(MACHINE, "systemctl start horizonai-bots-backup.service || true")
    assert (
        on(MACHINE, "systemctl is-failed horizonai-bots-backup.service || true").strip() == "failed"
    )
    assert "backup" in typed(MACHINE, "sudo horizonctl health || true")

    right = playbook("site.yml", "--tags", "backup")

    assert right.code == 0, right.output
    on(MACHINE, "systemctl start horizonai-bots-backup.service")
    assert made()["vault_backup_password"] not in wrong.output + right.output


def test_without_a_repository_nothing_of_the_backups_stays() -> None:
    kept = on(MACHINE, "ls /var/backups/bots")
    off = playbook("site.yml", backup_repository="")

    assert off.code == 0, off.output
    units = "list-unit-files --plain --no-legend 'horizonai-bots-backup*' 'horizonai-bots-drill*'"
    assert on(MACHINE, f"systemctl {units} || true") == ""
    left = "/usr/local/sbin/horizonai-backup /etc/horizonai-bots/backup.json"
    left += " /etc/horizonai-bots/backup.password /opt/horizonai-bots/backup"
    assert on(MACHINE, f"ls -d {left} 2>/dev/null || true") == ""
    assert "backup" not in typed(MACHINE, "sudo horizonctl health")
    assert on(MACHINE, "ls /var/backups/bots") == kept
    again = playbook("site.yml", backup_repository="")
    assert (again.code, again.changed) == (0, 0), again.output

    back = playbook("site.yml")

    assert back.code == 0, back.output
    on(MACHINE, "systemctl is-active horizonai-bots-backup.timer horizonai-bots-drill.timer")
