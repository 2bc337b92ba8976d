"""The tables. Alembic's migrations in `migrations/` build them; a test keeps the two equal."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, ClassVar, cast

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

from service.conversation.clock import utc_now

Serial = BigInteger().with_variant(Integer, "sqlite")


class UtcDateTime(TypeDecorator[datetime]):
    """An aware datetime, kept as UTC; SQLite keeps no zone of its own."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        dict[str, Any]: JSON,
        list[Any]: JSON,
        datetime: UtcDateTime,
    }


def table(row: type[Base]) -> Table:
    """For statements made once: an execution of one with parameters takes a third of the CPU."""
    return cast(Table, row.__table__)


class BotRow(Base):
    """A bot. Secrets are Fernet tokens; the assistant's versions stand in `assistants`."""

    __tablename__ = "bots"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    client_id: Mapped[str] = mapped_column(String(80), index=True)
    name: Mapped[str] = mapped_column(String(200))
    twilio_phone_number: Mapped[str] = mapped_column(String(20))
    status: Mapped[str] = mapped_column(String(10), default="active")
    assistant_id: Mapped[str] = mapped_column(String(40))
    assistant_version: Mapped[int] = mapped_column(Integer, default=1)
    assistant_functions: Mapped[list[Any]] = mapped_column(default=list)
    horizon_actions: Mapped[list[Any]] = mapped_column(default=list)
    handoff: Mapped[dict[str, Any]] = mapped_column(default=dict)
    report_turns: Mapped[bool] = mapped_column(Boolean, default=False)
    meta: Mapped[dict[str, Any]] = mapped_column("metadata", default=dict)
    texts: Mapped[dict[str, Any]] = mapped_column(default=dict)
    language: Mapped[str] = mapped_column(String(10), default="es")
    timezone: Mapped[str] = mapped_column(String(60), default="America/Santiago")
    twilio_account_sid: Mapped[str | None] = mapped_column(String(40))
    twilio_auth_token: Mapped[str | None] = mapped_column(Text)
    twilio_messaging_service_sid: Mapped[str | None] = mapped_column(String(40), index=True)
    openai_api_key: Mapped[str | None] = mapped_column(Text)
    openai_base_url: Mapped[str | None] = mapped_column(Text)
    horizon_api_token: Mapped[str | None] = mapped_column(Text)
    horizon_base_url: Mapped[str | None] = mapped_column(Text)
    revision: Mapped[int] = mapped_column(Integer, default=1)
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    updated_at: Mapped[datetime] = mapped_column(default=utc_now)
    deleted_at: Mapped[datetime | None] = mapped_column()

    __table_args__ = (
        Index(
            "uq_bots_active_number",
            "twilio_phone_number",
            unique=True,
            postgresql_where=text("deleted_at IS NULL"),
            sqlite_where=text("deleted_at IS NULL"),
        ),
    )


class AssistantRow(Base):
    """One version of a bot's assistant. `model` and `instructions` may be NULL: the default holds."""

    __tablename__ = "assistants"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    version: Mapped[int] = mapped_column(Integer, primary_key=True)
    bot_id: Mapped[str] = mapped_column(String(40), ForeignKey("bots.id"), index=True)
    name: Mapped[str] = mapped_column(String(200))
    model: Mapped[str | None] = mapped_column(String(100))
    instructions: Mapped[str | None] = mapped_column(Text)
    tools: Mapped[list[Any]] = mapped_column(default=list)
    temperature: Mapped[float | None] = mapped_column(Float)
    max_output_tokens: Mapped[int | None] = mapped_column(Integer)
    reasoning_effort: Mapped[str | None] = mapped_column(String(20))
    meta: Mapped[dict[str, Any]] = mapped_column("metadata", default=dict)
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class ContactRow(Base):
    """A person writing to one bot. Bots of other sources have no row in `bots`, so no foreign key."""

    __tablename__ = "contacts"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    bot_id: Mapped[str] = mapped_column(String(40), index=True)
    client_id: Mapped[str] = mapped_column(String(80))
    identity: Mapped[str] = mapped_column(String(200))
    address: Mapped[str] = mapped_column(String(200))
    external_user_id: Mapped[str | None] = mapped_column(String(200))
    profile_name: Mapped[str | None] = mapped_column(String(300))
    opted_out_at: Mapped[datetime | None] = mapped_column()
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    updated_at: Mapped[datetime] = mapped_column(default=utc_now)


class ConversationRow(Base):
    """One contact with one bot. `fence` is raised at each claim; an older one may not write."""

    __tablename__ = "conversations"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    contact_id: Mapped[str] = mapped_column(String(40), ForeignKey("contacts.id"))
    bot_id: Mapped[str] = mapped_column(String(40), index=True)
    client_id: Mapped[str] = mapped_column(String(80), index=True)
    number: Mapped[str] = mapped_column(String(20))
    fence: Mapped[int] = mapped_column(BigInteger, default=0)
    last_ordinal: Mapped[int] = mapped_column(Integer, default=0)
    apologized_at: Mapped[datetime | None] = mapped_column()
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    updated_at: Mapped[datetime] = mapped_column(default=utc_now)


class TurnRow(Base):
    """One run of the assistant. `ordinal` orders a conversation's turns; a retry takes a new one."""

    __tablename__ = "turns"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    conversation_id: Mapped[str] = mapped_column(String(40), ForeignKey("conversations.id"))
    bot_id: Mapped[str] = mapped_column(String(40))
    client_id: Mapped[str] = mapped_column(String(80))
    ordinal: Mapped[int] = mapped_column(Integer)
    status: Mapped[str] = mapped_column(String(10), default="running")
    reason: Mapped[str | None] = mapped_column(String(40))
    error: Mapped[str | None] = mapped_column(Text)
    tries: Mapped[int] = mapped_column(Integer, default=0)
    retry_s: Mapped[float] = mapped_column(Float, default=0.0)
    crashes: Mapped[int] = mapped_column(Integer, default=0)
    progress: Mapped[int] = mapped_column(Integer, default=0)
    progress_seen: Mapped[int] = mapped_column(Integer, default=0)
    runs: Mapped[int] = mapped_column(Integer, default=1)
    assistant_id: Mapped[str | None] = mapped_column(String(40))
    assistant_version: Mapped[int | None] = mapped_column(Integer)
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    updated_at: Mapped[datetime] = mapped_column(default=utc_now)
    finished_at: Mapped[datetime | None] = mapped_column()

    __table_args__ = (
        Index("ix_turns_conversation_ordinal", "conversation_id", "ordinal"),
        Index("ix_turns_status", "status", "updated_at"),
    )


class MessageRow(Base):
    """A text of a conversation: `in` from the contact, `out` from the assistant, `note` between."""

    __tablename__ = "messages"

    id: Mapped[int] = mapped_column(Serial, primary_key=True, autoincrement=True)
    bot_id: Mapped[str] = mapped_column(String(40))
    conversation_id: Mapped[str] = mapped_column(String(40), ForeignKey("conversations.id"))
    turn_id: Mapped[str] = mapped_column(String(40), ForeignKey("turns.id"), index=True)
    direction: Mapped[str] = mapped_column(String(5))
    sid: Mapped[str | None] = mapped_column(String(64))
    text: Mapped[str] = mapped_column(Text)
    payload: Mapped[dict[str, Any] | None] = mapped_column()
    created_at: Mapped[datetime] = mapped_column(default=utc_now)

    __table_args__ = (
        UniqueConstraint("bot_id", "sid", name="uq_messages_bot_sid"),
        Index("ix_messages_conversation", "conversation_id", "id"),
    )


class StepRow(Base):
    """One row of a turn's journal: what was done, in order, before the next thing began."""

    __tablename__ = "turn_steps"

    turn_id: Mapped[str] = mapped_column(String(40), ForeignKey("turns.id"), primary_key=True)
    n: Mapped[int] = mapped_column(Integer, primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))
    data: Mapped[dict[str, Any]] = mapped_column()
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class PartRow(Base):
    """One message of a reply. `intent_at` without `sid` means: it may have been sent."""

    __tablename__ = "parts"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    turn_id: Mapped[str] = mapped_column(String(40), ForeignKey("turns.id"))
    bot_id: Mapped[str] = mapped_column(String(40))
    conversation_id: Mapped[str] = mapped_column(String(40))
    kind: Mapped[str] = mapped_column(String(10))
    n: Mapped[int] = mapped_column(Integer)
    address: Mapped[str] = mapped_column(String(200))
    body: Mapped[str] = mapped_column(Text)
    intent_at: Mapped[datetime | None] = mapped_column()
    sid: Mapped[str | None] = mapped_column(String(64))
    callback_sid: Mapped[str | None] = mapped_column(String(64))
    delivery: Mapped[str | None] = mapped_column(String(20))
    error_code: Mapped[str | None] = mapped_column(String(20))
    sent_at: Mapped[datetime | None] = mapped_column()
    updated_at: Mapped[datetime] = mapped_column(default=utc_now)

    __table_args__ = (
        UniqueConstraint("turn_id", "kind", "n", name="uq_parts_turn_kind_n"),
        UniqueConstraint("bot_id", "sid", name="uq_parts_bot_sid"),
        Index("ix_parts_conversation", "conversation_id"),
        Index("ix_parts_sid", "sid"),
    )


class UsageRow(Base):
    """Tokens of one model call."""

    __tablename__ = "usage"

    id: Mapped[int] = mapped_column(Serial, primary_key=True, autoincrement=True)
    bot_id: Mapped[str] = mapped_column(String(40))
    client_id: Mapped[str] = mapped_column(String(80))
    turn_id: Mapped[str] = mapped_column(String(40))
    model: Mapped[str] = mapped_column(String(100))
    input_tokens: Mapped[int] = mapped_column(Integer, default=0)
    cached_tokens: Mapped[int] = mapped_column(Integer, default=0)
    output_tokens: Mapped[int] = mapped_column(Integer, default=0)
    reasoning_tokens: Mapped[int] = mapped_column(Integer, default=0)
    created_at: Mapped[datetime] = mapped_column(default=utc_now)

    __table_args__ = (Index("ix_usage_client_created", "client_id", "created_at"),)


class ApiKeyRow(Base):
    """A Bearer key, kept as its SHA-256. `client_id` NULL means an administrator's."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    key_hash: Mapped[str] = mapped_column(String(64), unique=True)
    client_id: Mapped[str | None] = mapped_column(String(80))
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    revoked_at: Mapped[datetime | None] = mapped_column()


class AuditRow(Base):
    """Who changed what, and when. `detail` names fields, never secrets."""

    __tablename__ = "audit_log"

    id: Mapped[int] = mapped_column(Serial, primary_key=True, autoincrement=True)
    at: Mapped[datetime] = mapped_column(default=utc_now)
    actor: Mapped[str] = mapped_column(String(200))
    action: Mapped[str] = mapped_column(String(40))
    object_id: Mapped[str] = mapped_column(String(80), index=True)
    client_id: Mapped[str | None] = mapped_column(String(80))
    request_id: Mapped[str | None] = mapped_column(String(80))
    detail: Mapped[dict[str, Any]] = mapped_column(default=dict)


class SchemaCompatibilityRow(Base):
    """One row: the oldest code revision that may run on the present schema."""

    __tablename__ = "schema_compatibility"
    __table_args__ = (CheckConstraint("id = 1", name="one_row"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    oldest_code: Mapped[str] = mapped_column(String(32))
