"""What has to be true of every installed machine."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable
from urllib.parse import quote

from machine import Run, made, on, typed

MOST_EXPOSED = 1.5
BOT = {"name": "La Cocina", "client_id": "la-cocina"}


def left_to_do(run: Run, *known: str) -> list[str]:
    """What repair.yml names at its end, but for checks that these machines cannot pass."""
    text = " ".join(run.output.split())
    left = text.rpartition("Left to do: ")[2].partition(". The remedies")[0]
    rows = [] if run.code == 0 else left.split("; ")
    return [row for row in rows if not row.partition(": ")[2].startswith(known)]


def secrets_of(values: Iterable[tuple[str, object]]) -> list[str]:
    """The vault's values, plain and in the forms that they could slip out in."""
    found = []
    for name, value in values:
        # Names of accounts are no secrets; the emulator's token stands in its own source.
        if name.startswith("vault_") and "sid" not in name and isinstance(value, str):
            coded = base64.b64encode(value.encode()).decode().rstrip("=")
            found += [value, quote(value, safe=""), coded]
    return found


def add_bot(machine: str, number: str, instructions: str = "Responde en pocas frases.") -> None:
    """The machine has a bot with this number."""
    bots = json.loads(typed(machine, "sudo horizonctl bots list --json"))
    if not any(bot["twilio_phone_number"] == number for bot in bots):
        fields = BOT | {"twilio_phone_number": number, "instructions": instructions}
        typed(machine, "sudo horizonctl bots add --file - --json", stdin=json.dumps(fields))


def listeners_beyond_loopback(machine: str) -> set[int]:
    """TCP and UDP ports that anybody could reach, were it not for the firewall."""
    ports = set()
    for line in on(machine, "ss --numeric --listening --tcp --udp --no-header").splitlines():
        address, _, port = line.split()[4].rpartition(":")
        if not re.match(r"127\.|\[::1\]|\[::ffff:127\.", address):
            ports.add(int(port))
    return ports


def exposures(machine: str) -> dict[str, float]:
    """`systemd-analyze security` of the units that run the service."""
    units = on(
        machine, "systemctl list-units --plain --no-legend 'horizonai-bots*@*' | cut -d' ' -f1"
    )
    found = {}
    for unit in units.split():
        text = on(machine, f"systemd-analyze security --no-pager '{unit}' | tail -n 1")
        match = re.search(r"exposure level for \S+: (\d+\.\d)", text)
        assert match is not None, text
        found[unit] = float(match[1])
    return found


def readable_secrets(machine: str) -> list[str]:
    """Files with a secret in them that others than owner and group may read."""
    values = "\n".join(secrets_of(made().items())) + "\n"
    on(machine, "umask 077; cat >/run/patterns", stdin=values)
    try:
        text = on(
            machine,
            "find /etc /opt /var /usr/local /run /home /root /srv -xdev -type f -perm /004 "
            "-not -path /run/patterns -print0 | xargs -0 grep --files-with-matches --fixed-strings "
            "--file /run/patterns 2>/dev/null || true",
        )
    finally:
        on(machine, "rm /run/patterns")
    # A file in a folder that others may not enter is out of their reach.
    return [file for file in text.split("\n") if file and _others_reach(machine, file)]


def _others_reach(machine: str, file: str) -> bool:
    return (
        on(
            machine,
            f"setpriv --reuid=65534 --regid=65534 --clear-groups test -r '{file}' && echo yes || true",
        )
        != ""
    )


def secrets_on_command_lines(machine: str) -> list[str]:
    """Processes whose arguments hold a secret."""
    values = secrets_of(made().items())
    lines = on(machine, "ps -eo args").splitlines()
    return [line for line in lines if any(value in line for value in values)]
