"""The one error that means: a store of our own is away, and nobody's message is to blame."""


class OutageError(Exception):
    """SQL or Redis cannot be used now. It never counts against a turn."""
