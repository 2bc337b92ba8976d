"""The check of a host that does not have the service: a balancer, a Redis or a database of a cluster.

Only Python's own library: it runs with Debian's Python, from a copy of these files. The settings are
variables of the environment, with the names that the service has for them.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from service.alerts import host, texts, watch
from service.alerts.channels import ChannelError, channels_of
from service.alerts.findings import Findings
from service.alerts.host import Limits
from service.alerts.kept import Kept
from service.alerts.memory import MemoryFile, MemoryFileError


def main(environment: Mapping[str, str]) -> int:
    """One check. The exit code is 1 when a message did not arrive."""
    limits = Limits(
        **{
            name: _number(environment, f"ALERT_{name.upper()}", default)
            for name, default in asdict(Limits()).items()
        }
    )
    path = Path(environment.get("ALERT_STATE_FILE", "alerts.json"))
    language: texts.Language = "en" if environment.get("ALERT_LANGUAGE") == "en" else "es"
    sender = watch.Sender(socket.gethostname(), environment.get("ALERT_DOMAIN", ""), language)
    hidden = frozenset(name for name in environment if name.startswith("ALERT_"))
    file, findings = MemoryFile(path), Findings()
    try:
        url, command = environment.get("ALERT_URL"), environment.get("ALERT_COMMAND")
        channels = channels_of(url or None, command or None, hidden)
        host.look(findings, limits, Kept.beside(path), time.time())
        report = watch.check(file, findings, channels, sender, datetime.now(UTC))
    except (ChannelError, MemoryFileError) as error:
        raise SystemExit(str(error)) from None
    for line in (*file.notes, *(message["text"] for message in report.new)):
        print(line)
    for failure in report.failures.values():
        print(f"{failure}: it is tried again at the next check.", file=sys.stderr)
    return 1 if report.failures else 0


def _number(environment: Mapping[str, str], name: str, default: int) -> int:
    value = environment.get(name) or str(default)
    try:
        return int(value)
    except ValueError:
        raise SystemExit(f"{name}: a whole number is needed; set it in the inventory.") from None


if __name__ == "__main__":
    sys.exit(main(os.environ))
