"""Prometheus metrics of the host: every process counts into files of METRICS_DIR, any process answers.

The queue's depth is read from Redis when the metrics are asked for.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import structlog

from service.conversation.mailbox import Mailbox
from service.conversation.observer import Stage
from service.conversation.outage import OutageError
from service.conversation.ports import Usage
from service.conversation.turn import Outcome

_log = structlog.get_logger(__name__)

_FILE_BYTES = 1 << 16
"""What prometheus_client begins a file with; all series of a kind fit in it."""
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """Implements `conversation.observer.Observer`, and what the web process counts.

    Raises OSError that names the folder when it cannot hold the files.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for kind in ("counter", "histogram"):
            _allocate(folder / f"{kind}_{os.getpid()}.db")
        # prometheus_client reads this when it is imported and when a metric is made.
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
        from prometheus_client import CollectorRegistry, Counter, Histogram

        registry = CollectorRegistry()
        self._messages = Counter(
            "horizon_webhook_messages",
            "Messages at the webhook, by what became of them",
            ["result"],
            registry=registry,
        )
        self._turns = Counter(
            "horizon_turns", "Turns that ended", ["status", "reason"], registry=registry
        )
        self._retries = Counter(
            "horizon_turn_retries", "Turns put off for another try", ["reason"], registry=registry
        )
        self._tokens = Counter("horizon_tokens", "Model tokens", ["kind"], registry=registry)
        self._stages = Histogram(
            "horizon_stage_seconds",
            "Time of each stage",
            ["stage"],
            registry=registry,
            buckets=_BUCKETS,
        )
        self._accept_seconds = self._stages.labels("accept")

    def message_taken(self, result: str, seconds: float) -> None:
        """A message at the webhook: what became of it, and how long that took."""
        self._messages.labels(result).inc()
        self._accept_seconds.observe(seconds)

    def observe(self, stage: Stage, seconds: float) -> None:
        self._stages.labels(stage).observe(seconds)

    def turn_ended(self, outcome: Outcome) -> None:
        self._turns.labels(outcome.status, outcome.reason).inc()

    def turn_retried(self, reason: str) -> None:
        self._retries.labels(reason).inc()

    def tokens_used(self, usage: Usage) -> None:
        self._tokens.labels("input").inc(usage.input_tokens)
        self._tokens.labels("cached").inc(usage.cached_tokens)
        self._tokens.labels("output").inc(usage.output_tokens)
        self._tokens.labels("reasoning").inc(usage.reasoning_tokens)


def _allocate(file: Path) -> None:
    """Take a metrics file's place on the disk before it is mapped.

    prometheus_client makes its files sparse: on a full disk, writing to the mapping would end the
    process with SIGBUS. Its names are `<kind>_<pid>.db` (prometheus_client/values.py).
    """
    if not hasattr(os, "posix_fallocate"):  # macOS
        return
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        size = max(_FILE_BYTES, os.fstat(descriptor).st_size)
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        raise OSError(error.errno, f"METRICS_DIR: {error.strerror}", str(file)) from error
    finally:
        os.close(descriptor)


def exposition(mailbox: Mailbox, dead_turns: int | None, spooled: int) -> bytes:
    """The host's totals and the queue's depth, in the Prometheus text format."""
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.metrics_core import GaugeMetricFamily
    from prometheus_client.multiprocess import MultiProcessCollector
    from prometheus_client.registry import Collector

    gauges: list[tuple[str, str, float]] = [
        ("horizon_spooled_messages", "Messages that wait on disk for Redis", spooled)
    ]
    if dead_turns is not None:
        gauges.append(("horizon_dead_turns", "Dead turns that wait for a retry", dead_turns))
    try:
        depth = mailbox.depth()
    except OutageError as error:
        _log.warning("queue_depth_unavailable", reason=str(error))
        gauges.append(("horizon_redis_up", "Whether Redis answers", 0))
    else:
        gauges += [
            ("horizon_redis_up", "Whether Redis answers", 1),
            ("horizon_queue_due", "Conversations that wait", depth.due),
            ("horizon_queue_leased", "Conversations being answered", depth.leased),
            ("horizon_queue_oldest_due_seconds", "How late the oldest is", depth.oldest_due_s),
        ]

    class _Now(Collector):
        def collect(self) -> Iterator[GaugeMetricFamily]:
            for name, text, value in gauges:
                yield GaugeMetricFamily(name, text, value=value)

    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # untyped upstream
    registry.register(_Now())
    return generate_latest(registry)
