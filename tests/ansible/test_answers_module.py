"""Whether it answers under its public name, asked through a real nginx before a real web process."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.ansible.modules import load
from tests.security.nginx import BINARY, DOMAIN, Nginx, nginx_before
from tests.server_process import free_port
from tests.servers import RealRedis
from tests.stack import emulators, environment
from tests.web_process import WebProcess, listening

answers = load("horizon_answers")
needs_nginx = pytest.mark.skipif(BINARY is None, reason="needs nginx")
WELL = {"redis": "up", "db": "up", "spool": "writable"}


@dataclass
class Edge:
    nginx: Nginx
    web: WebProcess

    def ask(self, name: str = DOMAIN) -> dict[str, Any]:
        url = f"https://{name}:{self.nginx.https_port}"
        told: dict[str, Any] = answers.run({"url": url, "address": "127.0.0.1", "within_s": 0})
        return told


@pytest.fixture(scope="module")
def edge(
    redis_server: RealRedis, sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Edge]:
    tmp_path = tmp_path_factory.mktemp("edge")
    shutil.copytree(sqlite_template, tmp_path / "sqlite")
    redis_server.reset()
    shared = tmp_path / "web.sock"
    with ExitStack() as opened:
        variables = environment(
            f"sqlite:///{tmp_path / 'sqlite' / 'horizon.db'}",
            redis_server.url,
            *opened.enter_context(emulators()),
            tmp_path,
        )
        listener = opened.enter_context(listening(shared))
        private = tmp_path / "private.sock"
        web = WebProcess(variables, "--release", "r1", shared=listener, private=private)
        opened.enter_context(web).wait_until_ready()
        yield Edge(opened.enter_context(nginx_before(shared, tmp_path / "nginx")), web)


@needs_nginx
@pytest.mark.servers
def test_what_answers_is_told_with_its_certificate(edge: Edge) -> None:
    told = edge.ask()

    assert (told["problem"], told["reached"], told["release"]) == ("", True, "r1")
    assert "self" in told["certificate"]


@needs_nginx
@pytest.mark.servers
def test_a_redis_that_is_away_is_no_answer(edge: Edge, redis_server: RealRedis) -> None:
    """Messages are kept on the disk then, so it is ready; nobody gets a reply."""
    redis_server.stop()
    try:
        assert "Redis does not answer" in edge.ask()["problem"]
    finally:
        redis_server.start()


@needs_nginx
@pytest.mark.servers
def test_a_name_that_nginx_does_not_have_is_no_answer(edge: Edge) -> None:
    told = edge.ask("other.example.test")

    assert told["problem"].startswith("no answer (")
    assert not told["reached"]


def test_where_nothing_listens_there_is_no_answer() -> None:
    url = f"https://{DOMAIN}:{free_port()}"
    told = answers.run({"url": url, "address": "127.0.0.1", "within_s": 0})

    assert (told["problem"], told["reached"]) == ("no answer (Connection refused)", False)


@pytest.mark.parametrize(
    ("ready", "health", "problem"),
    [
        ((200, {"release": "r1"}), (200, WELL), ""),
        ((200, {"release": "r1"}), (200, {**WELL, "status": "degraded"}), ""),
        ((200, {"release": "r1"}), (200, {**WELL, "db": "down"}), "the database does not answer"),
        ((200, {"release": "r1"}), (503, {**WELL, "redis": "down"}), "Redis does not answer"),
        ((200, {"release": "r1"}), (503, WELL), "/health says 503"),
        ((503, {"detail": "The service does not answer."}), (503, {}), "503: The service does"),
        ((503, {"accepts": False, "migrations": "at head"}), (503, {}), "it can keep no message"),
        ((503, {"accepts": True, "migrations": "behind: run it"}), (200, WELL), "503: behind"),
        ((200, {}), (200, {}), "another program answers there"),
        ((404, {}), (404, {}), "/health/ready says 404"),
    ],
)
def test_what_is_wrong_is_named(
    ready: tuple[int, dict[str, Any]], health: tuple[int, dict[str, Any]], problem: str
) -> None:
    told = answers.fault(answers.Answer(*ready), answers.Answer(*health))

    assert (problem in told) if problem else told == ""
