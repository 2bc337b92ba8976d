"""Sheets on the controller: written whole, for their owner, once, and not at all in check mode."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

from tests.ansible.conftest import load
from tests.ansible.modules import LIBRARY, run
from tests.ansible.test_client_filters import report

FIRST, SECOND, THIRD = "+56226660001", "+56226660002", "+56226660003"


def sheet(client: str, number: str, more: str = "") -> dict[str, str]:
    """As the filter makes it, so far as it matters here."""
    return {
        "client": client,
        "number": number,
        "content": f"# {client}\n\n| Número de WhatsApp | {number} |\n{more}\n",
    }


SHEETS = [sheet("a", FIRST), sheet("b", SECOND, "ñ")]


def test_sheets_are_written_once(tmp_path: Path) -> None:
    folder = tmp_path / "clients"

    first = run("horizon_sheets", folder=str(folder), sheets=SHEETS)
    second = run("horizon_sheets", folder=str(folder), sheets=SHEETS)

    assert first["written"] == ["a.md", "b.md"]
    assert (folder / "b.md").read_text(encoding="utf-8").endswith("ñ\n")
    assert (folder / "b.md").stat().st_mode & 0o777 == 0o600
    assert not second["changed"]
    assert sorted(file.name for file in folder.iterdir()) == ["a.md", "b.md"]


def test_a_run_that_was_killed_leaves_nothing_after_the_next(tmp_path: Path) -> None:
    killed_before_the_rename = dedent(
        """
        import os, signal, sys
        from pathlib import Path
        import horizon_sheets
        os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        horizon_sheets.write(Path(sys.argv[1]), [{"client": "a", "number": "+1", "content": "# A"}], False)
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", killed_before_the_rename, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(LIBRARY)},
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 1

    run("horizon_sheets", folder=str(tmp_path), sheets=SHEETS)

    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.md", "b.md"]


def test_check_mode_only_tells(tmp_path: Path) -> None:
    told = run("horizon_sheets", check=True, folder=str(tmp_path / "c"), sheets=SHEETS)

    assert told["changed"]
    assert told["diff"][0]["after"] == SHEETS[0]["content"]
    assert not (tmp_path / "c").exists()


def test_a_name_leads_nowhere_else(tmp_path: Path) -> None:
    refused = run("horizon_sheets", folder=str(tmp_path), sheets=[sheet("../x", FIRST)])

    assert refused["failed"]


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_two_new_numbers_of_one_client_have_a_sheet_each(tmp_path: Path) -> None:
    both = [sheet("par", FIRST), sheet("par", SECOND)]

    would = run("horizon_sheets", check=True, folder=str(tmp_path), sheets=both)
    first = run("horizon_sheets", folder=str(tmp_path), sheets=both)
    second = run("horizon_sheets", folder=str(tmp_path), sheets=both)

    assert would["written"] == first["written"] == ["par.md", "par-56226660002.md"]
    assert first["names"] == {FIRST: "par.md", SECOND: "par-56226660002.md"}
    assert FIRST in (tmp_path / "par.md").read_text(encoding="utf-8")
    assert SECOND in (tmp_path / "par-56226660002.md").read_text(encoding="utf-8")
    assert not second["changed"]


def test_a_number_keeps_its_sheet_whatever_becomes_of_the_others(tmp_path: Path) -> None:
    folder = str(tmp_path)
    one, two, three = (sheet("par", number) for number in (FIRST, SECOND, THIRD))
    run("horizon_sheets", folder=folder, sheets=[one, two])

    removed = run("horizon_sheets", folder=folder, gone=[{"client": "par", "number": FIRST}])
    again = run("horizon_sheets", folder=folder, sheets=[two])
    new = run("horizon_sheets", folder=folder, sheets=[three, two])

    assert removed["removed"] == ["par.md"]
    assert not again["changed"]
    assert new["written"] == ["par.md"]
    assert THIRD in (tmp_path / "par.md").read_text(encoding="utf-8")
    last = run("horizon_sheets", folder=folder, gone=[{"client": "par", "number": SECOND}])
    assert last["removed"] == ["par-56226660002.md"]
    assert names(tmp_path) == ["par.md"]


def test_only_the_sheet_of_exactly_that_number_goes(tmp_path: Path) -> None:
    folder = str(tmp_path)
    run("horizon_sheets", folder=folder, sheets=[sheet("par", FIRST), sheet("a", SECOND)])
    (tmp_path / "par-notes.md").write_text(sheet("par", FIRST)["content"], encoding="utf-8")
    gone = [{"client": "par", "number": FIRST}]

    other = run("horizon_sheets", folder=folder, gone=[{"client": "par", "number": FIRST[:-1]}])
    would = run("horizon_sheets", check=True, folder=folder, gone=gone)
    assert (other["changed"], would["removed"]) == (False, ["par.md"])
    assert names(tmp_path) == ["a.md", "par-notes.md", "par.md"]

    run("horizon_sheets", folder=folder, gone=gone)
    again = run("horizon_sheets", folder=folder, gone=gone)
    nowhere = run("horizon_sheets", folder=str(tmp_path / "none"), gone=gone)

    assert names(tmp_path) == ["a.md", "par-notes.md"]
    assert not again["changed"]
    assert not nowhere["changed"]
    assert not (tmp_path / "none").exists()


def test_a_file_that_is_no_sheet_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "par.md").write_text("My own notes.", encoding="utf-8")

    beside = run("horizon_sheets", folder=str(tmp_path), sheets=[sheet("par", FIRST)])
    (tmp_path / "par-56226660001.md").write_bytes("ñ".encode("latin-1"))
    refused = run("horizon_sheets", folder=str(tmp_path), sheets=[sheet("par", FIRST)])

    assert beside["written"] == ["par-56226660001.md"]
    assert "is not the sheet of +56226660001" in refused["msg"]
    assert (tmp_path / "par.md").read_text(encoding="utf-8") == "My own notes."


def test_what_playbooks_write_names_its_number_for_the_module(tmp_path: Path) -> None:
    made = load("filter_plugins/horizon_client_sheets.py").sheets([report()], "bots1", "-i i")
    folder = str(tmp_path)

    run("horizon_sheets", folder=folder, sheets=made)
    removed = run(
        "horizon_sheets", folder=folder, gone=[{"client": "la-cocina", "number": "+15551234567"}]
    )

    assert removed["removed"] == ["la-cocina.md"]
