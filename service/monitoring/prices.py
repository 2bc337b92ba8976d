"""What a model's tokens cost: an estimate from list prices, never a bill.

Source of the prices: the models' pages below https://developers.openai.com/api/docs/models, looked up on
2026-11-26: standard processing, up to 272,000 input tokens a request. The surcharges for longer requests
and for writing to the cache are not in it: the usage that is kept does not tell them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

_MILLION = Decimal(1_000_000)
_NAMES = ("input", "cached", "output")
_DATED = re.compile(r"-\d{4}-\d{2}-\d{2}$")
_FORM = 'a JSON object like {"gpt-6-luna": {"input": 0.1, "cached": 0.01, "output": 0.5}} is needed'


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars for 1,000,000 tokens. `cached` is for the part of the input that was cached."""

    input: Decimal
    cached: Decimal
    output: Decimal


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of model calls. `cached` is part of `input`, `reasoning` is part of `output`."""

    input: int = 0
    cached: int = 0
    output: int = 0
    reasoning: int = 0

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(
            self.input + other.input,
            self.cached + other.cached,
            self.output + other.output,
            self.reasoning + other.reasoning,
        )


@dataclass(frozen=True, slots=True)
class Cost:
    """US dollars of what has a price, and the models whose tokens have none."""

    usd: Decimal = Decimal(0)
    unpriced: frozenset[str] = frozenset()

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.usd + other.usd, self.unpriced | other.unpriced)

    @property
    def text(self) -> str:
        """As a person reads it: what is unknown is said, never counted as nothing."""
        if not self.unpriced:
            return f"{self.usd:.4f}"
        return f"{self.usd:.4f} + unknown" if self.usd else "unknown"


def _price(input_: str, cached: str, output: str) -> Price:
    return Price(Decimal(input_), Decimal(cached), Decimal(output))


LIST_PRICES: Mapping[str, Price] = {
    "gpt-6-luna": _price("0.10", "0.01", "0.50"),
    "gpt-6-sol": _price("2.00", "0.20", "10.00"),
    "gpt-6.1-sol": _price("2.00", "0.10", "10.00"),
    "gpt-6.1-terra": _price("1.00", "0.05", "5.00"),
    "gpt-6.2-sol": _price("2.00", "0.10", "10.00"),
}


class Prices:
    """The list prices, with the operator's own (MODEL_PRICES) before them."""

    def __init__(self, own: str | None = None) -> None:
        self._prices = {**LIST_PRICES, **(parse_prices(own) if own else {})}

    def cost(self, model: str, tokens: Tokens) -> Cost:
        """The cost of a model's tokens; a dated name has its undated one's price."""
        price = self._prices.get(model) or self._prices.get(_DATED.sub("", model))
        if price is None:
            return Cost(unpriced=frozenset((model or "(not named)",)))
        fresh = max(0, tokens.input - tokens.cached)
        usd = fresh * price.input + tokens.cached * price.cached + tokens.output * price.output
        return Cost(usd / _MILLION)


def parse_prices(text: str) -> dict[str, Price]:
    """The value of MODEL_PRICES. Raises ValueError with a sentence that says what it should look like."""
    try:
        value = json.loads(text, parse_float=Decimal, parse_int=Decimal)
    except ValueError:
        raise ValueError(_FORM) from None
    if not isinstance(value, dict):
        raise ValueError(_FORM)
    return {model: _own(model, fields) for model, fields in value.items()}


def _own(model: str, fields: object) -> Price:
    if not isinstance(fields, dict) or set(fields) != set(_NAMES):
        raise ValueError(f"{model} needs exactly the prices input, cached and output: {_FORM}")
    for name in _NAMES:
        amount = fields[name]
        if not isinstance(amount, Decimal) or amount < 0:
            raise ValueError(
                f"{name} of {model} must be a number from 0 on: US dollars for 1,000,000 tokens"
            )
    return Price(*(fields[name] for name in _NAMES))
