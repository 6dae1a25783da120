"""Funding rates of perpetual futures: read from the configured sources, the newest of each is kept for price rules."""

from collections.abc import Mapping
from decimal import Decimal
from functools import cache

import structlog

from maxxit.core import clock
from maxxit.core.errors import Misconfigured, Rejected, Retryable
from maxxit.core.registry import Registry
from maxxit.market import quotes
from maxxit.market.feeds.base import FundingSource
from maxxit.market.instruments import all_instruments
from maxxit.market.models import FundingRate

log = structlog.get_logger(__name__)
SOURCES: Registry[FundingSource] = Registry(
    "source of funding rates", {"hyperliquid": "maxxit.market.feeds.hyperliquid.HyperliquidFunding"}
)
LARGEST = Decimal(10_000)
"""Percent; a source that states more is wrong."""


@cache
def open_sources() -> tuple[FundingSource, ...]:
    """Return the configured sources. Raises `Misconfigured` for an unknown one."""
    rules = quotes.policy()
    unknown = [name for name in rules.funding_order if name not in rules.funding]
    if unknown:
        raise Misconfigured(
            f"config/feeds.yaml: `funding_order` names {unknown}, which `funding` does not describe"
        )
    return tuple(SOURCES.open(**{"name": name, **rules.funding[name]}) for name in rules.funding_order)


def refresh() -> int:
    """Read the rates of every instrument from each source, and keep them; return how many.

    A source that does not answer, or refuses, keeps no other from being read.
    """
    symbols, kept = list(all_instruments()), 0
    for source in open_sources():
        try:
            kept += _keep(source.name, source.funding_rates(symbols))
        except (Retryable, Rejected) as error:
            log.warning("funding_not_read", source=source.name, error=str(error))
    return kept


def _keep(source: str, rates: Mapping[str, Decimal]) -> int:
    now = clock.now()
    rows = [
        FundingRate(symbol=symbol, source=source, rate_pct=rate, at=now)
        for symbol, rate in sorted(rates.items())
        if abs(rate) <= LARGEST
    ]
    FundingRate.objects.bulk_create(
        rows, update_conflicts=True, unique_fields=["symbol", "source"], update_fields=["rate_pct", "at"]
    )
    return len(rows)
