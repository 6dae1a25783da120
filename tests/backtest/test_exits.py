"""The array kernel leaves when and why the oracle of the sweep's SQL does, to the last digit."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from maxxit.backtest.exits import Exit, PriceTrack, decimals_of, find_exit
from maxxit.core.errors import Misconfigured
from positions.exits.levels import Levels
from tests.positions.exits.oracle import exit_reason, ratchet

BEGIN = datetime(2017, 12, 1, tzinfo=UTC)
CENT = Decimal("0.01")


def track_of(prices: list[int | None]) -> PriceTrack:
    """Prices in cents at moments five minutes apart; None: no fresh quote."""
    fresh = [place for place, price in enumerate(prices) if price is not None]
    begin = int(BEGIN.timestamp())
    return PriceTrack(
        "ETH",
        2,
        np.array(fresh, dtype=np.int64),
        np.array([begin + 300 * place for place in fresh], dtype=np.int64),
        np.array([price for price in prices if price is not None], dtype=np.int64),
    )


def by_the_oracle(prices: list[int | None], side: str, opened: int, levels: Levels) -> Exit | None:
    stop = None
    for place in range(opened, len(prices)):
        cents = prices[place]
        if cents is None:
            continue
        price = cents * CENT
        stop = ratchet(levels, stop, side=side, price=price)
        now = BEGIN + timedelta(minutes=5 * place)
        if reason := exit_reason(levels, stop, side=side, price=price, now=now):
            return Exit(place, reason)
    return None


CENTS = st.integers(min_value=90_00, max_value=110_00)


@st.composite
def books(draw: st.DrawFn) -> tuple[list[int | None], list[tuple[str, int, Levels]]]:
    """Prices and ten positions on them."""
    prices = draw(st.lists(st.one_of(CENTS, CENTS, CENTS, st.none()), min_size=1, max_size=60))
    positions = []
    for _ in range(10):
        side = draw(st.sampled_from(["long", "short"]))
        sign = 1 if side == "long" else -1
        opened = draw(st.integers(0, len(prices) - 1))
        entry = draw(CENTS)
        trailing = draw(st.booleans())
        levels = Levels(
            stop_loss=(entry - sign * draw(st.integers(0, 12_00))) * CENT,
            take_profit=(entry + sign * draw(st.integers(0, 12_00))) * CENT,
            time_exit_at=BEGIN + timedelta(minutes=5 * opened + draw(st.integers(0, 200))),
            trailing_activation=(entry + sign * draw(st.integers(-3_00, 6_00))) * CENT if trailing else None,
            trailing_pct=draw(st.sampled_from([Decimal(1), Decimal("0.5"), Decimal("2.125")]))
            if trailing
            else None,
        )
        positions.append((side, opened, levels))
    return prices, positions


@settings(max_examples=500, deadline=None)
@given(books())
@example(([100_00, None, 100_00], [("long", 1, Levels(Decimal(90), Decimal(100), BEGIN, None, None))]))
def test_random_books_leave_when_and_why_the_rules_say(
    book: tuple[list[int | None], list[tuple[str, int, Levels]]],
) -> None:
    prices, positions = book
    track = track_of(prices)

    for side, opened, levels in positions:
        found = find_exit(track, side, opened, levels.columns(lambda price: price))

        assert found == by_the_oracle(prices, side, opened, levels)


def test_a_price_finer_than_its_units_is_refused_by_name() -> None:
    levels = Levels(Decimal("99.001"), Decimal(101), BEGIN, None, None)

    with pytest.raises(Misconfigured, match=r"ETH: the price 99.001 has more than 2 decimals"):
        find_exit(track_of([100_00]), "long", 0, levels.columns(lambda price: price))


def test_decimals_are_counted_without_trailing_zeros() -> None:
    assert [decimals_of(Decimal(text)) for text in ("100", "1E+3", "0.50", "0.000001")] == [0, 0, 1, 6]
