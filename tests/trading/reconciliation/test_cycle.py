"""Accounts are compared when they are due; one that fails is retried after 5, 15, 30 s and stops no other."""

import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from decimal import Decimal
from time import monotonic
from typing import Any

import pytest
from structlog.testing import capture_logs

from agents.models import Deployment
from maxxit.core import clock
from maxxit.core.errors import Retryable
from tests import builders as make
from tests.builders import RecordedClock
from trading import settle, wiring
from trading.models import AccountCheck, Order
from trading.reconciliation import checks, cycle
from trading.reconciliation.checks import Claim, Kind
from trading.venues.base import Report, VenueFill
from trading.venues.paper import PaperVenue

pytestmark = pytest.mark.django_db
D = Decimal


class Broker(PaperVenue):
    """A venue whose customers bring keys: accounts are read one by one; answers are what the test says."""

    credential_fields = ("key",)
    stocks: frozenset[str] = frozenset()

    def __init__(self, **options: Any) -> None:
        super().__init__(slippage_bps=0, fee_bps=0, depth_usd=10**9, shorts=False, max_leverage=D(1))
        self.answers_of: dict[str, Report | Exception | None] = {}
        self.asked: list[list[str]] = []
        self.down: set[str] = set()

    def find_many(self, refs: Sequence[str]) -> dict[str, Report | Exception | None]:
        self.asked.append(sorted(refs))
        return {ref: self.answers_of.get(ref, Report("accepted")) for ref in refs}

    def balances_of(self, accounts: Sequence[str]) -> dict[str, dict[str, Decimal]]:
        return super().balances_of([account for account in accounts if account not in self.down])


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Broker]:
    """The venue `paper` is this broker."""
    one = Broker()
    one.name = "paper"
    monkeypatch.setattr(wiring.VENUES, "open", lambda adapter, **options: one)
    wiring.venue.cache_clear()
    yield one
    wiring.venue.cache_clear()


@pytest.fixture
def accounts(time: RecordedClock, broker: Broker) -> list[Deployment]:
    """Three accounts."""
    make.price("ETH", "2000")
    return [make.deployment(make.agent()) for _ in range(3)]


def open_order(of: Deployment, ref: str, **fields: Any) -> Order:
    values: dict[str, Any] = {
        "state": "accepted",
        "venue_ref": ref,
        "quantity": D(1),
        "symbol": "ETH",
    } | fields
    return make.order(of, by=make.signal(of.agent), **values)


def run(**options: Any) -> dict[str, Any]:
    reader = cycle.Reader(0)
    cycle.run(reader, now=clock.now(), **options)
    return cycle.report(reader)


def logged(logs: Sequence[Any], event: str) -> list[dict[str, Any]]:
    return [line for line in logs if line["event"] == event]


def fill(quantity: str = "1") -> VenueFill:
    return VenueFill("f1", D(quantity), D(2000), D(2000) * D(quantity), D(0), clock.now())


def test_orders_are_asked_about_every_60_s_and_holdings_every_120_s(
    accounts: list[Deployment], broker: Broker, time: RecordedClock
) -> None:
    open_order(accounts[0], "a")
    first = run()
    assert (first["pending_found"], first["unchanged"], first["accounts"]) == (1, 1, 4)
    time.move(seconds=59)
    assert run()["accounts"] == 0
    time.move(seconds=1)
    assert run()["accounts"] == 1
    time.move(seconds=60)
    assert run()["accounts"] == 4
    assert broker.asked == [["a"]] * 3


def test_a_cycle_is_logged_with_the_numbers_of_the_runbook(
    accounts: list[Deployment], broker: Broker, time: RecordedClock
) -> None:
    orders = [open_order(accounts[0], ref) for ref in ("a", "b", "c", "d")]
    broker.answers_of |= {
        "a": Report("filled", (fill(),)),
        "b": Report("partially_filled", (fill("0.5"),)),
        "c": Retryable("the venue is down"),
    }
    with capture_logs() as logs:
        run()
    [line] = logged(logs, "RECONCILE_CYCLE")
    wanted = {"pending_found": 4, "updated": 2, "became_terminal": 1, "unchanged": 1, "errors": 1}
    assert {name: line[name] for name in wanted} == wanted
    assert line["next_run_in"] == 60
    assert "market_hours" in line
    [done, partly] = logged(logs, "order_reconciled")
    assert (done["order_id"], done["symbol"], done["old_status"], done["new_status"]) == (
        orders[0].pk, "ETH", "accepted", "filled",
    )  # fmt: skip
    assert (done["is_terminal"], partly["is_terminal"], partly["filled_qty"]) == (True, False, "0.5")


def test_all_orders_of_an_account_are_asked_about_in_one_call(
    accounts: list[Deployment], broker: Broker
) -> None:
    for number in range(5):
        open_order(accounts[0], f"a{number}")
    open_order(accounts[1], "b")
    run()
    assert broker.asked == [["a0", "a1", "a2", "a3", "a4"], ["b"]]


def test_an_order_that_is_being_sent_is_left_to_its_sender(
    accounts: list[Deployment], broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sent again here it would be refused as a repeat there, whose answer nobody waits for any more."""
    make.open_gate()
    sent: list[str] = []
    monkeypatch.setattr(broker, "send", lambda prepared: sent.append(prepared.ref))
    broker.answers_of["sending"] = None
    order = open_order(
        accounts[0], "sending", state="sending", deadline=clock.now() + timedelta(minutes=5), prepared={}
    )
    assert run()["pending_found"] == 0
    assert (broker.asked, sent) == ([], [])
    settle.settle_due("open")  # what the worker does that sends, so that it also finds those of a dead one
    assert (broker.asked, sent) == ([["sending"]], ["sending"])
    order.refresh_from_db()
    assert order.state == "sending"


def test_an_account_that_fails_is_retried_after_5_15_and_30_s_and_stops_no_other(
    accounts: list[Deployment], broker: Broker, time: RecordedClock
) -> None:
    open_order(accounts[0], "bad")
    open_order(accounts[1], "good")
    broker.answers_of["bad"] = Retryable("maintenance")
    row = AccountCheck.objects.filter(account=accounts[0].account, kind=Kind.ORDERS)
    delays = []
    for _ in range(4):
        numbers = run(kinds=[Kind.ORDERS])
        delays.append(int((row.get().due_at - time.now).total_seconds()))
        time.to(row.get().due_at)
    assert delays == [5, 15, 30, 30]
    assert numbers["failed"] == 1
    assert (row.get().failures, row.get().errors, row.get().result) == (4, 4, "failed")
    assert row.get().last_error == "maintenance"
    assert checks.errors() == {"paper": 4}
    assert checks.pending_orders() == {"paper": 2}
    assert broker.asked.count(["good"]) == 1
    broker.answers_of.clear()
    run(kinds=[Kind.ORDERS])  # 5 + 15 + 30 + 30 s later
    assert broker.asked.count(["good"]) == 2
    assert (row.get().failures, row.get().result, row.get().last_error) == (0, "read", "")


def test_an_account_whose_holdings_cannot_be_read_waits_alone(
    accounts: list[Deployment], broker: Broker, time: RecordedClock
) -> None:
    broker.down.add(accounts[1].account)
    numbers = run(kinds=[Kind.POSITIONS])
    assert (numbers["accounts"], numbers["failed"]) == (2, 1)
    row = AccountCheck.objects.get(account=accounts[1].account, kind=Kind.POSITIONS)
    assert (row.due_at - time.now).total_seconds() == 5


def test_stocks_wait_for_their_market_and_crypto_does_not(
    accounts: list[Deployment], broker: Broker, time: RecordedClock
) -> None:
    broker.stocks = frozenset({"AAPL"})
    open_order(accounts[0], "stock", symbol="AAPL")
    open_order(accounts[1], "coin")
    numbers = run(kinds=[Kind.ORDERS])  # Monday 12:00 UTC is 07:00 in New York
    assert broker.asked == [["coin"]]
    assert (numbers["pending_found"], numbers["skipped"], numbers["closed"]) == (1, 1, 1)
    row = AccountCheck.objects.get(account=accounts[0].account, kind=Kind.ORDERS)
    assert row.result == "skipped_market_closed"
    time.move(hours=3)
    run(kinds=[Kind.ORDERS])
    assert ["stock"] in broker.asked


def test_a_venue_of_stocks_alone_is_not_asked_while_its_market_is_closed(
    accounts: list[Deployment], broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker.stocks = frozenset({"AAPL"})
    monkeypatch.setattr("trading.reconciliation.hours.listed_on", lambda name: ["AAPL"])
    with capture_logs() as logs:
        numbers = run()
    lines = logged(logs, "skipped_market_closed")
    assert [(line["venue"], line["accounts"]) for line in lines] == [("paper", 3)]
    assert (numbers["closed"], numbers["accounts"]) == (3, 0)
    assert run(everything=True, closed_too=True)["accounts"] == 3, "the end of day asks nevertheless"


def test_a_claim_is_made_by_one_process(accounts: list[Deployment], time: RecordedClock) -> None:
    assert len(checks.claim(Kind.POSITIONS, now=time.now)) == 3
    assert checks.claim(Kind.POSITIONS, now=time.now) == []
    time.move(seconds=119)
    assert checks.claim(Kind.POSITIONS, now=time.now) == []
    time.move(seconds=1)
    assert len(checks.claim(Kind.POSITIONS, now=time.now)) == 3, "a killed worker's accounts are due again"


def test_a_venue_that_cannot_be_opened_fails_its_own_accounts_alone(
    accounts: list[Deployment], monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(name: str) -> Any:
        if name == "safe":
            raise RuntimeError("no node")
        return wiring.venue(name)

    other = make.deployment(make.agent(venue="safe"), funded=False, account="0x1")
    monkeypatch.setattr(cycle, "venue", opened)
    numbers = run(kinds=[Kind.POSITIONS])
    assert (numbers["accounts"], numbers["failed"]) == (3, 1)
    assert AccountCheck.objects.get(account=other.account).last_error == "no node"


def test_a_pass_waits_neither_for_an_earlier_one_nor_for_an_account_that_was_slow() -> None:
    answers = threading.Event()

    def claim(account: str, failures: int = 0) -> Claim:
        return Claim("paper", account, Kind.ORDERS, failures, 0)

    def seconds_of_pass(*claims: Claim, work: Callable[[], Any]) -> float:
        began = monotonic()
        for one in claims:
            reader.start([one], work)
        reader.wait(0.5)
        return monotonic() - began

    reader = cycle.Reader(2)
    try:
        assert seconds_of_pass(claim("hangs"), work=lambda: answers.wait(10)) >= 0.5
        assert seconds_of_pass(claim("hangs"), claim("quick"), work=lambda: None) < 0.4
        assert seconds_of_pass(claim("failed", failures=1), work=lambda: answers.wait(10)) < 0.4
    finally:
        answers.set()
        reader.wait_for_all()


def test_orders_of_safes_are_left_to_the_worker_with_the_key(
    accounts: list[Deployment], broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_order(accounts[0], "a")
    monkeypatch.setattr(Broker, "safe_access", lambda self: object(), raising=False)
    assert run(kinds=[Kind.ORDERS])["pending_found"] == 0
    assert broker.asked == []
