"""`horizonctl`: everything that an operator does with the service on its host.

Exit codes: 0 done, 1 refused, not found or failed, 2 wrong usage or settings. An error is one plain
sentence on standard error. What commands need is imported inside them: `--help` stays quick.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Sequence

import typer

from service.cli import (
    alerts,
    backup,
    bots,
    check,
    cleanup,
    clients,
    conversations,
    database,
    dead,
    demo,
    health,
    import_bots,
    inventory,
    keys,
    logs,
    monitor,
    probe,
    processes,
    restore,
    search,
    send_test,
    server,
    settings_reference,
    stats,
    workers,
)
from service.cli.failures import FAILED, USAGE, explain
from service.cli.streams import discard_output, open_streams

app = typer.Typer(
    name="horizonctl",
    help="Runs and looks after Horizon WhatsApp Bots.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("web")(processes.web)
app.command("worker")(processes.worker)
app.command("probe")(probe.probe)
app.command("demo")(demo.demo)
app.add_typer(database.app, name="db")
app.add_typer(bots.app, name="bots")
app.add_typer(clients.app, name="clients")
app.add_typer(keys.app, name="key")
app.add_typer(conversations.app, name="conversations")
app.add_typer(dead.app, name="dead")
app.add_typer(alerts.app, name="alerts")
app.add_typer(backup.app, name="backup")
app.add_typer(restore.app, name="restore")
app.add_typer(inventory.app, name="inventory")
app.command("send-test")(send_test.send_test)
app.command("check")(check.check)
app.command("cleanup")(cleanup.cleanup)
app.command("import")(import_bots.import_bots)
app.command("workers")(workers.workers)
app.command("monitor")(monitor.monitor)
app.command("stats")(stats.stats)
app.command("logs")(logs.logs)
app.command("search")(search.search)
app.command("server")(server.server)
app.command("health")(health.health)
app.command("settings")(settings_reference.settings)

_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EBADF)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    open_streams()
    if not all(_is_text(word) for word in words):
        print("An argument is not UTF-8 text.", file=sys.stderr)
        return USAGE
    try:
        code = app(words, prog_name="horizonctl", standalone_mode=False)
        sys.stdout.flush()
    except typer.Abort:
        print("Nothing was done.", file=sys.stderr)
        return FAILED
    except BrokenPipeError:
        # The reader, like `head`, has seen enough.
        discard_output()
        return FAILED
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            raise
        discard_output()
        print(f"The output cannot be written: {error.strerror}.", file=sys.stderr)
        return FAILED
    except Exception as error:
        failure = explain(error)
        if failure is None:
            raise
        print(failure.sentence, file=sys.stderr)
        return failure.code
    return code if isinstance(code, int) else 0


def _is_text(word: str) -> bool:
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True
