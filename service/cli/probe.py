"""`probe`: prove that this release works here before it is let near traffic."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from service.cli.failures import CommandError
from service.cli.output import JsonFlag, print_json, print_line
from service.parent import ends_with_parent
from service.settings import SettingsError, load_settings

_ROOT = Path(__file__).parents[2]
_POLL_S = 0.05
_STOP_S = 5.0
_FORM = {
    "MessageSid": "SM" + "0" * 32,
    "AccountSid": "AC" + "0" * 32,
    "From": "whatsapp:+10000000000",
    "To": "whatsapp:+10000000001",
    "Body": "probe",
}
_NOT_OURS = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "NOTIFY_SOCKET")
_BROKEN = "do not deploy this release, and see the log of `horizonctl web --probe`"


def probe(
    release: Annotated[str, typer.Option(help="Name of the release, as it will run.")] = "",
    timeout_s: Annotated[
        float, typer.Option("--timeout", min=1, help="Longest wait for its answers, in seconds.")
    ] = 30,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--dir", help="Folder for its socket and log.", show_default="a temporary one"
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Prove with the real settings that this release works; it takes no message and serves nobody.

    Exit code 0 when it does, else 1 and a sentence that says what to do.
    """
    from service.probe import ProbeError, check_stores_and_worker, one_line

    started = time.monotonic()
    try:
        settings = load_settings()
    except SettingsError as error:
        faults = "; ".join(str(error).splitlines())
        raise CommandError(f"The settings are not right: {one_line(faults)}.") from None
    try:
        with (
            _ends_on_sigterm(),
            TemporaryDirectory(prefix="probe-", dir=folder) as own,
        ):
            with _running(Path(own), release, started + timeout_s) as web:
                _check_answers(web, release)
            # Not while web runs: a machine may have no memory for both beside what serves.
            check_stores_and_worker(settings, Path(own) / "metrics")
    except ProbeError as error:
        raise CommandError(str(error)) from None
    except OSError as error:
        raise CommandError(
            f"The probe cannot use its folder ({error.strerror or one_line(error)}): name another "
            "with --dir."
        ) from None
    seconds = round(time.monotonic() - started, 2)
    if as_json:
        print_json({"release": release, "works": True, "seconds": seconds})
    else:
        print_line(f"Release {release or '(unnamed)'} works here ({seconds:.1f} s).")


class _Web:
    """`web --probe` on a socket of its own."""

    def __init__(self, folder: Path, release: str, deadline: float) -> None:
        self._deadline = deadline
        self._log = folder / "web.log"
        self._socket = folder / "web.sock"
        environment = {name: os.environ[name] for name in os.environ if name not in _NOT_OURS}
        environment |= {
            # What it counts is not among the live counters.
            "METRICS_DIR": str(folder / "metrics"),
            "PYTHONPATH": str(_ROOT),
            "WEB_WORKERS": "1",
        }
        options = ("--probe", "--release", release, "--private-socket", str(self._socket))
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "service", "web", *options],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=ends_with_parent(signal.SIGTERM),
            )

    def end(self) -> None:
        """End it and its workers, however they are."""
        self._process.terminate()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def ask(self, target: str, form: dict[str, str] | None = None) -> tuple[int, bytes]:
        """Raises ProbeError when it has ended, or when there is no answer in time."""
        from service.cli.http import ask_socket
        from service.probe import ProbeError, one_line

        body, headers = None, {}
        if form is not None:
            body = urlencode(form).encode()
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
        while True:
            if self._process.poll() is not None:
                raise ProbeError(
                    f"The web process ended at its start ({one_line(self.last_error())}): mend that, "
                    "or deploy another release."
                )
            left_s = self._deadline - time.monotonic()
            if left_s <= 0:
                raise ProbeError(
                    f"The web process did not answer {target} in time "
                    f"({one_line(self.last_error())}): give it more with --timeout, or deploy "
                    "another release."
                )
            try:
                return ask_socket(
                    str(self._socket), target, max(left_s, 0.1), body=body, headers=headers
                )
            except (OSError, HTTPException):
                time.sleep(_POLL_S)

    def last_error(self) -> str:
        """The last line of its log that says why: plain text, else an error among the objects."""
        lines = self._log.read_text(errors="replace").strip().splitlines()
        objects = [_object(line) for line in lines]
        plain = [line for line, found in zip(lines, objects, strict=True) if found is None]
        plain = [line for line in plain if line.strip()]
        if plain:
            return plain[-1]
        errors = [
            found
            for found in objects
            if found is not None and found.get("level") in ("error", "critical")
        ]
        return str(errors[-1].get("event")) if errors else "it says nothing"


def _object(line: str) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


@contextmanager
def _running(folder: Path, release: str, deadline: float) -> Iterator[_Web]:
    web = _Web(folder, release, deadline)
    try:
        yield web
    finally:
        web.end()


def _check_answers(web: _Web, release: str) -> None:
    from service.probe import ProbeError

    status, body = web.ask("/health/ready")
    ready = _object(body.decode(errors="replace")) or {}
    if status != 200:
        reason = f"the database's schema is {ready.get('migrations')}"
        if str(ready.get("migrations")).startswith("unknown"):
            reason = "the database does not answer: check DATABASE_URL, or DB_HOST and the rest"
        if ready.get("accepts") is False:
            reason = "neither Redis nor the spool takes messages: mend one of them"
        raise ProbeError(f"The release is not ready: {reason}.")
    if ready.get("release") != release:
        raise ProbeError(f"The web process is of release {ready.get('release')!r}: {_BROKEN}.")
    expected: list[tuple[str, dict[str, str] | None, str, Callable[[int, bytes], bool]]] = [
        ("/webhook/whatsapp", None, "ok", lambda status, body: (status, body) == (200, b"ok")),
        ("/webhook/whatsapp", _FORM, "a refusal", lambda status, _: 400 <= status < 500),
        ("/bots/", None, "401", lambda status, _: status == 401),
        ("/openapi.json", None, "200", lambda status, _: status == 200),
    ]
    for target, form, wanted, is_right in expected:
        status, body = web.ask(target, form)
        if not is_right(status, body):
            method = "GET" if form is None else "an unsigned POST to"
            raise ProbeError(f"{method} {target} gave {status} instead of {wanted}: {_BROKEN}.")


@contextmanager
def _ends_on_sigterm() -> Iterator[None]:
    """So that the child and the folder go then too."""

    def end(_number: int, _frame: FrameType | None) -> None:
        sys.exit(128 + signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
