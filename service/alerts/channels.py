"""Where alerts go: an address that takes JSON, a command, or whatever the program `apprise` reaches."""

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
from typing import Any, Protocol

import requests

from service.cli.http import http_session
from service.settings import Settings, SettingsError

HTTP_TIMEOUT_S = 10
COMMAND_TIMEOUT_S = 30
_NAMES = frozenset(name.upper() for name in Settings.model_fields)


class DeliveryError(Exception):
    """The message did not arrive; the message says why, without the address, which may be a secret."""


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
        try:
            with http_session(self._url) as session:
                answer = session.post(
                    self._url,
                    json=dict(message),
                    timeout=HTTP_TIMEOUT_S,
                    allow_redirects=False,
                    stream=True,
                )
                status = answer.status_code
        except requests.RequestException as error:
            # Its text has the address.
            raise DeliveryError(f"ALERT_URL is not reached ({type(error).__name__})") from None
        if not 200 <= status < 300:
            raise DeliveryError(f"ALERT_URL answers HTTP {status}")


class Command:
    """Runs a program with the message as JSON on its standard input; exit code 0: it arrived."""

    name = "command"

    def __init__(self, command: str) -> None:
        self._words = _words(command)

    def deliver(self, message: Mapping[str, Any]) -> None:
        _run("ALERT_COMMAND", self._words, json.dumps(dict(message), ensure_ascii=False) + "\n")


class Apprise:
    """Hands the address to the program `apprise`: mailto://, slack://, whatsapp://, tgram:// …

    In a file of its own, because everyone may read the arguments of a process.
    Source: https://github.com/caronc/apprise/wiki/CLI_Usage
    """

    name = "url"

    def __init__(self, program: str, url: str) -> None:
        self._program = program
        self._url = url

    def deliver(self, message: Mapping[str, Any]) -> None:
        with tempfile.NamedTemporaryFile("w", suffix=".conf", encoding="utf-8") as file:
            file.write(self._url + "\n")
            file.flush()
            words = [self._program, "--config", file.name, "--title", str(message["title"])]
            _run("apprise", words, str(message["text"]) + "\n")


def channels_of(settings: Settings) -> Sequence[Channel]:
    """The operator's channels. Raises SettingsError when there is none or one cannot be used."""
    found: list[Channel] = []
    if settings.alert_url is not None:
        found.append(_address(settings.alert_url))
    if settings.alert_command is not None:
        found.append(Command(settings.alert_command))
    if not found:
        raise SettingsError(
            "ALERT_URL or ALERT_COMMAND: one is needed to send alerts. On a server alert_url or "
            "alert_command in the inventory, then `ansible-playbook site.yml -i <inventory> --tags alerts`."
        )
    return found


def _address(url: str) -> Channel:
    if url.lower().startswith(("http://", "https://")):
        return Webhook(url)
    program = shutil.which("apprise")
    if program is None:
        raise SettingsError(
            "ALERT_URL: it is no http:// or https:// address, and the program apprise, which knows "
            "others, is not installed (apt-get install apprise)."
        )
    return Apprise(program, url)


def _words(command: str) -> Sequence[str]:
    try:
        words = shlex.split(command)
    except ValueError:
        raise SettingsError("ALERT_COMMAND: a quote in it is not closed.") from None
    if not words or shutil.which(words[0]) is None:
        raise SettingsError(
            f"ALERT_COMMAND: {words[0] if words else 'it'} is no program that this user may run."
        )
    return words


def _run(what: str, words: Sequence[str], text: str) -> None:
    # The service's secrets are nothing that the operator's program needs.
    environment = {name: value for name, value in os.environ.items() if name not in _NAMES}
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
