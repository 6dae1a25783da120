"""What an account may do now, what it holds, and what its owner moved; which hosts and keys are accepted."""

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from functools import partial
from io import StringIO
from typing import Any

import pytest
from celery.exceptions import SoftTimeLimitExceeded
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from django.core.management import call_command

from maxxit.core import redact
from maxxit.core.errors import Misconfigured, Rejected, Retryable
from maxxit.core.money import USD
from maxxit.market import venues
from tests import builders as make
from tests.builders import RecordedClock
from tests.trading.venues.alpaca.server import Server
from tests.trading.venues.alpaca.test_orders import ACCOUNT, BUY, COIN, sent
from tests.trading.venues.alpaca.world import KnownKeys
from trading import ledger, reconcile, settle
from trading.credentials import sealing, store
from trading.deployments.funding import fund
from trading.models import LedgerEntry
from trading.operations import differences
from trading.risk.policy import policy
from trading.venues.alpaca.access import Access
from trading.venues.alpaca.client import Keys, paper_host
from trading.venues.alpaca.venue import AlpacaVenue
from trading.venues.base import Question, Venue
from trading.venues.parallel import in_parallel

D = Decimal


# --- hosts and options


@pytest.mark.parametrize(
    "url",
    [
        "https://api.alpaca.markets",
        "http://paper-api.alpaca.markets",
        "https://paper-api.alpaca.markets.example",
        "https://paper-api.alpaca.markets@example.com",
        "https://user@127.0.0.1",
        "https://paper-api.alpaca.markets/v2/../live",
        "https://broker-api.alpaca.markets",
        "",
    ],
)
def test_no_other_host_is_asked(url: str) -> None:
    with pytest.raises(Misconfigured, match=r"only https://paper-api\.alpaca\.markets is allowed"):
        AlpacaVenue(base_url=url)


def test_the_paper_host_and_loopback_are_allowed() -> None:
    assert paper_host("https://paper-api.alpaca.markets/") == "https://paper-api.alpaca.markets"
    assert paper_host("http://127.0.0.1:8000") == "http://127.0.0.1:8000"


@pytest.mark.parametrize(
    "wrong", [{"max_leverage": D(2)}, {"crypto_fee_bps": 10_000}, {"crypto_fee_bps": -1}]
)
def test_options_that_make_no_sense_are_refused(fake: Server, wrong: dict[str, Any]) -> None:
    with pytest.raises(Misconfigured, match="venue alpaca"):
        AlpacaVenue(base_url=fake.url, **wrong)


# --- what it would take


def test_a_closed_exchange_stops_stocks_and_not_crypto(
    venue: KnownKeys, fake: Server, time: RecordedClock
) -> None:
    fake.broker.is_open = False
    for purpose in ("open", "close"):
        assert venue.problem(1, ACCOUNT, "AAPL", purpose) == "market_closed"
        assert venue.problem(1, ACCOUNT, "BTC", purpose) == ""
    assert fake.lines().count("GET /v2/clock") == 1
    fake.broker.is_open = True
    time.move(seconds=10)
    assert venue.problem(1, ACCOUNT, "AAPL", "open") == ""


@pytest.mark.parametrize(
    "flags",
    [
        {"status": "ACCOUNT_CLOSED"},
        {"trading_blocked": True},
        {"account_blocked": True},
        {"trade_suspended_by_user": True},
    ],
)
def test_a_blocked_account_opens_nothing(venue: KnownKeys, fake: Server, flags: dict[str, Any]) -> None:
    fake.broker.account(ACCOUNT).flags = flags
    assert venue.problem(1, ACCOUNT, "BTC", "open") == "account_blocked"
    assert venue.problem(1, ACCOUNT, "AAPL", "close") == "", "Alpaca itself refuses an exit"


def test_an_exit_waits_for_no_read_of_the_account_or_the_clock(venue: KnownKeys, fake: Server) -> None:
    for path in ("/v2/account", "/v2/account/configurations", "/v2/clock"):
        fake.misbehaves("maintenance", path=path)
    assert venue.problem(1, ACCOUNT, "AAPL", "close") == ""
    assert venue.problem(1, ACCOUNT, "BTC", "close") == ""


def test_a_clock_that_does_not_answer_is_asked_once_for_all_exits(
    venue: KnownKeys, fake: Server, time: RecordedClock
) -> None:
    fake.broker.is_open = False
    fake.misbehaves("maintenance", path="/v2/clock", times=3)
    for account in (ACCOUNT, "alpaca:2", "alpaca:3"):
        assert venue.problem(1, account, "AAPL", "close") == ""
    with pytest.raises(Retryable):
        venue.problem(1, ACCOUNT, "AAPL", "open")
    assert fake.lines().count("GET /v2/clock") == 1
    fake.faults.clear()
    time.move(seconds=10)
    assert venue.problem(1, ACCOUNT, "AAPL", "close") == "market_closed"


def test_keys_that_are_refused_hide_the_clock_from_no_other_account(venue: KnownKeys, fake: Server) -> None:
    fake.broker.is_open = False
    fake.misbehaves("refused", path="/v2/clock")
    assert venue.problem(1, ACCOUNT, "AAPL", "close") == ""
    assert venue.problem(1, "alpaca:2", "AAPL", "close") == "market_closed"


def test_trading_that_the_owner_suspended_in_the_settings_is_blocked(venue: KnownKeys, fake: Server) -> None:
    fake.broker.account(ACCOUNT).configurations = {"suspend_trade": True}
    assert venue.problem(1, ACCOUNT, "BTC", "open") == "account_blocked"


def test_an_account_without_crypto_trades_stocks(venue: KnownKeys, fake: Server) -> None:
    fake.broker.account(ACCOUNT).flags = {"crypto_status": "INACTIVE"}
    assert venue.problem(1, ACCOUNT, "BTC", "open") == "account_blocked"
    assert venue.problem(1, ACCOUNT, "AAPL", "open") == ""


def test_what_alpaca_does_not_list_or_trade_is_not_entered(
    venue: KnownKeys, fake: Server, time: RecordedClock
) -> None:
    assert venue.problem(1, ACCOUNT, "NOPE", "open") == "token_not_listed"
    fake.broker.price("SOL/USD", "100", tradable=False)
    assert venue.problem(1, ACCOUNT, "SOL", "open") == "token_not_listed"
    assert venue.problem(1, ACCOUNT, "SOL", "close") == ""


@pytest.mark.django_db
def test_many_questions_ask_for_each_account_once(venue: KnownKeys, fake: Server) -> None:
    make.price("ETH", "2000")
    questions = [Question(1, f"alpaca:{n % 5}", "ETH", "buy", "open", D(100)) for n in range(20)]
    answers = venue.answers(questions)
    assert {(answer.problem, answer.expected_price) for answer in answers} == {("", D(2000))}
    assert fake.lines().count("GET /v2/account") == 5
    assert len(fake.requests) == 12  # 5 × account and configuration, one asset, one clock


@pytest.mark.django_db
def test_a_venue_that_is_down_blocks_and_does_not_raise(venue: KnownKeys, fake: Server) -> None:
    fake.misbehaves("maintenance", times=100)
    [answer] = venue.answers([Question(1, ACCOUNT, "ETH", "buy", "open", D(100))])
    assert (answer.problem, answer.expected_price) == (None, None)


def test_crypto_is_never_sold_short(venue: KnownKeys) -> None:
    with pytest.raises(Rejected, match="does not sell BTC short"):
        venue.expected_price(ACCOUNT, "BTC", "sell", D(100))


# --- what it holds


def test_balances_name_coins_stocks_and_shorts(venue: KnownKeys, fake: Server) -> None:
    account = fake.broker.account(ACCOUNT, cash=D("12.34"))
    fake.broker.price("BTC", "40")  # a fund with the symbol of a coin
    account.held = {"BTC/USD": D("0.5"), "BTC": D(3), "AAPL": D(-2), "SOL/USD": D(0)}
    expected = {USD: D("12.34"), "BTC": D("0.5"), "BTC.US": D(3), "AAPL": D(-2)}
    assert venue.balances(ACCOUNT) == expected
    venue.wrong.add("alpaca:2")
    assert venue.balances_of([ACCOUNT, "alpaca:2"]) == {ACCOUNT: expected}


def test_the_fee_of_crypto_is_in_coins_for_a_buy_and_in_usd_for_a_sale(
    venue: KnownKeys, fake: Server
) -> None:
    report = venue.find(sent(venue, COIN).ref)
    assert report is not None
    [bought] = report.fills
    assert (bought.quantity, bought.cash, bought.fee) == (D("0.09975"), D(5000), 0)
    assert bought.quantity * bought.price == pytest.approx(bought.cash, abs=D("1e-6"))
    sale = replace(COIN, client_order_id="mx-2", side="sell", purpose="close", quantity=bought.quantity)
    report = venue.find(sent(venue, sale).ref)
    assert report is not None
    [sold] = report.fills
    assert (sold.quantity, sold.price, sold.fee) == (bought.quantity, D(50_000), sold.cash * D("0.0025"))
    held = {USD: D(100_000) - bought.cash + sold.cash - sold.fee}
    assert venue.balances(ACCOUNT) == held
    assert venue.opening_balance(ACCOUNT) == held[USD]


# --- keys


def test_keys_tell_what_they_may_do_and_are_never_shown(venue: KnownKeys, fake: Server) -> None:
    secrets = {"key_id": ACCOUNT, "secret": "secret"}
    fake.broker.account(ACCOUNT)
    access = venue.key_access(secrets)
    assert (access.may_trade, access.may_withdraw) == (True, False)
    assert "status ACTIVE" in access.permissions
    fake.broker.account(ACCOUNT).flags = {"account_blocked": True}
    access = venue.key_access(secrets)
    assert (access.may_trade, "account_blocked" in access.permissions) == (False, True)
    with pytest.raises(Rejected) as refusal:
        venue.key_access(secrets | {"secret": "wrong"})
    assert refusal.value.code == "credentials_refused"
    assert "wrong" not in f"{refusal.value} {Keys('PK123456', 'wrong')!r} {Keys('PK123456', 'wrong')}"


@pytest.mark.django_db
def test_each_account_is_asked_with_its_stored_keys(
    fake: Server, monkeypatch: pytest.MonkeyPatch, use_venue: Callable[[Venue], None]
) -> None:
    monkeypatch.setenv(sealing.PRIVATE, sealing.encode(X25519PrivateKey.generate()))
    at_alpaca = AlpacaVenue(base_url=fake.url)
    at_alpaca.name = "paper"
    with at_alpaca.client._http:
        use_venue(at_alpaca)
        fake.broker.account("PK-ONE", "secret-of-one", cash=D(7))
        store.store("paper", "one", {"key_id": "PK-ONE", "secret": "secret-of-one"}, by="alice")
        assert at_alpaca.opening_balance("one") == 7
        assert redact.text("the key secret-of-one") == "the key [redacted]"
        answers = at_alpaca.balances_of(["one", "two"])
        assert answers == {"one": {USD: D(7)}}
        with pytest.raises(Rejected) as refusal:
            at_alpaca.balances("two")
        assert refusal.value.code == "no_credentials"
        prepared = at_alpaca.prepare(replace(BUY, account="two"))
        assert at_alpaca.send_many([prepared])[prepared.ref] is not None


# --- transfers


@pytest.fixture
def deployment(
    venue: KnownKeys,
    fake: Server,
    db: None,
    monkeypatch: pytest.MonkeyPatch,
    use_venue: Callable[[Venue], None],
) -> Any:
    """A deployment whose account at the fake holds 1,000 USD when it starts."""
    stanza = venues.VenuePolicy(adapter="alpaca", shorts=False, max_leverage=D(1), paper=True, cash="USD")
    monkeypatch.setattr(venues, "venues", lambda: {"paper": stanza})
    venue.name = "paper"
    use_venue(venue)
    fake.broker.account(ACCOUNT, cash=D(1000))
    made = make.deployment(make.agent(), funded=False, account=ACCOUNT)
    assert fund(made)
    return made


def usd(deployment: Any) -> Decimal:
    return ledger.balances(deployment.pk).get(USD, D(0))


def difference() -> dict[str, Decimal]:
    """What the reconciliation finds, and leaves once the owner's transfers are booked."""
    return dict(reconcile.compare_settled().differences.get(("paper", ACCOUNT), {}))


def test_what_the_owner_moved_is_booked_once(
    venue: KnownKeys, fake: Server, time: RecordedClock, deployment: Any
) -> None:
    account = fake.broker.account(ACCOUNT)
    assert (usd(deployment), difference()) == (1000, {})
    time.move(days=1)
    fake.broker.transfer(account, "500")
    fake.broker.transfer(account, "-120.5")
    for _ in range(2):
        assert difference() == {}
    assert usd(deployment) == D("1379.5")
    assert LedgerEntry.objects.filter(kind="external", deployment=deployment).count() == 2


def test_what_no_transfer_explains_remains(
    venue: KnownKeys, fake: Server, time: RecordedClock, deployment: Any
) -> None:
    time.move(days=1)
    fake.broker.transfer(fake.broker.account(ACCOUNT), "500")
    fake.broker.account(ACCOUNT).cash -= 3
    assert difference() == {USD: D(-3)}
    assert usd(deployment) == 1500


def by_operator(amount: str) -> None:
    differences.apply(ACCOUNT, USD, D(amount), by="operator", reason="seen on the statement")


def test_a_transfer_that_an_operator_booked_is_not_booked_again(
    venue: KnownKeys, fake: Server, time: RecordedClock, deployment: Any
) -> None:
    """Alpaca lists a transfer hours after it moved the cash."""
    account = fake.broker.account(ACCOUNT)
    time.move(days=1)
    account.cash += 500
    by_operator("500")
    account.cash -= 500
    fake.broker.transfer(account, "500")
    for _ in range(2):
        assert difference() == {}
    assert usd(deployment) == 1500
    fake.broker.transfer(account, "300")
    account.cash -= 7
    assert difference() == {USD: D(-7)}
    assert usd(deployment) == 1800


def test_transfers_that_an_operator_booked_as_one_are_not_booked_again(
    venue: KnownKeys, fake: Server, time: RecordedClock, deployment: Any
) -> None:
    account = fake.broker.account(ACCOUNT)
    time.move(days=1)
    account.cash += D("379.5")
    by_operator("379.5")
    account.cash -= D("379.5")
    fake.broker.transfer(account, "500")
    fake.broker.transfer(account, "-120.5")
    assert difference() == {}
    fake.broker.transfer(account, "40")
    assert difference() == {}
    assert usd(deployment) == D("1419.5")
    account.cash -= 7
    assert difference() == {USD: D(-7)}
    assert usd(deployment) == D("1419.5")


def test_a_transfer_before_the_start_is_in_the_first_deposit(
    venue: KnownKeys, fake: Server, time: RecordedClock, deployment: Any
) -> None:
    account = fake.broker.account(ACCOUNT)
    fake.broker.transfer(account, "1000")
    account.cash -= 1000  # it came before the account was read
    assert difference() == {}
    account.cash -= 1
    assert difference() == {USD: D(-1)}
    assert usd(deployment) == 1000


def test_a_transfer_on_the_first_day_is_booked_where_it_explains_the_difference(
    venue: KnownKeys, fake: Server, deployment: Any
) -> None:
    fake.broker.transfer(fake.broker.account(ACCOUNT), "250")
    assert difference() == {}
    assert usd(deployment) == 1250


def test_transfers_that_cannot_be_read_change_nothing(
    venue: KnownKeys, fake: Server, time: RecordedClock, deployment: Any
) -> None:
    time.move(days=1)
    fake.broker.transfer(fake.broker.account(ACCOUNT), "500")
    fake.misbehaves("maintenance", path="/v2/account/activities")
    with pytest.raises(Retryable):
        venue.unexplained(ACCOUNT, {USD: D(500)})
    assert usd(deployment) == 1000


def test_the_command_shows_accounts_and_hours_and_trades_nothing(
    venue: KnownKeys, fake: Server, deployment: Any
) -> None:
    out = StringIO()
    call_command("verify-alpaca", stdout=out)
    assert f"deployment {deployment.pk} ({ACCOUNT}): paper account PA3" in out.getvalue()
    assert "1000 USD in cash" in out.getvalue()
    assert "the stock exchange is open until 2026-03-02T16:00:00-05:00" in out.getvalue()
    fake.broker.is_open = False
    venue.access = Access(venue.client)
    venue.wrong.add(ACCOUNT)
    out = StringIO()
    with pytest.raises(SystemExit):
        call_command("verify-alpaca", str(deployment.pk), stdout=out, stderr=StringIO())
    assert "request is not authorized" in out.getvalue()
    assert {one.method for one in fake.requests} == {"GET"}


# --- from the decision to the ledger


@pytest.mark.parametrize("fault", ["lost", "unsent", "broken_after", "maintenance", "page", ""])
def test_an_entry_is_one_order_and_ledger_and_account_agree(
    fake: Server,
    venue: KnownKeys,
    time: RecordedClock,
    deployment: Any,
    no_approval_file: object,
    fault: str,
) -> None:
    make.open_gate()
    make.price("ETH", "2000")
    order = make.order(deployment, by=make.signal(deployment.agent))
    if fault:
        fake.misbehaves(fault, "POST")
    make.place(order, venue, policy())
    order.refresh_from_db()
    assert order.state == ("unknown" if fault else "filled"), order.reason
    for _ in range(3):
        settle.settle_due()
    order.refresh_from_db()

    assert order.state == "filled"
    assert fake.broker.account(ACCOUNT).effects == 1
    assert reconcile.drifts() == {}
    assert ledger.balances(deployment.pk)["ETH"] == order.filled_quantity > 0


# --- threads


def test_jobs_run_together_and_each_has_its_own_result() -> None:
    def double(number: int) -> int:
        if number % 3 == 0:
            raise Retryable("no answer")
        return 2 * number

    results = in_parallel({number: partial(double, number) for number in range(20)})
    assert [results[number] for number in (1, 2, 4)] == [2, 4, 8]
    assert {type(results[number]) for number in (0, 3, 6)} == {Retryable}
    assert in_parallel({}) == {}


@pytest.mark.parametrize("count", [1, 2])
def test_what_ends_the_pass_is_raised_from_a_thread(count: int) -> None:
    def stopped() -> None:
        raise SoftTimeLimitExceeded

    with pytest.raises(SoftTimeLimitExceeded):
        in_parallel(dict.fromkeys(range(count), stopped))


def test_the_client_reads_numbers_without_floats(venue: KnownKeys, fake: Server) -> None:
    fake.broker.account(ACCOUNT, flags={"cash": 0.1})
    cash = venue.client.get(Keys(ACCOUNT, "secret"), "/v2/account")["cash"]
    assert (type(cash), cash) == (Decimal, D("0.1"))
