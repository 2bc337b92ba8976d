"""Which turns count in figures. Every query that counts turns asks here, and nowhere else."""

from __future__ import annotations

from sqlalchemy import ColumnElement, select

from service.conversation.trial import ADDRESS_PREFIX
from service.store.models import ContactRow, ConversationRow, TurnRow


def counted() -> ColumnElement[bool]:
    """A condition on `turns`, which the query must have: no trial of an operator."""
    trial = (
        select(ContactRow.id)
        .join(ConversationRow, ConversationRow.contact_id == ContactRow.id)
        .where(
            ConversationRow.id == TurnRow.conversation_id,
            ContactRow.address.startswith(ADDRESS_PREFIX, autoescape=True),
        )
        .correlate(TurnRow)
    )
    return ~trial.exists()
