"""The simulation agrees with the formulas where there are some, and its plans hold after a loss."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import capacity
from benchmarks.capacity_check import Comparison, Step, compare
from benchmarks.capacity_figures import Measured, MeasuredError, read, write
from benchmarks.capacity_plan import BeyondError, Day, Planner, Size
from benchmarks.capacity_simulation import Costs, Layout, Load, Simulation, percentile
from benchmarks.lab import console

NOTHING = Costs(0, 0, 0, 0, 0, 0, 0, 0)
ONE_OF_EACH = Layout(1, 1, 1, 1, worker_threads=1_000, cores=1)
STEADY = Load(1, model_s=10, vendor_s=0, debounce_s=0, contacts=1, model_cv=0, cpu_cv=0)
MEASURED = Measured(
    acknowledge_cpu_ms=1.0,
    balancer_cpu_ms=0.5,
    turn_cpu_ms=20.0,
    redis_accept_ms=0.1,
    redis_turn_ms=0.4,
    database_turn_ms=4.0,
    transactions=4.0,
    sync_ms=0.5,
    redis_commands_accept=1.0,
    redis_commands_turn=6.0,
    redis_message_bytes=128.0,
    redis_contact_bytes=4096.0,
    redis_waiting_bytes=1024.0,
    web_mb=60.0,
    worker_mb=120.0,
    turn_mb=0.125,
    pool=16,
)
LOAD = Load(20, model_s=1, vendor_s=0.1, contacts=1_200)


def planner(size: Size = Size(), spare: int = 1) -> Planner:  # noqa: B008 - frozen
    return Planner(MEASURED, size, Day(), spare, simulated_messages=500)


def test_one_server_with_exponential_times_waits_as_the_formula_says() -> None:
    load = replace(STEADY, messages_per_s=50, cpu_cv=1, contacts=100_000, model_s=0.001)
    costs = replace(NOTHING, acknowledge_cpu_ms=10)

    outcome = Simulation(costs, load, ONE_OF_EACH, seconds=200, warm_up_s=5).run()

    # M/M/1: 1 / (100/s - 50/s), and the quantiles of an exponential distribution.
    mean_s = sum(outcome.acknowledged_s) / len(outcome.acknowledged_s)
    assert mean_s == pytest.approx(0.020, rel=0.1)
    assert percentile(outcome.acknowledged_s, 99) == pytest.approx(0.0921, rel=0.15)
    assert outcome.busy["web"] == pytest.approx(0.5, rel=0.05)


def test_one_server_with_constant_times_waits_half_as_long() -> None:
    load = replace(STEADY, messages_per_s=50, contacts=100_000, model_s=0.001)
    costs = replace(NOTHING, acknowledge_cpu_ms=10)

    outcome = Simulation(costs, load, ONE_OF_EACH, seconds=200, warm_up_s=5).run()

    # M/D/1: 10 ms of service and rho / (2 mu (1 - rho)) = 5 ms of waiting.
    mean_s = sum(outcome.acknowledged_s) / len(outcome.acknowledged_s)
    assert mean_s == pytest.approx(0.015, rel=0.05)


def test_lone_message_takes_the_sum_of_its_steps() -> None:
    costs = Costs(
        acknowledge_cpu_ms=10,
        balancer_cpu_ms=1,
        turn_cpu_ms=40,
        redis_accept_ms=2,
        redis_turn_ms=6,
        database_turn_ms=8,
        transactions=4,
        sync_ms=5,
    )
    load = replace(STEADY, model_s=3, vendor_s=0.5, debounce_s=0.8)

    outcome = Simulation(costs, load, ONE_OF_EACH, seconds=10).run([1.0])

    acknowledged_s = 0.001 + 0.010 + 0.002 + 0.005
    turn_s = (0.003 + 0.005) + 0.020 + 0.004 + 2 * 0.005 + 3 + 0.010 + 0.5
    assert outcome.acknowledged_s == [pytest.approx(acknowledged_s)]
    assert outcome.answered_s == [pytest.approx(acknowledged_s + 0.8 + turn_s)]


def test_conversation_has_one_turn_at_a_time() -> None:
    outcome = Simulation(NOTHING, STEADY, ONE_OF_EACH, seconds=100).run([0.0, 1.0, 2.0])

    # What came during the first turn is answered together by the second.
    assert outcome.turns == 2
    assert outcome.peak_in_flight == 1
    assert outcome.answered_at == [pytest.approx(each) for each in (10, 20, 20)]


def test_other_conversations_do_not_wait() -> None:
    load = replace(STEADY, contacts=3)

    outcome = Simulation(NOTHING, load, ONE_OF_EACH, seconds=100).run([0.0, 1.0, 2.0])

    assert outcome.peak_in_flight == 3
    assert outcome.answered_s == [pytest.approx(10)] * 3


def test_turn_waits_for_a_free_thread() -> None:
    load, layout = replace(STEADY, contacts=2), replace(ONE_OF_EACH, worker_threads=1)

    outcome = Simulation(NOTHING, load, layout, seconds=100).run([0.0, 1.0])

    assert outcome.answered_at == [pytest.approx(10), pytest.approx(20)]


def test_messages_within_the_debounce_are_one_turn() -> None:
    load = replace(STEADY, debounce_s=0.8)

    outcome = Simulation(NOTHING, load, ONE_OF_EACH, seconds=100).run([0.0, 0.5])

    assert outcome.turns == 1
    assert outcome.answered_at == [pytest.approx(0.5 + 0.8 + 10)] * 2


def test_contact_that_goes_on_writing_waits_for_five_debounces() -> None:
    load = replace(STEADY, debounce_s=0.8)

    outcome = Simulation(NOTHING, load, ONE_OF_EACH, seconds=100).run([n / 2 for n in range(12)])

    assert outcome.answered_at[0] == pytest.approx(5 * 0.8 + 10)


def test_one_interpreter_has_one_core_however_many_there_are() -> None:
    costs, load = replace(NOTHING, turn_cpu_ms=1_000), replace(STEADY, contacts=2, model_s=0.001)
    layout = replace(ONE_OF_EACH, cores=8)

    outcome = Simulation(costs, load, layout, seconds=100).run([0.0, 0.0])

    assert max(outcome.answered_at) > 1.2


def test_writes_that_wait_for_redis_share_a_sync() -> None:
    costs, load = replace(NOTHING, sync_ms=100), replace(STEADY, contacts=20)

    outcome = Simulation(costs, load, ONE_OF_EACH, seconds=100).run([0.0] * 20)

    assert max(outcome.acknowledged_s) == pytest.approx(0.2)


def test_same_seed_gives_the_same_run() -> None:
    runs = [Simulation(MEASURED.costs, LOAD, ONE_OF_EACH, seconds=10, seed=7).run() for _ in "12"]

    assert runs[0] == runs[1]


def test_more_load_never_needs_fewer_hosts() -> None:
    layouts = [
        planner().plan(replace(LOAD, messages_per_s=rate, contacts=int(60 * rate))).layout
        for rate in (5, 60, 90, 180)
    ]

    for part in ("web_hosts", "worker_hosts"):
        hosts = [getattr(layout, part) for layout in layouts]
        assert hosts == sorted(hosts)
    assert layouts[-1].worker_hosts > layouts[0].worker_hosts


def test_faster_model_needs_no_more_threads() -> None:
    fast, slow = (planner().plan(replace(LOAD, model_s=model_s)) for model_s in (0.5, 8))

    assert fast.outcome.peak_in_flight < slow.outcome.peak_in_flight
    assert fast.layout.worker_threads <= slow.layout.worker_threads


def test_what_remains_after_a_loss_carries_the_load() -> None:
    load = replace(LOAD, messages_per_s=90, contacts=5_400)

    alone, safe = planner(spare=0).plan(load), planner(spare=1).plan(load)

    assert safe.layout.web_hosts == alone.layout.web_hosts + 1
    assert safe.layout.worker_hosts == alone.layout.worker_hosts + 1
    assert max(safe.busy.values()) <= 1
    assert percentile(safe.after_loss.acknowledged_s, 99) <= 0.25
    assert safe.outcome.busy["workers"] < safe.after_loss.busy["workers"]


def test_connections_are_those_of_two_releases() -> None:
    plan = planner().plan(LOAD)

    processes = 2 * (plan.layout.web_hosts + plan.layout.worker_hosts)
    assert plan.connections == 2 * 16 * processes + 20


def test_redis_keeps_the_ids_of_two_days_the_contexts_of_one_and_a_backlog() -> None:
    megabytes = Day(2, messages_of_contact=5, text_bytes=100).redis_mb(MEASURED, messages_per_s=10)

    ids, backlog = 5 * 172_800 * 128, 10 * 3_600 * 1024
    contacts = 5 * 86_400 / 5 * (4096 + 2 * 5 * 100)
    assert megabytes == pytest.approx((ids + contacts + backlog) / 2**20)


@pytest.mark.parametrize(
    ("changes", "part", "words"),
    [
        ({"redis_turn_ms": 40.0}, "redis", "one thread"),
        ({"database_turn_ms": 400.0}, "database", "more cores"),
        ({"balancer_cpu_ms": 400.0}, "balancer", "more cores"),
    ],
)
def test_load_beyond_a_part_that_is_alone_is_refused(
    changes: dict[str, float], part: str, words: str
) -> None:
    slow = replace(planner(), measured=replace(MEASURED, **changes))  # type: ignore[arg-type]

    with pytest.raises(BeyondError, match=words) as refused:
        slow.plan(replace(LOAD, messages_per_s=50))

    assert refused.value.part == part


def test_hosts_without_memory_for_their_processes_are_refused() -> None:
    with pytest.raises(BeyondError, match="more memory"):
        planner(Size(cores=32, memory_gb=2)).plan(LOAD)


def test_figures_are_read_as_they_were_written(tmp_path: Path) -> None:
    write(MEASURED, 3, tmp_path / "measured.toml")

    measured, about = read(tmp_path / "measured.toml")

    assert measured == MEASURED
    assert about["command"] == "python -m benchmarks.capacity --measure"


def test_figures_of_this_repository_can_be_read() -> None:
    measured, about = read()

    assert measured.turn_cpu_ms > measured.acknowledge_cpu_ms
    assert about["date"] >= "2026-11-27"


@pytest.mark.parametrize("text", ["", "[figures]\n", "[about]\n[figures]\npool = 16\n"])
def test_file_without_the_figures_says_how_to_write_it(tmp_path: Path, text: str) -> None:
    (tmp_path / "measured.toml").write_text(text)

    with pytest.raises(MeasuredError, match="--measure"):
        read(tmp_path / "measured.toml")


def test_figure_of_nothing_is_refused(tmp_path: Path) -> None:
    write(replace(MEASURED, turn_cpu_ms=0.0), 3, tmp_path / "measured.toml")

    with pytest.raises(MeasuredError, match="turn_cpu_ms"):
        read(tmp_path / "measured.toml")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--messages-per-s", "0"], "0 is not between"),
        (["--messages-per-s", "many"], "many is not between"),
        (["--model-s", "-1"], "-1 is not between"),
        (["--cores", "1.5"], "1.5 is not between"),
        (["--memory-gb", "nan"], "nan is not between"),
        (["--check", "--table"], "not allowed with"),
    ],
)
def test_wrong_argument_is_named(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        capacity.main(arguments)

    assert ended.value.code == 2
    assert words in capsys.readouterr().err


def test_command_says_that_a_load_is_beyond(capsys: pytest.CaptureFixture[str]) -> None:
    assert capacity.main(["--messages-per-s", "20000", "--cores", "64"]) == 1

    assert "messages/s at most" in capsys.readouterr().err


def test_command_prints_a_plan() -> None:
    with console.capture() as printed:
        assert capacity.main(["--messages-per-s", "5", "--model-s", "1"]) == 0

    for words in ("workers", "connections", "What binds", "Headroom", "p50 and p99"):
        assert words in printed.get()


def test_error_is_a_share_of_what_was_measured() -> None:
    assert Comparison("", predicted=12, measured=10).error == pytest.approx(0.2)
    assert Comparison("", predicted=8, measured=10).is_within
    assert not Comparison("", predicted=14, measured=10).is_within


def test_knee_is_where_most_was_answered() -> None:
    def step(rate: float, answered_per_s: float, p95_s: float) -> Step:
        return Step(rate, answered_per_s, p95_s, 10, 100, 1.0, 15, 0.01)

    real = [step(10, 10, 2.1), step(20, 18, 2.4), step(30, 16, 6.0)]
    predicted = [step(10, 10, 2.0), step(20, 20, 2.4), step(30, 19, 5.0)]

    knee, straight, *_ = compare(real, predicted)

    assert (knee.predicted, knee.measured) == (20, 18)
    assert (straight.predicted, straight.measured) == (2.4, 2.4)
