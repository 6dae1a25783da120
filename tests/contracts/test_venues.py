"""What every venue must do. A new adapter enrols with one line in `VENUES`."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from maxxit.core.errors import Misconfigured, Rejected, Retryable
from maxxit.core.money import USDC
from tests import builders as make
from tests.builders import T0, RecordedClock
from tests.chain.lab import Lab
from tests.contracts import gmx, safe, sample_exchange
from tests.fakes import FakeVenue
from tests.trading.venues.alpaca.world import contract_venue
from tests.trading.venues.coinbase.world import contract_venue as coinbase_venue
from tests.trading.venues.hyperliquid import world as hyperliquid
from trading.credentials import sealing
from trading.states import ORDER, OrderState
from trading.venues import VENUES as REGISTRY
from trading.venues.base import Prepared, Question, Report, Request, Venue, VenueAnswer
from trading.venues.paper import PaperVenue

D = Decimal
VENUES: dict[str, Callable[[], Venue]] = {
    "paper": lambda: PaperVenue(slippage_bps=5, fee_bps=10, depth_usd=5000),
    "paper in parts": lambda: PaperVenue(slippage_bps=0, fee_bps=0, depth_usd=300),
    "paper with margin": lambda: PaperVenue(slippage_bps=5, fee_bps=10, depth_usd=5000, max_leverage=D(10)),
    "sample": sample_exchange.contract_venue,  # the module of docs/new-venue.md
    "alpaca": contract_venue,
    "alpaca in parts": lambda: contract_venue(depth="0.15"),
    "hyperliquid": hyperliquid.contract_venue,
    "hyperliquid level by level": lambda: hyperliquid.contract_venue(depth="0.15"),
    "coinbase": coinbase_venue,
    "coinbase in parts": lambda: coinbase_venue(depth="0.15"),
    "fake": FakeVenue,
    "fake without dedup": lambda: FakeVenue(dedup=False),
}
ON_CHAIN = {"safe": safe.contract_venue, "gmx": gmx.contract_venue}
"""On a real chain, for which their threads need rows that are committed."""
CHAINS = [
    pytest.param(name, marks=[pytest.mark.chain, pytest.mark.django_db(transaction=True)])
    for name in ON_CHAIN
]
SLIPPAGE = {"safe": D("0.005"), "gmx": D("0.0000001")}
"""Name of a venue whose entries spend cash -> the fraction of the quantity that a fill may be below the order's."""
ACCOUNT = "contract:1"
REQUEST = Request(
    client_order_id="mx-contract-1",
    account=ACCOUNT,
    symbol="ETH",
    side="buy",
    purpose="open",
    quantity=D("0.4"),
    reference_price=D(2000),
    deadline=T0 + timedelta(minutes=5),
)
pytestmark = pytest.mark.django_db


@pytest.fixture(scope="session")
def chain() -> Iterator[Lab]:
    with safe.chain_at(T0) as lab:
        yield lab


@pytest.fixture(scope="session")
def gmx_chain() -> Iterator[gmx.ManySafes]:
    with gmx.chain_at(T0) as lab:
        yield lab


@pytest.fixture(params=[*VENUES, *CHAINS])
def venue(
    request: pytest.FixtureRequest, db: None, time: RecordedClock, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Venue]:
    monkeypatch.setenv(sealing.PRIVATE, sealing.encode(X25519PrivateKey.generate()))
    make.price("ETH", "2000")
    if request.param in ON_CHAIN:
        lab = request.getfixturevalue("chain" if request.param == "safe" else "gmx_chain")
        with ON_CHAIN[request.param](lab, monkeypatch) as on_chain:
            yield on_chain
        return
    made = VENUES[request.param]()
    if made.capabilities.play_money:
        made.deposit(ACCOUNT, D(10_000))
    yield made


def fills_the_order(venue: Venue, report: Report) -> bool:
    """Whether the fills add up to the quantity of `REQUEST`, or to what its cash buys."""
    filled = sum((fill.quantity for fill in report.fills), D(0))
    return REQUEST.quantity * (1 - SLIPPAGE.get(venue.name, D(0))) <= filled <= REQUEST.quantity


def ended(venue: Venue, ref: str) -> Report:
    """Ask until the order is over; an order that is never over fails the test."""
    for _ in range(20):
        report = venue.find(ref)
        assert report is not None
        if report.state == "filled":
            return report
    raise AssertionError(f"never filled: {report}")


def test_every_adapter_is_enrolled() -> None:
    assert {name.partition(" ")[0] for name in VENUES} - {"fake", "sample"} | set(ON_CHAIN) == set(REGISTRY)


def test_preparing_sends_nothing_and_says_the_same_each_time(venue: Venue) -> None:
    one, other = venue.prepare(REQUEST), venue.prepare(REQUEST)

    assert one == other
    assert one.ref
    assert venue.find(one.ref) is None


def test_what_is_prepared_can_be_kept_as_json(venue: Venue) -> None:
    order = make.order(make.deployment(make.agent(), funded=False))
    prepared = venue.prepare(REQUEST)
    order.prepared = dict(prepared.payload)
    order.save()
    order.refresh_from_db()
    venue.send(Prepared(prepared.ref, order.prepared))

    assert venue.find(prepared.ref) is not None


def test_an_order_is_found_under_its_ref_and_filled_to_the_lot(venue: Venue) -> None:
    prepared = venue.prepare(REQUEST)
    venue.send(prepared)
    report = ended(venue, prepared.ref)

    assert fills_the_order(venue, report)
    for fill in report.fills:
        assert fill.quantity > 0
        assert fill.price > 0
        assert fill.fee >= 0
        assert abs(fill.cash - fill.quantity * fill.price) <= D("0.000001")


def test_the_fake_without_dedup_makes_two_orders_of_one(db: None, time: RecordedClock) -> None:
    make.price("ETH", "2000")
    venue = FakeVenue(dedup=False)
    prepared = venue.prepare(REQUEST)
    for _ in range(2):
        venue.send(prepared)
    assert venue.effects[prepared.ref] == 2


def test_the_same_order_sent_again_changes_nothing_where_the_venue_says_it_knows_a_repeat(
    venue: Venue,
) -> None:
    if not venue.capabilities.dedup:
        return  # such a venue is asked first, and nothing is sent to it twice: tests/trading/test_settle.py
    prepared = venue.prepare(REQUEST)
    for _ in range(3):
        venue.send(prepared)
    report = ended(venue, prepared.ref)
    venue.send(prepared)

    assert fills_the_order(venue, report)
    assert venue.find(prepared.ref) == report


def test_fills_keep_their_ids_and_their_order(venue: Venue) -> None:
    prepared = venue.prepare(REQUEST)
    venue.send(prepared)
    ids: list[str] = []
    for _ in range(10):
        report = venue.find(prepared.ref)
        assert report is not None
        seen = [fill.fill_id for fill in report.fills]
        assert seen[: len(ids)] == ids
        assert len(seen) == len(set(seen))
        ids = seen


def test_every_state_that_it_reports_is_one_of_ours_after_sending(venue: Venue) -> None:
    prepared = venue.prepare(REQUEST)
    venue.send(prepared)
    for _ in range(10):
        report = venue.find(prepared.ref)
        assert report is not None
        assert report.state in ORDER[OrderState.SENDING]


def test_a_ref_that_it_never_saw_is_none(venue: Venue) -> None:
    ref = venue.prepare(replace(REQUEST, client_order_id="mx-never-sent")).ref

    assert venue.find(ref) is None


def test_two_orders_are_two(venue: Venue) -> None:
    refs = []
    for number in (1, 2):
        prepared = venue.prepare(replace(REQUEST, client_order_id=f"mx-contract-{number}"))
        venue.send(prepared)
        refs.append(prepared.ref)
    first, second = (ended(venue, ref) for ref in refs)

    assert refs[0] != refs[1]
    assert not {fill.fill_id for fill in first.fills} & {fill.fill_id for fill in second.fills}


def test_it_answers_whether_it_would_take_an_order(venue: Venue) -> None:
    assert venue.problem(1, ACCOUNT, "ETH", "close") == ""


@pytest.mark.parametrize("side", ["buy", "sell"])
def test_what_it_expects_to_fill_at_is_what_it_then_fills_at(venue: Venue, side: str) -> None:
    if side == "sell" and not venue.capabilities.shorts and venue.name == "safe":
        with pytest.raises(Rejected, match="cannot sell"):
            venue.expected_price(ACCOUNT, "ETH", side, D(800))
        return
    said = venue.expected_price(ACCOUNT, "ETH", side, D(800))
    prepared = venue.prepare(replace(REQUEST, side=side))
    venue.send(prepared)

    assert said is not None
    assert {abs(fill.price - said) <= D("0.01") for fill in ended(venue, prepared.ref).fills} == {True}


def test_without_a_quote_it_expects_nothing(venue: Venue) -> None:
    make.Quote.objects.all().delete()

    said = venue.expected_price(ACCOUNT, "ETH", "buy", D(800))
    assert (said is None) == (venue.name != "safe"), "a Safe asks its pool"


def test_the_balances_of_many_accounts_are_those_of_each(venue: Venue) -> None:
    accounts = [ACCOUNT, "contract:2"]

    assert venue.balances_of(accounts) == {account: venue.balances(account) for account in accounts}
    assert venue.balances_of([]) == {}


def test_an_account_that_cannot_be_read_hides_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def balances(account: str) -> dict[str, Decimal]:
        if account == "silent":
            raise Retryable("no answer")
        return {USDC: D(1)}

    fake = FakeVenue()
    monkeypatch.setattr(fake, "balances", balances)

    assert fake.balances_of(["a", "silent", "b"]) == {"a": {USDC: D(1)}, "b": {USDC: D(1)}}


# --- many at once: the same as one by one ----------------------------------------------------------------------------


def requests(venue: Venue, count: int) -> list[Request]:
    """Orders of both sides, where the account holds or may sell what it sells."""
    sides = ("buy",) if venue.name == "safe" else ("sell", "buy")
    return [
        replace(REQUEST, client_order_id=f"mx-many-{number}", side=sides[number % len(sides)])
        for number in range(count)
    ]


@pytest.mark.parametrize("count", [1, 2, 7])
def test_orders_that_are_sent_together_are_found_together(venue: Venue, count: int) -> None:
    prepared = [venue.prepare(request) for request in requests(venue, count)]
    refs = [one.ref for one in prepared]

    assert venue.find_many(refs) == dict.fromkeys(refs)
    assert venue.send_many(prepared) == {}
    for ref in refs:
        ended(venue, ref)
    assert venue.find_many(refs) == {ref: venue.find(ref) for ref in refs}
    fills = [fill.fill_id for report in venue.find_many(refs).values() for fill in report.fills]  # type: ignore[union-attr]
    assert len(fills) == len(set(fills))


def test_together_they_fill_as_they_do_alone(venue: Venue) -> None:
    together = [venue.prepare(request) for request in requests(venue, 3)]
    alone = venue.prepare(replace(requests(venue, 1)[0], client_order_id="mx-alone"))
    venue.send_many(together)
    venue.send(alone)
    first = ended(venue, together[0].ref)

    if venue.name in ON_CHAIN:  # each order moves the price, or the fee, for the next one
        assert fills_the_order(venue, first)
        assert fills_the_order(venue, ended(venue, alone.ref))
        return
    assert [(f.quantity, f.price, f.cash, f.fee) for f in first.fills] == [
        (f.quantity, f.price, f.cash, f.fee) for f in ended(venue, alone.ref).fills
    ]


def test_a_batch_that_is_sent_again_changes_nothing_where_the_venue_knows_a_repeat(venue: Venue) -> None:
    if not venue.capabilities.dedup:
        return
    prepared = [venue.prepare(request) for request in requests(venue, 3)]
    venue.send_many(prepared[:2])
    venue.send_many(prepared)
    for one in prepared:
        assert fills_the_order(venue, ended(venue, one.ref))


def test_an_order_that_is_refused_stops_no_other_of_its_batch(venue: Venue) -> None:
    good, bad, other = (venue.prepare(request) for request in requests(venue, 3))
    if isinstance(venue, FakeVenue):
        venue.sends.extend(["ok", "refused"])
    elif venue.name in ON_CHAIN:
        bad = Prepared("mx-never-stored", bad.payload)
    else:
        bad = Prepared(bad.ref, {**bad.payload, "deadline": T0.isoformat()})
    errors = venue.send_many([good, bad, other])

    assert list(errors) == [bad.ref]
    assert isinstance(errors[bad.ref], Rejected)
    assert venue.find_many([good.ref, bad.ref])[bad.ref] is None
    for one in (good, other):
        assert ended(venue, one.ref).state == "filled"


def test_many_are_asked_about_as_each_is(venue: Venue) -> None:
    questions = [
        Question(1, ACCOUNT, symbol, side, purpose, D(800))
        for symbol in ("ETH", "BTC")
        for side in ("buy", "sell")
        for purpose in ("open", "close")
    ]

    def alone(one: Question) -> VenueAnswer:
        problem = venue.problem(1, ACCOUNT, one.symbol, one.purpose)
        if problem or one.purpose == "close":
            return VenueAnswer(problem)
        try:
            return VenueAnswer("", venue.expected_price(ACCOUNT, one.symbol, one.side, one.cash))
        except Rejected as rejection:
            return VenueAnswer(rejection.code)

    assert venue.answers(questions) == [alone(one) for one in questions]
    assert venue.answers([]) == []


# --- paper only: it keeps balances ---------------------------------------------------------------------------------


@pytest.fixture
def paper(time: RecordedClock) -> PaperVenue:
    make.price("ETH", "2000")
    made = PaperVenue(slippage_bps=5, fee_bps=10, depth_usd=5000)
    made.deposit(ACCOUNT, D(10_000))
    return made


@pytest.mark.parametrize(("side", "price"), [("buy", "2001"), ("sell", "1999")])
def test_paper_fills_are_worse_by_the_slippage_and_move_both_balances(
    paper: PaperVenue, side: str, price: str
) -> None:
    prepared = paper.prepare(replace(REQUEST, side=side))
    paper.send(prepared)
    sign, cash = (1 if side == "buy" else -1), D(price) * D("0.4")

    assert paper.balances(ACCOUNT) == {"ETH": sign * D("0.4"), USDC: D(10_000) - sign * cash - cash / 1000}


def test_paper_money_adds_up(paper: PaperVenue) -> None:
    paper.deposit(ACCOUNT, D(5_000))  # a second deployment on the same account; funding pays each once

    assert paper.balances(ACCOUNT) == {USDC: D(15_000)}


def test_a_canceled_paper_order_fills_no_further(time: RecordedClock) -> None:
    make.price("ETH", "2000")
    thin = PaperVenue(slippage_bps=0, fee_bps=0, depth_usd=300)
    prepared = thin.prepare(REQUEST)
    thin.send(prepared)
    thin.cancel(prepared.ref)
    reports = [thin.find(prepared.ref) for _ in range(3)]

    assert {report.state for report in reports if report} == {"canceled"}
    assert {sum(fill.quantity for fill in report.fills) for report in reports if report} == {D("0.15")}


@pytest.mark.parametrize("age", [91, None])
def test_paper_takes_nothing_without_a_usable_quote(paper: PaperVenue, age: int | None) -> None:
    make.Quote.objects.all().delete()
    if age:
        make.price("ETH", "2000", at=T0 - timedelta(seconds=age))

    with pytest.raises(Rejected, match="no quote"):
        paper.send(paper.prepare(REQUEST))


@pytest.mark.parametrize("wrong", [{"depth_usd": 0}, {"slippage_bps": -1}, {"fee_bps": 10_000}])
def test_paper_refuses_options_that_make_no_sense(wrong: dict[str, int]) -> None:
    options: dict[str, Any] = {"slippage_bps": 5, "fee_bps": 10, "depth_usd": 5000}
    with pytest.raises(Misconfigured, match="venue paper"):
        PaperVenue(**options | wrong)


def test_an_unknown_venue_is_refused_by_name() -> None:
    with pytest.raises(Misconfigured, match="no venue named 'nowhere'"):
        REGISTRY.open("nowhere")


def test_only_accounts_of_play_money_are_credited_and_only_safes_have_safe_access(venue: Venue) -> None:
    assert (venue.safe_access() is None) == (venue.name not in ("gmx", "safe"))
    if venue.capabilities.play_money:
        before = venue.balances(ACCOUNT)[USDC]
        venue.deposit(ACCOUNT, D(7))
        assert venue.balances(ACCOUNT)[USDC] == before + 7
    else:
        with pytest.raises(Misconfigured, match="only paper accounts get play money"):
            venue.deposit(ACCOUNT, D(7))
