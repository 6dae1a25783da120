"""Numbers that know what they count. Decimal only; a float never touches money.

Rounding happens at two edges only: an instrument's tick and lot (`maxxit.market.instruments`), and the
smallest unit of the settlement asset (`usdc`).
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any

USDC = "USDC"
USDC_UNIT = Decimal("0.000001")
ZERO = Decimal(0)
COLUMN: dict[str, Any] = {"max_digits": 38, "decimal_places": 18}
"""The keyword arguments of every database column that holds money, a price or a quantity: NUMERIC(38, 18)."""


def usdc(number: Decimal) -> Decimal:
    """`number` USDC, rounded half-even to the token's six decimals."""
    return number.quantize(USDC_UNIT, rounding=ROUND_HALF_EVEN)


def plain(number: Decimal) -> str:
    """`number` as people and JSON want it: no exponent, no trailing zeros."""
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


BRIEF = 8
"""Significant digits that `brief` shows."""


def brief(number: Decimal) -> str:
    """Format `number` for display: eight significant digits, and never fewer than all whole ones.

    A price on a chain is a quotient and has eighteen decimals.
    """
    return plain(Context(prec=max(BRIEF, number.adjusted() + 1)).plus(number))
