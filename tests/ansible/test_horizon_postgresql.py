"""The module of PostgreSQL's user: the verifier that it makes is the one that PostgreSQL makes."""

from __future__ import annotations

import contextlib

import pytest

from tests.ansible.modules import load_module
from tests.servers import RealPostgres

module = load_module("horizon_postgresql")

PASSWORD = "database-p@ss'w:rd\"%20"


@pytest.fixture
def verifier(postgres_server: RealPostgres) -> str:
    """What a real PostgreSQL keeps of the password."""
    with contextlib.closing(postgres_server.connect()) as connection:
        cursor = connection.cursor()
        cursor.execute("SET password_encryption = 'scram-sha-256'")
        cursor.execute("CREATE ROLE verified PASSWORD %s", (PASSWORD,))
        cursor.execute("SELECT rolpassword FROM pg_authid WHERE rolname = 'verified'")
        row = cursor.fetchone()
        connection.rollback()
    assert row is not None
    return str(row[0])


def test_password_is_recognised_in_what_postgresql_keeps(verifier: str) -> None:
    assert module.opens(PASSWORD, verifier)


def test_other_password_is_not(verifier: str) -> None:
    assert not module.opens(PASSWORD + "x", verifier)


@pytest.mark.parametrize("kept", [None, "", "md5d41d8cd98f00b204e9800998ecf8427e"])
def test_missing_and_old_verifiers_are_replaced(kept: str | None) -> None:
    assert not module.opens(PASSWORD, kept)


def test_verifier_does_not_hold_the_password() -> None:
    made = module.scram_verifier(PASSWORD, b"0123456789abcdef")

    assert PASSWORD not in made
    assert made.startswith("SCRAM-SHA-256$4096:MDEyMzQ1Njc4OWFiY2RlZg==$")
