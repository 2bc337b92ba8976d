"""The demonstration as a newcomer runs it, and what is left of it when it has ended."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest
import requests

from tests.server_process import PATIENCE_S, free_port, wait_until

ROOT = Path(__file__).parents[2]


class Demo:
    """`horizonctl demo` as a child, with what it printed; all its processes work below one folder."""

    def __init__(
        self,
        folder: Path,
        *words: str,
        redirect: str = "",
        variables: Mapping[str, str] | None = None,
    ) -> None:
        """`redirect` is what a shell would be told of its standard streams."""
        self._folder = folder
        environment = {**os.environ, "TMPDIR": str(folder), **(variables or {})}
        environment["PYTHONPATH"] = str(ROOT)
        environment.pop("OPENAI_API_KEY", None)
        self.process = subprocess.Popen(
            [
                *("/bin/sh", "-c", f'exec "$@" {redirect}', "sh"),
                *(sys.executable, "-m", "service", "demo", *words),
            ],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        )
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def output(self) -> str:
        return "".join(self._lines)

    def write(self, line: str | bytes) -> None:
        assert self.process.stdin is not None
        data = line.encode() if isinstance(line, str) else line
        os.write(self.process.stdin.fileno(), data + b"\n")

    def wait_for(self, text: str) -> None:
        def shown() -> bool:
            assert self.process.poll() is None or text in self.output, self.output
            return text in self.output

        wait_until(shown, f"“{text}” in the output")

    def end_of_input(self) -> int:
        """Close its input; its exit code."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.wait()

    def wait(self) -> int:
        code = self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        return code

    def processes(self) -> list[str]:
        """The command lines of what still runs of it."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if (entry / "cwd").readlink().is_relative_to(self._folder):
                    found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:
                continue
        return found

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.append(line)


def test_one_round_succeeds_and_leaves_nothing_behind(tmp_path: Path) -> None:
    demo = Demo(tmp_path, "--once")

    code = demo.wait()

    assert code == 0, demo.output
    assert "Soy el asistente de La Cocina" in demo.output
    assert "Pastel de choclo" in demo.output
    assert "está en estado: nuevo" in demo.output
    assert "The CRM holds lead 1: Ana Rojas" in demo.output
    assert demo.processes() == []
    assert list(tmp_path.iterdir()) == []


def test_a_killed_demo_leaves_no_process_and_the_next_one_starts_on_its_data(
    tmp_path: Path,
) -> None:
    port = str(free_port())
    killed = Demo(tmp_path, "--port", port)
    killed.write("Hola")
    killed.wait_for("Soy el asistente de La Cocina")
    running = killed.processes()
    killed.process.send_signal(signal.SIGKILL)
    wait_until(lambda: killed.processes() == [], "the end of every process")

    second = Demo(tmp_path, "--port", port)
    for line in ("/andes", "Me llamo Luis y busco una casa en Maipú", "/salir"):
        second.write(line)
    code = second.wait()

    # demo, Valkey, emulators, gunicorn's master and worker, worker
    assert len(running) == 6
    assert code == 0, second.output
    assert "Registré tu solicitud con el número 1" in second.output
    assert re.search(r"\(\d+ ms\)", second.output)
    assert second.processes() == []


def test_the_file_env_opens_the_rest_interface(tmp_path: Path) -> None:
    demo = Demo(tmp_path, "--port", str(free_port()))
    demo.wait_for("source .demo/env")
    shell = '. .demo/env && echo "$HORIZONCTL_URL $ADMIN_API_KEY"'

    shown = subprocess.run(
        ["/bin/sh", "-c", shell], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    base_url, key = shown.stdout.split()
    with requests.Session() as session:
        session.trust_env = False
        session.headers["Authorization"] = f"Bearer {key}"
        bots = session.get(f"{base_url}/bots/", timeout=PATIENCE_S).json()["data"]

    assert demo.end_of_input() == 0
    assert {bot["name"] for bot in bots} == {"Restaurante La Cocina", "Inmobiliaria Andes"}
    assert (tmp_path / ".demo/env").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_chat_and_all_of_it(tmp_path: Path, number: signal.Signals) -> None:
    demo = Demo(tmp_path, "--port", str(free_port()))
    demo.wait_for("source .demo/env")

    demo.process.send_signal(number)
    code = demo.wait()

    assert code == (0 if number == signal.SIGINT else 128 + number)
    assert "Traceback" not in demo.output
    assert demo.processes() == []


def test_a_line_that_is_no_text_is_asked_for_again(tmp_path: Path) -> None:
    demo = Demo(tmp_path, "--port", str(free_port()))
    demo.write(b"\xff\xfe")
    demo.wait_for("no es texto en UTF-8")

    demo.write("Hola")
    demo.wait_for("Soy el asistente de La Cocina")

    assert demo.end_of_input() == 0
    assert "Traceback" not in demo.output


def test_a_terminal_of_ascii_shows_the_chat(tmp_path: Path) -> None:
    ascii_only = {"PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
    demo = Demo(tmp_path, "--port", str(free_port()), variables=ascii_only)
    demo.write("¿Me muestras la carta?")
    demo.wait_for("Pastel de choclo")

    assert demo.end_of_input() == 0
    assert "Traceback" not in demo.output
    assert demo.output.isascii()


def test_a_closed_input_ends_the_chat_at_once(tmp_path: Path) -> None:
    demo = Demo(tmp_path, "--port", str(free_port()), redirect="<&-")

    code = demo.wait()

    assert code == 0, demo.output
    assert "Hasta luego." in demo.output
    assert demo.processes() == []


def test_a_full_output_ends_the_chat_with_a_sentence(tmp_path: Path) -> None:
    demo = Demo(tmp_path, "--port", str(free_port()), redirect=">/dev/full")

    code = demo.wait()

    assert code == 1
    assert demo.output == "The output cannot be written: No space left on device.\n"
    assert demo.processes() == []


def test_a_chat_whose_valkey_is_killed_ends_with_a_sentence(tmp_path: Path) -> None:
    demo = Demo(tmp_path, "--port", str(free_port()))
    demo.wait_for("source .demo/env")
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and _is_valkey_of(entry, tmp_path):
            os.kill(int(entry.name), signal.SIGKILL)

    demo.write("Hola")
    code = demo.wait()

    assert code == 1
    assert "Redis has been down for" in demo.output
    assert "Traceback" not in demo.output
    assert demo.processes() == []


def _is_valkey_of(process: Path, folder: Path) -> bool:
    try:
        works_there = (process / "cwd").readlink().is_relative_to(folder)
        return works_there and b"valkey" in (process / "cmdline").read_bytes().split(b"\0")[0]
    except OSError:
        return False
