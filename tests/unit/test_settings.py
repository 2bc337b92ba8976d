"""A malformed setting is one line that names its variable and shows no secret."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import make_url

from service.container import Container
from service.settings import Settings, SettingsError, load_settings

POSTGRES = {"DB_USER": "u", "DB_PASSWORD": "p/:@ é", "DB_NAME": "bots", "DB_PORT": "5433"}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """What is required, and nothing else."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("SECRET_KEY", Fernet.generate_key().decode())
    monkeypatch.setenv("PUBLIC_BASE_URL", "https://bots.example.com")
    monkeypatch.setenv("ADMIN_API_KEY", "a" * 40)
    return monkeypatch


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PUBLIC_BASE_URL", "https://b.example.com:abc"),
        ("PUBLIC_BASE_URL", "https://b.example.com:99999"),
        ("PUBLIC_BASE_URL", "https://b.example.com/a/path"),
        ("PUBLIC_BASE_URL", "https://[::1"),
        ("PUBLIC_BASE_URL", "bots.example.com"),
        ("OPENAI_BASE_URL", "https://api.example.com:0"),
        ("REDIS_URL", "redis://127.0.0.1:abc/0"),
        ("REDIS_URL", "redis://:hidden@127.0.0.1:6379/x"),
        ("REDIS_URL", "redis://127.0.0.1:6379/0?db=x"),
        ("REDIS_URL", "unix://"),
        ("REDIS_SENTINELS", "10.0.0.1"),
        ("REDIS_SENTINELS", "10.0.0.1:0"),
        ("REDIS_SENTINELS", "user:hidden@10.0.0.1:26379"),
        ("REDIS_SENTINELS", "10.0.0.1:26379,10.0.0.1:26379"),
        ("REDIS_REPLICA_WAIT_MS", "1000"),
        ("DATABASE_URL", "postgresql://u:hidden@h:port/x"),
        ("DATABASE_URL", "postgresql://u:hidden@h:5432"),
        ("DATABASE_URL", "mysql://u:hidden@h/x"),
        ("DATABASE_URL", "sqlite:///"),
        ("DB_HOST", "db.example.com:5432"),
        ("DB_PORT", "99999"),
        ("LEASE_S", "inf"),
        ("OPENAI_TIMEOUT_S", "nan"),
        ("WEB_BIND", "nonsense:x"),
        ("WEB_BIND", "127.0.0.1:99999"),
        ("ADMIN_API_KEY", "ñ" * 40),
        ("ADMIN_API_KEY", "two words " * 5),
    ],
)
def test_a_malformed_setting_is_named_and_not_repeated(
    environment: pytest.MonkeyPatch, name: str, value: str
) -> None:
    environment.setenv(name, value)
    if name.startswith("DB_"):
        environment.setenv("DB_USER", "u")
        environment.setenv("DB_NAME", "n")

    with pytest.raises(SettingsError) as raised:
        load_settings()

    lines = str(raised.value).splitlines()
    assert [line.partition(":")[0] for line in lines] == [name]
    assert "hid" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PUBLIC_BASE_URL", "https://bots.example.com:8443/"),
        ("REDIS_URL", "rediss://user:secret@[::1]:6380/3?health_check_interval=5"),
        ("REDIS_URL", "unix:///run/redis.sock?db=1"),
        ("REDIS_SENTINELS", "10.0.0.1:26379, redis-2.example.com:26379,[::1]:26379"),
        ("DATABASE_URL", "postgresql://u:p%2F@[::1]:5432/x?sslmode=require"),
        ("DATABASE_URL", "postgresql:///x?host=/run/postgresql"),
        ("DATABASE_URL", "sqlite:////var/lib/bots.db"),
        ("WEB_BIND", "[::1]:8000"),
        ("WEB_BIND", "fd://3"),
        ("WEB_BIND", "unix:/run/bots.sock, 127.0.0.1:8000"),
    ],
)
def test_a_good_setting_is_taken(environment: pytest.MonkeyPatch, name: str, value: str) -> None:
    environment.setenv(name, value)

    load_settings()


@pytest.mark.parametrize(
    ("host", "in_url", "in_query"),
    [
        ("::1", "::1", None),
        ("db.example.com", "db.example.com", None),
        ("/run/postgresql", None, "/run/postgresql"),
    ],
)
def test_a_database_host_may_be_an_ipv6_address_or_a_folder(
    environment: pytest.MonkeyPatch, host: str, in_url: str | None, in_query: str | None
) -> None:
    for name, value in {**POSTGRES, "DB_HOST": host}.items():
        environment.setenv(name, value)

    url = make_url(load_settings().sqlalchemy_url)

    assert (url.host, url.query.get("host")) == (in_url, in_query)
    assert (url.password, url.port, url.database) == ("p/:@ é", 5433, "bots")


def test_sentinels_do_not_go_with_a_socket(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("REDIS_SENTINELS", "10.0.0.1:26379")
    environment.setenv("REDIS_URL", "unix:///run/redis.sock")

    with pytest.raises(SettingsError, match="REDIS_URL must begin with"):
        load_settings()


def test_an_env_file_that_is_no_utf8_is_said_in_a_sentence(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_bytes(b"SECRET_KEY=\xff\n")

    with pytest.raises(SettingsError, match="UTF-8"):
        load_settings()


@pytest.mark.parametrize(
    ("name", "part"),
    [("SPOOL_DIR", "spool"), ("METRICS_DIR", "metrics"), ("DATABASE_URL", "database")],
)
def test_a_folder_that_cannot_be_made_is_named(
    environment: pytest.MonkeyPatch, tmp_path: Path, name: str, part: str
) -> None:
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / "folder"
    environment.setenv(name, f"sqlite:///{folder}/x.db" if part == "database" else str(folder))

    with pytest.raises(SettingsError, match=f"^{name}: .*{folder}"):
        getattr(Container(load_settings()), part)
