"""Perpetual futures on paper: margin, funding, liquidation, in the exchange and in our own books."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maxxit.core.errors import Misconfigured, Rejected
from maxxit.core.money import USDC
from maxxit.market import candles
from maxxit.market.feeds.bars import BAR, Bar
from positions import book, liquidations
from positions.exits import sweep
from positions.models import Position
from positions.performance import identity
from tests import builders as make
from tests.builders import T0, RecordedClock
from tests.passes import execute_pass
from trading import ledger, reconcile, settle
from trading.models import (
    Order,
    PaperBalance,
    PaperFill,
    PaperFunding,
    PaperOrder,
    PaperPosition,
)
from trading.perps import funding, isolated
from trading.perps.models import MarginPosition
from trading.venues.base import Prepared, Request
from trading.venues.paper import PaperVenue
from trading.venues.paper_margin import PaperMargin, read_rates

pytestmark = pytest.mark.django_db
D = Decimal
UNIT = D("0.000001")
KEY = "paper_perps/perps:1"


def request(number: str, **fields: Any) -> Request:
    values: dict[str, Any] = {
        "client_order_id": f"mx-{number}", "account": "perps:1", "symbol": "ETH", "side": "buy", "purpose": "open",
        "quantity": D(1), "reference_price": D(2000), "deadline": T0 + timedelta(days=30), "leverage": D(5),
    }  # fmt: skip
    return Request(**values | fields)


def bar(opened: datetime, low: str, high: str, close: str, symbol: str = "ETH") -> None:
    """A closed bar; its close is the newest quote."""
    candles.store(symbol, [Bar(opened, D(close), D(high), D(low), D(close), D(1))])
    make.price(symbol, close, at=opened + BAR)


def opened_position(deployment: Any, side: str = "long", leverage: str = "5") -> Position:
    """A position of ours, from a signal through the whole entry."""
    make.signal(deployment.agent, side=side, leverage=D(leverage), stop_loss_pct=D(4), take_profit_pct=D(12))
    assert execute_pass().out >= 1
    assert book.book() == (1, 0)
    return Position.objects.get(deployment=deployment, state="open")


def closed(position: Position) -> Position:
    """Run what ends a position whose closing order is at the venue."""
    settle.settle_due("close")
    book.book()
    position.refresh_from_db()
    return position


def books_agree(deployment: Any) -> None:
    """Venue, ledger and positions say the same: cash + tokens × price = equity."""
    reconcile.compare_settled()
    assert reconcile.drifts() == {}
    read = identity.read_identity()
    assert (read.wrong, read.unpriced) == ([], [])
    held = ledger.balances(deployment.pk)
    equity = sum((amount * (1 if asset == USDC else price(asset)) for asset, amount in held.items()), D(0))
    at_venue = PaperPosition.objects.filter(account=KEY)
    free = PaperMargin(max_leverage=D(10), most_slippage=D(0)).free([KEY])[KEY]
    of_positions = sum(
        (isolated.Isolated(row.tokens, row.cash).equity(price(row.symbol)) for row in at_venue), D(0)
    )
    assert equity == free + of_positions


def price(symbol: str) -> Decimal:
    """The newest quote."""
    row = make.Quote.objects.filter(symbol=symbol).first()
    return row.price if row else D(0)


# --- margin


def test_an_entry_takes_its_margin_and_shows_its_liquidation_price(
    perps: PaperVenue, deployment: Any
) -> None:
    position = opened_position(deployment)
    cash = position.entry_price * position.quantity
    held = PaperPosition.objects.get(account=KEY, symbol="ETH")
    assert held.tokens == position.quantity
    assert held.cash == isolated.initial_margin(cash, D(5)) - cash

    perps.balances("perps:1")
    row = MarginPosition.objects.get(venue="paper_perps", account="perps:1")
    assert (row.leverage, row.isolated, row.maintenance) == (5, True, D("0.05"))
    assert row.liquidation_price is not None
    assert abs(row.liquidation_price - position.entry_price * D("0.8") / D("0.95")) < D("0.001")
    assert position.stop_loss > row.liquidation_price
    books_agree(deployment)


@pytest.mark.parametrize("side", ["long", "short"])
def test_a_close_returns_the_margin_with_the_result(
    perps: PaperVenue, deployment: Any, time: RecordedClock, side: str
) -> None:
    position = opened_position(deployment, side)
    time.move(minutes=5)
    make.price("ETH", "2300" if side == "long" else "1700")
    assert sweep.sweep() == 1
    execute_pass()
    assert closed(position).exit_reason == "take_profit"
    assert position.realised_pnl > 0
    held = PaperPosition.objects.get(account=KEY, symbol="ETH")
    assert (held.tokens, held.cash) == (0, 0)
    assert MarginPosition.objects.filter(venue="paper_perps").count() == 0 or perps.balances("perps:1")
    books_agree(deployment)


def test_an_entry_larger_than_the_free_cash_is_refused_and_leverage_is_held_to_the_stanza(
    perps: PaperVenue, deployment: Any
) -> None:
    perps.send(perps.prepare(request("1", quantity=D(20), leverage=D(50))))  # 40,000 USD: margin 4,000 at 10x
    assert PaperPosition.objects.get(account=KEY).leverage == 10
    with pytest.raises(Rejected, match="the account has") as refused:
        perps.send(perps.prepare(request("2", quantity=D(40), leverage=D(10))))
    assert refused.value.code == "insufficient_balance"
    before = perps.find("mx-1")
    perps.send(perps.prepare(request("1", quantity=D(20), leverage=D(50))))
    assert perps.find("mx-1") == before, "the same order again asks for no second margin"


def test_two_orders_of_one_batch_share_the_free_cash(perps: PaperVenue, deployment: Any) -> None:
    orders = [perps.prepare(request(number, quantity=D(15), leverage=D(5))) for number in "12"]
    assert list(perps.send_many(orders)) == ["mx-2"]  # 6,000 USDC of margin each


def test_a_closing_order_opens_nothing(perps: PaperVenue, deployment: Any) -> None:
    with pytest.raises(Rejected) as refused:
        perps.send(perps.prepare(request("1", side="sell", purpose="close")))
    assert refused.value.code == "no_position"
    perps.send(perps.prepare(request("2", quantity=D("0.4"))))
    perps.send(perps.prepare(request("3", side="sell", purpose="close")))
    report = perps.find("mx-3")
    assert report is not None
    assert sum(fill.quantity for fill in report.fills) == D("0.4")
    report = perps.find("mx-3")
    assert report is not None
    assert report.state == "canceled", "of more than there was to close, the rest"
    assert perps.balances("perps:1")["ETH"] == 0


def test_two_stanzas_keep_one_account_apart(perps: PaperVenue, deployment: Any) -> None:
    spot = PaperVenue(slippage_bps=0, fee_bps=0, depth_usd=5000)
    assert spot.balances("perps:1") == {}
    spot.deposit("perps:1", D(5))
    assert perps.balances("perps:1") == {USDC: D(10_000)}


# --- liquidation


@pytest.mark.parametrize("side", ["long", "short"])
@pytest.mark.parametrize("how", ["wick", "gap", "quote"])
def test_a_liquidated_position_loses_its_margin_and_no_more(
    perps: PaperVenue, deployment: Any, time: RecordedClock, side: str, how: str
) -> None:
    """By a bar that came back, by one that gaps beyond stop, liquidation and bankruptcy, and by the quote alone."""
    position = opened_position(deployment, side)
    cash_in = position.entry_price * position.quantity
    margin = isolated.initial_margin(cash_in, D(5))
    time.move(minutes=5)
    low, high, close = {
        ("wick", "long"): ("1600", "2010", "2000"), ("wick", "short"): ("1990", "2400", "2000"),
        ("gap", "long"): ("100", "120", "110"), ("gap", "short"): ("9000", "9100", "9050"),
        ("quote", "long"): ("", "", "1500"), ("quote", "short"): ("", "", "2500"),
    }[how, side]  # fmt: skip
    if low:
        bar(T0, low, high, close)
    else:
        make.price("ETH", close)

    assert reconcile.compare_settled().differences == {}, "it explains its own difference"
    assert liquidations.adopt() == 1
    assert liquidations.adopt() == 0
    assert closed(position).state == "closed"
    order = position.exit_order
    assert order is not None
    assert (position.exit_reason, order.exit_reason) == ("liquidated", "liquidated")
    loss = -(position.realised_pnl + position.fees)
    assert abs(loss - margin) <= 2 * UNIT
    books_agree(deployment)
    assert perps.balances("perps:1").get("ETH", D(0)) == 0
    assert MarginPosition.objects.count() == 0


def test_a_stop_that_is_sent_for_a_liquidated_position_finds_nothing_to_close(
    perps: PaperVenue, deployment: Any, time: RecordedClock
) -> None:
    """Stop and liquidation price lie in one bar, and the sweep is quicker than the look for liquidations."""
    position = opened_position(deployment)
    time.move(minutes=5)
    bar(T0, "1550", "2005", "1900")  # the close is below the stop too
    assert sweep.sweep() == 1
    execute_pass()
    refused = Order.objects.get(purpose="close")
    assert (refused.state, refused.reason) == ("rejected", "no_position")
    book.book()
    position.refresh_from_db()
    assert position.state == "open"
    assert liquidations.adopt() == 1
    assert closed(position).exit_reason == "liquidated"
    books_agree(deployment)


def test_what_happened_before_the_entry_liquidates_nothing(
    perps: PaperVenue, deployment: Any, time: RecordedClock
) -> None:
    time.move(minutes=2)
    make.price("ETH", "2000")
    position = opened_position(deployment)
    time.move(minutes=3)
    bar(T0, "1000", "2010", "2000")  # a bar that was half over at the entry
    assert liquidations.adopt() == 0
    time.move(minutes=5)
    bar(T0 + BAR, "1000", "2010", "2000")
    assert liquidations.adopt() == 1
    assert closed(position).exit_reason == "liquidated"


# --- funding


@pytest.mark.parametrize("side", ["long", "short"])
def test_funding_is_charged_at_its_times_at_recorded_rates_and_booked(
    perps: PaperVenue, deployment: Any, time: RecordedClock, side: str
) -> None:
    """16:00 at 0.05 %, midnight at -0.03 %, and 08:00 of the next day, of which no rate is recorded, at 0.01 %."""
    position = opened_position(deployment, side)
    sign = 1 if side == "long" else -1
    closes = {4: "2010", 12: "1990", 20: "2020"}
    for hours, close in closes.items():
        time.to(T0 + timedelta(hours=hours))
        bar(time.now - BAR, "1985", "2025", close)
        for _ in range(2):
            reconcile.compare_settled()
    paid = list(PaperFunding.objects.order_by("at").values_list("at", "amount"))
    assert [at.astimezone(UTC).hour for at, _ in paid] == [16, 0, 8]
    rates = (D("0.0005"), D("-0.0003"), D("0.0001"))
    for (_, amount), rate, close in zip(paid, rates, closes.values(), strict=True):
        exact = -sign * rate * position.quantity * D(close)
        assert amount <= exact < amount + UNIT
        assert (amount < 0) == (sign * rate > 0), "a long pays a positive rate, and a short receives it"
    total = sum((amount for _, amount in paid), D(0))
    assert funding.of_position(deployment.pk, "ETH", position.opened_at, None) == total
    assert ledger.balance("venue:paper_perps:funding", USDC) == -total
    books_agree(deployment)


def test_missed_times_are_charged_later_at_the_prices_of_their_bars(
    perps: PaperVenue, deployment: Any, time: RecordedClock
) -> None:
    position = opened_position(deployment)
    for hours, close in ((4, "2010"), (12, "1990")):
        at = T0 + timedelta(hours=hours)
        candles.store("ETH", [Bar(at - BAR, D(close), D(close), D(close), D(close), D(1))])
    time.to(T0 + timedelta(hours=13))
    make.price("ETH", "1980")
    reconcile.compare_settled()
    amounts = list(PaperFunding.objects.order_by("at").values_list("amount", flat=True))
    assert amounts[0] == -(D("0.0005") * position.quantity * 2010).quantize(UNIT, "ROUND_CEILING")
    assert amounts[1] > 0
    books_agree(deployment)


def test_funding_can_liquidate(perps: PaperVenue, deployment: Any, time: RecordedClock) -> None:
    perps.margin.rate = D("0.2")  # type: ignore[union-attr]  # 20 % each eight hours
    perps.margin._file = ""  # type: ignore[union-attr]
    position = opened_position(deployment)
    margin = isolated.initial_margin(position.entry_price * position.quantity, D(5))
    time.to(T0 + timedelta(hours=4))
    bar(time.now - BAR, "2000", "2000", "2000")
    reconcile.compare_settled()
    assert liquidations.adopt() == 1
    closed(position)
    paid = funding.of_position(deployment.pk, "ETH", position.opened_at, position.closed_at)
    assert abs(position.realised_pnl + position.fees + paid + margin) <= 2 * UNIT
    books_agree(deployment)


# --- any path

steps = st.tuples(
    st.integers(1, 9), st.sampled_from(["bar", "quote", "close", "open", "add"]), st.integers(1, 60_000)
)


@settings(max_examples=40)
@given(
    st.sampled_from(["buy", "sell"]), st.integers(1, 10), st.lists(steps, max_size=8), st.integers(-100, 100)
)
def test_no_path_takes_more_than_margin_and_fees_and_the_books_always_agree(
    db: None, side: str, leverage: int, path: list[tuple[int, str, int]], rate: int
) -> None:
    """Gaps, partial closes, additions, entries after liquidations, funding of up to 1 %."""
    for model in (PaperFill, PaperOrder, PaperBalance, PaperPosition, PaperFunding, candles.Candle):
        model.objects.all().delete()
    venue = PaperVenue(
        slippage_bps=5, fee_bps=10, depth_usd=10**9, max_leverage=D(10), funding_hours=1,
        funding_rate_pct=D(rate) / 100,
    )  # fmt: skip
    venue.name = "any"
    rules = venue.margin
    assert rules is not None
    clock = RecordedClock(T0)
    try:
        make.price("ETH", "2000")
        venue.deposit("a", D(100_000))
        at_risk = D(0)
        """Margins that were put in, and fees: what may be lost."""

        def trade(number: int, **fields: Any) -> None:
            nonlocal at_risk
            before = rules.free(["any/a"])["any/a"]
            wanted = request(
                f"any-{number}", account="a", leverage=D(leverage), deadline=clock.now + BAR, **fields
            )
            errors = venue.send_many([venue.prepare(wanted)])
            if not errors:
                after = rules.free(["any/a"])["any/a"]
                if wanted.purpose == "open":
                    at_risk += before - after
                else:
                    fees = sum(
                        (f.fee for f in PaperFill.objects.filter(order__client_order_id=f"mx-any-{number}")),
                        D(0),
                    )
                    at_risk += fees

        trade(0, side=side, quantity=D("1.7"))
        for number, (minutes, what, level) in enumerate(path, 1):
            clock.move(minutes=5 * minutes)
            usd = D(level) / 10
            if what == "bar":
                wick = D(2000)
                low, high = min(usd, wick), max(usd, wick)
                candles.store("ETH", [Bar(clock.now - BAR, wick, high, low, usd, D(1))])
                make.price("ETH", str(usd))
            elif what == "quote":
                make.price("ETH", str(usd))
            else:
                make.price("ETH", str(price("ETH")))
            if what == "close":
                trade(number, side="sell" if side == "buy" else "buy", purpose="close", quantity=D("0.6"))
            elif what in ("open", "add"):
                trade(number, side=side, quantity=D("0.3"))
            held = venue.balances("a")
            worth = held[USDC] + held.get("ETH", D(0)) * price("ETH")
            free = rules.free(["any/a"])["any/a"]
            row = PaperPosition.objects.filter(account="any/a").first()
            equity = isolated.Isolated(row.tokens, row.cash).equity(price("ETH")) if row else D(0)
            assert worth == free + equity, "cash + tokens × price = equity"
            assert equity >= 0, "a position that is still there has something left"
            assert free >= 100_000 - at_risk - UNIT * 10, "no more than margins and fees is lost"
    finally:
        clock.release()


# --- options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"maintenance_margin_pct": "10"}, "below the initial margin"),
        ({"maintenance_margin_pct": "0.01"}, "above slippage_bps"),
        ({"maintenance_margin_pct": "much"}, "a number of percent"),
        ({"funding_hours": 5}, "divides 24"),
        ({"funding_hours": 0}, "divides 24"),
        ({"funding_rate_pct": "200"}, "a number of percent"),
        ({"fundings": 1}, "fundings"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(Misconfigured, match=message):
        PaperVenue(slippage_bps=5, fee_bps=10, depth_usd=5000, max_leverage=D(10), **options)


def test_without_leverage_there_are_no_margin_rules() -> None:
    with pytest.raises(Misconfigured, match="funding_hours: only with max_leverage above 1"):
        PaperVenue(slippage_bps=5, fee_bps=10, depth_usd=5000, funding_hours=8)
    assert not PaperVenue(slippage_bps=5, fee_bps=10, depth_usd=5000).capabilities.liquidates


@pytest.mark.parametrize(
    "line",
    [
        "ETH,2026-03-02T17:00:00Z,0.01",
        "ETH,2026-03-02T16:00:00,0.01",
        "ETH,2026-03-02T16:00:00Z,much",
        "ETH,2026-03-02T16:00:00Z",
        "ETH,2026-03-02T16:00:00Z,NaN",
        "ETH,2026-03-02T16:00:00Z,0.01\nETH,2026-03-02T16:00:00Z,0.02",
    ],
)
def test_recorded_rates_are_checked(tmp_path: Path, line: str) -> None:
    path = tmp_path / "rates.csv"
    path.write_text(f"symbol,at,rate_pct\n{line}\n")
    with pytest.raises(Misconfigured, match=r"rates\.csv, line"):
        read_rates(path, timedelta(hours=8))
    path.write_text("time,rate\n")
    with pytest.raises(Misconfigured, match="begins with the line"):
        read_rates(path, timedelta(hours=8))
    with pytest.raises(Misconfigured, match="cannot be read"):
        read_rates(tmp_path / "none.csv", timedelta(hours=8))


def test_an_order_that_was_stored_before_leverage_was_is_still_taken(
    perps: PaperVenue, deployment: Any
) -> None:
    prepared = perps.prepare(replace(request("1"), quantity=D(1)))
    old = {name: value for name, value in prepared.payload.items() if name != "leverage"}
    perps.send(Prepared(prepared.ref, old))
    assert PaperPosition.objects.get(account=KEY).leverage == 1
