"""The whole service as processes that faults can strike, on real stores, with emulated vendors."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

import requests
from cryptography.fernet import Fernet

from service.container import Container
from service.store.models import AssistantRow, BotRow
from tests.chaos.brain import ACTIONS
from tests.chaos.driver import PATH, Bot
from tests.chaos.schedule import Fault
from tests.chaos.vendors import ACCOUNT_SID, AUTH_TOKEN, HORIZON_TOKEN
from tests.server_process import free_port, wait_until
from tests.servers import DurablePostgres, RealRedis
from tests.stack import settings_of
from tests.web_process import AS_SYSTEMD

ROOT = Path(__file__).parents[2]
LEASE_S = 4.0
PAUSE_S = LEASE_S + 3
"""A worker that stands still this long has lost its conversations: a zombie. Below SEND_GRACE_S / 2."""
SEND_GRACE_S = 20.0
WORKERS = 2
WEB_PROCESSES = 2
CLIENTS = 5
RESTART_S = 0.5
START_S = 60
SPOOL_MB = 2
LEFT_OVER_WHEN_IDLE = ("mb:", "c:", "due:", "leases", "clients", "unreadable")

Database = Literal["postgresql", "sqlite"]


class Child:
    """A process of the service that is started again whenever it ends, as systemd does it."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        passed: Sequence[int] = (),
    ) -> None:
        self._command = command
        self._passed = passed
        self._environment = {**os.environ, **environment, "PYTHONPATH": str(ROOT)}
        self._log = log
        self._held_until = 0.0
        self._ending = threading.Event()
        self.starts = 0
        self._process = self._start()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self, held_down_s: float = 0.0) -> None:
        """SIGKILL to it and its children; it stays down so long."""
        self._held_until = time.monotonic() + held_down_s
        self._signal(signal.SIGKILL)

    def kill_one_child(self, which: int) -> None:
        """SIGKILL to one of its processes."""
        listed = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            children = [int(pid) for pid in listed.read_text().split()]
            if children:
                os.kill(children[which % len(children)], signal.SIGKILL)

    def pause(self) -> None:
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def end(self) -> None:
        """SIGTERM, and SIGKILL to what is left."""
        self._ending.set()
        self._thread.join()
        self._signal(signal.SIGCONT)
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            self._process.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        self.starts += 1
        with self._log.open("ab") as log:
            return subprocess.Popen(
                self._command,
                env=self._environment,
                cwd=self._log.parent,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=self._passed,
                start_new_session=True,
            )

    def _watch(self) -> None:
        while not self._ending.wait(RESTART_S):
            if self._process.poll() is not None and time.monotonic() >= self._held_until:
                self._process = self._start()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


class System:
    """Everything that runs; faults strike it. Made by `running`."""

    def __init__(
        self,
        folder: Path,
        redis: RealRedis,
        postgres: DurablePostgres | None,
        vendors: Mapping[str, str],
        door: int,
        listener: socket.socket,
        spool_kind: str,
    ) -> None:
        self.folder = folder
        self.redis = redis
        self.vendors = vendors
        self.door = door
        self.spool = folder / "spool"
        self.spool_kind = spool_kind
        self._postgres = postgres
        database = f"sqlite:///{folder}/horizon.db" if postgres is None else postgres.url()
        self.variables = {
            "SECRET_KEY": Fernet.generate_key().decode(),
            "PUBLIC_BASE_URL": f"http://127.0.0.1:{door}",
            "ADMIN_API_KEY": secrets.token_urlsafe(36),
            "OPENAI_API_KEY": "sk-chaos",
            "OPENAI_BASE_URL": vendors["openai"] + "/v1",
            "TWILIO_API_BASE_URL": vendors["twilio"],
            "HORIZON_BASE_URL": vendors["horizon"],
            "HORIZON_API_KEY": HORIZON_TOKEN,
            "DATABASE_URL": database,
            "REDIS_URL": redis.url,
            "SPOOL_DIR": str(self.spool),
            "SPOOL_MAX_MB": str(SPOOL_MB),
            "METRICS_DIR": str(folder / "metrics"),
            "DEBOUNCE_MS": "300",
            "LEASE_S": str(LEASE_S),
            "SEND_GRACE_S": str(SEND_GRACE_S),
            "RETRY_BASE_S": "1",
            # Shorter than a hanging vendor hangs.
            "OPENAI_TIMEOUT_S": "8",
            "TWILIO_TIMEOUT_S": "6",
            "HORIZON_TIMEOUT_S": "5",
            "WORKER_THREADS": "32",
            "WORKER_DRAIN_S": "10",
            "WEB_WORKERS": str(WEB_PROCESSES),
        }
        self.bots = [Bot(f"bot_{n}", f"+5622666{n:04d}") for n in range(1, CLIENTS + 1)]
        self.web: Child | None = None
        self.workers: list[Child] = []
        self._listener = listener
        self._vendor_session = requests.Session()
        self._vendor_session.trust_env = False

    @property
    def has_nginx(self) -> bool:
        return bool(self.door != self._listener.getsockname()[1])

    @property
    def database(self) -> str:
        return "SQLite" if self._postgres is None else "PostgreSQL"

    @property
    def children(self) -> list[Child]:
        return [*([self.web] if self.web else []), *self.workers]

    def install(self) -> None:
        """Tables and bots."""
        container = self.container()
        container.migrations.upgrade()
        token = container.cipher.encrypt(AUTH_TOKEN)
        horizon = container.cipher.encrypt(HORIZON_TOKEN)
        with container.database.write() as connection:
            for bot in self.bots:
                connection.execute(
                    BotRow.__table__.insert().values(  # type: ignore[attr-defined]
                        id=bot.id,
                        client_id=f"client_{bot.id}",
                        name=bot.id,
                        twilio_phone_number=bot.number,
                        assistant_id=f"asst_{bot.id}",
                        twilio_account_sid=ACCOUNT_SID,
                        twilio_auth_token=token,
                        horizon_api_token=horizon,
                        horizon_actions=ACTIONS,
                    )
                )
                connection.execute(
                    AssistantRow.__table__.insert().values(  # type: ignore[attr-defined]
                        id=f"asst_{bot.id}", version=1, bot_id=bot.id, name="Chaos"
                    )
                )
        container.directory.warm()
        container.close()

    def start(self) -> None:
        """Web and workers, until they work."""
        listener = self._listener.fileno()
        self.web = Child(
            (sys.executable, "-c", AS_SYSTEMD, str(listener)),
            self.variables,
            self.folder / "web.log",
            [listener],
        )
        worker = (sys.executable, "-m", "service", "worker")
        self.workers = [
            Child(worker, self.variables, self.folder / f"worker-{n}.log")
            for n in range(1, WORKERS + 1)
        ]
        wait_until(self._answers, f"web answers ({self.folder}/web.log)")
        with self.redis.client() as client:
            wait_until(lambda: len(client.keys("hb:worker:*")) == WORKERS, "workers are alive")

    def container(self) -> Container:
        """A container of the service's own, in this process."""
        return Container(settings_of(self.variables))

    def strike(self, fault: Fault) -> None:
        """Let the fault begin; `relieve` ends those that last."""
        which = int(fault.details.get("which", 0))
        assert self.web is not None
        match fault.kind:
            case "kill one web process":
                self.web.kill_one_child(which)
            case "kill all web processes":
                self.web.kill(fault.lasts_s)
            case "kill a worker":
                self.workers[which % WORKERS].kill()
            case "kill all workers":
                for worker in self.workers:
                    worker.kill()
            case "pause a worker":
                self.workers[which % WORKERS].pause()
            case "kill Redis":
                self.redis.kill()
            case "hang Redis":
                if self.redis.running:
                    self.redis.pause()
            case "stop the database" | "kill the database" if self._postgres is not None:
                (self._postgres.stop if "stop" in fault.kind else self._postgres.kill)()
            case "fill the spool without Redis":
                self._fill_spool()
                self.redis.kill()
            case _ if "order" in fault.details:
                url = self.vendors[fault.details["vendor"]]
                self._vendor_session.post(
                    f"{url}/_emulator/faults", json=fault.details["order"], timeout=10
                ).raise_for_status()
            case kind:
                raise ValueError(f"nobody knows how to {kind}")

    def relieve(self, fault: Fault) -> None:
        """End a fault that lasts."""
        match fault.kind:
            case "pause a worker":
                self.workers[int(fault.details.get("which", 0)) % WORKERS].resume()
            case "kill Redis":
                self.redis.start()
            case "hang Redis":
                if self.redis.running:
                    self.redis.resume()
            case "stop the database" | "kill the database" if self._postgres is not None:
                self._postgres.start()
            case "fill the spool without Redis":
                self.redis.start()
                self._empty_spool()

    def heal(self) -> None:
        """Everything runs again and no order of a fault is left."""
        if self.redis.running:
            self.redis.resume()
        self.redis.start()
        if self._postgres is not None:
            self._postgres.start()
        self._empty_spool()
        for worker in self.workers:
            worker.resume()
        for url in self.vendors.values():
            self._vendor_session.delete(f"{url}/_emulator/faults", timeout=10).raise_for_status()

    def spool_files(self) -> list[str]:
        """Messages in the spool: whole, half-written or damaged ones."""
        return sorted(
            path.name
            for path in self.spool.iterdir()
            if path.suffix in (".msg", ".corrupt") or path.match(".tmp-[0-9]*")
        )

    def left_over_keys(self) -> list[str]:
        """Redis's keys that may not be there when nothing is left to do."""
        prefixes = tuple(f"hb:{name}" for name in LEFT_OVER_WHEN_IDLE)
        with self.redis.client() as client:
            return sorted(
                key
                for key in map(str, client.scan_iter(match="*", count=1000))
                if key.startswith(prefixes) or not key.startswith("hb:")
            )

    def ask(self, vendor: str, path: str, **query: str) -> Any:
        """What an emulator tells of itself."""
        answer = self._vendor_session.get(
            f"{self.vendors[vendor]}/_emulator/{path}", params=query, timeout=60
        )
        answer.raise_for_status()
        return answer.json()

    def keep_logs(self) -> Path:
        """Copy the processes' logs to a folder that stays; where that is, is printed."""
        kept = Path(tempfile.mkdtemp(prefix="horizon-chaos-logs-"))
        for log in self.folder.glob("*.log"):
            shutil.copy(log, kept)
        print(f"logs: {kept}")
        return kept

    def _fill_spool(self) -> None:
        self.spool.mkdir(exist_ok=True)
        with (
            contextlib.suppress(OSError),
            open(self.spool / "filler", "wb", buffering=0) as filler,
        ):
            # A disk takes what fits; without one of its own, the spool's limit is what is reached.
            for _ in range(SPOOL_MB * 1024):
                filler.write(b"\0" * 1024)

    def _empty_spool(self) -> None:
        (self.spool / "filler").unlink(missing_ok=True)

    def _answers(self) -> bool:
        try:
            return requests.get(f"http://127.0.0.1:{self.door}{PATH}", timeout=2).text == "ok"
        except requests.RequestException:
            return False


@contextmanager
def running(database: Database) -> Iterator[System]:
    """A fresh system, started; everything of it is gone at the end."""
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="horizon-chaos-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        redis = stack.enter_context(RealRedis())
        postgres = stack.enter_context(DurablePostgres()) if database == "postgresql" else None
        vendors = stack.enter_context(_vendors(folder))
        spool_kind = stack.enter_context(_spool_disk(folder / "spool"))
        # It outlives the web processes, as the one that systemd holds.
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=2048))
        door = stack.enter_context(_nginx(folder, listener.getsockname()[1]))
        system = System(folder, redis, postgres, vendors, door, listener, spool_kind)
        system.install()
        stack.callback(lambda: _end(system.children))
        system.start()
        yield system


def _end(children: Sequence[Child]) -> None:
    ending = [threading.Thread(target=child.end) for child in children]
    for thread in ending:
        thread.start()
    for thread in ending:
        thread.join()


@contextmanager
def _vendors(folder: Path) -> Iterator[Mapping[str, str]]:
    with open(folder / "vendors.log", "ab") as log:
        process = subprocess.Popen(
            (sys.executable, "-m", "tests.chaos.vendors"),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
        )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())
    finally:
        process.stdin.close()
        process.wait(20)
        process.stdout.close()


@contextmanager
def _spool_disk(folder: Path) -> Iterator[str]:
    """A small disk of the spool's own, where this process may mount one. Yields what it is."""
    folder.mkdir(mode=0o700)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SPOOL_MB}m,mode=0700", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        yield f"SPOOL_MAX_MB={SPOOL_MB}"
        return
    try:
        yield f"a disk of {SPOOL_MB} MB"
    finally:
        # What still runs in it goes on there.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)  # noqa: S607


@contextmanager
def _nginx(folder: Path, web_port: int) -> Iterator[int]:
    """nginx in front, where it is installed. Yields the port at which messages come in."""
    binary = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if binary is None:
        yield web_port
        return
    port = free_port()
    settings = folder / "nginx.conf"
    settings.write_text(
        f"daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log; worker_processes 1;\n"
        "worker_rlimit_nofile 16384; events { worker_connections 8192; }\n"
        f"http {{ access_log off; client_body_temp_path {folder}/body; "
        f"proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi; "
        f"uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;\n"
        f"server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://127.0.0.1:{web_port}; "
        "proxy_set_header Host $http_host; proxy_connect_timeout 1s; proxy_next_upstream off; } } }\n"
    )
    with open(folder / "nginx.log", "ab") as log:
        process = subprocess.Popen(
            (binary, "-c", str(settings), "-p", str(folder)), stdout=log, stderr=log
        )
    try:
        yield port
    finally:
        process.terminate()
        process.wait(20)


def wait_for(condition: Callable[[], bool], within_s: float) -> float | None:
    """Seconds until the condition held; None when it did not in time."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > within_s:
            return None
        time.sleep(0.2)
    return time.monotonic() - began
