"""The README's examples, run as they are written against a demonstration that runs beside them."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest
import requests

from tests.e2e.test_demo import Demo
from tests.server_process import PATIENCE_S, free_port

ROOT = Path(__file__).parents[2]
READMES = ("README.md", "README.es.md")
CONTACT = "whatsapp:+56987654321"

EXPECTED = (
    r"^$",
    r"^bot_[0-9a-f]+$",
    r'"client_id":"el-clavo".*"max_output_tokens":null',
    r'"version":2.*"max_output_tokens":500',
    r'"version":2.*"version":1.*"source":"database"',
    r"^HTTP 200 in \d+ ms$",
    r'whatsapp:\+56987654321.*"status": "ok".*"status": "ready".*horizon_queue_due ',
    r'"deleted":true',
)
"""What each example prints, in their order."""

CURL = """#!{python}
# What the README's examples use of curl, for machines that have none.
import sys, urllib.error, urllib.request

words, headers, method, body, url = sys.argv[1:], {{}}, None, None, None
while words:
    word = words.pop(0)
    if word == "-H":
        name, value = words.pop(0).split(": ", 1)
        headers[name] = value
    elif word == "-X":
        method = words.pop(0)
    elif word == "--json":
        body = words.pop(0).encode()
        headers["Content-Type"] = "application/json"
    elif word.startswith("-"):
        assert word in ("-sS", "--fail-with-body"), word
    else:
        url = word
try:
    request = urllib.request.Request(url, body, headers, method=method)
    sys.stdout.buffer.write(urllib.request.urlopen(request, timeout={patience_s}).read())
except urllib.error.HTTPError as error:
    sys.stdout.buffer.write(error.read())
    sys.exit(22)
"""


def rest_blocks(readme: str) -> list[str]:
    """The bash blocks of the section on REST."""
    text = (ROOT / readme).read_text(encoding="utf-8")
    section = re.search(r"^## REST.*?(?=^## )", text, re.MULTILINE | re.DOTALL)
    assert section is not None, f"{readme} has no section on REST"
    return re.findall(r"^```bash\n(.*?)^```$", section[0], re.MULTILINE | re.DOTALL)


class Shell:
    """A person's second terminal: one bash, which ends at the first command that fails."""

    def __init__(self, folder: Path, block_s: float = PATIENCE_S) -> None:
        self._block_s = block_s
        environment = {**os.environ, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
        if shutil.which("curl") is None:
            curl = folder / "bin" / "curl"
            curl.parent.mkdir(exist_ok=True)
            curl.write_text(
                CURL.format(python=sys.executable, patience_s=PATIENCE_S), encoding="utf-8"
            )
            curl.chmod(0o755)
            environment["PATH"] = f"{curl.parent}:{environment['PATH']}"
        self._process = subprocess.Popen(
            ["/bin/bash", "-euo", "pipefail"],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def run(self, block: str) -> str:
        """What the block prints."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        deadline = threading.Timer(self._block_s, process.kill)
        deadline.start()
        lines: list[str] = []
        try:
            process.stdin.write(f"{block}\nprintf '\\n-- end\\n'\n")
            process.stdin.flush()
            for line in process.stdout:
                if line == "-- end\n":
                    return "".join(lines).strip()
                lines.append(line)
        finally:
            deadline.cancel()
        raise AssertionError(
            f"it failed, or took more than {self._block_s:g} s:\n{block}{''.join(lines)}"
        )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a running demonstration, with `.venv` as in the checkout."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / ".venv").symlink_to(sys.prefix)
    demo = Demo(folder, "--port", str(free_port()))
    try:
        demo.wait_for("source .demo/env")
        yield folder
        demo.end_of_input()
    finally:
        demo.process.kill()
        demo.process.wait()


def replies(folder: Path, count: int) -> list[str]:
    """What the contact has got, once that are `count` messages."""
    lines = shlex.split((folder / ".demo/env").read_text(encoding="utf-8"))
    settings = dict(line.split("=", 1) for line in lines if "=" in line)
    query: dict[str, Any] = {"to": CONTACT, "count": count, "timeout": PATIENCE_S}
    with requests.Session() as session:
        session.trust_env = False
        url = f"{settings['TWILIO_API_BASE_URL']}/_emulator/messages"
        found = session.get(url, params=query, timeout=PATIENCE_S * PATIENCE_S).json()
    return [message["body"] for message in found]


def test_the_examples_of_both_languages_are_identical() -> None:
    english, spanish = (rest_blocks(readme) for readme in READMES)

    assert english == spanish


@pytest.mark.parametrize("readme", READMES)
def test_every_example_on_rest_runs_as_it_is_written(readme: str, folder: Path) -> None:
    before = len(replies(folder, 0))
    printed = []

    with Shell(folder) as shell:
        for block in rest_blocks(readme):
            printed.append(shell.run(block))
            if "send-test" in block:
                # A person has read on by then.
                replies(folder, before + 1)

    assert len(printed) == len(EXPECTED)
    for output, expected in zip(printed, EXPECTED, strict=True):
        assert re.search(expected, output, re.DOTALL), output
    assert len(replies(folder, before + 1)) == before + 1
