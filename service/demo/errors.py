"""Why a demonstration cannot go on."""


class DemoError(Exception):
    """The message is a sentence for the person who started it."""
