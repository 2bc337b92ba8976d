"""The worker: claims conversations and runs their turns in threads.

One loop claims; the turns run in a pool. WORKER_THREADS turns run at once for anybody; an eighth more
threads are kept for clients that have no turn running, so that a flood of one never shuts out another.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from itertools import count
from queue import PriorityQueue

import redis
import structlog

from service.container import Container
from service.conversation.clock import utc_now
from service.conversation.mailbox import Claim
from service.conversation.outage import OutageError
from service.replay import replay_forever
from service.store import keys
from service.store.aliases import restore_aliases
from service.store.heartbeats import INTERVAL_S, Heartbeat

_log = structlog.get_logger(__name__)

_POLL_S = 1.0
_FULL_POLL_S = 0.1
_FULL_PAUSE_S = 0.02
_OUTAGE_PAUSE_S = 0.5
_CLAIM_BATCH = 64
_UNABLE_PAUSE_S = 0.2
_SWEEP_S = 30.0
_ABANDONED_AFTER = timedelta(seconds=60)
_THREAD_STACK_BYTES = 1024 * 1024
_BACKGROUND_THREADS = 8
_BACKGROUND_BACKLOG = 2_000
_LATER_POLL_S = 0.1


class Background:
    """Runs what nobody waits for; drops it when too much has piled up."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_BACKGROUND_THREADS, "background")
        self._room = threading.Semaphore(_BACKGROUND_BACKLOG)
        self._later: PriorityQueue[tuple[float, int, Callable[[], None]]] = PriorityQueue()
        self._numbers = count()
        threading.Thread(target=self._submit_due, name="later", daemon=True).start()

    def __call__(self, task: Callable[[], None], after_s: float = 0) -> None:
        if not self._room.acquire(blocking=False):
            _log.warning("background_full")
            return

        def run() -> None:
            try:
                task()
            except Exception:
                _log.exception("background_failed")
            finally:
                self._room.release()

        if after_s > 0:
            self._later.put((time.monotonic() + after_s, next(self._numbers), run))
        else:
            self._pool.submit(run)

    def stop(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        # Wakes the thread, which then finds the pool closed.
        self._later.put((0.0, -1, lambda: None))

    def _submit_due(self) -> None:
        while True:
            due, number, run = self._later.get()
            wait_s = due - time.monotonic()
            if wait_s > 0:
                # Something that is due earlier may come meanwhile: that one is taken next.
                self._later.put((due, number, run))
                time.sleep(min(wait_s, _LATER_POLL_S))
                continue
            try:
                self._pool.submit(run)
            except RuntimeError:
                return


class Worker:
    """One process. `run` returns after `stop` when the turns are done or handed back."""

    def __init__(self, container: Container, release: str = "") -> None:
        settings = container.settings
        self.id = f"{socket.gethostname()}:{os.getpid()}"
        self._release = release
        self._container = container
        self._mailbox = container.mailbox
        self._threads = settings.worker_threads
        self._reserve = settings.worker_threads // 8
        self._lease_s = settings.lease_s
        self._drain_s = settings.worker_drain_s
        self._background = Background()
        self._runner = container.runner(self._background)
        self._active: dict[str, Claim] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._able = threading.Event()
        self.failed = False

    def stop(self) -> None:
        """Claim nothing more, and end `run` once the turns are done or handed back."""
        self._stopping.set()
        self._wake.set()

    def run(self) -> None:
        threading.stack_size(_THREAD_STACK_BYTES)
        pool = ThreadPoolExecutor(self._threads + self._reserve, "turn")
        container = self._container
        for task in (
            self._listen,
            self._renew,
            self._beat,
            self._sweep,
            partial(container.directory.listen_forever, self._stopping),
            partial(replay_forever, container.spool, container.mailbox, self._stopping),
            partial(container.redis.watch_forever, self._stopping),
        ):
            threading.Thread(target=self._guard, args=(task,), daemon=True).start()
        _log.info("worker_started", worker=self.id, threads=self._threads)
        self._await_schema()
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                pause_s = self._claim(pool)
            except OutageError as error:
                _log.warning("claim_failed", reason=str(error))
                pause_s = _OUTAGE_PAUSE_S
            except Exception:
                self._fail("claim")
                break
            if pause_s > 0:
                self._wake.wait(pause_s)
        self._drain(pool)

    def _guard(self, task: Callable[[], None]) -> None:
        """A worker with a dead thread is worse than none: it ends, and its supervisor starts anew."""
        try:
            task()
        except Exception:
            self._fail(getattr(task, "__name__", "task"))

    def _fail(self, task: str) -> None:
        _log.exception("worker_failed", task=task)
        self.failed = True
        self.stop()

    def _claim(self, pool: ThreadPoolExecutor) -> float:
        """Claim what there is room for; seconds until it is worth asking again."""
        with self._lock:
            busy = len(self._active)
        free = self._threads - busy
        newcomers_only = free <= 0
        room = min(_CLAIM_BATCH, self._reserve + free if newcomers_only else free)
        if room <= 0:
            return _FULL_POLL_S
        claims, next_s = self._mailbox.claim(room, newcomers_only)
        for claim in claims:
            with self._lock:
                self._active[claim.token] = claim
            pool.submit(self._run_turn, claim)
        if newcomers_only:
            # The wake-ups of a flood must not turn this into a busy loop.
            time.sleep(_FULL_PAUSE_S)
            return _FULL_POLL_S
        return 0 if len(claims) == room else min(max(next_s, 0.001), _POLL_S)

    def _run_turn(self, claim: Claim) -> None:
        try:
            self._runner.run(claim)
        finally:
            with self._lock:
                self._active.pop(claim.token, None)
                was_full = len(self._active) + 1 >= self._threads
            if was_full:
                self._wake.set()

    def _listen(self) -> None:
        """Hear that something became due; the poll is the fallback while this has no connection."""
        while not self._stopping.is_set():
            try:
                with self._container.redis.channel(keys.WAKE) as channel:
                    while not self._stopping.is_set():
                        if channel.hear(_POLL_S) is not None:
                            self._wake.set()
            except redis.RedisError as error:
                _log.warning("wake_channel_lost", reason=type(error).__name__)
                self._stopping.wait(_OUTAGE_PAUSE_S)

    def _renew(self) -> None:
        while not self._stopped_and_idle():
            time.sleep(self._lease_s / 4)
            with self._lock:
                claims = list(self._active.values())
            try:
                lost = self._mailbox.renew(claims)
            except OutageError as error:
                _log.warning("renew_failed", reason=str(error))
                continue
            with self._lock:
                gone = [c for c in claims if c.conversation_id in lost and c.token in self._active]
            for claim in gone:
                _log.warning("lease_lost", conversation_id=claim.conversation_id)

    def _stopped_and_idle(self) -> bool:
        with self._lock:
            return self._stopping.is_set() and not self._active

    def _await_schema(self) -> None:
        """Claim nothing before the tables are there: every turn would fail."""
        migrations = self._container.migrations
        is_waiting = False
        while not migrations.runs() and not self._stopping.is_set():
            if not is_waiting:
                reason = "the schema is not one that this release runs on"
                _log.warning("worker_waits", reason=reason)
                is_waiting = True
            self._stopping.wait(_UNABLE_PAUSE_S)
        self._able.set()

    def _beat(self) -> None:
        """Tell that this worker can work, and of which release it is: nothing before it can."""
        self._able.wait()
        was_told = False
        while not self._stopping.is_set():
            with self._lock:
                busy = len(self._active)
            try:
                self._container.heartbeats.beat(
                    Heartbeat(self.id, self._release, self._threads, busy, utc_now())
                )
                was_told = True
            except OutageError as error:
                _log.warning("heartbeat_failed", reason=str(error))
            self._stopping.wait(INTERVAL_S if was_told else _UNABLE_PAUSE_S)
        try:
            self._container.heartbeats.forget(self.id)
        except OutageError as error:
            _log.warning("heartbeat_failed", reason=str(error))

    def _sweep(self) -> None:
        """Make up for what Redis has forgotten: contacts' aliases, conversations of open turns."""
        while True:
            try:
                restored = restore_aliases(self._container.database, self._container.redis)
                if restored:
                    _log.info("aliases_restored", contacts=restored)
                for conversation in self._container.journal.abandoned(
                    utc_now() - _ABANDONED_AFTER, limit=500
                ):
                    if self._mailbox.revive(*conversation):
                        _log.warning("turn_revived", conversation_id=conversation[0])
            except OutageError as error:
                _log.warning("sweep_failed", reason=str(error))
            if self._stopping.wait(_SWEEP_S):
                return

    def _drain(self, pool: ThreadPoolExecutor) -> None:
        """Let the running turns end, then hand back the rest: their journals tell how to go on."""
        deadline = time.monotonic() + self._drain_s
        while time.monotonic() < deadline and not self._stopped_and_idle():
            time.sleep(0.05)
        with self._lock:
            left = list(self._active.values())
        for claim in left:
            try:
                self._mailbox.release(claim)
            except OutageError as error:
                _log.warning("hand_back_failed", reason=str(error))
        self._background.stop()
        pool.shutdown(wait=False, cancel_futures=True)
        _log.info("worker_stopped", worker=self.id, handed_back=len(left))


def run_worker(container: Container, release: str = "") -> None:
    """Run until SIGTERM or SIGINT. Turns that still wait for a vendor then do not hold the process.

    The signals are blocked in every thread and taken by one that waits for nothing else: a handler
    would run in the middle of the claiming loop, which holds locks that stopping needs.
    """
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    worker = Worker(container, release)

    def wait_for_signal() -> None:
        signal.sigwait(signals)
        worker.stop()

    threading.Thread(target=wait_for_signal, name="signals", daemon=True).start()
    worker.run()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1 if worker.failed else 0)
