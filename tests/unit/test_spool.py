"""The spool keeps messages in order, in one piece, and within its limit."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from service.conversation.event import Event, encode
from service.conversation.mailbox import Inbound
from service.conversation.outage import OutageError
from service.store.spool import Spool, SpoolFullError
from tests.server_process import PATIENCE_S


def inbound(sid: str) -> Inbound:
    event = Event(sid, "message", "bot", 1, {"Body": "¡hola!", "From": "whatsapp:+1"})
    event = Event(sid, "message", "bot", 1, event.fields, encode(event))
    return Inbound(event, "client", "+56", "whatsapp:+1", "whatsapp:CL.x")


def test_what_goes_in_comes_out_in_order(tmp_path: Path) -> None:
    spool, out = Spool(tmp_path, 10**6), list[Inbound]()
    messages = [inbound(f"m{n}") for n in range(20)]
    for message in messages:
        spool.put(message)
    assert spool.replay(out.append) == 20
    assert out == messages
    assert not spool


def test_the_order_holds_when_the_clock_goes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool, out = Spool(tmp_path, 10**6), list[Inbound]()
    spool.put(inbound("first"))
    monkeypatch.setattr(time, "time_ns", lambda: 1_000)
    Spool(tmp_path, 10**6).put(inbound("second"))
    spool.replay(out.append)
    assert [message.event.id for message in out] == ["first", "second"]


def test_an_outage_leaves_the_message_where_it_was(tmp_path: Path) -> None:
    spool, out = Spool(tmp_path, 10**6), list[Inbound]()
    for sid in ("a", "b", "c"):
        spool.put(inbound(sid))

    def accept(message: Inbound) -> None:
        if message.event.id == "b" and not down:
            down.append(True)
            raise OutageError("away")
        out.append(message)

    down: list[bool] = []
    with pytest.raises(OutageError):
        spool.replay(accept)
    spool.replay(accept)
    assert [message.event.id for message in out] == ["a", "b", "c"]


def test_a_full_spool_refuses(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 400)
    spool.put(inbound("a"))
    with pytest.raises(SpoolFullError, match="SPOOL_MAX_MB"):
        spool.put(inbound("b"))
    with pytest.raises(SpoolFullError):
        Spool(tmp_path, 10).check()


def test_a_folder_that_cannot_be_written_refuses(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", 10**6)
    for path in (tmp_path / "spool").iterdir():
        path.unlink()
    (tmp_path / "spool").rmdir()
    with pytest.raises(SpoolFullError, match="cannot be written"):
        spool.put(inbound("a"))


def test_an_unreadable_entry_is_set_aside_and_holds_nothing_up(tmp_path: Path) -> None:
    spool, out = Spool(tmp_path, 10**6), list[Inbound]()
    (tmp_path / "00000000000000000001.msg").write_bytes(b"{")
    spool.put(inbound("a"))
    assert spool.replay(out.append) == 1
    assert not spool
    assert list(tmp_path.glob("*.corrupt"))


def test_one_process_replays_at_a_time(tmp_path: Path) -> None:
    spool, other = Spool(tmp_path, 10**6), Spool(tmp_path, 10**6)
    spool.put(inbound("a"))
    assert spool.replay(lambda _: assert_nothing(other)) == 1


def assert_nothing(other: Spool) -> None:
    assert other.replay(lambda _: None) == 0


def test_what_another_process_left_is_seen_at_the_start(tmp_path: Path) -> None:
    Spool(tmp_path, 10**6).put(inbound("a"))
    (tmp_path / ".waiting").write_bytes(b"\0")
    assert Spool(tmp_path, 10**6)


def test_what_a_killed_writer_left_half_written_goes_with_the_next_replay(tmp_path: Path) -> None:
    spool, out = Spool(tmp_path, 10**6), list[Inbound]()
    spool.put(inbound("whole"))
    half = tmp_path / ".tmp-00000000000000000007"
    half.write_bytes(b"{")
    probe = tmp_path / ".tmp-probe-1-2"
    probe.write_bytes(b"probe")

    spool.replay(out.append)

    assert [each.event.id for each in out] == ["whole"]
    assert not half.exists()
    # A probe is not written under the order's lock, so it may be somebody's right now.
    assert probe.exists()


def test_what_is_being_written_is_left_alone_by_a_replay(tmp_path: Path) -> None:
    writer, reader = Spool(tmp_path, 10**6), Spool(tmp_path, 10**6)
    writer.put(inbound("first"))
    out: list[Inbound] = []
    half = tmp_path / ".tmp-00000000000000000007"
    seen: list[bool] = []

    with writer._order_lock():
        half.write_bytes(b"{")
        replay = threading.Thread(target=reader.replay, args=(out.append,))
        replay.start()
        replay.join(0.3)
        seen.append(half.exists())
    replay.join(PATIENCE_S)

    assert seen == [True]
    assert [each.event.id for each in out] == ["first"]
