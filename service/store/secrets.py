"""Secrets at rest: Fernet tokens, rotated by putting a new key first."""

from __future__ import annotations

from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet


class UnreadableSecretError(Exception):
    """No key of SECRET_KEY decrypts a stored secret."""


class Cipher:
    """Encrypts with the first key, decrypts with any."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._fernet = MultiFernet([Fernet(key) for key in keys])

    def encrypt(self, secret: str) -> str:
        return self._fernet.encrypt(secret.encode()).decode()

    def decrypt(self, token: str) -> str:
        """Raises UnreadableSecretError."""
        try:
            return self._fernet.decrypt(token.encode()).decode()
        except InvalidToken:
            raise UnreadableSecretError(
                "a stored secret cannot be decrypted: SECRET_KEY must hold the key that encrypted it"
            ) from None
