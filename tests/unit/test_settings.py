"""A malformed setting is one line that names its variable and shows no secret."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import make_url

from service.container import Container
from service.settings import Settings, SettingsError, load_settings

REPOSITORY = Path(__file__).parents[2]
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
        ("PUBLIC_OTHER_URLS", "https://b.example.com,c.example.com"),
        ("PUBLIC_OTHER_URLS", "https://b.example.com/a/path"),
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
    file = tmp_path / "settings"
    file.write_bytes(b"SECRET_KEY=\xff\n")
    environment.setenv("HORIZON_ENV_FILE", str(file))

    with pytest.raises(SettingsError, match=f"{file} is not UTF-8"):
        load_settings()


def test_a_named_env_file_is_read_and_the_environment_has_precedence(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "settings"
    file.write_text("LEASE_S=77\nPUBLIC_BASE_URL=https://other.example.com\n")
    environment.setenv("HORIZON_ENV_FILE", str(file))

    settings = load_settings()

    assert (settings.lease_s, settings.public_base_url) == (77, "https://bots.example.com")


def test_a_named_env_file_that_is_missing_is_refused(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    environment.setenv("HORIZON_ENV_FILE", str(tmp_path / "missing"))

    with pytest.raises(SettingsError, match=f"^HORIZON_ENV_FILE: .*{tmp_path / 'missing'}"):
        load_settings()


@pytest.mark.parametrize("named", [None, ""])
def test_an_env_file_in_the_working_folder_is_not_read(
    environment: pytest.MonkeyPatch, tmp_path: Path, named: str | None
) -> None:
    (tmp_path / ".env").write_text("LEASE_S=77\n")
    if named is None:
        environment.delenv("HORIZON_ENV_FILE", raising=False)
        environment.setattr("service.settings._CHECKOUT", tmp_path / "elsewhere")
    else:
        environment.setenv("HORIZON_ENV_FILE", named)

    assert load_settings().lease_s == Settings.model_fields["lease_s"].default


def test_the_env_file_of_the_checkout_is_read_from_any_working_folder(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "checkout").mkdir()
    (tmp_path / "checkout" / ".env").write_text("LEASE_S=77\n")
    environment.delenv("HORIZON_ENV_FILE", raising=False)
    environment.setattr("service.settings._CHECKOUT", tmp_path / "checkout")

    assert load_settings().lease_s == 77


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder to another user")
def test_a_process_starts_in_a_working_folder_that_its_user_may_not_enter(tmp_path: Path) -> None:
    """As from the home of whoever logs in: mode 0700, and the process is another user's."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    (home / ".env").write_text("LEASE_S=77\n")
    os.chown(home, 65534, 65534)
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(REPOSITORY),
        "SECRET_KEY": Fernet.generate_key().decode(),
        "PUBLIC_BASE_URL": "https://bots.example.com",
        "ADMIN_API_KEY": "a" * 40,
    }
    # Without these two, root is a user like others; it stays root, as whose the Python here may be.
    as_a_user = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]

    kept_out = subprocess.run([*as_a_user, "cat", home / ".env"], capture_output=True, check=False)
    done = subprocess.run(
        [
            *(*as_a_user, sys.executable, "-P", "-c"),
            "from service.settings import load_settings; print(load_settings().lease_s)",
        ],
        cwd=home,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert kept_out.returncode == 1
    assert (done.returncode, done.stderr) == (0, "")
    assert float(done.stdout) == Settings.model_fields["lease_s"].default


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
