"""How one release replaces another, on a machine that is made of a few dictionaries."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.ansible.conftest import REPOSITORY

migrations = importlib.import_module("ansible.module_utils.horizon_migrations")
releases = importlib.import_module("ansible.module_utils.horizon_releases")
ReleaseError = releases.ReleaseError

A, B, C = (
    "20260101000000_aaaaaaaaaaaa",
    "20260102000000_bbbbbbbbbbbb",
    "20260103000000_cccccccccccc",
)
FAST = releases.Limits(ready_s=5, heartbeat_s=5, settle_s=1)


class FakeHost:
    """Units run from their start on; what breaks is named by the release."""

    def __init__(self) -> None:
        self.running: dict[str, int] = {}
        self.dead: set[str] = set()
        self.wanted: set[str] = set()
        self.current: str | None = None
        self.revision: dict[str, Any] = {
            "runs": True,
            "state": "at head",
            "current": "1",
            "release": "1",
        }
        self.breaks: dict[str, str] = {}
        self.known: dict[str, list[Any]] = {}
        self.migrated: list[str] = []
        self.now = 0.0
        self.history: list[str] = []
        self._pid = 100

    def break_at(self, release: str, stage: str) -> None:
        self.breaks[release] = stage

    def _stage(self, name: str) -> str | None:
        return self.breaks.get(releases.release_of(name))

    def units(self) -> list[str]:
        return sorted(self.running)

    def state(self, unit: str) -> Any:
        up = unit in self.running and unit not in self.dead
        return releases.UnitState(unit, "active" if up else "failed", 0, self.running.get(unit, 0))

    def start(self, units: Iterable[str]) -> None:
        for unit in units:
            self._pid += 1
            self.running[unit] = self._pid
            instance = releases.instance_of(unit)
            if self._stage(instance) == "worker dies" and "worker" in unit:
                self.dead.add(unit)
        self.history.append("start")

    def stop(self, units: Iterable[str]) -> None:
        for unit in units:
            self.running.pop(unit, None)
            self.dead.discard(unit)
        self.history.append("stop")

    def enable(self, units: Iterable[str]) -> None:
        self.wanted |= set(units)

    def enabled(self) -> list[str]:
        return sorted(self.wanted)

    def disable(self, units: Iterable[str]) -> None:
        self.wanted -= set(units)

    def reload(self) -> None:
        self.history.append("reload")

    def schema(self, release: str) -> dict[str, Any]:
        return self.revision

    def migrations(self, release: str) -> list[Any]:
        return self.known.get(release, [])

    def migrate(self, release: str, *, is_new: bool) -> None:
        self.migrated.append(release)
        if self._stage(release) == "migration":
            raise ReleaseError("its migration failed")
        self.revision = self.revision | {"runs": True, "state": "at head"}

    def probe(self, release: str) -> None:
        if self._stage(release) == "probe":
            raise ReleaseError("its probe failed: ImportError")

    def ready(self, instance: str) -> str | None:
        return "HTTP 503" if self._stage(instance) == "ready" else None

    def beating(self, release: str, main_pids: Iterable[int]) -> set[int]:
        return set() if self._stage(release) == "heartbeat" else set(main_pids)

    def last_words(self, unit: str) -> str:
        return "its last words"

    def link_current(self, release: str) -> None:
        self.current = release

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def host() -> FakeHost:
    return FakeHost()


@pytest.fixture
def journal(tmp_path: Path) -> Any:
    return releases.Journal.read(tmp_path / "state/activations.json")


def want(release: str, config: str = "c", workers: int = 2) -> Any:
    return releases.Wanted(release=release, config=config, workers=workers, how="deploy")


def activate(journal: Any, host: FakeHost, wanted: Any) -> Any:
    return releases.activate(journal, host, wanted, FAST)


def units_of(instance: str, workers: int = 2) -> list[str]:
    return sorted([releases.web_unit(instance), *releases.worker_units(instance, workers)])


def test_first_release_runs_and_starts_with_the_machine(journal: Any, host: FakeHost) -> None:
    outcome = activate(journal, host, want(A))

    assert outcome.changed
    assert host.units() == units_of(A) == host.enabled()
    assert host.current == A


def test_same_release_again_changes_nothing(journal: Any, host: FakeHost) -> None:
    activate(journal, host, want(A))
    before = list(host.history)

    assert not activate(journal, host, want(A)).changed
    assert host.history == before


def test_a_database_that_lost_its_tables_gets_them_again(journal: Any, host: FakeHost) -> None:
    activate(journal, host, want(A))
    before = list(host.history)
    host.revision |= {"runs": False, "state": "empty", "current": None}

    outcome = activate(journal, host, want(A))

    assert (outcome.changed, host.migrated) == (True, [A])
    assert host.history == before
    assert not activate(journal, host, want(A)).changed


def test_new_release_starts_before_the_old_one_stops(journal: Any, host: FakeHost) -> None:
    activate(journal, host, want(A))
    host.history.clear()

    activate(journal, host, want(B))

    assert host.history == ["start", "stop"]
    assert host.units() == units_of(B) == host.enabled()


def test_changed_settings_run_the_same_release_beside_itself(journal: Any, host: FakeHost) -> None:
    activate(journal, host, want(A, "old"))
    activate(journal, host, want(A, "new"))

    assert host.units() == units_of(f"{A}:2") == host.enabled()
    activate(journal, host, want(A, "newer"))
    assert host.units() == units_of(A)


def test_workers_in_turn_never_run_beside_each_other(journal: Any, host: FakeHost) -> None:
    activate(journal, host, want(A))
    host.history.clear()

    activate(journal, host, dataclasses.replace(want(B), workers_in_turn=True))

    # Web, then the old workers go, then the new ones come, then the old web goes.
    assert host.history == ["start", "stop", "start", "stop"]
    assert host.units() == units_of(B) == host.enabled()


def test_workers_that_ended_in_turn_come_back_with_a_take_back(
    journal: Any, host: FakeHost
) -> None:
    activate(journal, host, want(A))
    host.break_at(B, "heartbeat")

    with pytest.raises(ReleaseError, match="still serves"):
        activate(journal, host, dataclasses.replace(want(B), workers_in_turn=True))

    assert host.units() == units_of(A) == host.enabled()


def test_fewer_workers_are_a_change(journal: Any, host: FakeHost) -> None:
    activate(journal, host, want(A, "2 workers", 2))
    activate(journal, host, want(A, "1 worker", 1))

    assert host.units() == units_of(f"{A}:2", 1)


@pytest.mark.parametrize("stage", ["probe", "ready", "worker dies", "heartbeat", "migration"])
def test_bad_release_is_taken_back_while_the_old_serves(
    journal: Any, host: FakeHost, stage: str
) -> None:
    activate(journal, host, want(A))
    pids = dict(host.running)
    host.break_at(B, stage)
    if stage == "migration":
        host.revision |= {"runs": False, "state": "behind"}

    with pytest.raises(ReleaseError, match=f"{B} was taken back: .*Now: {A} still serves"):
        activate(journal, host, want(B))

    assert host.running == pids
    assert host.enabled() == units_of(A)
    assert (host.current, journal.running) == (A, A)
    assert B in releases.Journal.read(journal.path).bad


def test_release_that_was_taken_back_may_be_tried_again(journal: Any, host: FakeHost) -> None:
    activate(journal, host, want(A))
    host.break_at(B, "ready")
    with pytest.raises(ReleaseError):
        activate(journal, host, want(B))
    host.breaks.clear()

    assert activate(journal, host, want(B)).changed
    assert B not in journal.bad


def test_schema_of_a_newer_release_is_refused(journal: Any, host: FakeHost) -> None:
    activate(journal, host, want(B))
    host.revision = {"runs": False, "state": "newer, incompatible", "current": "3", "release": "2"}

    with pytest.raises(ReleaseError, match="cannot run on the database's schema 3"):
        activate(journal, host, want(A))


def test_interrupted_start_is_cleared_away(journal: Any, host: FakeHost) -> None:
    activate(journal, host, want(A))
    host.start([releases.web_unit(B)])
    host.enable([releases.web_unit(B)])

    activate(journal, host, want(B))

    assert host.units() == units_of(B) == host.enabled()


def test_interrupted_stop_is_finished_by_the_next_run(journal: Any, host: FakeHost) -> None:
    activate(journal, host, want(A))
    activate(journal, host, want(B))
    host.start(units_of(A))
    host.enable(units_of(A))

    assert activate(journal, host, want(B)).changed
    assert [unit for unit in host.units() if A in unit] == []
    assert [unit for unit in host.enabled() if A in unit] == []


def test_what_runs_without_a_journal_goes_on_until_the_new_is_ready(
    journal: Any, host: FakeHost
) -> None:
    host.start(units_of(A))
    host.history.clear()

    activate(journal, host, want(B))

    assert host.history == ["start", "stop"]
    assert host.units() == units_of(B)


def test_previous_good_skips_bad_and_removed_releases(journal: Any, host: FakeHost) -> None:
    for release in (A, B, C):
        activate(journal, host, want(release))

    assert journal.previous_good(lambda name: True) == B
    assert journal.previous_good(lambda name: name != B) == A
    journal.condemn(B, "rollback", "")
    assert journal.previous_good(lambda name: True) == A
    assert journal.previous_good(lambda name: name == C) is None


def test_running_release_and_the_one_before_are_never_removed(journal: Any, host: FakeHost) -> None:
    names = [f"2026010{n}000000_aaaaaaaaaaaa" for n in range(1, 8)]
    for name in names:
        activate(journal, host, want(name))
    activate(journal, host, want(names[0]))

    assert releases.to_remove(journal, names, keep=5) == [names[2], names[1]]
    assert set(releases.to_remove(journal, names, keep=1)) == set(names) - {names[0], names[6]}


def test_journal_that_cannot_be_read_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "activations.json").write_text("{")

    with pytest.raises(ReleaseError, match="Remedy"):
        releases.Journal.read(tmp_path / "activations.json")


@pytest.mark.parametrize(("web", "workers"), [(True, 0), (False, 2)])
def test_a_host_may_run_web_or_workers_alone(
    journal: Any, host: FakeHost, web: bool, workers: int
) -> None:
    def wanted(release: str) -> Any:
        return dataclasses.replace(want(release, workers=workers), web=web)

    activate(journal, host, wanted(A))
    outcome = activate(journal, host, wanted(B))

    assert host.units() == sorted(wanted(B).units(B)) == host.enabled()
    assert len(host.units()) == (1 if web else 2)
    assert any("web ready" in step for step in outcome.steps) == web
    assert any("workers alive" in step for step in outcome.steps) == bool(workers)
    assert not activate(journal, host, wanted(B)).changed


def test_a_worker_that_is_silent_is_taken_back_without_web_too(
    journal: Any, host: FakeHost
) -> None:
    activate(journal, host, dataclasses.replace(want(A), web=False))
    before = host.units()
    host.break_at(B, "heartbeat")

    with pytest.raises(ReleaseError, match="sent no heartbeat"):
        activate(journal, host, dataclasses.replace(want(B), web=False))
    assert host.units() == before


def test_a_host_that_gives_web_up_keeps_its_workers(journal: Any, host: FakeHost) -> None:
    activate(journal, host, want(A))

    activate(journal, host, dataclasses.replace(want(A, config="other"), web=False))

    assert host.units() == releases.worker_units(f"{A}:2", 2)


def known(*oldest_codes: int) -> list[Any]:
    """A release's migrations, each with the oldest code that works on its schema."""
    return [
        migrations.Migration(number, oldest, f"{number:04}_change.py")
        for number, oldest in enumerate(oldest_codes, 1)
    ]


def test_a_migration_that_leaves_the_running_release_behind_is_refused_before_it_is_made(
    journal: Any, host: FakeHost
) -> None:
    host.known = {A: known(1, 1), B: known(1, 1, 1, 3, 3)}
    activate(journal, host, want(A))
    host.revision |= {"runs": False, "state": "behind"}
    host.break_at(B, "probe")

    with pytest.raises(ReleaseError) as error:
        activate(journal, host, want(B))

    assert host.migrated == []
    text = str(error.value)
    assert f"{A} (schema 0002) would stop answering" in text
    assert "--diff-filter=A -- service/store/migrations/versions/0004_change.py)^" in text
    assert f"Now: {A} still serves" in text


def test_a_migration_that_no_other_release_bears_has_to_be_split(
    journal: Any, host: FakeHost
) -> None:
    host.known = {A: known(1, 1), B: known(1, 1, 3)}
    activate(journal, host, want(A))
    host.revision |= {"runs": False, "state": "behind"}

    with pytest.raises(ReleaseError, match="split the change into two releases"):
        activate(journal, host, want(B))

    assert host.migrated == []


def test_a_migration_that_the_running_release_bears_is_made(journal: Any, host: FakeHost) -> None:
    host.known = {A: known(1, 1), B: known(1, 1, 2)}
    activate(journal, host, want(A))
    host.revision |= {"runs": False, "state": "behind"}

    activate(journal, host, want(B))

    assert host.migrated == [B]


def test_a_release_of_another_host_is_not_left_behind_either(journal: Any, host: FakeHost) -> None:
    host.known = {B: known(1, 1, 2), C: known(1, 1, 2, 3)}
    activate(journal, host, want(B))
    host.revision |= {"runs": False, "state": "behind"}

    with pytest.raises(ReleaseError, match=rf"{A} \(schema 0002\) would stop answering"):
        activate(journal, host, dataclasses.replace(want(C), elsewhere={A: 2, B: 3, C: 4}))
    activate(journal, host, dataclasses.replace(want(C), elsewhere={B: 3, C: 4}))

    assert host.migrated == [C]


def test_an_empty_database_leaves_nobody_behind(journal: Any, host: FakeHost) -> None:
    host.known = {A: known(1, 2)}
    host.revision |= {"runs": False, "state": "empty"}

    activate(journal, host, dataclasses.replace(want(A), elsewhere={B: 1}))

    assert host.migrated == [A]


def test_migrations_are_read_as_the_service_reads_them(tmp_path: Path) -> None:
    from service.store.database import Database
    from service.store.migrations_state import MigrationState

    own = migrations.read(REPOSITORY)

    state = MigrationState(Database(f"sqlite:///{tmp_path}/bots.db"))
    script = state._script.get_revision(state.head)
    assert migrations.newest(own) == int(state.head)
    assert own[-1].oldest_code == int(script.module.oldest_code)


def test_a_migration_without_its_oldest_code_is_an_error(tmp_path: Path) -> None:
    folder = tmp_path / migrations.FOLDER
    folder.mkdir(parents=True)
    (folder / "0001_change.py").write_text('revision = "0001"\n')

    with pytest.raises(ValueError, match=r"0001_change\.py says no 'oldest_code'"):
        migrations.read(tmp_path)
