"""Contacts' aliases after a loss of Redis: made anew from SQL, so that nobody loses a conversation."""

from __future__ import annotations

from sqlalchemy import select

from service.store import keys
from service.store.database import Database
from service.store.models import ContactRow
from service.store.redis_client import RedisStore

_BATCH = 1_000


def restore_aliases(database: Database, redis: RedisStore) -> int:
    """Fill Redis with the aliases of every contact that has a stable id, unless it has them.

    What messages have told Redis since is newer and stays. Returns how many contacts were written.
    Raises OutageError.
    """
    with redis.outages():
        if redis.client.exists(keys.ALIASES_RESTORED):
            return 0
    with database.read() as connection:
        contacts = connection.execute(
            select(
                ContactRow.id, ContactRow.bot_id, ContactRow.address, ContactRow.external_user_id
            ).where(ContactRow.external_user_id.is_not(None))
        ).all()
    for start in range(0, len(contacts), _BATCH):
        with redis.outages(), redis.client.pipeline(transaction=False) as pipe:
            for contact in contacts[start : start + _BATCH]:
                aliases = keys.aliases(contact.bot_id)
                conversation = "cv_" + contact.id.removeprefix("ct_")
                pipe.hsetnx(aliases, f"i:{contact.external_user_id}", conversation)
                if contact.address != contact.external_user_id:
                    pipe.hsetnx(aliases, f"o:{contact.address}", contact.external_user_id)
            pipe.execute()
    with redis.outages():
        redis.client.set(keys.ALIASES_RESTORED, "1")
    return len(contacts)
