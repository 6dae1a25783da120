"""Money: rounding and formatting of Decimal amounts. Floats are never used for money.

Amounts are rounded in two places only: to an instrument's tick and lot (`maxxit.market.instruments`), and to the
six decimals of the settlement asset (`usdc`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Context, Decimal, localcontext
from typing import Any

USDC, USD = "USDC", "USD"
IS_CASH, IS_TOKEN = f"IN ('{USDC}', '{USD}')", f"NOT IN ('{USDC}', '{USD}')"
"""SQL conditions on an asset: cash, of which one unit counts as one USD, or a token that is valued at its quote."""
CASH = (USDC, USD)
USDC_UNIT = Decimal("0.000001")
ZERO = Decimal(0)
COLUMN: dict[str, Any] = {"max_digits": 38, "decimal_places": 18}
"""Arguments of every DecimalField for money, a price or a quantity: NUMERIC(38, 18)."""


@contextmanager
def exactly() -> Iterator[None]:
    """Add and multiply columns without rounding inside this block, as Postgres does. Do not divide in it."""
    with localcontext(prec=2 * COLUMN["max_digits"] + 20):
        yield


def usdc(number: Decimal) -> Decimal:
    """Round an amount of USDC half-even to the token's six decimals."""
    return number.quantize(USDC_UNIT, rounding=ROUND_HALF_EVEN)


def plain(number: Decimal) -> str:
    """Format `number` without exponent and trailing zeros."""
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


SHARE_UNIT = Decimal("1e-18")
"""What cumulated fractions are rounded to in `split`."""


def split(amount: Decimal, weights: Sequence[Decimal], unit: Decimal = USDC_UNIT) -> list[Decimal]:
    """Split an amount by weights (zero or more; all zero: equally) into parts that add up to it exactly.

    A part is the difference of two cumulated amounts, each rounded half-up to whole units, so that it differs from its
    exact share by less than a unit; what of `amount` is no whole unit is in the last part that has a weight.
    `positions.performance.splitting` does the same in SQL.
    """
    if not any(weights):
        weights = [Decimal(1)] * len(weights)
    with localcontext(prec=2 * COLUMN["max_digits"] + 20):
        total, weight, before = sum(weights, ZERO), ZERO, ZERO
        parts = []
        for own in weights:
            weight += own
            share = (weight / total).quantize(SHARE_UNIT, rounding=ROUND_HALF_UP)
            upto = amount if share == 1 else (amount * share).quantize(unit, rounding=ROUND_HALF_UP)
            parts.append(upto - before)
            before = upto
    return parts


BRIEF = 8
"""Significant digits that `brief` shows."""


def brief(number: Decimal) -> str:
    """Format `number` for display: eight significant digits, or all digits before the point if those are more."""
    return plain(Context(prec=max(BRIEF, number.adjusted() + 1)).plus(number))


DECIMAL = re.compile(r"-?[\d,]+\.\d+")


def trimmed(text: str) -> str:
    """Remove trailing zeros from the text of a decimal; other texts stay as they are."""
    return text.rstrip("0").rstrip(".") if DECIMAL.fullmatch(text) else text
