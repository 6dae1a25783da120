"""Stored indicator snapshots: computed once, without look-ahead, and identical at every read."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.db.models import ProtectedError
from django.test.utils import CaptureQueriesContext
from hypothesis import given, settings
from hypothesis import strategies as st

from maxxit.market import candles, snapshots
from maxxit.market.feeds.bars import BAR, Bar
from maxxit.market.indicators import snapshot
from maxxit.market.models import MarketSnapshot
from maxxit.market.snapshots import Terms
from signals_app.generate import generate
from signals_app.models import Signal
from signals_app.policy import policy
from tests import builders
from tests.builders import HOUR, T0, RecordedClock

pytestmark = pytest.mark.django_db
TERMS = Terms(width=HOUR, count=60, warm_up=40, window=timedelta(hours=6))


def fresh(symbol: str, at: Any = T0) -> Any:
    bars = candles.last_bars([symbol], width=TERMS.width, count=TERMS.count, at=at)
    return snapshot(bars[symbol], warm_up=TERMS.warm_up)


def test_the_second_read_returns_bit_for_bit_what_the_first_computed(time: RecordedClock) -> None:
    for symbol in ("ETH", "BTC"):
        builders.hourly_bars(symbol, builders.rising(level=0.1 + 2000 / 3))
    first = snapshots.of(["ETH", "BTC"], TERMS, T0)
    with CaptureQueriesContext(connection) as queries:
        again = snapshots.of(["ETH", "BTC"], TERMS, T0 + timedelta(minutes=59))

    assert len(queries) == 1
    assert again == first
    assert first["ETH"].figures == fresh("ETH")  # floats, compared exactly
    row = MarketSnapshot.objects.get(pk=first["ETH"].row)
    assert (row.until, row.window_start) == (T0, T0)


def test_a_new_bar_is_a_new_snapshot_in_the_same_window(time: RecordedClock) -> None:
    builders.hourly_bars("ETH", builders.calm(bars=61), until=T0 + HOUR)
    old = snapshots.of(["ETH"], TERMS, T0)["ETH"]
    new = snapshots.of(["ETH"], TERMS, T0 + HOUR)["ETH"]

    assert old.row != new.row
    assert old.figures.close != new.figures.close
    assert list(MarketSnapshot.objects.values_list("window_start", flat=True)) == [T0, T0]


@settings(max_examples=20)
@given(st.floats(0.01, 100), st.integers(0, 59))
def test_nothing_from_after_the_decision_is_in_it(factor: float, minute: int) -> None:
    """Whatever the market does after the last closed bar, the figures are the same."""
    MarketSnapshot.objects.all().delete()
    connection.cursor().execute("DELETE FROM candles")
    builders.hourly_bars("ETH", builders.calm())
    at = T0 + timedelta(minutes=minute)
    before = fresh("ETH", at)
    price = Decimal(repr(2000 * factor))
    later = [Bar(T0 + BAR * n, price, price, price, price, Decimal(5)) for n in range(30)]
    candles.store("ETH", later)

    assert snapshots.of(["ETH"], TERMS, at)["ETH"].figures == before


def test_too_few_bars_are_not_kept_and_count_as_soon_as_they_are_filled_in(time: RecordedClock) -> None:
    builders.hourly_bars("ETH", builders.calm(bars=39))
    assert snapshots.of(["ETH", "SOL"], TERMS, T0) == {}
    assert not MarketSnapshot.objects.exists()
    builders.hourly_bars("ETH", builders.calm(bars=60))

    assert set(snapshots.of(["ETH", "SOL"], TERMS, T0)) == {"ETH"}


def test_bars_that_are_filled_in_supersede_it_and_the_old_row_stays(time: RecordedClock) -> None:
    closes = builders.calm()
    builders.hourly_bars("ETH", closes[:-5])  # the last five hours are not there yet
    builders.hourly_bars("ETH", closes[-1:])
    candles.store("ETH", [])
    old = snapshots.of(["ETH"], Terms(HOUR, 60, 40, TERMS.window), T0)["ETH"]
    builders.hourly_bars("ETH", closes)  # a backfill
    new = snapshots.of(["ETH"], TERMS, T0)["ETH"]

    assert new.row != old.row
    assert new.figures == fresh("ETH") != old.figures
    assert MarketSnapshot.objects.get(pk=old.row).superseded
    builders.hourly_bars("ETH", closes)  # nothing new in it
    assert snapshots.of(["ETH"], TERMS, T0)["ETH"].row == new.row
    assert snapshots.of(["ETH"], Terms(HOUR, 50, 40, TERMS.window), T0)["ETH"].row != new.row


def test_a_signal_points_at_the_row_it_was_decided_on(time: RecordedClock) -> None:
    builders.hourly_bars("ETH", builders.rising())
    builders.price("ETH", "2400")
    agent = builders.agent()
    builders.candidate(builders.account(agent))
    assert generate(policy().generate).signals == 1

    signal = Signal.objects.select_related("snapshot").get()
    assert signal.snapshot is not None
    assert signal.market["rsi"] == float(f"{signal.snapshot.figures['rsi']:.10g}")
    assert signal.snapshot.window_start == signal.bucket
    with pytest.raises(ProtectedError):
        signal.snapshot.delete()
