"""The bots of an older installation, read from the Redis that its `.env` names."""

from __future__ import annotations

import re

from ansible.module_utils.horizon_redis_client import Redis, RedisError

KEY = "bots:registry"
DEFAULT = "redis://127.0.0.1:6379/0"


class RegistryError(Exception):
    """The bots cannot be read; the message says why, without a password."""


def redis_url(env: str) -> str:
    """The last REDIS_URL of a .env file, else where Redis is without one."""
    found = re.findall(r"(?m)^\s*(?:export\s+)?REDIS_URL\s*=\s*(.*?)\s*$", env)
    value = found[-1] if found else ""
    quoted = re.match(r"(['\"])(.*?)\1", value)
    bare = quoted[2] if quoted else re.sub(r"\s+#.*$", "", value)
    return bare or DEFAULT


def read(env: str) -> dict[str, str]:
    """The hash's fields with their values; empty when there is none. Raises RegistryError."""
    try:
        with Redis(redis_url(env)) as redis:
            return redis.hash(KEY)
    except RedisError as error:
        raise RegistryError(f"Redis says {error}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise RegistryError(f"the Redis of its REDIS_URL is not reached ({reason})") from None
