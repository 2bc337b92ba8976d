"""The playbooks of clients, run on this machine against a running service and an emulated Twilio."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from service.demo.emulators.faults import Fault
from service.demo.emulators.twilio_senders import PATH as SENDERS
from service.demo.emulators.wire import Request
from service.store import bots
from tests.stack import ACCOUNT_SID, AUTH_TOKEN, MakeStack, Stack, wait_until
from tests.web_thread import web

ROOT = Path(__file__).parents[2]
NUMBER = "+56226660001"
COCINA = {"nombre": "Restaurante La Cocina", "numero": NUMBER}
SECRET = "horizon-token-nobody-may-see"


@dataclass
class Run:
    """How a playbook ended."""

    code: int
    text: str

    @property
    def changed(self) -> int:
        """How many tasks changed something, by the recap."""
        return int(self.text.rpartition("changed=")[2].split()[0])


@dataclass
class Controller:
    """Where an operator works: this machine, which is its own server."""

    stack: Stack
    folder: Path
    url: str

    def play(self, name: str, *options: str, **variables: Any) -> Run:
        """Without a terminal."""
        done = subprocess.run(
            self.command(name, *options, **variables),
            env=self.environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return Run(done.returncode, done.stdout)

    def kill(self, name: str, moment: Callable[[], object], **variables: Any) -> None:
        """Begin and end it in this moment, with everything that it has started."""
        with open(self.folder / "killed.log", "w") as log:
            playbook = subprocess.Popen(
                self.command(name, **variables),
                env=self.environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        wait_until(lambda: moment() or playbook.poll() is not None, "moment")
        for pid in family(playbook.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert playbook.wait() == -signal.SIGKILL, (self.folder / "killed.log").read_text()

    def play_at_a_terminal(self, answers: dict[str, str], name: str, *options: str) -> Run:
        """Types each answer when its question stands there."""
        outside, inside = os.openpty()
        with subprocess.Popen(
            self.command(name, *options),
            env=self.environment,
            cwd=self.folder,
            stdin=inside,
            stdout=inside,
            stderr=inside,
            start_new_session=True,
        ) as playbook:
            os.close(inside)
            shown, left = b"", dict(answers)
            # Reading from a terminal that nobody holds any more is an error.
            with contextlib.suppress(OSError):
                while some := os.read(outside, 4_096):
                    shown += some
                    for question in [each for each in left if each.encode() in shown]:
                        os.write(outside, left.pop(question).encode() + b"\n")
        os.close(outside)
        text = shown.decode()
        assert left == {}, text
        return Run(playbook.returncode, " ".join(text.split()))

    def command(self, name: str, *options: str, **variables: Any) -> list[str]:
        """What `horizonctl` is to the playbook is this checkout's command."""
        variables = {
            "ansible_become": False,
            "client_horizonctl": [sys.executable, "-P", "-m", "service"],
            "clientes_carpeta": str(self.folder / "clients"),
            "client_exports": str(self.folder / "exports"),
            "prueba_url": self.url,
            **variables,
        }
        return [
            *(str(Path(sys.executable).with_name("ansible-playbook")), str(ROOT / f"{name}.yml")),
            *("-i", "horizon,", "-c", "local", "-e", json.dumps(variables)),
            *("-e", f"servidor=all ansible_python_interpreter={sys.executable}", *options),
        ]

    @property
    def environment(self) -> dict[str, str]:
        """The operator's shell."""
        return {
            **os.environ,
            **self.stack.variables,
            "HORIZONCTL_URL": self.url,
            "PYTHONPATH": str(ROOT),
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_HOME": str(self.folder / "ansible"),
            "ANSIBLE_LOCALHOST_WARNING": "false",
            "PWD": str(self.folder),
            "LC_ALL": "C.UTF-8",
        }

    def bots(self) -> list[dict[str, Any]]:
        with self.stack.container.database.read() as connection:
            return [dict(row) for row in bots.page(connection, 1_000)]

    def webhook(self, number: str = NUMBER) -> dict[str, Any]:
        return self.stack.twilio.senders.webhook_of(f"whatsapp:{number}")


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """SQLite: the commands beneath the playbooks are tried on both."""
    return sqlite_url


@pytest.fixture
def controller(make_stack: MakeStack, tmp_path: Path) -> Iterator[Controller]:
    stack = make_stack(TWILIO_ACCOUNT_SID=ACCOUNT_SID, TWILIO_AUTH_TOKEN=AUTH_TOKEN)
    stack.twilio.senders.add(f"whatsapp:{NUMBER}")
    (tmp_path / "prompt.txt").write_text("Eres la asistente de La Cocina.\n", encoding="utf-8")
    with web(stack.container) as url, stack.worker():
        yield Controller(stack, tmp_path, url)


def test_a_client_from_nothing_to_its_removal(controller: Controller) -> None:
    client = {**COCINA, "instrucciones_archivo": "prompt.txt", "horizon_token": SECRET}

    looked = controller.play("nuevo-cliente", "--check", "--diff", **client)
    assert looked.code == 0, looked.text
    assert "assistant.instructions" in looked.text
    assert controller.bots() == []
    assert not (controller.folder / "clients").exists()

    made = controller.play("nuevo-cliente", "--diff", **client)
    assert made.code == 0, made.text
    assert "eco: Hola" in made.text
    assert controller.webhook()["callback_url"].startswith("https://bots.example.test/webhook")
    sheet = controller.folder / "clients" / "restaurante-la-cocina.md"
    assert NUMBER in sheet.read_text(encoding="utf-8")
    assert SECRET not in looked.text + made.text + sheet.read_text(encoding="utf-8")

    again = controller.play("nuevo-cliente", **client)
    assert (again.code, again.changed) == (0, 0), again.text

    (controller.folder / "prompt.txt").write_text("Otra cosa.", encoding="utf-8")
    would = controller.play("nuevo-cliente", "--check", "--diff", **client)
    assert '-+56226660001 assistant.instructions: "Eres la asistente de La Cocina."' in would.text
    assert '++56226660001 assistant.instructions: "Otra cosa."' in would.text
    assert controller.bots()[0]["assistant_version"] == 1

    unconfirmed = controller.play("baja-cliente", numero=NUMBER)
    assert unconfirmed.code != 0
    assert f"-e confirmar={NUMBER}" in unconfirmed.text
    check = controller.play("baja-cliente", "--check", numero=NUMBER, confirmar=NUMBER)
    assert (check.code, len(controller.bots())) == (0, 1), check.text
    removed = controller.play("baja-cliente", numero=NUMBER, confirmar=NUMBER)
    assert removed.code == 0, removed.text
    assert controller.bots() == []
    assert controller.webhook()["callback_url"] == ""
    (data,) = (controller.folder / "clients").iterdir()
    assert data.stat().st_mode & 0o777 == 0o600
    assert b"Eres la asistente" in gzip.decompress(data.read_bytes())
    assert list((controller.folder / "exports").iterdir()) == []
    twice = controller.play("baja-cliente", numero=NUMBER, confirmar=NUMBER)
    assert (twice.code, twice.changed) == (0, 0), twice.text
    assert "was removed already" in twice.text

    assert controller.stack.twilio.messages_to("horizon-test") == []


def test_wrong_input_ends_with_a_sentence_and_changes_nothing(controller: Controller) -> None:
    nothing = controller.play("nuevo-cliente")
    assert nothing.code != 0
    assert "the variable nombre is missing" in nothing.text
    assert "the variable numero is missing" in nothing.text
    bad = controller.play("nuevo-cliente", nombre="X", numero="+123")
    assert bad.code != 0
    assert "+123, numero: " in bad.text
    unknown = controller.play("baja-cliente", numero="+56226669999", confirmar="+56226669999")
    assert unknown.code != 0
    assert "No bot has or had the number +56226669999" in unknown.text
    absent = controller.play("clientes", clientes_archivo="none.yml")
    assert absent.code != 0
    assert "There is no file" in absent.text

    assert controller.bots() == []


NAME = "Nombre del cliente"
ITS_NUMBER = "Su número de WhatsApp"
INSTRUCTIONS = "Archivo con las instrucciones"


def test_at_a_terminal_it_asks_for_what_is_missing(controller: Controller) -> None:
    asked = {NAME: "Restaurante La Cocina", ITS_NUMBER: "56 2266", INSTRUCTIONS: "prompt.txt"}
    refused = controller.play_at_a_terminal(asked, "nuevo-cliente")
    assert refused.code != 0
    assert "Write it in E.164 form" in refused.text
    nothing = controller.play_at_a_terminal(dict.fromkeys(asked, ""), "nuevo-cliente")
    assert "the variable nombre is missing" in nothing.text
    assert controller.bots() == []

    answers = {ITS_NUMBER: NUMBER, INSTRUCTIONS: "prompt.txt"}
    # As the shell hands on: -e nombre="Restaurante La Cocina"
    made = controller.play_at_a_terminal(
        answers, "nuevo-cliente", "-e", "nombre=Restaurante La Cocina"
    )

    assert made.code == 0, made.text
    assert NAME not in made.text
    (bot,) = controller.bots()
    assert (bot["name"], bot["twilio_phone_number"]) == ("Restaurante La Cocina", NUMBER)


def family(pid: int) -> list[int]:
    """The process and all below it: a worker of Ansible's has a session of its own."""
    found = [pid]
    for each in found:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found += map(int, Path(f"/proc/{each}/task/{each}/children").read_text().split())
    return found


def changes_a_sender(request: Request) -> bool:
    return request.method == "POST" and request.path.startswith(SENDERS)


def test_a_twilio_that_gives_no_list_is_named_and_the_rest_can_be_done(
    controller: Controller,
) -> None:
    controller.stack.twilio.fail(
        Fault.status(404, {"message": "Not Found"}),
        times=None,
        match=lambda request: request.path.startswith(SENDERS),
    )

    refused = controller.play("nuevo-cliente", **COCINA)

    assert refused.code != 0
    for words in ("GET /v2/Channels/Senders", "Not Found", "-e twilio=manual"):
        assert words in " ".join(refused.text.split())
    assert controller.bots() == []

    made = controller.play("nuevo-cliente", **COCINA, twilio="manual")

    assert made.code == 0, made.text
    assert "eco: Hola" in made.text
    assert "Webhook URL for incoming messages (HTTP POST): https://bots.example.test" in made.text
    assert (controller.folder / "clients" / "restaurante-la-cocina.md").exists()


def test_runs_that_were_killed_are_finished_by_the_next(controller: Controller) -> None:
    client = {**COCINA, "instrucciones_archivo": "prompt.txt"}
    removal = {"numero": NUMBER, "confirmar": NUMBER}
    sheet = controller.folder / "clients" / "restaurante-la-cocina.md"
    twilio, openai = controller.stack.twilio, controller.stack.openai

    twilio.fail(Fault.hang(), match=changes_a_sender)
    controller.kill("nuevo-cliente", lambda: any(map(changes_a_sender, twilio.requests)), **client)
    assert (len(controller.bots()), controller.webhook()) == (1, {"callback_url": None})

    openai.fail(Fault.delay(3), match=lambda request: request.path.endswith("/responses"))
    controller.kill("nuevo-cliente", controller.stack.model_inputs, **client)
    assert controller.webhook()["callback_url"].startswith("https://bots.example.test/webhook")
    assert not sheet.exists()

    finished = controller.play("nuevo-cliente", **client)
    assert finished.code == 0, finished.text
    assert sheet.exists()
    assert len(controller.bots()) == 1

    twilio.fail(Fault.hang(), match=changes_a_sender)
    asked = len(twilio.requests)
    controller.kill(
        "baja-cliente", lambda: any(map(changes_a_sender, twilio.requests[asked:])), **removal
    )
    assert len(controller.bots()) == 1
    controller.kill("baja-cliente", lambda: not controller.bots(), **removal)
    assert sheet.exists()

    removed = controller.play("baja-cliente", **removal)
    assert removed.code == 0, removed.text
    assert "was removed already" in removed.text
    assert not sheet.exists()
    assert list((controller.folder / "exports").iterdir()) == []
    assert controller.webhook()["callback_url"] == ""


def test_a_paused_client_is_not_asked(controller: Controller) -> None:
    paused = controller.play("nuevo-cliente", **COCINA, pausado="true")

    assert paused.code == 0, paused.text
    assert controller.bots()[0]["status"] == "paused"


def test_a_file_of_clients_is_applied_in_one_go(controller: Controller) -> None:
    clients = [
        {
            "nombre": f"Cliente {n}",
            "numero": f"+5622777{n:04}",
            "instrucciones_archivo": "prompt.txt",
        }
        for n in range(40)
    ]
    for client in clients:
        controller.stack.twilio.senders.add(f"whatsapp:{client['numero']}")
    file = controller.folder / "mis-clientes.yml"
    file.write_text(json.dumps({"clientes": clients}), encoding="utf-8")

    made = controller.play("clientes", clientes_archivo=file.name)
    again = controller.play("clientes", clientes_archivo=file.name)

    assert made.code == 0, made.text
    assert "40 clients: 40 made" in made.text
    assert len(controller.bots()) == 40
    assert len(list((controller.folder / "clients").glob("*.md"))) == 40
    assert (again.code, again.changed) == (0, 0), again.text
