"""`horizonctl db copy`: every row in the other database, taken up again after a kill, compared."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, func, insert, inspect, select, text, update
from sqlalchemy.dialects import postgresql

from service.store.census import census, key_order
from service.store.copying import BATCH, TABLES, UNFINISHED
from service.store.database import Database
from service.store.models import (
    AuditRow,
    BotRow,
    ContactRow,
    ConversationRow,
    MessageRow,
    StepRow,
    TurnRow,
    UsageRow,
    table,
)
from tests.conftest import TEMPLATE
from tests.integration.test_cli import Ctl, ctl
from tests.servers import RealPostgres

__all__ = ["ctl"]  # a fixture

ROOT = Path(__file__).parents[2]
USAGES = BATCH + 7
COPIED = 100
"""How many rows of `usage` a killed copy leaves."""
AT = datetime(2026, 11, 26, 3, 0, 0, 123456, tzinfo=timezone(timedelta(hours=-3)))

KILLED = f"""
import os, signal, sys
from service.store import copying
copying.BATCH = {COPIED}
def told(table, done, total):
    if table == "usage" and done == {COPIED}:
        os.kill(os.getpid(), signal.SIGKILL)
copying.copy(sys.argv[1], sys.argv[2], told)
"""


@pytest.fixture
def source_url(database_url: str) -> str:
    """Rows of all types, in more than one batch."""
    fill(database_url)
    return database_url


@pytest.fixture
def target_url(
    request: pytest.FixtureRequest, postgres_server: RealPostgres, source_url: str, tmp_path: Path
) -> Iterator[str]:
    """A migrated database of the other kind."""
    if source_url.startswith("sqlite"):
        url = postgres_server.create_database(TEMPLATE)
        yield url
        postgres_server.drop_database(url)
    else:
        yield request.getfixturevalue("sqlite_url")


def fill(url: str) -> None:
    ids = {"bot_id": "bot_1", "client_id": "cliente"}
    database = Database(url)
    with database.write() as connection:
        connection.execute(
            insert(BotRow).values(
                id="bot_1",
                client_id="cliente",
                name="Ñandú 🍽",
                twilio_phone_number="+56911110000",
                assistant_id="asst_1",
                report_turns=True,
                meta={"b": [1, 2.5, None, {"z": True, "a": "é"}], "a": ""},
            )
        )
        # Ids that a server's language orders otherwise than their bytes.
        for name in ("a_1", "B_1", "a1", "é", "Z"):
            connection.execute(
                insert(ContactRow).values(id=name, identity=name, address=name, **ids)
            )
            connection.execute(
                insert(ConversationRow).values(
                    id=name, contact_id=name, number="+56911110000", fence=2**40, **ids
                )
            )
        turn = {"id": "turn_1", "conversation_id": "a1", "ordinal": 1, "retry_s": 0.1, **ids}
        connection.execute(insert(TurnRow).values(finished_at=AT, **turn))
        connection.execute(
            insert(StepRow),
            [{"turn_id": "turn_1", "n": n, "kind": "k", "data": {}} for n in (10, 9)],
        )
        message = {"bot_id": "bot_1", "conversation_id": "a1", "turn_id": "turn_1"}
        for values in ({"payload": {"at_ms": 1}, "sid": "SM1"}, {}):
            connection.execute(
                insert(MessageRow).values(direction="in", text="hola", **message, **values)
            )
        usage = {"turn_id": "turn_1", "model": "gpt-6-luna", **ids}
        connection.execute(insert(UsageRow), [{**usage, "input_tokens": n} for n in range(USAGES)])
        connection.execute(delete(UsageRow).where(UsageRow.id == 5))
    database.close()


def rows(url: str, row: type[Any]) -> int:
    database = Database(url)
    with database.read() as connection:
        count: int = connection.execute(select(func.count()).select_from(row)).scalar_one()
    database.close()
    return count


def change(url: str, statement: Any) -> None:
    database = Database(url)
    with database.write() as connection:
        connection.execute(statement)
    database.close()


def kill_a_copy(source_url: str, target_url: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, source_url, target_url], cwd=ROOT, check=False
    )
    assert ended.returncode == -signal.SIGKILL


def test_every_row_is_there_and_the_next_ids_are_free(
    ctl: Ctl, source_url: str, target_url: str
) -> None:
    result = ctl("db", "copy", source_url, target_url, "--json")

    assert (result.code, result.err) == (0, "")
    told = {each["name"]: (each["rows"], each["found"]) for each in result.json["tables"]}
    assert {name: count for name, count in told.items() if count != (0, 0)} == {
        "bots": (1, 0),
        "contacts": (5, 0),
        "conversations": (5, 0),
        "turns": (1, 0),
        "turn_steps": (2, 0),
        "messages": (2, 0),
        "usage": (USAGES - 1, 0),
    }
    source, target = Database(source_url), Database(target_url)
    with source.read() as before, target.read() as after:
        assert census(before) == census(after)
        assert not inspect(after).has_table(UNFINISHED.name)
        missing = text("SELECT count(*) FROM messages WHERE payload IS NULL")
        assert after.execute(missing).scalar_one() == 1
        assert after.execute(select(TurnRow.finished_at)).scalar_one() == AT
    source.close()
    target.close()
    used = {"bot_id": "b", "client_id": "c", "turn_id": "t", "model": "m"}
    change(target_url, insert(UsageRow).values(**used))
    change(target_url, insert(AuditRow).values(actor="a", action="b", object_id="c"))


def test_a_killed_copy_is_taken_up_where_it_ended(
    ctl: Ctl, source_url: str, target_url: str
) -> None:
    kill_a_copy(source_url, target_url)
    assert rows(target_url, UsageRow) == COPIED

    result = ctl("db", "copy", source_url, target_url, "--json")

    assert result.code == 0, result.err
    usage = next(each for each in result.json["tables"] if each["name"] == "usage")
    assert (usage["rows"], usage["found"]) == (USAGES - 1, COPIED)


def test_a_difference_is_found_and_a_new_copy_mends_it(
    ctl: Ctl, source_url: str, target_url: str
) -> None:
    kill_a_copy(source_url, target_url)
    change(target_url, update(BotRow).values(name="otro"))
    # The service went on between the two runs, behind the last copied row and before it.
    change(source_url, delete(UsageRow).where(UsageRow.id == 1))

    again = ctl("db", "copy", source_url, target_url)
    anew = ctl("db", "copy", source_url, target_url, "--anew")

    assert again.code == 1
    assert "bots has other contents than the source" in again.err
    assert f"usage has {USAGES - 1} rows, the source {USAGES - 2}" in again.err
    assert "copy again with --anew" in again.err
    assert anew.code == 0, anew.err
    assert [line.split()[0] for line in anew.out.splitlines()[1:]] == [t.name for t in TABLES]


def test_a_target_that_is_in_use_is_refused_and_stays_as_it_is(
    ctl: Ctl, source_url: str, target_url: str
) -> None:
    assert ctl("db", "copy", source_url, target_url).code == 0
    change(target_url, update(BotRow).values(name="otro"))

    for words in ((), ("--anew",)):
        result = ctl("db", "copy", source_url, target_url, *words)

        assert result.code == 1
        assert "The target has rows of its own (bots, " in result.err
    assert rows(target_url, BotRow) == 1


def test_an_unfinished_copy_is_no_target_of_another_source_and_no_source(
    ctl: Ctl, sqlite_url: str, postgres_url: str, tmp_path: Path
) -> None:
    fill(sqlite_url)
    kill_a_copy(sqlite_url, postgres_url)
    other = tmp_path / "other.db"
    assert ctl("db", "copy", sqlite_url, f"sqlite:///{other}").code == 0

    result = ctl("db", "copy", f"sqlite:///{other}", postgres_url)
    back = ctl("db", "copy", postgres_url, f"sqlite:///{tmp_path / 'back.db'}")

    assert (result.code, back.code) == (1, 1)
    assert f"an unfinished copy of {sqlite_url}, not of sqlite:///{other}" in result.err
    assert "The source is itself an unfinished copy" in back.err


def test_a_target_without_tables_gets_them_and_is_its_owners_alone(
    ctl: Ctl, sqlite_url: str, tmp_path: Path
) -> None:
    fill(sqlite_url)
    target = tmp_path / "new.db"

    result = ctl("db", "copy", sqlite_url, f"sqlite:///{target}")

    assert result.code == 0, result.err
    assert target.stat().st_mode & 0o077 == 0


def test_ids_are_ordered_by_their_bytes_whatever_language_the_server_has() -> None:
    order = [str(column) for column in key_order(table(StepRow), postgresql.dialect())]

    assert order == ['turn_steps.turn_id COLLATE "C"', "turn_steps.n"]


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("sqlite:///:memory:", "TO: a file is needed behind sqlite:///"),
        ("sqlite:////nowhere/at/all/x.db", "TO: there is no folder /nowhere/at/all: make it first"),
    ],
)
def test_a_target_that_cannot_be_one_is_a_sentence_and_makes_no_folder(
    ctl: Ctl, sqlite_url: str, target: str, words: str
) -> None:
    result = ctl("db", "copy", sqlite_url, target)

    assert result.code == 2
    assert words in result.err
    assert not Path("/nowhere").exists()


def test_another_schema_is_refused_with_the_way_out(
    ctl: Ctl, sqlite_url: str, tmp_path: Path
) -> None:
    change(sqlite_url, text("UPDATE alembic_version SET version_num = '0001'"))

    result = ctl("db", "copy", sqlite_url, f"sqlite:///{tmp_path / 'new.db'}")

    assert result.code == 1
    assert "The source is at 0001, this release at 0002: run `horizonctl db upgrade`" in result.err


def test_what_does_not_fit_is_named_without_its_value(
    ctl: Ctl, sqlite_url: str, postgres_url: str
) -> None:
    fill(sqlite_url)
    change(sqlite_url, update(BotRow).values(name="x" * 201))

    result = ctl("db", "copy", sqlite_url, postgres_url)

    assert result.code == 1
    assert "bots does not fit the target: value too long" in result.err
    assert "xxx" not in result.err


@pytest.mark.parametrize(
    ("source", "target", "sentence"),
    [
        ("mysql://a/b", "sqlite:///a.db", "FROM: the address must start with"),
        ("sqlite:///a.db", "postgresql://u@h:x/b", "TO: an address like"),
        ("sqlite:///a.db", "sqlite:///./a.db", "Both addresses name the same database"),
        ("sqlite:///a.db", "sqlite:///b.db", "There is no database at a.db"),
    ],
)
def test_wrong_addresses_are_refused(
    ctl: Ctl, tmp_path: Path, source: str, target: str, sentence: str
) -> None:
    result = ctl("db", "copy", source, target)

    assert result.code in (1, 2)
    assert sentence in result.err
    assert list(tmp_path.iterdir()) == []
