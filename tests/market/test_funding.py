"""Funding rates: read from Hyperliquid's fake, of eight hours in percent, the newest of each source kept."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from maxxit.core.errors import Misconfigured, Rejected, Retryable
from maxxit.market import funding, quotes
from maxxit.market.feeds.hyperliquid import HyperliquidFunding
from maxxit.market.models import FundingRate
from tests.builders import RecordedClock
from tests.trading.venues.hyperliquid.server import Server, hyperliquid

COINS = {"BTC": "BTC", "ETH": "ETH", "SOL": "NOT-LISTED"}


@pytest.fixture
def fake() -> Iterator[Server]:
    with hyperliquid() as one:
        yield one


def source(url: str, name: str = "hyperliquid") -> HyperliquidFunding:
    return HyperliquidFunding(name=name, base_url=url, coins=COINS)


def test_an_hourly_fraction_becomes_percent_of_eight_hours(fake: Server) -> None:
    fake.exchange.market("ETH").funding = Decimal("-0.0004")
    rates = source(fake.url).funding_rates(["BTC", "ETH", "SOL", "OP"])
    assert rates == {"BTC": Decimal("0.01"), "ETH": Decimal("-0.32")}


@pytest.mark.parametrize(
    ("fault", "error"), [("broken", Retryable), ("maintenance", Retryable), ("refused", Rejected)]
)
def test_a_source_that_fails_says_so(fake: Server, fault: str, error: type[Exception]) -> None:
    fake.misbehaves(fault, "metaAndAssetCtxs")
    with pytest.raises(error):
        source(fake.url).funding_rates(["BTC"])


@pytest.mark.django_db
def test_each_source_is_kept_and_one_that_fails_keeps_no_other_from_it(
    fake: Server, time: RecordedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = (source("http://127.0.0.1:9", "away"), source(fake.url))
    monkeypatch.setattr(funding, "open_sources", lambda: sources)
    assert funding.refresh() == 2
    fake.exchange.market("BTC").funding = Decimal("1000")  # no rate of this world
    fake.exchange.market("ETH").funding = Decimal("0.0001")
    before = time.now
    time.move(minutes=5)
    assert funding.refresh() == 1
    rows = {row.symbol: (row.source, row.rate_pct, row.at) for row in FundingRate.objects.all()}
    assert rows == {
        "BTC": ("hyperliquid", Decimal("0.01"), before),
        "ETH": ("hyperliquid", Decimal("0.08"), time.now),
    }


def test_the_configured_sources_are_opened_and_an_unknown_one_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert [one.name for one in funding.open_sources.__wrapped__()] == ["hyperliquid"]
    wrong: Any = quotes.policy().model_copy(update={"funding_order": ("nowhere",)})
    monkeypatch.setattr(quotes, "policy", lambda: wrong)
    with pytest.raises(Misconfigured, match="nowhere"):
        funding.open_sources.__wrapped__()
