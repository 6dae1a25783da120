"""Confidence intervals of shares. Pure."""

from decimal import Decimal

Z_95 = Decimal("1.959963984540054")
"""97.5 % quantile of the standard normal distribution."""


def wilson(part: Decimal | int, whole: Decimal | int) -> tuple[Decimal, Decimal] | None:
    """Return the 95 % Wilson score interval of the share part / whole, as fractions; None where the whole is zero.

    Unlike the normal approximation it holds for small counts and for shares near 0 and 1 (Wilson, JASA 22, 1927;
    Brown, Cai and DasGupta, Interval Estimation for a Binomial Proportion, 2001).
    """
    if not whole:
        return None
    share, z = Decimal(part) / whole, Z_95
    middle = share + z * z / (2 * whole)
    reach = z * (share * (1 - share) / whole + z * z / (4 * whole * whole)).sqrt()
    scale = 1 + z * z / whole
    low = (middle - reach) / scale if part else Decimal(0)
    return low, (middle + reach) / scale if part < whole else Decimal(1)
