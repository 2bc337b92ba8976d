"""What an acknowledgement and a turn cost each part, measured on real processes.

CPU times are those that the kernel counts for the processes: other programs lengthen every wait, but
hardly these.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from benchmarks.acknowledge import PATH, run, write_requests, wrk_script
from benchmarks.capacity_figures import Measured, MeasuredError
from benchmarks.lab import cpu_s, median, memory_mb, process, wait_until
from benchmarks.load import main as load
from benchmarks.service_lab import (
    ACCOUNT_SID,
    AUTH_TOKEN,
    PUBLIC_URL,
    Lab,
    SafePostgres,
    lab,
    number,
)
from benchmarks.turns import inbound
from service.conversation.mailbox import Inbound
from tests.server_process import free_port

RUNS = 3
BOTS = 10
CONTACTS = 60
RATE = 10
SECONDS = 12
MODEL_S = 3.0
THREADS = 320
BURST = 300
WRK_CONNECTIONS, WRK_SECONDS, WRK_REQUESTS = 32, 3, 24_000
TLS_MESSAGES_PER_S, TLS_SECONDS = 50, 6


def measure() -> Measured:
    """Everything, in about 3 minutes. Raises MeasuredError."""
    nginx = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if nginx is None or shutil.which("wrk") is None:
        raise MeasuredError("wrk and nginx are needed: apt-get install wrk nginx")
    figures: dict[str, float] = {}
    with (
        SafePostgres() as postgres,
        lab(DATABASE_URL=postgres.url(), WORKER_THREADS=str(THREADS), LOG_LEVEL="WARNING") as bench,
        bench.emulators(MODEL_S),
    ):
        bench.add_bots(BOTS)
        figures["sync_ms"] = _sync_ms(bench.folder)
        with closing(bench.container) as container:
            pool = container.database.engine.pool
            figures["pool"] = pool.size()  # type: ignore[attr-defined]
        figures |= Turns(bench, postgres).measure()
        figures |= _acknowledgements(bench, nginx)
    # The messages of a turn's run were accepted too.
    figures["redis_turn_ms"] -= figures["redis_accept_ms"]
    figures["redis_commands_turn"] -= figures["redis_commands_accept"]
    return Measured(**figures)  # type: ignore[arg-type] # `pool` is the integer


class Turns:
    """A worker process on PostgreSQL, at a steady rate and in a burst."""

    def __init__(self, bench: Lab, postgres: SafePostgres) -> None:
        self._bench = bench
        self._postgres = postgres
        self._postgres_pid = int((postgres.data / "postmaster.pid").read_text().split()[0])
        self._messages = 0

    def measure(self) -> dict[str, float]:
        bench = self._bench
        with bench.worker() as pid:
            self._steady(pid, 2 * RATE)
            runs = [self._steady(pid, RATE * SECONDS) for _ in range(RUNS)]
            contact_bytes = self._kept_bytes() / CONTACTS
            few_mb, few = self._peak(pid, RATE)
            many_mb, many = self._peak(pid, BURST)
        turn_mb = (many_mb - few_mb) / (many - few)
        return {name: median([each[name] for each in runs]) for name in runs[0]} | {
            "redis_contact_bytes": contact_bytes,
            "turn_mb": turn_mb,
            "worker_mb": few_mb - few * turn_mb,
        }

    def _steady(self, pid: int, messages: int) -> dict[str, float]:
        idle_ms = self._idle_redis_ms()
        before = self._counters(pid)
        began = time.monotonic()
        with closing(self._bench.container) as container:
            for n in range(messages):
                time.sleep(max(0.0, began + n / RATE - time.monotonic()))
                container.mailbox.accept(self._next())
        # To ask whether all is done costs Redis something: not before it can be.
        time.sleep(MODEL_S + 2)
        self._bench.wait_idle()
        after = self._counters(pid)
        after["redis_turn_ms"] -= idle_ms * (time.monotonic() - began)
        return {name: (after[name] - before[name]) / messages for name in after}

    def _kept_bytes(self) -> float:
        """Contexts and names of all contacts that wrote so far."""
        with self._bench.redis.client() as client:
            names = [*client.scan_iter("hb:session:*"), *client.scan_iter("hb:alias:*")]
            # samples=0: every field of a hash is counted.
            return float(sum(client.memory_usage(name, samples=0) or 0 for name in names))

    def _idle_redis_ms(self, seconds: float = 3) -> float:
        """What a second of a worker without turns costs Redis: it does not grow with the load."""
        before = _redis(self._bench)["ms"]
        time.sleep(seconds)
        return (_redis(self._bench)["ms"] - before) / seconds

    def _peak(self, pid: int, turns: int) -> tuple[float, int]:
        """Most memory in a burst, and the turns that were in flight then."""
        peak_mb, most = 0.0, 0
        with closing(self._bench.container) as container:
            for n in range(turns):
                container.mailbox.accept(inbound(500_000 + turns * BOTS + n, BOTS))

            def is_over() -> bool:
                nonlocal peak_mb, most
                depth = container.mailbox.depth()
                peak_mb, most = max(peak_mb, memory_mb(pid)), max(most, depth.leased)
                time.sleep(0.1)
                return depth.due == 0 and depth.leased == 0

            wait_until(is_over, 120, "the end of the burst")
        return peak_mb, most

    def _next(self) -> Inbound:
        self._messages += 1
        return inbound(self._messages % CONTACTS, BOTS, CONTACTS)

    def _counters(self, pid: int) -> dict[str, float]:
        redis = _redis(self._bench)
        with closing(self._postgres.connect()) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT sum(fsyncs) FROM pg_stat_io WHERE object = 'wal'")
            (syncs,) = cursor.fetchone() or (0,)
        return {
            "turn_cpu_ms": cpu_s(pid) * 1000,
            "database_turn_ms": cpu_s(self._postgres_pid) * 1000,
            "redis_turn_ms": redis["ms"],
            "redis_commands_turn": redis["commands"],
            "transactions": float(syncs),
        }


def _acknowledgements(bench: Lab, nginx: str) -> dict[str, float]:
    """wrk at full speed straight to web, then a message a TLS connection through nginx."""
    requests_file, script = bench.folder / "requests", bench.folder / "wrk.lua"
    write_requests(requests_file, WRK_REQUESTS, BOTS)
    script.write_text(wrk_script(requests_file, WRK_REQUESTS // 2))
    found = []
    with bench.web() as (pid, port):
        run(port, pid, script, WRK_CONNECTIONS, 1)
        _forget(bench)
        for _ in range(RUNS):
            before = _redis(bench)
            wrk = run(port, pid, script, WRK_CONNECTIONS, WRK_SECONDS)
            after = _redis(bench)
            _forget(bench)
            forgotten = _redis(bench)
            messages = wrk["rate"] * WRK_SECONDS
            found.append(
                {
                    "acknowledge_cpu_ms": wrk["cpu_us"] / 1000,
                    "redis_accept_ms": (after["ms"] - before["ms"]) / messages,
                    "redis_commands_accept": (after["commands"] - before["commands"]) / messages,
                    "redis_message_bytes": (after["bytes"] - forgotten["bytes"]) / messages,
                    "redis_waiting_bytes": (after["bytes"] - before["bytes"]) / messages,
                }
            )
        web_mb = memory_mb(pid) / 2
        balancer_cpu_ms = _balancer(bench, nginx, port)
    figures = {name: median([each[name] for each in found]) for name in found[0]}
    return figures | {"web_mb": web_mb, "balancer_cpu_ms": balancer_cpu_ms}


def _balancer(bench: Lab, nginx: str, web_port: int) -> float:
    with _balancing(bench.folder, nginx, web_port) as (pid, port):
        before = cpu_s(pid)
        exit_code = load(
            ["--base-url", f"https://127.0.0.1:{port}", "--host", PUBLIC_URL.partition("//")[2],
             "--number", number(0), "--account", ACCOUNT_SID, "--auth-token", AUTH_TOKEN,
             "--rate", str(TLS_MESSAGES_PER_S), "--duration", str(TLS_SECONDS),
             "--requests-per-connection", "1", "--result", str(bench.folder / "load.json")]
        )  # fmt: skip
        used = cpu_s(pid) - before
    if exit_code:
        raise MeasuredError("the messages through nginx failed: see above")
    return used / (TLS_MESSAGES_PER_S * TLS_SECONDS) * 1000


@contextmanager
def _balancing(folder: Path, nginx: str, web_port: int) -> Iterator[tuple[int, int]]:
    """nginx with a self-signed certificate (an elliptic curve, as Certbot's) before web; pid and port."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-subj", "/CN=bots.example.com", "-keyout", folder / "tls.key", "-out", folder / "tls.crt"],
        check=True, capture_output=True,
    )  # fmt: skip
    port = free_port()
    settings = folder / "nginx.conf"
    temporary = " ".join(
        f"{name}_temp_path {folder}/{name};"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    settings.write_text(
        f"daemon off; pid {folder}/nginx.pid; events {{ worker_connections 1024; }}\n"
        f"http {{ access_log off; {temporary}\n"
        f"upstream web {{ server 127.0.0.1:{web_port}; keepalive 16; }}\n"
        f"server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {folder}/tls.crt; "
        f"ssl_certificate_key {folder}/tls.key;\n"
        f"location {PATH} {{ proxy_pass http://web; proxy_http_version 1.1; "
        'proxy_set_header Connection ""; proxy_set_header Host $http_host; } } }\n'
    )
    log = folder / "nginx.log"
    command = (nginx, "-e", str(log), "-c", str(settings), "-p", str(folder))
    with process(*command, log=log) as child:
        wait_until((folder / "nginx.pid").exists, 20, "nginx")
        yield child.pid, port


def _redis(bench: Lab) -> dict[str, float]:
    """Counters of Redis."""
    with bench.redis.client() as client:
        cpu, stats, memory = (client.info(part) for part in ("cpu", "stats", "memory"))
        return {
            "ms": 1000 * (cpu["used_cpu_user_main_thread"] + cpu["used_cpu_sys_main_thread"]),
            "commands": float(stats["total_commands_processed"]),
            # Without the buffers of connections, which are the processes' and not the messages'.
            "bytes": float(
                memory["used_memory"] - memory["mem_clients_normal"] - memory["mem_aof_buffer"]
            ),
            "lazy": float(memory["lazyfree_pending_objects"]),
        }


def _forget(bench: Lab) -> None:
    bench.forget_messages()
    wait_until(lambda: _redis(bench)["lazy"] == 0, 20, "Redis has freed the keys")


def _sync_ms(folder: Path, writes: int = 200) -> float:
    """Appends as small as a journal's, each synced."""
    times = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(writes):
            began = time.perf_counter()
            file.write(b"x" * 500)
            file.flush()
            os.fdatasync(file.fileno())
            times.append((time.perf_counter() - began) * 1000)
    return median(times)
