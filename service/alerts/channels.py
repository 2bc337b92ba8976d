"""Where alerts go: an address that takes JSON, a command, or whatever the program `apprise` reaches.

Only Python's own library: hosts without the service run this too.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from http.client import HTTPException
from ipaddress import ip_address
from typing import IO, Any, Protocol
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, OpenerDirector, ProxyHandler, Request, build_opener

HTTP_TIMEOUT_S = 10
COMMAND_TIMEOUT_S = 30


class DeliveryError(Exception):
    """The message did not arrive; the message says why, without the address, which may be a secret."""


class ChannelError(Exception):
    """There is no channel, or one cannot be used; the message is a sentence that says what to do."""


class Channel(Protocol):
    """`name` stands in the file that remembers what waits for whom."""

    @property
    def name(self) -> str: ...

    def deliver(self, message: Mapping[str, Any]) -> None:
        """Hand one message over. Raises DeliveryError."""


class Webhook:
    """POSTs the message as JSON; any 2xx means that it arrived. Redirects are not followed."""

    name = "url"

    def __init__(self, url: str) -> None:
        self._url = url

    def deliver(self, message: Mapping[str, Any]) -> None:
        request = Request(  # noqa: S310 - `_address` takes http:// and https:// alone
            self._url,
            data=json.dumps(dict(message)).encode(),
            headers={"Content-Type": "application/json", "User-Agent": "horizonai-bots"},
            method="POST",
        )
        try:
            with _opener(self._url).open(request, timeout=HTTP_TIMEOUT_S) as answer:
                status = answer.status
        except HTTPError as error:
            error.close()
            status = error.code
        except (OSError, HTTPException, ValueError) as error:
            # Its text has the address.
            reason = getattr(error, "reason", error)
            raise DeliveryError(f"ALERT_URL is not reached ({type(reason).__name__})") from None
        if not 200 <= status < 300:
            raise DeliveryError(f"ALERT_URL answers HTTP {status}")


class _NoRedirects(HTTPRedirectHandler):
    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> None:
        return None


def _opener(url: str) -> OpenerDirector:
    """A proxy of the environment is not used for this host itself."""
    host = urlsplit(url).hostname or ""
    try:
        is_own = ip_address(host).is_loopback
    except ValueError:
        is_own = host == "localhost"
    return build_opener(_NoRedirects, *([ProxyHandler({})] if is_own else []))


class Command:
    """Runs a program with the message as JSON on its standard input; exit code 0: it arrived."""

    name = "command"

    def __init__(self, command: str, hidden: frozenset[str] = frozenset()) -> None:
        self._words = _words(command)
        self._hidden = hidden

    def deliver(self, message: Mapping[str, Any]) -> None:
        text = json.dumps(dict(message), ensure_ascii=False) + "\n"
        _run("ALERT_COMMAND", self._words, text, self._hidden)


class Apprise:
    """Hands the address to the program `apprise`: mailto://, slack://, whatsapp://, tgram:// …

    In a file of its own, because everyone may read the arguments of a process.
    Source: https://github.com/caronc/apprise/wiki/CLI_Usage
    """

    name = "url"

    def __init__(self, program: str, url: str, hidden: frozenset[str] = frozenset()) -> None:
        self._program = program
        self._url = url
        self._hidden = hidden

    def deliver(self, message: Mapping[str, Any]) -> None:
        with tempfile.NamedTemporaryFile("w", suffix=".conf", encoding="utf-8") as file:
            file.write(self._url + "\n")
            file.flush()
            words = [self._program, "--config", file.name, "--title", str(message["title"])]
            _run("apprise", words, str(message["text"]) + "\n", self._hidden)


def channels_of(
    url: str | None, command: str | None, hidden: frozenset[str] = frozenset()
) -> Sequence[Channel]:
    """The operator's channels; `hidden` variables of the environment are kept from their programs.

    Raises ChannelError.
    """
    found: list[Channel] = []
    if url is not None:
        found.append(_address(url, hidden))
    if command is not None:
        found.append(Command(command, hidden))
    if not found:
        raise ChannelError(
            "ALERT_URL or ALERT_COMMAND: one is needed to send alerts. On a server alert_url or "
            "alert_command in the inventory, then `ansible-playbook site.yml -i <inventory> --tags alerts`."
        )
    return found


def _address(url: str, hidden: frozenset[str]) -> Channel:
    if url.lower().startswith(("http://", "https://")):
        return Webhook(url)
    program = shutil.which("apprise")
    if program is None:
        raise ChannelError(
            "ALERT_URL: it is no http:// or https:// address, and the program apprise, which knows "
            "others, is not installed (apt-get install apprise)."
        )
    return Apprise(program, url, hidden)


def _words(command: str) -> Sequence[str]:
    try:
        words = shlex.split(command)
    except ValueError:
        raise ChannelError("ALERT_COMMAND: a quote in it is not closed.") from None
    if not words or shutil.which(words[0]) is None:
        raise ChannelError(
            f"ALERT_COMMAND: {words[0] if words else 'it'} is no program that this user may run."
        )
    return words


def _run(what: str, words: Sequence[str], text: str, hidden: frozenset[str]) -> None:
    # The service's secrets are nothing that the operator's program needs.
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    try:
        process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=None if _is_file(sys.stderr) else subprocess.DEVNULL,
            env=environment,
            text=True,
            encoding="utf-8",
            start_new_session=True,
        )
    except OSError as error:
        raise DeliveryError(f"{what} cannot be run ({error.strerror})") from None
    try:
        process.communicate(text, timeout=COMMAND_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise DeliveryError(
            f"{what} took longer than {COMMAND_TIMEOUT_S} s and was ended"
        ) from None
    if process.returncode != 0:
        raise DeliveryError(f"{what} ended with exit code {process.returncode}")


def _is_file(stream: Any) -> bool:
    """Whether a child may write there: a stream of a test is no file."""
    try:
        stream.fileno()
    except (AttributeError, OSError, ValueError):
        return False
    return True
