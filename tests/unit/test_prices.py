"""Costs are estimates: of what has a price, and never of what has none."""

from __future__ import annotations

from decimal import Decimal

import pytest

from service.monitoring.prices import Cost, Prices, Tokens, parse_prices

OWN = '{"my-model": {"input": 1, "cached": 0.5, "output": 4}}'


def test_cached_tokens_cost_their_own_price_and_reasoning_is_in_the_output() -> None:
    tokens = Tokens(input=1_000_000, cached=400_000, output=100_000, reasoning=90_000)

    cost = Prices(OWN).cost("my-model", tokens)

    assert cost == Cost(Decimal("1.2"))


def test_a_model_without_a_price_has_an_unknown_cost() -> None:
    cost = Prices().cost("llama-at-home", Tokens(input=5))

    assert cost == Cost(unpriced=frozenset(["llama-at-home"]))
    assert cost.text == "unknown"


def test_a_sum_says_that_a_part_of_it_is_unknown() -> None:
    prices = Prices(OWN)

    cost = prices.cost("my-model", Tokens(output=1_000_000)) + prices.cost("other", Tokens(input=1))

    assert cost.text == "4.0000 + unknown"


def test_a_dated_name_has_the_price_of_its_undated_one() -> None:
    prices, tokens = Prices(), Tokens(input=1_000_000)

    assert prices.cost("gpt-6-luna-2026-09-22", tokens) == prices.cost("gpt-6-luna", tokens)


def test_a_name_that_only_begins_the_same_has_no_price() -> None:
    assert Prices().cost("gpt-6-luna-mini", Tokens(input=1)).unpriced == {"gpt-6-luna-mini"}


def test_ones_own_price_comes_before_the_list_price() -> None:
    own = '{"gpt-6-luna": {"input": 7, "cached": 7, "output": 7}}'

    assert Prices(own).cost("gpt-6-luna", Tokens(output=1_000_000)).usd == 7


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "a JSON object"),
        ("[]", "a JSON object"),
        ('{"m": 1}', "m needs exactly"),
        ('{"m": {"input": 1, "output": 1}}', "m needs exactly"),
        ('{"m": {"input": 1, "cached": 1, "output": -1}}', "output of m"),
        ('{"m": {"input": "1", "cached": 1, "output": 1}}', "input of m"),
        ('{"m": {"input": true, "cached": 1, "output": 1}}', "input of m"),
        ('{"m": {"input": NaN, "cached": 1, "output": 1}}', "input of m"),
    ],
)
def test_malformed_prices_are_refused_with_a_sentence(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_prices(text)
