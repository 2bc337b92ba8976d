"""Every environment variable of the service: typed, with its default and its meaning.

`.env.example` and the table in `docs/settings.md` are generated from this module
(`horizonctl settings`), so a variable is described once, here.
"""

from __future__ import annotations

import os
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from stat import S_ISDIR
from typing import Annotated, Literal

from cryptography.fernet import Fernet
from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from service import setting_rules
from service.monitoring.prices import parse_prices

MIN_ADMIN_KEY_CHARS = 32
ENV_FILE = "HORIZON_ENV_FILE"
_CHECKOUT = Path(__file__).parents[1]
_MEMORY = Path("/dev/shm")  # noqa: S108  # what is there is used only when it is ours


class SettingsError(Exception):
    """A setting is missing or malformed; the message names it and says what it should look like."""


class Settings(BaseSettings):
    """Configuration of one process, read from the environment; `load_settings` adds a file to it."""

    model_config = SettingsConfigDict(
        extra="ignore",
        frozen=True,
        env_ignore_empty=True,
        # No wait is without end, and none is "not a number".
        allow_inf_nan=False,
    )

    # Required
    secret_key: Annotated[tuple[str, ...], NoDecode] = Field(
        description="Fernet keys that encrypt the bots' secrets, comma-separated; the first encrypts, "
        "all decrypt. Make one with `horizonctl key secret`.",
        examples=["<44 characters of url-safe base64>"],
    )
    public_base_url: str = Field(
        description="The address that Twilio calls, without a path: signatures are computed over it.",
        examples=["https://bots.example.com"],
    )
    admin_api_key: str = Field(
        description="Bearer key of the administrator, at least 32 characters; it creates the other keys.",
        examples=["<at least 32 random characters>"],
    )

    public_other_urls: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Further addresses that Twilio calls, separated by commas. A message that came to "
        "one of these host names is checked against its address; any other name counts as "
        "`PUBLIC_BASE_URL`.",
        examples=["https://bots.example.net"],
    )

    # Model
    openai_api_key: str | None = Field(
        None, description="OpenAI key of the bots that have none of their own."
    )
    openai_base_url: str = Field(
        "https://api.openai.com/v1", description="OpenAI or a compatible server."
    )
    openai_default_model: str = Field(
        "gpt-6-luna", description="Model of the assistants that name none."
    )
    openai_default_instructions: str = Field(
        "Eres el asistente virtual de este negocio en WhatsApp. Responde en español, con amabilidad y "
        "en pocas frases. Si no sabes algo, dilo y ofrece que una persona del equipo responda.",
        description="Instructions of the assistants that have none.",
    )
    openai_timeout_s: float = Field(
        60, gt=0, description="Longest wait for one model call, in seconds."
    )

    # Twilio
    twilio_account_sid: str | None = Field(
        None, description="Account of the bots that have none of their own."
    )
    twilio_auth_token: str | None = Field(
        None, description="Auth token of the bots that have none of their own."
    )
    twilio_whatsapp_from: str | None = Field(
        None, description="Number that `horizonctl send-test` writes from when none is given."
    )
    twilio_api_base_url: str | None = Field(
        None,
        description="Replaces api., messaging. and content.twilio.com: for emulators.",
        examples=["http://127.0.0.1:8802"],
    )
    twilio_timeout_s: float = Field(
        15, gt=0, description="Longest wait for one Twilio call, in seconds."
    )

    # Horizon
    horizon_base_url: str | None = Field(
        None,
        description="The Horizon CRM of the bots that name none.",
        examples=["https://crm.example.com"],
    )
    horizon_api_key: str | None = Field(
        None, description="Horizon token of the bots that have none of their own."
    )
    horizon_config_path: str = Field(
        "/api/bot/config/", description="Path of Horizon's bot configuration."
    )
    horizon_events_path: str = Field(
        "/api/bot/eventos/", description="Path that takes Horizon's event reports."
    )
    horizon_control_path: str = Field(
        "/api/bot/control-status/", description="Path that tells whether a person has taken over."
    )
    horizon_timeout_s: float = Field(
        15, gt=0, description="Longest wait for one Horizon action, in seconds."
    )

    # Stores
    database_url: str | None = Field(
        None,
        description="SQLAlchemy address of the database. Without it DB_HOST and the rest are used, and "
        "without those SQLite in `var/`.",
        examples=["postgresql://user:password@127.0.0.1:5432/horizon"],
    )
    db_host: str | None = Field(
        None,
        description="PostgreSQL host, or the folder of its socket, when DATABASE_URL is not set.",
    )
    db_port: int = Field(5432, ge=1, le=65_535, description="PostgreSQL port.")
    db_user: str | None = Field(None, description="PostgreSQL user.")
    db_password: str | None = Field(None, description="PostgreSQL password.")
    db_name: str | None = Field(None, description="PostgreSQL database.")
    db_ssl_mode: Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] = (
        Field("prefer", description="PostgreSQL `sslmode`.")
    )
    redis_url: str = Field(
        "redis://127.0.0.1:6379/0", description="Redis or Valkey, with an append-only file."
    )
    redis_sentinels: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Sentinels that tell where the primary is, `host:port`, comma-separated: name all of "
        "them. The host and port of REDIS_URL then count for nothing; its user, password, database, and "
        "with rediss:// its TLS, hold for the primary. TLS holds for the Sentinels too.",
        examples=["10.0.0.1:26379,10.0.0.2:26379,10.0.0.3:26379"],
    )
    redis_sentinel_name: str = Field(
        "horizon", description="Name under which the Sentinels know the primary."
    )
    redis_sentinel_user: str | None = Field(
        None, description="User at the Sentinels; without it their default user."
    )
    redis_sentinel_password: str | None = Field(None, description="Password at the Sentinels.")
    redis_acknowledge_on_replica: bool = Field(
        False,
        description="Whether a message is acknowledged only once every replica that could take over has "
        "it too, and at least one. The spool is then not used: a request waits up to 8 s, so the "
        "webhook's address has to carry `rt=9000`, and WEB_THREADS has to be as high as the messages "
        "that come to a process meanwhile.",
    )
    redis_replica_wait_ms: int = Field(
        500,
        ge=10,
        le=900,
        description="How long the replicas get to confirm one message, with REDIS_ACKNOWLEDGE_ON_REPLICA.",
    )
    redis_session_ttl_seconds: int = Field(
        86_400, gt=0, description="How long a conversation's context stays in Redis, in seconds."
    )
    spool_dir: Path = Field(
        Path("var/spool"),
        description="Folder that keeps accepted messages while Redis is unavailable; one a host.",
    )
    spool_max_mb: int = Field(
        256,
        gt=0,
        description="The spool takes no more than this, in MB; beyond it the answer is 503.",
    )
    metrics_dir: Path | None = Field(
        None,
        description="Folder through which the processes of a host share their counters. Without it a "
        "folder of this user and working folder in memory (/dev/shm), or `var/metrics` where "
        "that cannot be written. Name one when a host's processes run in different working folders.",
    )

    backup_state_file: Path | None = Field(
        None,
        description="File in which the role backup tells of the last backup; `/health` shows it.",
    )

    # Behaviour
    worker_threads: int = Field(
        64,
        ge=1,
        le=4096,
        description="Turns that one worker process runs at once; an eighth more threads are kept for "
        "clients that have none running.",
    )
    debounce_ms: int = Field(
        800,
        ge=0,
        le=60_000,
        description="Messages of a contact that arrive within this time become one turn.",
    )
    lease_s: float = Field(
        10,
        ge=1,
        description="A worker that is silent this long loses its conversations, in seconds.",
    )
    send_grace_s: float = Field(
        60,
        ge=0,
        description="Wait before an uncertain send is looked up and, if it never happened, repeated.",
    )
    retry_base_s: float = Field(
        2, gt=0, description="First wait after a vendor's transient failure; it doubles each time."
    )
    worker_drain_s: float = Field(
        30,
        ge=0,
        description="Time that a stopping worker gives its turns before it hands them back.",
    )
    allow_private_addresses: bool = Field(
        False,
        description="Whether addresses that come in through the API or from Twilio may be private. The "
        "addresses in these settings are the operator's own and always allowed.",
    )
    report_timezone: str = Field(
        "America/Santiago",
        description="Time zone of `horizonctl stats`, `monitor` and `logs`: when a day begins and ends.",
    )
    model_prices: str | None = Field(
        None,
        description="Prices of models in US dollars for 1,000,000 tokens, as JSON; they come before the "
        "list prices that the service knows. A model without a price has an unknown cost.",
        examples=['{"my-model": {"input": 0.1, "cached": 0.01, "output": 0.5}}'],
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Lowest level that is logged."
    )
    web_bind: str = Field(
        "127.0.0.1:8000",
        description="Address of `horizonctl web`, unless systemd passes it sockets.",
    )
    web_workers: int = Field(2, ge=1, description="Web processes of `horizonctl web`.")
    web_threads: int = Field(8, ge=1, description="Threads of each web process.")

    # Alerts
    alert_url: str | None = Field(
        None,
        description="Where `horizonctl alerts check` POSTs its messages as JSON; another address than "
        "http:// and https:// is handed to the program `apprise`.",
        examples=["https://hooks.example.com/horizon"],
    )
    alert_command: str | None = Field(
        None,
        description="Program, with its arguments, that gets each message as JSON on standard input.",
        examples=["/usr/local/bin/horizon-alert --to operator"],
    )
    alert_language: Literal["es", "en"] = Field("es", description="Language of the alerts.")
    alert_state_file: Path = Field(
        Path("var/alerts.json"), description="File in which alerts remember what they have told."
    )
    alert_queue_age_s: float = Field(
        120, gt=0, description="A conversation that waits longer than this is an alert, in seconds."
    )
    alert_certificate_days: int = Field(
        14, ge=0, description="A certificate that ends in fewer days is an alert."
    )
    alert_backup_file: Path | None = Field(
        None,
        description="File that each good backup writes: its age is the backup's. Without it backups "
        "are not watched.",
    )
    alert_backup_age_h: float = Field(
        36, gt=0, description="A last backup that is older than this is an alert, in hours."
    )
    alert_disk_percent: int = Field(
        90, ge=1, le=100, description="A disk that is fuller than this is an alert, in percent."
    )
    alert_inodes_percent: int = Field(
        90,
        ge=1,
        le=100,
        description="A disk with more of its inodes in use is an alert, in percent.",
    )
    alert_memory_percent: int = Field(
        90, ge=1, le=100, description="More memory in use than this is an alert, in percent."
    )
    alert_updates_days: int = Field(
        2, ge=0, description="A security update that waits longer than this is an alert, in days."
    )
    alert_model_days: int = Field(
        30, ge=0, description="A model that is shut down in fewer days is an alert."
    )
    alert_vendors: bool = Field(
        True,
        description="Whether `horizonctl alerts check` asks OpenAI for shut-down dates of models and "
        "Twilio for the status of numbers; in a cluster one host does.",
    )

    @field_validator("secret_key", mode="before")
    @classmethod
    def _split_keys(cls, value: object) -> object:
        return setting_rules.split(value)

    @field_validator("secret_key")
    @classmethod
    def _check_keys(cls, keys: tuple[str, ...]) -> tuple[str, ...]:
        for position, key in enumerate(keys, 1):
            try:
                Fernet(key)
            except ValueError as error:
                raise ValueError(
                    f"key {position} is not a Fernet key (44 characters of url-safe base64): "
                    "make one with `horizonctl key secret`"
                ) from error
        if not keys:
            raise ValueError("at least one Fernet key is needed: `horizonctl key secret` makes one")
        return keys

    @field_validator("openai_base_url", "horizon_base_url", "twilio_api_base_url")
    @classmethod
    def _check_url(cls, value: str | None) -> str | None:
        return None if value is None else setting_rules.http_address(value)

    @field_validator("public_base_url")
    @classmethod
    def _check_public_url(cls, value: str) -> str:
        return setting_rules.http_address(value, may_have_path=False)

    @field_validator("public_other_urls", mode="before")
    @classmethod
    def _split_other_urls(cls, value: object) -> object:
        return setting_rules.split(value)

    @field_validator("public_other_urls")
    @classmethod
    def _check_other_urls(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(setting_rules.http_address(each, may_have_path=False) for each in value)

    @field_validator("web_bind")
    @classmethod
    def _check_bind(cls, value: str) -> str:
        return setting_rules.bind_address(value)

    @field_validator("admin_api_key")
    @classmethod
    def _check_admin_key(cls, value: str) -> str:
        if len(value) < MIN_ADMIN_KEY_CHARS:
            raise ValueError(
                f"at least {MIN_ADMIN_KEY_CHARS} characters are needed: "
                "`openssl rand -base64 36` makes a good one"
            )
        return setting_rules.bearer_key(value)

    @field_validator("redis_url")
    @classmethod
    def _check_redis_url(cls, value: str) -> str:
        return setting_rules.redis_address(value)

    @field_validator("redis_sentinels", mode="before")
    @classmethod
    def _split_sentinels(cls, value: object) -> object:
        return setting_rules.split(value)

    @field_validator("redis_sentinels")
    @classmethod
    def _check_sentinels(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return setting_rules.sentinel_addresses(value)

    @field_validator("database_url")
    @classmethod
    def _check_database_url(cls, value: str | None) -> str | None:
        return None if value is None else setting_rules.database_address(value)

    @field_validator("db_host")
    @classmethod
    def _check_database_host(cls, value: str | None) -> str | None:
        return None if value is None else setting_rules.database_host(value)

    @field_validator("report_timezone")
    @classmethod
    def _check_timezone(cls, value: str) -> str:
        return setting_rules.timezone(value)

    @field_validator("model_prices")
    @classmethod
    def _check_prices(cls, value: str | None) -> str | None:
        if value is not None:
            parse_prices(value)
        return value

    @field_validator("alert_url")
    @classmethod
    def _check_alert_url(cls, value: str | None) -> str | None:
        return None if value is None else setting_rules.alert_address(value)

    @model_validator(mode="after")
    def _check_database(self) -> Settings:
        if self.database_url is None and self.db_host is not None:
            missing = [
                name.upper() for name in ("db_user", "db_name") if getattr(self, name) is None
            ]
            if missing:
                raise ValueError(f"DB_HOST is set, so {' and '.join(missing)} must be set too")
        return self

    @model_validator(mode="after")
    def _check_redis(self) -> Settings:
        if self.redis_sentinels and self.redis_url.startswith("unix:"):
            raise ValueError(
                "REDIS_SENTINELS is set, so REDIS_URL must begin with redis:// or rediss://"
            )
        return self

    @property
    def public_urls(self) -> tuple[str, ...]:
        """All addresses that Twilio may call, `PUBLIC_BASE_URL` first."""
        return (self.public_base_url, *self.public_other_urls)

    @property
    def replica_wait_ms(self) -> int | None:
        """How long to wait for a replica; None when that is not asked for."""
        return self.redis_replica_wait_ms if self.redis_acknowledge_on_replica else None

    @property
    def sqlalchemy_url(self) -> str:
        """The database's address with its driver named."""
        if self.database_url is not None:
            return self.database_url
        if self.db_host is not None:
            return self._postgresql_url(self.db_host)
        return "sqlite:///var/horizon.db"

    def _postgresql_url(self, host: str) -> str:
        from sqlalchemy import URL

        is_socket = host.startswith("/")
        url = URL.create(
            "postgresql+psycopg2",
            username=self.db_user,
            password=self.db_password,
            host=None if is_socket else host,
            port=self.db_port,
            database=self.db_name,
            query={"sslmode": self.db_ssl_mode, **({"host": host} if is_socket else {})},
        )
        return url.render_as_string(hide_password=False)

    @property
    def metrics_folder(self) -> Path:
        """METRICS_DIR or what stands for it; it need not exist yet."""
        return self.metrics_dir or _memory_folder() or Path("var/metrics")


def _memory_folder() -> Path | None:
    """This user's and working folder's own in memory; None when it cannot be had."""
    working_folder = sha256(os.fsencode(Path.cwd())).hexdigest()[:12]
    folder = _MEMORY / f"horizon-bots-{os.getuid()}-{working_folder}"
    try:
        found = folder.lstat()
    except FileNotFoundError:
        return folder if os.access(_MEMORY, os.W_OK | os.X_OK) else None
    except OSError:
        return None
    # Everyone may write there: what carries our name may be another's.
    is_ours = S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
    return folder if is_ours else None


def load_settings() -> Settings:
    """Read the environment, and the file with settings where there is one.

    Raises:
        SettingsError: one line a fault, each naming the variable and what it should look like.
    """
    file = _env_file()
    try:
        return Settings(_env_file=file)
    except ValidationError as error:
        raise SettingsError("\n".join(_faults(error))) from None
    except UnicodeDecodeError:
        raise SettingsError(
            f"The file {file} is not UTF-8: write it again in that encoding."
        ) from None
    except OSError as error:
        raise SettingsError(f"The file {file} cannot be read: {error.strerror}.") from None


def _env_file() -> Path | None:
    """The file that HORIZON_ENV_FILE names, else `.env` of the checkout. The working folder is never
    searched: whoever starts a process there need not be allowed to read it, or to set anything.
    """
    named = os.environ.get(ENV_FILE)
    if named is None:
        return _CHECKOUT / ".env"
    if not named:
        return None
    if not os.path.exists(named):
        raise SettingsError(f"{ENV_FILE}: there is no file {named}. Name another, or unset it.")
    return Path(named)


def _faults(error: ValidationError) -> list[str]:
    lines = []
    for fault in error.errors():
        name = str(fault["loc"][0]).upper() if fault["loc"] else ""
        reason = fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "missing":
            field = Settings.model_fields[str(fault["loc"][0])]
            example = f", for example {field.examples[0]}" if field.examples else ""
            reason = f"is required{example}. {field.description}"
        lines.append(f"{name}: {reason}" if name else reason)
    return lines


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The settings of this process, read once."""
    return load_settings()
