"""`docker compose up --build` in a fresh checkout: it answers, keeps its data, and lets itself be moved.

`make compose` runs it, with a real Docker; images that cannot be pulled are made from Debian's packages.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.server_process import free_port, wait_until

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
OWN_CERTIFICATES = Path("/usr/local/share/ca-certificates")
DEBIAN = "horizon-compose:bookworm"
POSTGRES = "horizon-compose-postgres:bookworm"
PACKAGES = "python3,python3-venv,ca-certificates,redis-server,postgresql"
NUMBER = "+56226660001"
CONTACT = "+56987654321"
ACCOUNT = "AC" + "e" * 32
UP_S = 600.0

pytestmark = pytest.mark.skipif(
    os.environ.get("HORIZON_REQUIRE_DOCKER") != "1", reason="needs Docker: make compose"
)


def run(*command: str, **options: Any) -> str:
    """What a command prints; it has to succeed."""
    ended: subprocess.CompletedProcess[str] = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **options
    )
    assert ended.returncode == 0, f"{' '.join(command)}\n{ended.stdout[-6000:]}"
    return ended.stdout


def answers(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="module")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Docker's server; one of our own for this time where none runs."""
    if answers("docker", "info"):
        yield
        return
    log = tmp_path_factory.mktemp("docker") / "log"
    with log.open("wb") as file:
        server = subprocess.Popen(["dockerd"], stdout=file, stderr=file)  # noqa: S607
    try:
        wait_until(
            lambda: answers("docker", "info") or server.poll() is not None, "dockerd answers"
        )
        assert server.poll() is None, log.read_text()[-2000:]
        yield
    finally:
        server.terminate()
        server.wait(60)


@pytest.fixture(scope="module")
def images(docker: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Settings of compose.yml that name images of this machine; none where the usual are pulled."""
    if shutil.which("mmdebstrap") is None:
        return {}
    if not answers("docker", "image", "inspect", DEBIAN):
        archive = str(tmp_path_factory.mktemp("image") / "debian.tar")
        run("mmdebstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", archive)
        run("docker", "import", archive, DEBIAN)
        Path(archive).unlink()
    file = str(HERE / "postgres.Dockerfile")
    run(
        *("docker", "build", "--tag", POSTGRES, "--build-arg", f"BASE_IMAGE={DEBIAN}"),
        *("--file", file, str(HERE)),
    )
    return {"BASE_IMAGE": DEBIAN, "REDIS_IMAGE": DEBIAN, "POSTGRES_IMAGE": POSTGRES}


@dataclass
class Project:
    """A fresh checkout, and compose in it."""

    folder: Path
    variables: dict[str, str]
    port: int
    compose: list[str] = field(
        default_factory=lambda: (
            ["docker", "compose"] if answers("docker", "compose", "version") else ["docker-compose"]
        )
    )

    def run(self, *words: str, **changes: str) -> str:
        environment = {**os.environ, "DOCKER_BUILDKIT": "0", **self.variables, **changes}
        return run(*self.compose, *words, cwd=self.folder, env=environment)

    def up(self, *words: str, port: int | None = None, **changes: str) -> None:
        """As an operator does it, until it answers."""
        self.port = port or self.port
        self.run(*words, "up", "--build", "--detach", PORT=str(self.port), **changes)
        deadline = time.monotonic() + UP_S
        while not self.is_ready():
            assert time.monotonic() < deadline, self.run("logs", "--tail=40")
            time.sleep(0.5)

    def is_ready(self) -> bool:
        try:
            return self.get("/health/ready").status_code == 200
        except requests.RequestException:
            return False

    def get(self, path: str, **options: Any) -> requests.Response:
        return self.ask("GET", path, **options)

    def ask(self, method: str, path: str, **options: Any) -> requests.Response:
        with requests.Session() as session:
            session.trust_env = False
            url = f"http://127.0.0.1:{self.port}{path}"
            return session.request(method, url, timeout=120, **options)

    def inside(self, service: str, *words: str) -> str:
        """What a command in a container of this service prints."""
        return self.run("exec", "-T", service, *words)

    def headers(self) -> dict[str, str]:
        key = self.inside("web", "horizonctl", "development-key").strip()
        return {"Authorization": f"Bearer {key}"}

    def bots(self) -> list[str]:
        answer = self.get("/bots/", headers=self.headers())
        assert answer.status_code == 200, answer.text
        return [str(bot["id"]) for bot in answer.json()["data"]]

    def is_healthy(self, service: str) -> bool:
        container = self.run("ps", "--quiet", service).strip()
        state = run("docker", "inspect", "-f", "{{.State.Health.Status}}", container)
        return state.strip() == "healthy"


@pytest.fixture(scope="module")
def project(images: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("Dockerfile", "compose.yml", ".dockerignore"):
        shutil.copy(ROOT / name, folder)
    for name in ("service", "docker"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    # As a user behind a proxy does with the authority of that proxy.
    for certificate in OWN_CERTIFICATES.glob("*.crt"):
        shutil.copy(certificate, folder / "docker/ca")
    shutil.copy(ROOT / ".env.example", folder / ".env")
    name = f"horizon-compose-{secrets.token_hex(4)}"
    project = Project(folder, {**images, "COMPOSE_PROJECT_NAME": name}, free_port())
    try:
        yield project
    finally:
        project.run(
            *("--profile", "emulators", "down", "--volumes", "--rmi", "local", "--remove-orphans")
        )


def new_bot(project: Project) -> str:
    made = project.ask(
        *("POST", "/bots/"),
        headers=project.headers(),
        json={
            "name": "Ferretería El Clavo",
            "twilio_phone_number": NUMBER,
            "twilio_account_sid": ACCOUNT,
            "twilio_auth_token": "emulator-auth-token",
            "openai_api_key": "sk-emulated",
            "instructions": "Responde en pocas frases.",
        },
    )
    assert made.status_code == 201, made.text
    return str(made.json()["data"]["id"])


def test_unchanged_example_is_enough(project: Project) -> None:
    """And the first start makes the tables, as a user who is not root."""
    project.up()

    # Once the worker has said that it lives.
    wait_until(lambda: project.get("/health").json()["status"] == "ok", "all of it is well")
    assert project.inside("web", "id", "-u").strip() == "10001"
    current = json.loads(project.inside("web", "horizonctl", "db", "current", "--json"))
    assert current["current"] == current["release"]
    assert (
        project.inside("redis", "redis-cli", "config", "get", "appendfsync").split()[1] == "always"
    )
    for service in ("web", "worker"):
        wait_until(partial(project.is_healthy, service), service)


def test_data_and_secrets_survive_down(project: Project) -> None:
    bot, headers = new_bot(project), project.headers()
    project.inside("redis", "redis-cli", "set", "hb:present", "1")

    project.run("down")
    project.up()

    assert project.bots() == [bot]
    assert project.headers() == headers
    assert project.inside("redis", "redis-cli", "get", "hb:present").strip() == "1"


def test_another_port_and_another_redis_are_one_variable_each(project: Project) -> None:
    """The other Redis is reached as one on this network; the one beside the service stays empty."""
    project.inside("redis", "redis-cli", "flushall")
    name = f"{project.variables['COMPOSE_PROJECT_NAME']}-other-redis"
    network = f"{project.variables['COMPOSE_PROJECT_NAME']}_default"
    image = project.variables.get("REDIS_IMAGE", "redis:7")
    options = ["--appendonly", "yes", "--protected-mode", "no"]
    run(
        *("docker", "run", "--detach", "--rm", "--name", name, "--network", network, image),
        *("redis-server", *options),
    )
    before = project.port
    try:
        project.up(port=free_port(), REDIS_URL=f"redis://{name}:6379/0")

        assert project.port != before
        wait_until(
            lambda: "hb:" in run("docker", "exec", name, "redis-cli", "keys", "hb:*"),
            "the workers' heartbeat in the other Redis",
        )
        assert project.inside("redis", "redis-cli", "dbsize").strip() == "0"
    finally:
        run("docker", "rm", "--force", name)


def test_emulators_answer_a_message(project: Project) -> None:
    emulated = {
        "OPENAI_BASE_URL": "http://emulators:8801/v1",
        "TWILIO_API_BASE_URL": "http://emulators:8802",
        "HORIZON_BASE_URL": "http://emulators:8803",
        "PUBLIC_BASE_URL": "http://web:8000",
    }
    with (project.folder / ".env").open("a") as file:
        file.writelines(f"{name}={value}\n" for name, value in emulated.items())
    project.up("--profile", "emulators")

    project.inside("web", "horizonctl", "send-test", NUMBER, "Hola", "--from", CONTACT)

    messages = "http://emulators:8802/_emulator/messages"
    code = (
        "import urllib.request as r; "
        f"print(r.urlopen('{messages}?to=whatsapp%3A%2B{CONTACT[1:]}&count=1&timeout=60').read())"
    )
    assert "body" in project.inside("web", "/opt/horizon/bin/python", "-c", code)
