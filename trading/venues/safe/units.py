"""Convert between integer base units on chain and Decimal whole units, exactly."""

from decimal import ROUND_DOWN, Decimal

USDC_DECIMALS = 6


def whole(amount: int, decimals: int) -> Decimal:
    """Convert base units to whole units, exactly."""
    return Decimal(amount).scaleb(-decimals)


def base(amount: Decimal, decimals: int) -> int:
    """Convert whole units to base units, rounded down."""
    return int(amount.scaleb(decimals).to_integral_value(rounding=ROUND_DOWN))
