"""Asking systemd for a backup now."""

from __future__ import annotations

import shutil
import subprocess

UNIT = "horizonai-bots-backup.service"
_LOOK_TIMEOUT_S = 10


class BackupError(Exception):
    """No backup was begun or it failed; the message is a sentence that says what to do."""


def make_backup() -> str:
    """Start the unit and wait for its end; the sentence that says so. Raises BackupError."""
    program = shutil.which("systemctl")
    if program is None:
        raise BackupError(
            "There is no systemctl on this host: backups are made where systemd runs."
        )
    try:
        known = subprocess.run(
            [program, "cat", UNIT], capture_output=True, text=True, timeout=_LOOK_TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        raise BackupError("systemctl does not answer: look with `systemctl status`.") from None
    if known.returncode != 0:
        raise BackupError(
            f"There is no {UNIT} on this host: `ansible-playbook backup.yml -i <inventory>` "
            "on your machine brings it."
        )
    done = subprocess.run(
        [program, "start", "--no-ask-password", UNIT], capture_output=True, text=True
    )
    if done.returncode == 0:
        return f"The backup is made: `journalctl -u {UNIT}` tells what is in it."
    complaint = done.stderr.strip().split("\n", 1)[0]
    if "denied" in complaint or "authentication required" in complaint:
        raise BackupError(f"This user may start no unit: sudo systemctl start {UNIT}")
    raise BackupError(f"The backup failed: `journalctl -u {UNIT}` says why.")
