"""Many entries at once: scaled by one fraction, in turns, and none lost to a limit that is nobody's own."""

from collections import Counter
from collections.abc import Callable, Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.models import Deployment
from maxxit.core import clock
from maxxit.core.money import USDC
from maxxit.events.models import Event
from maxxit.events.record import advance
from maxxit.market import instruments
from maxxit.market.models import Quote
from positions.models import Position
from positions.tasks import book_pass
from signals_app.models import Signal
from tests import builders as make
from tests.builders import RecordedClock
from tests.trading.conftest import Trader
from trading import ledger, tasks
from trading.entries import crowd
from trading.entries.crowd import Headroom, Market, shares
from trading.models import JournalKind, Order, PaperBalance
from trading.risk.policy import RiskPolicy, policy
from trading.venues.base import Venue
from trading.venues.paper import PaperVenue

D = Decimal
USD = st.decimals(0, 10**7, places=2)
MARKETS = [
    Market(at, symbol, side)
    for at in ("paper", "safe")
    for symbol in ("ETH", "BTC")
    for side in ("buy", "sell")
]


# --- the fraction --------------------------------------------------------------------------------------------------


@given(
    st.dictionaries(st.sampled_from(MARKETS), USD, min_size=1),
    USD,
    st.fixed_dictionaries({"ETH": USD, "BTC": USD}),
    st.dictionaries(st.sampled_from(MARKETS), USD),
)
def test_the_scaled_crowd_exceeds_no_limit_and_is_not_scaled_without_need(
    wanted: dict[Market, Decimal],
    platform: Decimal,
    symbols: dict[str, Decimal],
    depth: dict[Market, Decimal],
) -> None:
    found = shares(wanted, Headroom(platform, symbols, depth))
    scaled = {
        market: usd * (found[market].fraction if market in found else 1) for market, usd in wanted.items()
    }
    cent = D("0.01")
    assert sum(scaled.values()) <= platform + cent
    for symbol, limit in symbols.items():
        assert sum(usd for market, usd in scaled.items() if market.symbol == symbol) <= limit + cent
    assert all(scaled[market] <= limit + cent for market, limit in depth.items() if market in scaled)
    fits = sum(wanted.values()) <= platform and all(
        sum(usd for market, usd in wanted.items() if market.symbol == symbol) <= limit
        for symbol, limit in symbols.items()
    )
    if fits and all(wanted[market] <= limit for market, limit in depth.items() if market in wanted):
        assert found == {}


@given(
    st.lists(st.decimals(1, 1000, places=0), min_size=2, max_size=30),
    st.integers(1, 30),
    st.decimals(1, 5000, places=0),
)
def test_who_is_served_later_gets_the_same_fraction(
    sizes: list[Decimal], first: int, headroom: Decimal
) -> None:
    market = MARKETS[0]

    def fraction(wanted: Decimal, left: Decimal) -> Decimal:
        found = shares({market: wanted}, Headroom(left, {"ETH": D(10**9)}, {}))
        return found[market].fraction if found else D(1)

    before = fraction(sum(sizes, D(0)), headroom)
    served, later = sizes[:first], sizes[first:]
    if later:
        after = fraction(sum(later, D(0)), headroom - before * sum(served, D(0)))
        assert abs(after - before) < D("1e-20")


# --- orders --------------------------------------------------------------------------------------------------------


NO_LIMITS: Mapping[str, Any] = {}


def rules(
    monkeypatch: pytest.MonkeyPatch, account: Mapping[str, Any] = NO_LIMITS, **platform: Any
) -> RiskPolicy:
    """The shipped limits, but for those named."""
    found = policy().model_copy(
        update={
            "platform": policy().platform.model_copy(update=platform),
            "account": policy().account.model_copy(update=account),
            "allow_add_to_position": bool(account),
            "loosen_after_seconds": 0,
        }
    )
    monkeypatch.setattr("trading.risk.limits_in_force.policy", lambda: found)
    return found


def customers(trader: Trader, count: int, usdc: int = 10_000) -> list[Deployment]:
    """Funded deployments of the trader's agent, beside the trader's own."""
    made = Deployment.objects.bulk_create(
        Deployment(agent=trader.agent, account=f"paper:crowd{number}", state="active", starting_balance=usdc)
        for number in range(count)
    )
    PaperBalance.objects.bulk_create(
        PaperBalance(account=one.account, asset=USDC, amount=usdc) for one in made
    )
    ledger.post_all(
        [
            ledger.Journal(
                JournalKind.DEPOSIT,
                one.pk,
                [ledger.Move("external", ledger.account_of(one.pk), USDC, D(usdc), "deposit")],
            )
            for one in made
        ]
    )
    return made


@pytest.fixture
def paper(use_venue: Callable[[Venue], None]) -> PaperVenue:
    venue = PaperVenue(slippage_bps=5, fee_bps=10, depth_usd=5000)
    use_venue(venue)
    return venue


def test_a_thousand_customers_on_the_shipped_limits_are_all_served(trader: Trader, paper: PaperVenue) -> None:
    poor = customers(trader, 999)[:7]
    for one in poor:
        ledger.post(
            JournalKind.EXTERNAL,
            one.pk,
            [ledger.Move(ledger.account_of(one.pk), "external", USDC, D(9_950), "external")],
        )
    signal = trader.signal()
    tasks.entry_pass()
    book_pass()

    orders = Order.objects.filter(signal=signal)
    assert Counter(orders.values_list("state", "reason")) == {
        ("filled", ""): 993,
        ("blocked", "below_minimum"): 7,
    }
    assert Position.objects.count() == 993
    assert set(orders.filter(state="filled").values_list("notional_usd", flat=True)) == {D(800)}
    assert ledger.drift() == {}


@pytest.mark.parametrize("cap", ["max_total_exposure_usd", "max_symbol_exposure_usd"])
def test_where_an_exposure_binds_everybody_gets_the_same_fraction(
    trader: Trader, paper: PaperVenue, monkeypatch: pytest.MonkeyPatch, cap: str
) -> None:
    rules(monkeypatch, NO_LIMITS, **{cap: D(4000)})
    customers(trader, 19)
    trader.signal()
    tasks.entry_pass()

    placed = list(Order.objects.filter(purpose="open"))
    assert {order.state for order in placed} == {"filled"}
    assert {order.notional_usd for order in placed} == {D(200)}  # a quarter of 800
    event = Event.objects.filter(name="order.sending").latest("pk")
    reason = "platform_exposure_cap" if cap == "max_total_exposure_usd" else "platform_symbol_exposure_cap"
    assert (event.data["share_pct"], event.data["scaled_by"]) == ("25.00", reason)


def test_below_their_minimum_customers_take_turns(
    trader: Trader, paper: PaperVenue, monkeypatch: pytest.MonkeyPatch, time: RecordedClock
) -> None:
    account = {"cooldown_seconds_per_symbol": 1}
    rules(monkeypatch, account, max_total_exposure_usd=D(50))
    customers(trader, 9)
    first = trader.signal()
    tasks.entry_pass()
    served = [order for order in Order.objects.filter(signal=first) if order.state == "filled"]
    assert {order.notional_usd for order in served} == {D(10)}  # their minimum
    assert len(served) == 5
    assert set(Order.objects.filter(signal=first, state="blocked").values_list("reason", flat=True)) == {
        "platform_exposure_cap"
    }

    time.move(minutes=1)
    make.price("ETH", "2000")
    rules(monkeypatch, account, max_total_exposure_usd=D(100))
    second = trader.signal()
    tasks.entry_pass()
    later = Order.objects.filter(signal=second, state="filled").values_list("deployment_id", flat=True)
    assert len(later) == 5
    assert not {order.deployment_id for order in served} & set(later)


def test_the_crowd_is_held_to_what_the_market_takes(trader: Trader, monkeypatch: pytest.MonkeyPatch) -> None:
    def expected_price(account: str, symbol: str, side: str, cash: Decimal) -> Decimal:
        return D(2000) * (1 + cash / 400_000)  # one percent at 4,000 USD

    monkeypatch.setattr(trader.venue, "expected_price", expected_price)
    customers(trader, 9)
    trader.signal()
    tasks.entry_pass()

    orders = list(Order.objects.filter(purpose="open"))
    assert {order.state for order in orders} == {"filled"}
    assert len({order.notional_usd for order in orders}) == 1
    assert D(3900) < sum(order.notional_usd or 0 for order in orders) <= D(4000)


def test_a_market_is_asked_once_where_it_takes_everything(trader: Trader) -> None:
    asked: list[Decimal] = []

    class Deep(PaperVenue):
        def expected_price(self, account: str, symbol: str, side: str, cash: Decimal) -> Decimal:
            asked.append(cash)
            return D(2000)

    venue = Deep(slippage_bps=0, fee_bps=0, depth_usd=1)
    assert crowd.depth(venue, "a", MARKETS[0], D(2000), D(10**6), D(1)) == D(10**6)
    assert asked == [D(10**6)]


def test_an_entry_that_cannot_be_sized_and_a_venue_that_breaks_stop_no_other(
    trader: Trader, monkeypatch: pytest.MonkeyPatch
) -> None:
    def expected_price(account: str, symbol: str, side: str, cash: Decimal) -> Decimal:
        if cash > 1000:
            raise ZeroDivisionError("a venue's bug with a crowd's amount")
        return D(2000)

    def instrument(symbol: str) -> Any:
        if symbol == "BTC":
            raise KeyError("delisted")
        return instruments.instrument(symbol)

    monkeypatch.setattr(trader.venue, "expected_price", expected_price)
    monkeypatch.setattr("trading.risk.facts.instrument", instrument)
    rules(monkeypatch, max_total_exposure_usd=D(4000))
    customers(trader, 3)
    make.price("BTC", "100")
    trader.signal(token="BTC", usd="100")
    good = trader.signal()
    tasks.entry_pass()

    orders = Order.objects.filter(signal=good)
    assert set(orders.values_list("state", flat=True)) == {"filled"}
    poisoned = Order.objects.exclude(signal=good)
    assert set(poisoned.values_list("state", "attempts")) == {("planned", 1)}


def test_a_symbol_without_a_trusted_quote_stops_no_other(
    trader: Trader, paper: PaperVenue, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules(monkeypatch, max_total_exposure_usd=D(4000))
    customers(trader, 9)
    doubted = make.price("BTC", "100")
    Quote.objects.filter(pk=doubted.pk).update(trusted_for_entries=False, doubt="sources disagree")
    trader.signal(token="BTC", usd="100")
    good = trader.signal()
    tasks.entry_pass()

    assert set(Order.objects.filter(signal=good).values_list("state", "notional_usd")) == {("filled", D(400))}
    others = Order.objects.exclude(signal=good)
    assert set(others.values_list("state", "reason")) == {("blocked", "no_price")}


# --- the pace ------------------------------------------------------------------------------------------------------


def test_what_the_pace_holds_back_says_so_and_is_sent_in_its_turn(
    trader: Trader, paper: PaperVenue, monkeypatch: pytest.MonkeyPatch, time: RecordedClock
) -> None:
    rules(monkeypatch, max_orders_per_minute=4)
    customers(trader, 9)
    signal = trader.signal(expires_at=clock.now() + timedelta(seconds=100))
    tasks.entry_pass()

    def states() -> Counter[tuple[str, str]]:
        return Counter(Order.objects.filter(signal=signal).values_list("state", "reason"))

    assert states() == {("filled", ""): 4, ("planned", "platform_pace"): 6}
    waiting = Event.objects.get(name="signal.waiting")
    assert waiting.data == {"why": "platform_pace", "orders": 6}
    tasks.entry_pass()
    assert states() == {("filled", ""): 4, ("planned", "platform_pace"): 6}
    time.move(seconds=61)
    make.price("ETH", "2000")
    tasks.entry_pass()
    assert states() == {("filled", ""): 8, ("planned", "platform_pace"): 2}
    time.move(seconds=61)
    tasks.entry_pass()
    assert states() == {("filled", ""): 8, ("expired", "platform_pace"): 2}
    assert Event.objects.filter(name="signal.waiting").count() == 1


def test_over_many_signals_nobody_is_always_last(
    trader: Trader, paper: PaperVenue, monkeypatch: pytest.MonkeyPatch, time: RecordedClock
) -> None:
    account = {
        "max_orders_per_minute": 1000,
        "max_orders_per_symbol_per_day": 1000,
        "cooldown_seconds_per_symbol": 1,
        "max_total_exposure_usd": D(10**9),
        "max_symbol_exposure_usd": D(10**9),
    }
    rules(monkeypatch, account, max_orders_per_minute=7)
    customers(trader, 20, usdc=10**7)
    advance(trader.deployment, "paused")
    for _ in range(100):
        make.price("ETH", "2000")
        trader.signal(expires_at=clock.now() + timedelta(seconds=30))
        tasks.entry_pass()
        time.move(seconds=61)
    tasks.entry_pass()

    served = Counter(Order.objects.filter(state="filled").values_list("deployment_id", flat=True))
    assert served.total() == 700
    assert set(served.values()) == {35}  # each of the 20 exactly the mean
    assert set(Order.objects.exclude(state="filled").values_list("state", "reason")) == {
        ("expired", "platform_pace")
    }
    assert Signal.objects.filter(state="executed").count() == 100
