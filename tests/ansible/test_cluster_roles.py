"""What the roles write on the hosts of a cluster, tried with the real programs."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml

from service.settings import Settings
from tests.ansible.cluster import (
    ADDRESSES,
    GROUPS,
    PASSWORDS,
    Rendered,
    cluster,
    inventory,
    play,
    render,
)
from tests.ansible.conftest import REPOSITORY, load
from tests.ansible.test_build_module import checkout, commit
from tests.ansible.test_release_playbooks import A as EARLIER
from tests.ansible.test_release_playbooks import B as LATER
from tests.ansible.test_release_playbooks import folders
from tests.ansible.test_release_playbooks import host as installed
from tests.security.nginx import BINARY, nginx_before
from tests.server_process import PATIENCE_S, free_port, wait_until
from tests.servers import RealRedis, _redis_binary

__all__ = ["checkout"]  # fixture

filters = load("filter_plugins/horizon_cluster.py")
replication = load("library/horizon_replication.py")
sentinels = load("module_utils/horizon_sentinels.py")

APP, SENTINEL = PASSWORDS["vault_redis_app_password"], PASSWORDS["vault_redis_sentinel_password"]
ADMIN = "admin-password-of-the-tests"


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Rendered:
    return cluster(tmp_path_factory.mktemp("cluster"))


def test_each_host_runs_its_part(rendered: Rendered) -> None:
    told = {
        host: [rendered.value(host, "app_web_enabled"), rendered.value(host, "app_processes")]
        for host in ADDRESSES
    }

    assert told == {"bal1": [False, 0], "web1": [True, 0], "web2": [True, 2], "work1": [False, 2]}
    assert [host for host in ADDRESSES if rendered.value(host, "postgresql_enabled")] == ["work1"]
    assert [host for host in ADDRESSES if rendered.value(host, "firewall_web")] == ["bal1"]


def test_web_listens_for_the_balancer_on_the_private_address_alone(rendered: Rendered) -> None:
    socket = rendered.text("web1", "app", "horizonai-bots.socket.j2")
    listens = re.findall(r"(?m)^ListenStream=(.+)$", socket)

    assert listens == ["/run/horizonai-bots.sock", f"{ADDRESSES['web1']}:8000"]
    assert "Requires=horizonai-bots.socket" in rendered.text(
        "web1", "app", "horizonai-bots.service.j2"
    )
    assert ".socket" not in rendered.text("work1", "app", "horizonai-bots.service.j2")


def test_every_name_of_a_balancer_gets_its_signatures_checked(tmp_path: Path) -> None:
    """Also where only the balancer's own variables say the names."""
    hosts: dict[str, dict[str, Any]] = {
        name: {"cluster_address": address} for name, address in ADDRESSES.items()
    }
    hosts["bal1"]["nginx_domains"] = ["{{ app_domain }}", "whatsapp.example.net"]
    rendered = render(tmp_path, GROUPS, hosts)

    for host in ("web1", "work1"):
        settings = rendered.text(host, "app", "env.j2")
        assert 'PUBLIC_BASE_URL="https://bots.example.test"' in settings
        assert 'PUBLIC_OTHER_URLS="https://whatsapp.example.net"' in settings


def test_all_hosts_have_the_same_settings(rendered: Rendered) -> None:
    texts = {rendered.text(host, "app", "env.j2") for host in ("web1", "web2", "work1")}

    assert len(texts) == 1
    lines = dict(line.split("=", 1) for line in texts.pop().splitlines() if "=" in line)
    settings = {name: json.loads(value) for name, value in lines.items()}
    assert settings["DB_HOST"] == ADDRESSES["work1"]
    port = settings["REDIS_SENTINELS"].rpartition(":")[2]
    assert settings["REDIS_SENTINELS"] == ",".join(
        f"{ADDRESSES[host]}:{port}" for host in GROUPS["redis"]
    )
    names = {name.lower() for name in settings}
    assert names - set(Settings.model_fields) - {"redis_acknowledge_on_replica"} <= {
        *("redis_sentinels", "redis_sentinel_name", "redis_sentinel_user"),
        "redis_sentinel_password",
    }


def test_the_database_lets_the_hosts_of_web_and_workers_in(rendered: Rendered) -> None:
    assert rendered.value("work1", "postgresql_networks") == [
        f"{ADDRESSES[host]}/32" for host in ("web1", "web2", "work1")
    ]
    text = rendered.text("work1", "postgresql", "horizonai-bots.conf.j2")
    assert f"listen_addresses = 'localhost, {ADDRESSES['work1']}'" in text


def test_preflight_looks_at_every_port_where_a_part_will_listen(rendered: Rendered) -> None:
    redis, sentinel = (rendered.value("bal1", f"redis_{name}port") for name in ("", "sentinel_"))
    looked_at = {
        host: {
            (int(port["port"]), bool(port.get("loopback")), *port.get("addresses", ()))
            for port in rendered.value(host, "preflight_ports")
        }
        for host in ADDRESSES
    }

    public = {(80, False), (443, False)}
    of_redis = {
        host: {(int(port), True, ADDRESSES[host]) for port in (redis, sentinel)}
        for host in GROUPS["redis"]
    }
    assert looked_at == {
        "bal1": public | of_redis["bal1"],
        "web1": {(8000, False, ADDRESSES["web1"])} | of_redis["web1"],
        "web2": {(8000, False, ADDRESSES["web2"])} | of_redis["web2"],
        "work1": {(5432, True, ADDRESSES["work1"])},
    }


def test_preflight_takes_the_processes_of_the_roles_for_ours(rendered: Rendered) -> None:
    by_port = {int(port["port"]): port for port in rendered.value("web1", "preflight_ports")}
    unit = rendered.text("web1", "redis", "sentinel-unit.conf.j2")
    program = re.findall(r"(?m)^ExecStart=/usr/bin/(\S+)", unit)

    assert by_port[rendered.value("web1", "redis_sentinel_port")]["processes"][:1] == program
    assert "redis-server" in by_port[rendered.value("web1", "redis_port")]["processes"]
    # The socket's unit lets systemd listen; web has it from there.
    assert by_port[8000]["processes"] == ["systemd"]
    assert by_port[8000]["unit"] == "horizonai-bots@"


def test_preflight_of_a_single_server_looks_at_loopback_alone(tmp_path: Path) -> None:
    playbook, told = tmp_path / "render.yml", tmp_path / "ports.json"
    copy = {"dest": str(told), "content": "{{ preflight_ports | to_json }}"}
    document = {
        "hosts": "horizon",
        "gather_facts": False,
        "roles": [{"role": "preflight", "when": False}],
        "post_tasks": [{"name": "The ports", "ansible.builtin.copy": copy}],
    }
    playbook.write_text(json.dumps([document]))
    done = play(inventory(tmp_path, {}, {"one": {}}, postgresql_enabled=True), playbook)
    assert done.returncode == 0, done.stdout + done.stderr

    looked_at = {
        (int(port["port"]), bool(port.get("loopback")), *port.get("addresses", ()))
        for port in json.loads(told.read_text())
    }
    assert looked_at == {(80, False), (443, False), (6379, True), (5432, True)}


class WebHost:
    """A web host behind the balancer that counts what it gets."""

    def __init__(self, status: int = 200) -> None:
        self.status = status
        self.heard: list[str] = []

    @contextmanager
    def running(self, port: int, address: str = "127.0.0.1") -> Iterator[None]:
        host = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer()

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self._answer()

            def _answer(self) -> None:
                host.heard.append(self.path)
                self.send_response(host.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        server = ThreadingHTTPServer((address, port), Handler)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


@pytest.mark.skipif(BINARY is None, reason="needs nginx")
class TestBalancer:
    """A real nginx with the role's site before two web hosts."""

    @pytest.fixture
    def ports(self) -> dict[str, int]:
        return {host: free_port() for host in GROUPS["web"]}

    @contextmanager
    def balancer(self, rendered: Rendered, folder: Path, ports: dict[str, int]) -> Iterator[Any]:
        upstream = rendered.text("bal1", "nginx", "upstream.conf.j2")
        for host, port in ports.items():
            assert f"{ADDRESSES[host]}:8000" in upstream
            upstream = upstream.replace(f"{ADDRESSES[host]}:8000", f"127.0.0.1:{port}")
        file = folder / "upstream.conf"
        file.write_text(upstream)
        site = {"nginx_backends": GROUPS["web"], "nginx_upstream_file": str(file)}
        with nginx_before(folder / "none", folder / "nginx", **site) as nginx:
            yield nginx

    @contextmanager
    def refused_by_all(
        self, rendered: Rendered, folder: Path, ports: dict[str, int]
    ) -> Iterator[tuple[Any, list[WebHost]]]:
        """nginx, and web hosts that all answer 503."""
        hosts = [WebHost(503) for _ in ports]
        with ExitStack() as running:
            nginx = running.enter_context(self.balancer(rendered, folder, ports))
            for host, port in zip(hosts, ports.values(), strict=True):
                running.enter_context(host.running(port))
            yield nginx, hosts

    def test_a_web_host_that_is_gone_costs_no_message(
        self, rendered: Rendered, tmp_path: Path, ports: dict[str, int]
    ) -> None:
        left = WebHost()
        with self.balancer(rendered, tmp_path, ports) as nginx, left.running(ports["web2"]):
            answers = [nginx.ask("POST", "/webhook/whatsapp", body=b"a=b")[0] for _ in range(6)]

        assert answers == [200] * 6
        assert len(left.heard) == 6

    def test_a_message_that_one_host_cannot_take_goes_to_the_other(
        self, rendered: Rendered, tmp_path: Path, ports: dict[str, int]
    ) -> None:
        bad, good = WebHost(503), WebHost()
        with (
            self.balancer(rendered, tmp_path, ports) as nginx,
            bad.running(ports["web1"]),
            good.running(ports["web2"]),
        ):
            answers = [nginx.ask("POST", "/webhook/whatsapp", body=b"a=b")[0] for _ in range(4)]

        assert answers == [200] * 4
        assert bad.heard
        assert len(good.heard) == 4

    def test_a_message_is_not_refused_for_what_became_of_the_ones_before(
        self, rendered: Rendered, tmp_path: Path, ports: dict[str, int]
    ) -> None:
        """No primary of Redis: all hosts refuse, and nginx may not do so by itself when there is one."""
        with self.refused_by_all(rendered, tmp_path, ports) as (nginx, hosts):
            before = [nginx.ask("POST", "/webhook/whatsapp", body=b"a=b")[0] for _ in range(6)]
            asked = sum(len(host.heard) for host in hosts)
            for host in hosts:
                host.status = 200
            after = [nginx.ask("POST", "/webhook/whatsapp", body=b"a=b")[0] for _ in range(6)]

        assert before == [503] * 6
        assert asked >= 6
        assert after == [200] * 6

    def test_a_change_of_a_bot_is_sent_once(
        self, rendered: Rendered, tmp_path: Path, ports: dict[str, int]
    ) -> None:
        with self.refused_by_all(rendered, tmp_path, ports) as (nginx, hosts):
            nginx.ask("POST", "/health", body=b"a=b")

        assert sum(len(host.heard) for host in hosts) == 1

    def test_a_host_that_is_taken_out_gets_nothing(
        self, tmp_path: Path, ports: dict[str, int]
    ) -> None:
        (tmp_path / "cluster").mkdir()
        rendered = cluster(tmp_path / "cluster", nginx_backends_down=["web1"])
        out, left = WebHost(), WebHost(503)
        with (
            self.balancer(rendered, tmp_path, ports) as nginx,
            out.running(ports["web1"]),
            left.running(ports["web2"]),
        ):
            answers = [nginx.ask("POST", "/webhook/whatsapp", body=b"a=b")[0] for _ in range(6)]

        assert answers == [503] * 6
        assert len(left.heard) >= 6
        assert not out.heard


class RoleRedis(RealRedis):
    """A Redis of the group with the settings and users that the role writes."""

    def __init__(self, rendered: Rendered, host: str) -> None:
        super().__init__()
        self.host = ADDRESSES[host]
        users = rendered.value(host, "redis_all_users")
        rules = [f"user {u['name']} {_password(u)}{u['rules']}" for u in users]
        (self.folder / "users.acl").write_text(
            "\n".join([*rules, f"user admin on >{ADMIN} ~* &* +@all", ""])
        )
        (self.folder / "admin").write_text(ADMIN + "\n")
        config = rendered.text(host, "redis", "horizonai-bots.conf.j2")
        self.port = int(re.findall(r"(?m)^port (\d+)$", config)[0])
        # On a machine of its own it has loopback to itself.
        config = re.sub(r"(?m)^bind .*$", f"bind {self.host}", config)
        config = config.replace("/etc/redis/horizonai-bots.acl", str(self.folder / "users.acl"))
        (self.folder / "ours.conf").write_text(f"{config}dir {self.folder}\n")
        (self.folder / "redis.conf").write_text("# as the distribution brings it\n")

    def _command(self) -> list[str | Path]:
        return [_redis_binary(), self.folder / "redis.conf", "--include", self.folder / "ours.conf"]

    def client(self, timeout_s: float = PATIENCE_S) -> redis.Redis:
        client = super().client(timeout_s)
        options = {"host": self.host, "username": "admin", "password": ADMIN}
        client.connection_pool.connection_kwargs.update(options)
        return client

    def told(self) -> dict[str, Any]:
        with self.client() as client:
            told: dict[str, Any] = client.info("replication")
        return told


class RoleSentinel(RealRedis):
    """A Sentinel with the settings and users that the role writes."""

    def __init__(self, rendered: Rendered, host: str, primary: RoleRedis) -> None:
        super().__init__()
        self.host = ADDRESSES[host]
        users = self.folder / "users.acl"
        users.write_text("\n".join(rendered.value(host, "redis_sentinel_acl")) + "\n")
        config = rendered.text(host, "redis", "horizonai-bots-sentinel.conf.j2")
        self.port = int(re.findall(r"(?m)^port (\d+)$", config)[0])
        config = re.sub(r"(?m)^bind .*$", f"bind {self.host}", config)
        config = config.replace("/etc/redis/horizonai-bots-sentinel.acl", str(users))
        config = config.replace("/var/lib/redis", str(self.folder))
        self.ours = self.folder / "ours.conf"
        self.ours.write_text(config)
        (self.folder / "state").write_text(
            f"sentinel monitor horizon {primary.host} {primary.port} 1\n"
        )

    def _command(self) -> list[str | Path]:
        return [_redis_binary(), self.folder / "state", "--sentinel", "--include", self.ours]

    def client(self, timeout_s: float = PATIENCE_S) -> redis.Redis:
        client = super().client(timeout_s)
        options = {"host": self.host, "username": "sentinel", "password": SENTINEL}
        client.connection_pool.connection_kwargs.update(options)
        return client

    def record(self) -> dict[str, Any]:
        with self.client() as client:
            record: dict[str, Any] = client.sentinel_master("horizon")
        return record


def _password(user: dict[str, Any]) -> str:
    return f">{user['password']} " if user.get("password") else ""


def wait_for(condition: Any, what: str) -> None:
    """Until it holds; a server that is away has not answered yet."""

    def holds() -> bool:
        try:
            return bool(condition())
        except redis.RedisError:
            return False

    wait_until(holds, what)


class Group:
    """The hosts of the group redis, and the steps of the role on each of them."""

    def __init__(self, rendered: Rendered) -> None:
        names = GROUPS["redis"]
        self.addresses = rendered.value("bal1", "redis_sentinel_addresses")
        self.nodes = {name: RoleRedis(rendered, name) for name in names}
        first = self.nodes[names[0]]
        self.sentinels = {name: RoleSentinel(rendered, name, first) for name in names}

    def step(self, host: str, step: str, *, check: bool = False, **params: Any) -> dict[str, Any]:
        node = self.nodes[host]
        given = {
            "step": step,
            "host": node.host,
            "port": node.port,
            "admin_file": str(node.folder / "admin"),
            "address": node.host,
            "name": "horizon",
            "replication_password": PASSWORDS["vault_redis_replication_password"],
            "sentinels": self.addresses,
            "sentinel_password": SENTINEL,
            "gone": [],
            "info_period_ms": 1000,
            **params,
        }
        told: dict[str, Any] = replication.run(given, check=check)
        return told

    def primary(self) -> str:
        """Who that is by the filter that the role uses."""
        looks = {host: self.step(host, "look") for host in self.nodes if self.nodes[host].running}
        nodes = {host: node.host for host, node in self.nodes.items()}
        port = next(iter(self.nodes.values())).port
        found = filters.primary(looks, nodes, port)
        assert not found["problem"]
        return str(found["address"])

    def let_lead(self, may: bool, besides: str) -> None:
        """Whether the other hosts may take over, as their Sentinels have heard."""
        for name, node in self.nodes.items():
            if name != besides:
                with node.client() as client:
                    client.config_set("replica-priority", 100 if may else 0)
        wanted = {100 if may else 0}
        for name, watch in self.sentinels.items():
            if name != besides:
                with watch.client() as sentinel:
                    wait_for(
                        lambda sentinel=sentinel: (
                            {r["slave-priority"] for r in sentinel.sentinel_slaves("horizon")}
                            == wanted
                        ),
                        "Sentinels that have heard of it",
                    )

    def run(self) -> list[str]:
        """What the role changes on all hosts."""
        primary = self.primary()
        running = [host for host, node in self.nodes.items() if node.running]
        told = [self.step(host, "follow", primary=primary) for host in running]
        for host in running:
            self.sentinels[host].start()
        told += [self.step(host, "sentinel", quorum=2) for host in running]
        return [change for answer in told for change in answer["changes"]]


@pytest.mark.servers
def test_redis_is_replicated_fails_over_and_stays_as_it_then_is(rendered: Rendered) -> None:
    group = Group(rendered)
    with ExitStack() as started:
        for node in group.nodes.values():
            started.enter_context(node)
        for sentinel in group.sentinels.values():
            started.callback(sentinel.__exit__, None, None, None)
        first = group.nodes["bal1"]
        with first.client() as client:
            # A server that was alone until now.
            client.config_set("min-replicas-to-write", 0)
            client.set("hb:x", "kept")
            client.config_set("min-replicas-to-write", 1)

        assert f"Redis follows {first.host}:{first.port}" in group.run()
        wait_for(
            lambda: all(s.record()["num-other-sentinels"] == 2 for s in group.sentinels.values()),
            "three Sentinels that know each other",
        )
        assert {s.record()["quorum"] for s in group.sentinels.values()} == {2}
        assert group.run() == []

        assert sentinels.url_of_primary(
            {
                "REDIS_URL": "redis://horizon:secret@127.0.0.9:1/0",
                "REDIS_SENTINELS": ",".join(group.addresses),
                "REDIS_SENTINEL_USER": "horizon",
                "REDIS_SENTINEL_PASSWORD": APP,
            }
        ) == (f"redis://horizon:secret@{first.host}:{first.port}/0")

        first.kill()
        others = [node for node in group.nodes.values() if node is not first]
        wait_for(lambda: "master" in [n.told()["role"] for n in others], "another primary")
        new = next(node for node in others if node.told()["role"] == "master")
        wait_for(lambda: group.primary() == f"{new.host}:{new.port}", "Sentinels that say so")
        assert group.run() == []

        first.start()
        wait_for(lambda: first.told()["role"] == "slave", "the old primary follows")
        wait_for(lambda: first.told()["master_link_status"] == "up", "the link is up")
        assert group.run() == []
        assert new.told()["role"] == "master"
        with new.client() as client:
            assert client.get("hb:x") == "kept"

        host = next(name for name, node in group.nodes.items() if node is new)
        # Its own Sentinel need not run, and a moment at which nobody could take over is waited for.
        group.sentinels[host].kill()
        group.let_lead(False, besides=host)
        later = threading.Timer(3, group.let_lead, (True,), {"besides": host})
        later.start()
        assert group.step(host, "leave")["changes"] == ["another Redis is the primary"]
        later.join()
        assert group.primary() != f"{new.host}:{new.port}"
        assert group.step(host, "leave")["changes"] == []

        new.kill()
        left = [name for name in group.nodes if name != host]
        # Of a machine that nobody could ask any more.
        ours = [group.addresses[list(group.nodes).index(name)] for name in left]
        gone = ["a Sentinel has forgotten what is gone"]
        # A replacement that nobody has heard of yet: there are not more than there should be.
        replaced = [*ours, f"127.0.0.19:{new.port}"]
        for name in left:
            # While a primary is chosen nobody is forgotten.
            watch = group.sentinels[name]
            wait_for(lambda watch=watch: watch.record()["flags"] == "master", "a chosen primary")
            told = group.step(name, "sentinel", check=True, quorum=2, sentinels=replaced)
            assert told["changes"] == gone
            assert group.step(name, "sentinel", quorum=2)["changes"] == []
            assert group.step(name, "sentinel", quorum=2, sentinels=ours)["changes"] == gone
            # It could elect none without them.
            assert group.sentinels[name].record()["num-slaves"] >= 1
            assert group.step(name, "sentinel", quorum=2, sentinels=ours)["changes"] == []
        assert group.step(left[0], "forget", others=1)["changes"] == gone
        assert {group.sentinels[name].record()["num-other-sentinels"] for name in left} == {1}
        assert group.primary() in {f"{group.nodes[name].host}:{new.port}" for name in left}


@pytest.mark.servers
def test_a_redis_with_data_of_its_own_is_not_made_to_follow(
    rendered: Rendered, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = Group(rendered)
    monkeypatch.setattr(replication, "TAKEN_OVER_WITHIN_S", 0)
    stranger = group.nodes["web1"]
    with stranger:
        with stranger.client() as client:
            client.config_set("min-replicas-to-write", 0)
            client.set("hb:x", "mine")
        url = f"redis://admin:{ADMIN}@{stranger.host}:{stranger.port}"
        with pytest.raises(replication.ReplicationError, match="has 1 keys"):
            replication.follow(
                lambda: replication.Redis(url),
                f"{stranger.host}:{stranger.port}",
                "127.0.0.9:6379",
                "p",
                check=False,
            )

        assert stranger.told()["role"] == "master"


@pytest.mark.servers
def test_the_service_may_ask_a_sentinel_for_the_primary_and_nothing_else(
    rendered: Rendered,
) -> None:
    group = Group(rendered)
    sentinel = group.sentinels["bal1"]
    with sentinel:
        client = redis.Redis(
            host=sentinel.host, port=sentinel.port, username="horizon", password=APP
        )
        assert client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "horizon")
        assert client.execute_command("SENTINEL", "MASTER", "horizon")
        assert client.execute_command("SENTINEL", "REPLICAS", "horizon") == []
        for words in (("FAILOVER", "horizon"), ("RESET", "*"), ("REMOVE", "horizon")):
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.execute_command("SENTINEL", *words)
        with pytest.raises(redis.exceptions.AuthenticationError):
            redis.Redis(host=sentinel.host, port=sentinel.port).ping()
        client.close()


@pytest.mark.servers
@pytest.mark.skipif(shutil.which("redis-cli") is None, reason="redis-cli is not installed")
def test_a_sentinel_is_told_at_each_start_how_often_to_ask(rendered: Rendered) -> None:
    unit = rendered.text("bal1", "redis", "sentinel-unit.conf.j2")
    command = re.findall(r"(?m)^ExecStartPost=(.+)$", unit)[0].replace("$$", "$")
    assert command.startswith("-+")
    with Group(rendered).sentinels["bal1"] as sentinel:
        command = command.replace("/etc/redis/horizonai-bots-sentinel.conf", str(sentinel.ours))
        command = command.replace("redis-cli ", f"redis-cli -h {sentinel.host} ")
        subprocess.run(shlex.split(command.removeprefix("-+")), check=True)

        with sentinel.client() as client:
            told = client.execute_command("SENTINEL", "DEBUG")
        assert told["INFO-PERIOD"] == "1000"

        wrong = command.replace("INFO-PERIOD", "NO-PERIOD")
        assert subprocess.run(shlex.split(wrong.removeprefix("-+")), check=False).returncode != 0


def test_wrong_inventories_end_in_preflight_with_what_to_change(tmp_path: Path) -> None:
    hosts = {"one": {"cluster_address": "10.0.0.1"}, "two": {}}
    groups = {
        "balancer": ["one"],
        "web": ["one", "two"],
        "workers": [],
        "redis": ["one"],
        "database": ["one", "two"],
    }
    file = inventory(
        tmp_path,
        groups,
        hosts,
        ansible_become=False,
        vault_redis_sentinel_password="",
        redis_acknowledge_on_replica=True,
        # A line with nothing after the colon; the last two need nothing.
        **dict.fromkeys(("app_settings", "app_workers", "certbot_email")),
        **dict.fromkeys(("backup_repository", "keepalived_address")),
    )

    run = play(file, "site.yml", "--tags", "preflight")

    told = " ".join(run.stdout.split())
    assert run.returncode != 0
    for sentence in (
        "The group workers has no host.",
        "two has no cluster_address.",
        "The group redis has 1 host, each with a Sentinel",
        "redis_acknowledge_on_replica is true, and there is no replica.",
        "vault_redis_sentinel_password is missing",
        "The group database has 2 hosts (one, two)",
        "cluster_address: 10.0.0.1",
        "app_settings has no value for one, two",
        "write `app_settings: {}`, or take the line out",
        'write `certbot_email: ""`',
        "app_workers has no value",
    ):
        assert sentence in told, run.stdout
    assert "backup_repository has" not in told
    assert "keepalived_address has" not in told
    assert "changed=0" in told
    assert re.search(r"changed=[1-9]", told) is None


def test_keys_that_need_no_value_mean_the_same_without_one(
    rendered: Rendered, tmp_path: Path
) -> None:
    ports = {name: rendered.value("bal1", name) for name in ("redis_port", "redis_sentinel_port")}

    left = cluster(
        tmp_path, **ports, backup_repository=None, keepalived_address=None, alert_url=None
    )

    assert left.told == rendered.told


def test_hosts_stand_in_the_order_of_the_inventory(rendered: Rendered) -> None:
    """Another order at each run would be a change each time."""
    peers = re.findall(
        r"^ {8}(\S+)$", rendered.text("bal1", "keepalived", "keepalived.conf.j2"), re.M
    )

    assert peers[:3] == [ADDRESSES[host] for host in ("web1", "web2", "work1")]


SYSTEMCTL = """#!/bin/sh
case "$*" in
*show*) printf '%s\\n' LoadState=loaded ActiveState=active SubState=running MainPID=1 NRestarts=0 ;;
*reload*nginx*) cat "{upstream}" >>"{seen}" ;;
esac
"""


@pytest.mark.parametrize("status", [200, 503])
@pytest.mark.parametrize("playbook", ["deploy.yml", "rollback.yml"])
def test_a_web_host_is_out_for_its_deploy_and_back_when_that_fails(
    tmp_path: Path, checkout: Path, monkeypatch: pytest.MonkeyPatch, playbook: str, status: int
) -> None:
    """Unless it is the last one that can take a message. No host can be changed here: a setting spans
    lines, and there is no horizonctl.
    """
    head = commit(checkout, "new")
    for name in ADDRESSES:
        installed(tmp_path, name, EARLIER, LATER)
        told = json.dumps({"commit": head})
        (tmp_path / name / "releases" / LATER / "release.json").write_text(told)
    upstream, seen = tmp_path / "upstream.conf", tmp_path / "seen"
    seen.touch()
    program = tmp_path / "systemctl"
    program.write_text(SYSTEMCTL.format(upstream=upstream, seen=seen))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    hosts = {name: {"cluster_address": address} for name, address in ADDRESSES.items()}
    port = free_port()
    words = ["-e", f"nginx_upstream_file={upstream}", *folders(tmp_path)]
    file = inventory(
        tmp_path,
        GROUPS,
        hosts,
        ansible_become=False,
        app_web_port=port,
        app_repository=str(checkout),
        app_build_folder=str(tmp_path / "builds"),
        **PASSWORDS,
        vault_secret_key="key-of-the-tests",
        vault_admin_api_key="key-of-the-tests",
        app_settings={"OPENAI_DEFAULT_INSTRUCTIONS": "one\ntwo"},
    )

    other = WebHost(status)
    with other.running(port, ADDRESSES["web2"]):
        run = play(file, playbook, *words)

    assert run.returncode != 0
    reason = {"deploy.yml": "holds a line break", "rollback.yml": "/usr/local/bin/horizonctl"}[
        playbook
    ]
    assert reason in run.stdout + run.stderr
    assert other.heard == ["/health/ready"]
    if status != 200:
        assert not seen.read_text()
        return
    out, back = (text.split("# Managed")[0] for text in seen.read_text().split("bots {")[1:])
    (down,) = re.findall(r"server (\S+) down;", out)
    assert out.count(down) == 1
    assert "down" not in back
    assert back in upstream.read_text()


@pytest.mark.parametrize("answers", [True, False])
def test_the_last_web_host_that_answers_is_not_taken_away(tmp_path: Path, answers: bool) -> None:
    addresses = ADDRESSES | {"web3": "127.0.0.15"}
    hosts = {name: {"cluster_address": address} for name, address in addresses.items()}
    groups = {**GROUPS, "web": [*GROUPS["web"], "web3"]}
    port = free_port()
    file = inventory(tmp_path, groups, hosts, ansible_become=False, app_web_port=port)
    words = ("-e", "state=absent", "--limit", "web3", "--check")

    with WebHost(200 if answers else 503).running(port, ADDRESSES["web1"]):
        run = play(file, "site.yml", *words)

    told = " ".join(run.stdout.split())
    assert (f"No other host of web answers a balancer on port {port}" in told) is not answers


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["site.yml", "-e", "state=absent", "--limit", "bal1"],
            "bal1 is the only host of balancer",
        ),
        (["site.yml", "-e", "state=absent"], "name the one that is meant with --limit"),
        (["site.yml", "-e", "state=gone"], "present or absent is needed"),
        (["site.yml", "-e", "state=absent", "-e", "part=web"], "redis or balancer is needed"),
        (["site.yml", "-e", "part=redis"], "part goes with -e state=absent"),
        (
            ["site.yml", "-e", "state=absent", "-e", "part=redis", "--limit", "web1"],
            "Without web1 the group redis has fewer than 3 hosts",
        ),
        (
            ["restore.yml", "-e", "confirmar=web1", "--limit", "web1"],
            "comparte sus datos con otros",
        ),
    ],
)
def test_what_a_cluster_cannot_do_is_refused(
    tmp_path: Path, words: list[str], sentence: str
) -> None:
    hosts = {name: {"cluster_address": address} for name, address in ADDRESSES.items()}
    file = inventory(tmp_path, GROUPS, hosts, ansible_become=False)

    run = play(file, *words)

    told = " ".join((run.stdout + run.stderr).split())
    assert run.returncode != 0
    assert sentence in told
    assert re.search(r"changed=[1-9]", told) is None


def summary(folder: Path, told_by: dict[str, Any], groups: Any, *options: str) -> str:
    """What a task says on a host of `workers`."""
    played = {"hosts": "work1", "gather_facts": False, "tasks": [told_by]}
    playbook = folder / "summary.yml"
    playbook.write_text(yaml.safe_dump([played]))
    hosts = {name: {"cluster_address": address} for name, address in ADDRESSES.items()}
    taken = {"snapshot": "1a2b3c4d", "taken_at": "now", "rows": 1, "bytes": 1, "added_bytes": 1}
    told = {"backup_taken": {"stdout": json.dumps({**taken, "seconds": 1})}}

    run = play(inventory(folder, groups, hosts, **told), playbook, *options)

    assert run.returncode == 0, run.stdout + run.stderr
    return " ".join(run.stdout.split())


def parsed(name: str) -> Any:
    return yaml.safe_load((REPOSITORY / "ansible" / name).read_text(encoding="utf-8"))


def test_a_backup_says_how_it_comes_back_where_it_was_taken(tmp_path: Path) -> None:
    last = parsed("backup.yml")[-1]["tasks"][-1]

    alone = summary(tmp_path, last, {})
    shared = summary(tmp_path, last, GROUPS)

    back = f"restore.yml -i {tmp_path / 'hosts.yml'} -e snapshot=1a2b3c4d -e confirmar="
    here = f"{back}work1"
    assert here in alone
    assert "one new server" not in alone
    # restore.yml refuses a cluster.
    assert here not in shared
    assert "one new server" in shared
    assert "backup_host: work1" in shared
    assert f"{back}<its name>" in shared


def test_a_host_that_would_leave_is_not_said_to_have_left(tmp_path: Path) -> None:
    last = parsed("tasks/remove.yml")[-1]
    last["vars"] |= parsed("site.yml")[-1]["vars"]

    done = summary(tmp_path, last, GROUPS)
    looked = summary(tmp_path, last, GROUPS, "--check")

    assert "work1 is taken away. Take it out of the inventory, then run" in done
    assert "work1 would be taken away (workers, database). Nothing was done." in looked
    assert "is taken away" not in looked
    assert "Take it out" not in looked
