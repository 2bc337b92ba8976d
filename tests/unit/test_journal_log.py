"""The log is read through journalctl; a journal that cannot be read is said, never taken for empty."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from service.monitoring.journal_log import JournalError, last_lines, lines, parse

NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
FORBIDDEN = """Hint: You are currently not seeing messages from other users and the system.
      Users in groups 'adm', 'systemd-journal' can see all messages.
No journal files were opened due to insufficient permissions."""

Journal = Callable[..., Path]


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Journal:
    """A journalctl that prints these lines, oldest first or with --reverse last first; its words."""

    def make(*printed: str, complaint: str = "", code: int = 0) -> Path:
        folder = tmp_path / "bin"
        folder.mkdir()
        (folder / "lines").write_text("".join(f"{line}\n" for line in printed))
        (folder / "complaint").write_text(complaint)
        program = folder / "journalctl"
        program.write_text(
            f"""#!/bin/sh
printf '%s\\n' "$@" > {folder}/words
cat {folder}/complaint >&2
case "$*" in
*--reverse*) /usr/bin/tac {folder}/lines ;;
*) /bin/cat {folder}/lines ;;
esac
exit {code}
"""
        )
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
        return folder / "words"

    return make


def entry(event: str, **fields: str) -> str:
    return json.dumps(
        {"event": event, "level": "info", "timestamp": "2026-11-26T11:59:58Z"} | fields
    )


def test_the_last_lines_are_asked_for_by_identifier_so_that_the_next_release_is_in_it(
    journal: Journal,
) -> None:
    words = journal(entry("one"), entry("two"))

    found = last_lines(2, None, NOW, DAY)

    assert [line.fields["event"] for line in found if line.fields] == ["one", "two"]
    assert "--identifier=horizonai-bots-worker" in words.read_text().split()
    assert "--lines=2" in words.read_text().split()


def test_the_last_lines_of_a_bot_are_the_newest_of_its_own(journal: Journal) -> None:
    journal(
        *(entry(f"mine-{n}", bot_id="bot_a") for n in range(3)),
        entry("other", bot_id="bot_b"),
        "plain text",
    )

    found = last_lines(2, lambda line: line.concerns({"bot_a"}), NOW, DAY)

    assert [line.fields["event"] for line in found if line.fields] == ["mine-1", "mine-2"]


@pytest.mark.parametrize(
    ("complaint", "code", "said"),
    [
        (FORBIDDEN, 1, "sudo horizonctl"),
        ("No journal files were found.", 0, "no journal on this host"),
        ("Failed to open journal: I/O error\nmore", 1, r"\(Failed to open journal: I/O error\)"),
    ],
)
def test_a_journal_that_cannot_be_read_is_a_sentence(
    journal: Journal, complaint: str, code: int, said: str
) -> None:
    journal(complaint=complaint, code=code)

    with pytest.raises(JournalError, match=said):
        list(lines(count=5))


def test_a_host_without_journalctl_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(JournalError, match="no journalctl"):
        list(lines())


def test_an_empty_journal_is_no_failure(journal: Journal) -> None:
    journal("-- No entries --")

    assert list(lines(count=5)) == []


def test_a_line_for_people_is_in_the_time_zone_and_names_its_fields() -> None:
    line = parse(entry("turn_ended", status="replied", reason="answered it"))

    text = line.text(ZoneInfo("America/Santiago"))

    assert text == ('2026-11-26 08:59:58 info     turn_ended status=replied reason="answered it"')


def test_what_a_terminal_would_obey_is_not_printed() -> None:
    texts = [
        parse("plain \x1b[2J text").text(ZoneInfo("UTC")),
        parse(entry("x", reason="\x1b]0;title\x07\u202e")).text(ZoneInfo("UTC")),
    ]

    assert all(text.isprintable() for text in texts)


@pytest.mark.parametrize(
    ("text", "passes"),
    [('{"level": "warning"}', True), ('{"level": "info"}', False), ("plain", True)],
)
def test_lines_less_grave_are_left_out_and_those_without_a_level_stay(
    text: str, passes: bool
) -> None:
    assert parse(text).is_at_least("warning") is passes
