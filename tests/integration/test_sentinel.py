"""Redis with Sentinels: the primary dies, hangs or is cut off, and what was promised still holds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Self

import falcon.testing
import orjson
import pytest
from typer.testing import CliRunner

from service.app import create_app
from service.cli.main import app
from service.container import Container
from service.conversation.mailbox import Inbound
from service.conversation.outage import OutageError
from service.probe import check_stores_and_worker
from service.store import keys
from service.store.sentinels import Told
from service.web import health
from service.web.background import start_background
from tests.integration.test_webhook import Door
from tests.sentinel_group import NAME, PASSWORD, Node, SentinelGroup
from tests.server_process import PATIENCE_S, ServerUnavailableError
from tests.servers import RealRedis
from tests.stack import Stack, emulators, environment, settings_of, wait_until
from tests.unit.test_primary import FakeSentinel

_SENDERS = 4

Fault = Callable[[Node], None]
MakeStack = Callable[..., Stack]

pytestmark = pytest.mark.usefixtures("hasty_redis_client")

FAULTS: dict[str, Fault] = {
    "killed": lambda node: node.kill(),
    "hung": lambda node: node.pause(),
    "paused": lambda node: _pause_clients(node),
    "cut off from all but the service": lambda node: node.shut_out("sentinel", "replica"),
    "cut off from its Sentinels": lambda node: node.shut_out("sentinel"),
}


def _pause_clients(node: Node) -> None:
    with node.client() as client:
        # It cannot be taken back: CLIENT UNPAUSE would be held back too.
        client.execute_command("CLIENT", "PAUSE", 6_000, "ALL")


@pytest.fixture(scope="module")
def whole_group(redis_server: RealRedis) -> Iterator[SentinelGroup]:
    """`redis_server` has skipped or failed the test where there is no server."""
    try:
        with SentinelGroup() as group:
            yield group
    except ServerUnavailableError as error:
        pytest.fail(str(error))


@pytest.fixture
def group(whole_group: SentinelGroup) -> SentinelGroup:
    whole_group.heal()
    return whole_group


@pytest.fixture
def make(group: SentinelGroup, sqlite_url: str, tmp_path: Path) -> Iterator[MakeStack]:
    """Builds a stack on the group; keywords are settings."""
    with ExitStack() as opened:
        openai, twilio, horizon = opened.enter_context(emulators())

        def make(**overrides: str) -> Stack:
            variables = environment(
                sqlite_url,
                f"redis://:{PASSWORD}@nowhere.invalid:1/0",
                openai,
                twilio,
                horizon,
                tmp_path,
                **{
                    "REDIS_SENTINELS": group.addresses,
                    # A fail-over may cut a turn's end off from Redis, which is made up for after it.
                    "LEASE_S": "2",
                    "REDIS_SENTINEL_NAME": NAME,
                    "REDIS_SENTINEL_PASSWORD": PASSWORD,
                    **overrides,
                },
            )
            settings = settings_of(variables)
            container = Container(settings)
            opened.callback(container.close)
            return Stack(settings, container, openai, twilio, horizon, variables=variables)

        yield make


@pytest.fixture
def on_replica(make: MakeStack) -> Stack:
    """With a bot, and messages that are acknowledged when a replica has them.

    With so short a wait the Sentinels are asked while they elect.
    """
    stack = make(REDIS_ACKNOWLEDGE_ON_REPLICA="true", REDIS_REPLICA_WAIT_MS="100")
    stack.add_bot()
    return stack


@dataclass
class Senders:
    """Threads that post messages, each again until it is acknowledged."""

    stack: Stack
    acknowledged: list[tuple[float, str]] = field(default_factory=list)
    given_up: list[str] = field(default_factory=list)
    _stopping: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self.door = Door(self.stack, falcon.testing.TestClient(create_app(self.stack.container)))
        self._threads = [threading.Thread(target=self._send) for _ in range(_SENDERS)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, more: int) -> None:
        """Until this many more are acknowledged."""
        until = len(self.acknowledged) + more
        wait_until(lambda: len(self.acknowledged) >= until, "acknowledgements")

    @property
    def sids(self) -> set[str]:
        return {sid for _, sid in self.acknowledged}

    @property
    def longest_gap_s(self) -> float:
        times = sorted(at for at, _ in self.acknowledged)
        return max(after - before for before, after in pairwise(times))

    def _send(self) -> None:
        while not self._stopping.is_set():
            form = self.door.form()
            until = time.monotonic() + PATIENCE_S
            while self.door.post(form).status_code != 200:
                if time.monotonic() > until:
                    self.given_up.append(form["MessageSid"])
                    break
                # Refused at once, for seconds: the processors are for those who elect.
                self._stopping.wait(0.02)
            else:
                self.acknowledged.append((time.monotonic(), form["MessageSid"]))


def kept_by(node: Node) -> list[str]:
    """The ids of all events in the mailboxes of this node."""
    with node.client() as client:
        mailboxes = list(client.scan_iter(keys.mailbox("*")))
        return [orjson.loads(raw)["id"] for key in mailboxes for raw in client.lrange(key, 0, -1)]


def wait_for_fail_over(group: SentinelGroup, old: Node) -> None:
    wait_until(lambda: group.primary is not old, "another primary")


def test_a_group_is_made_whole_while_it_fails_over(group: SentinelGroup) -> None:
    """What the tests below rely on: none of them ends with a fail-over that the next one meets."""
    old = group.primary
    old.pause()
    wait_until(
        lambda: any("failover" in each.record()["flags"] for each in group.sentinels), "a fail-over"
    )

    group.heal()

    assert len({sentinel.record()["port"] for sentinel in group.sentinels}) == 1
    assert group.primary.told()["connected_slaves"] == 2


@pytest.mark.parametrize("fault", FAULTS)
def test_no_acknowledged_message_is_lost_when_the_primary_is(
    group: SentinelGroup, on_replica: Stack, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    old = group.primary
    with Senders(on_replica) as senders:
        senders.wait_for(20)
        FAULTS[fault](old)
        wait_for_fail_over(group, old)
        senders.wait_for(20)
    kept = kept_by(group.primary)

    assert senders.sids - set(kept) == set()
    assert len(kept) == len(set(kept))
    assert senders.given_up == []
    assert on_replica.container.spool.depth() == 0
    with capsys.disabled():
        print(f"\n{fault}: {senders.longest_gap_s:.1f} s without acknowledgements")


def test_a_replica_that_dies_is_waited_for_only_until_the_sentinels_say_so(
    group: SentinelGroup, on_replica: Stack
) -> None:
    with Senders(on_replica) as senders:
        senders.wait_for(20)
        group.replicas()[0].kill()
        senders.wait_for(20)

    assert senders.sids == set(kept_by(group.primary))
    assert senders.given_up == []


def test_a_repeated_message_waits_for_a_replica_too(
    group: SentinelGroup, on_replica: Stack
) -> None:
    mailbox = on_replica.container.mailbox
    message = on_replica.message("hola")
    replicas = group.replicas()
    for node in replicas:
        node.pause()

    # The second finds the message on the primary, where it is alone.
    for _ in range(2):
        with pytest.raises(OutageError, match="0 of 2 replicas confirmed it"):
            mailbox.accept(message)
    for node in replicas:
        node.resume()

    accept(on_replica, message)
    assert kept_by(group.primary) == [message.event.id]


def test_a_web_host_that_is_cut_off_with_the_old_primary_acknowledges_nothing(
    group: SentinelGroup, make: MakeStack
) -> None:
    old = group.primary
    with FakeSentinel(Told(0, ("127.0.0.1", old.port))) as behind:
        stack = make(
            REDIS_SENTINELS=f"127.0.0.1:{behind.address[1]}", REDIS_ACKNOWLEDGE_ON_REPLICA="true"
        )
        before, after = stack.message("antes"), stack.message("después")
        accept(stack, before)
        old.shut_out("sentinel", "replica")
        assert not _is_accepted(stack, after)
        wait_for_fail_over(group, old)
        assert not _is_accepted(stack, after)

    assert kept_by(group.primary) == [before.event.id]


def test_turns_go_on_through_a_fail_over_and_answer_once(
    group: SentinelGroup, on_replica: Stack
) -> None:
    contacts = [f"+5692222{n:04d}" for n in range(6)]
    with on_replica.worker():
        with on_replica.held_model():
            for contact in contacts[:3]:
                accept(on_replica, on_replica.message("antes", from_=contact))
            on_replica.wait_for_calls()
            old = group.primary
            old.kill()
        wait_for_fail_over(group, old)
        for contact in contacts[3:]:
            accept(on_replica, on_replica.message("después", from_=contact))
        on_replica.wait_for_turns(6)
        on_replica.wait_until_idle()

    for n, contact in enumerate(contacts):
        assert on_replica.replies(contact) == ["eco: antes" if n < 3 else "eco: después"]


def accept(stack: Stack, message: Inbound) -> None:
    """Until a replica has confirmed it in time, or a fail-over is over."""
    wait_until(partial(_is_accepted, stack, message), "an acknowledgement")


def _is_accepted(stack: Stack, message: Inbound) -> bool:
    try:
        stack.container.mailbox.accept(message)
    except OutageError:
        return False
    return True


def test_what_a_replica_had_not_heard_of_is_trimmed_and_not_answered_again(
    group: SentinelGroup, on_replica: Stack
) -> None:
    accept(on_replica, on_replica.message("hola"))
    old = group.primary
    for node in group.replicas():
        wait_until(partial(kept_by, node), "a message on each replica")
    old.shut_out("replica")
    with on_replica.worker():
        on_replica.wait_for_turns(1)
        on_replica.wait_until_idle()
    assert kept_by(old) == []
    old.kill()
    wait_for_fail_over(group, old)
    assert len(kept_by(group.primary)) == 1

    with on_replica.worker():
        wait_until(lambda: kept_by(group.primary) == [], "a trimmed mailbox")

    assert on_replica.replies() == ["eco: hola"]
    assert len(on_replica.turns()) == 1


def test_who_only_reads_and_listens_leaves_a_primary_that_was_cut_off(
    group: SentinelGroup, make: MakeStack
) -> None:
    container = make().container
    stopping = start_background(container)
    try:
        container.mailbox.depth()
        old = group.primary
        wait_until(lambda: _listeners(old), "a listener")
        old.shut_out("sentinel", "replica")
        wait_for_fail_over(group, old)
        wait_until(lambda: _listeners(group.primary), "a listener at the new primary")
        assert container.redis.primary is not None
        assert container.redis.primary.known == f"127.0.0.1:{group.primary.port}"
        assert container.redis.command("SET", "hb:held", "x") == b"OK"
        with group.primary.client() as client:
            assert client.get("hb:held") == "x"
    finally:
        stopping.set()


def _listeners(node: Node) -> int:
    with node.client() as client:
        listeners: int = client.pubsub_numsub(keys.BOTS_CHANGED)[0][1]
        return listeners


def test_health_tells_the_primary_and_its_replicas(
    group: SentinelGroup, on_replica: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "WAIT_S", 0.5)
    client = falcon.testing.TestClient(create_app(on_replica.container))

    well = client.simulate_get("/health").json
    assert client.simulate_get("/health/ready").status_code == 200
    group.primary.shut_out("replica")
    alone = client.simulate_get("/health")

    assert (well["status"], well["redis_replicas"]) == ("ok", 2)
    assert well["redis_primary"] == f"127.0.0.1:{group.primary.port}"
    assert (alone.status_code, alone.json["redis_replicas"]) == (503, 0)
    assert PASSWORD not in alone.text
    # Through a fail-over it stays ready.
    assert client.simulate_get("/health/ready").status_code == 200
    wait_until(lambda: client.simulate_get("/health/ready").status_code == 503, "an unready answer")


def test_check_names_the_primary_and_a_sentinel_that_is_away(
    group: SentinelGroup, on_replica: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in on_replica.variables.items():
        monkeypatch.setenv(name, value)
    away = group.sentinels[2]
    away.kill()

    answer = CliRunner().invoke(app, ["check", "--json"])
    group.primary.shut_out("replica")
    alone = CliRunner().invoke(app, ["check", "--json"])

    assert answer.exit_code == 1
    redis, *sentinels = (
        each for each in orjson.loads(answer.stdout) if each["what"] in ("redis", "sentinel")
    )
    assert redis["message"] == f"primary 127.0.0.1:{group.primary.port}, 2 replicas"
    assert [each["ok"] for each in sentinels] == [True, True, False]
    assert sentinels[2]["whose"] == f"127.0.0.1:{away.port}"
    assert "no replica follows the primary" in alone.stdout
    assert PASSWORD not in answer.stdout + alone.stdout


def test_a_probe_goes_to_the_primary_too(on_replica: Stack, tmp_path: Path) -> None:
    check_stores_and_worker(on_replica.settings, tmp_path)


def test_without_the_wait_a_missing_replica_is_only_told(
    group: SentinelGroup, make: MakeStack
) -> None:
    client = falcon.testing.TestClient(create_app(make().container))
    group.primary.shut_out("replica")

    answer = client.simulate_get("/health")

    assert (answer.status_code, answer.json["status"]) == (200, "degraded")
    assert client.simulate_get("/health/ready").status_code == 200
