"""What requests change of a bot."""

from __future__ import annotations

import pytest
from cryptography.fernet import Fernet

from service.bots.changes import BotChanges, assistant_changes, merge_assistant, merge_bot
from service.bots.errors import InvalidBotError
from service.store.horizon_table import record_of_horizon
from service.store.records import dump, parse
from service.store.secrets import Cipher

CIPHER = Cipher([Fernet.generate_key().decode()])


def test_the_same_value_in_two_places_is_no_contradiction() -> None:
    sources = {"assistant_config": {"model": "m"}, "": {"model": "m", "instructions": "i"}}

    assert assistant_changes(sources) == {"model": "m", "instructions": "i"}


def test_a_contradiction_names_the_field_as_the_request_wrote_it() -> None:
    with pytest.raises(InvalidBotError) as raised:
        assistant_changes({"assistant_config": {"model": "a"}, "": {"model": "b"}})

    assert [fault.field for fault in raised.value.faults] == ["openai_model"]


def test_a_secret_is_encrypted_and_the_same_one_is_no_change() -> None:
    merged = merge_bot({}, BotChanges({"openai_api_key": "sk-1"}), CIPHER)

    assert CIPHER.decrypt(merged["openai_api_key"]) == "sk-1"
    assert merge_bot(merged, BotChanges({"openai_api_key": "sk-1"}), CIPHER) == {}


def test_a_secret_that_no_key_reads_any_more_can_be_replaced_and_cleared() -> None:
    held = {"openai_api_key": "unreadable"}

    replaced = merge_bot(held, BotChanges({"openai_api_key": "sk-1"}), CIPHER)
    cleared = merge_bot(held, BotChanges({"openai_api_key": None}), CIPHER)

    assert CIPHER.decrypt(replaced["openai_api_key"]) == "sk-1"
    assert cleared == {"openai_api_key": None}


def test_null_inside_a_nested_field_clears_only_that() -> None:
    held = {"texts": {"apology": "a", "no_answer": "b"}}

    merged = merge_bot(held, BotChanges({"texts": {"apology": None}}), CIPHER)

    assert merged == {"texts": {"no_answer": "b"}}


def test_a_cleared_name_of_an_assistant_is_the_bots() -> None:
    assert merge_assistant({"name": "x"}, BotChanges({}, {"name": None}), "Acme") == {
        "name": "Acme"
    }


def test_horizons_bot_without_an_id_gets_a_stable_one() -> None:
    ids = {record_of_horizon({}, "horizon_api", CIPHER, "+56911111111")["id"] for _ in range(2)}

    assert len(ids) == 1
    assert ids.pop().startswith("hz_")


def test_horizons_nonsense_is_left_out_of_a_record() -> None:
    row = {
        "id": 1,
        "assistant_functions": "no json",
        "horizon_actions": [{"name": "a"}, {"name": "b", "path": "/b", "method": "GET"}, 5],
        "metadata": {"timezone": "Nowhere", "crm_password": "x", "city": "Lima"},
    }

    record = record_of_horizon(row, "horizon_api", CIPHER, "+56911111111")

    assert [action["name"] for action in record["actions"]] == ["b"]
    assert (record["functions"], record["timezone"]) == ([], "America/Santiago")
    assert "crm_password" not in record["metadata"]


@pytest.mark.parametrize("raw", [b"", b"[]", b"{}", b'{"format": 0}', b'{"format": 1}'])
def test_what_is_no_record_of_this_format_is_not_read(raw: bytes) -> None:
    assert parse(raw) is None


def test_a_record_survives_redis_unchanged() -> None:
    record = record_of_horizon({"id": 1}, "horizon_api", CIPHER, "+56911111111")

    assert parse(dump(record)) == record
