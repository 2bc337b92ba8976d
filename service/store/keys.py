"""Every Redis key of the service. The scripts in `scripts.py` build the same names."""

PREFIX = "hb:"

CLIENTS = PREFIX + "clients"
"""Sorted set: client -> time (ms) at which its earliest conversation is due."""
LEASES = PREFIX + "leases"
"""Sorted set: conversation -> time (ms) at which its lease runs out."""
WAKE = PREFIX + "wake"
"""Channel: something became due."""
BOTS_CHANGED = PREFIX + "bots-changed"
"""Channel: the number of a bot that was changed, so that every process drops its copy."""
BOTS_WARMED = PREFIX + "bots-warmed"
"""String: a process has just filled the bot cache from the database; kept 60 s."""

UNREADABLE = PREFIX + "unreadable"
"""List: what lay in mailboxes and is no event, for a person to look at."""
ALIASES_RESTORED = PREFIX + "aliases-restored"
"""String: the aliases of SQL's contacts are here."""

HELD = PREFIX + "held"
"""String: workers claim nothing; since when and why, as JSON. Without expiry: a person lifts it."""

SEEN_TTL_S = 48 * 3600
NO_BOT_TTL_S = 30


def due(client_id: str) -> str:
    """Sorted set: the client's waiting conversations -> due time (ms)."""
    return f"{PREFIX}due:{client_id}"


def client_leases(client_id: str) -> str:
    """Set: the client's leased conversations."""
    return f"{PREFIX}leases:{client_id}"


def mailbox(conversation_id: str) -> str:
    """List: the conversation's events, oldest first, as JSON."""
    return f"{PREFIX}mb:{conversation_id}"


def conversation(conversation_id: str) -> str:
    """Hash: client, bot, number, first and last arrival (ms), token, backoff, excused."""
    return f"{PREFIX}c:{conversation_id}"


def seen(bot_id: str, message_sid: str) -> str:
    """String: the conversation that took this message; kept 48 h."""
    return f"{PREFIX}seen:{bot_id}:{message_sid}"


def aliases(bot_id: str) -> str:
    """Hash: `i:<identity>` -> conversation, `o:<from>` -> the identity that owns this address."""
    return f"{PREFIX}alias:{bot_id}"


def session(conversation_id: str) -> str:
    """String: the context after a conversation's last turn, as JSON."""
    return f"{PREFIX}session:{conversation_id}"


def worker(worker_id: str) -> str:
    """String: a worker's heartbeat, as JSON; expires when the worker is gone."""
    return f"{PREFIX}worker:{worker_id}"


def bot(number: str) -> str:
    """String: the bot's record (secrets encrypted), as JSON; without expiry."""
    return f"{PREFIX}bot:{number}"


def bot_number(bot_id: str) -> str:
    """String: the number of a bot."""
    return f"{PREFIX}bot-number:{bot_id}"


def service_number(messaging_service_sid: str) -> str:
    """String: the number of the bot that uses this messaging service."""
    return f"{PREFIX}service-number:{messaging_service_sid}"


def no_bot(number: str) -> str:
    """String: no source knows this number; kept 30 s."""
    return f"{PREFIX}no-bot:{number}"


def lookups(second: int) -> str:
    """Counter: look-ups of unknown numbers in this second."""
    return f"{PREFIX}lookups:{second}"
