"""What an account may do now and what it holds; which hosts and keys are accepted; one entry from start to ledger."""

from collections.abc import Callable
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from django.core.management import call_command

from maxxit.core import redact
from maxxit.core.errors import Misconfigured, Rejected, Retryable
from maxxit.core.money import USD
from maxxit.market import instruments, venues
from tests import builders as make
from tests.builders import T0, RecordedClock
from tests.trading.venues.coinbase.server import Server
from tests.trading.venues.coinbase.test_orders import ACCOUNT, sent
from tests.trading.venues.coinbase.tokens import issue
from tests.trading.venues.coinbase.world import KnownKeys
from trading import ledger, reconcile, settle
from trading.credentials import sealing, store
from trading.deployments.funding import fund
from trading.risk.policy import policy
from trading.venues.base import Question, Venue
from trading.venues.coinbase.client import checked_url
from trading.venues.coinbase.orders import LIFETIME
from trading.venues.coinbase.venue import CoinbaseVenue

D = Decimal
NAME = "organizations/0c1/apiKeys/9f2"


# --- hosts and options


@pytest.mark.parametrize(
    "url",
    [
        "https://api.exchange.coinbase.com",
        "http://api.coinbase.com",
        "https://api.coinbase.com.example",
        "https://api.coinbase.com@example.com",
        "https://user@127.0.0.1",
        "https://api-sandbox.coinbase.com",
        "https://api.coinbase.com/v2",
        "",
    ],
)
def test_no_other_host_is_asked(url: str) -> None:
    with pytest.raises(Misconfigured, match=r"only https://api\.coinbase\.com is allowed"):
        CoinbaseVenue(base_url=url)


def test_coinbases_host_and_loopback_are_allowed() -> None:
    assert checked_url("https://api.coinbase.com/") == "https://api.coinbase.com"
    assert checked_url("http://127.0.0.1:8000") == "http://127.0.0.1:8000"


@pytest.mark.parametrize(
    "wrong", [{"max_leverage": D(2)}, {"shorts": True}, {"slippage_bps": 0}, {"slippage_bps": 10_000}]
)
def test_options_that_make_no_sense_are_refused(fake: Server, wrong: dict[str, Any]) -> None:
    with pytest.raises(Misconfigured, match="venue coinbase"):
        CoinbaseVenue(base_url=fake.url, **wrong)


# --- what it would take


@pytest.mark.parametrize(
    "flag",
    [
        "trading_disabled",
        "is_disabled",
        "cancel_only",
        "limit_only",
        "post_only",
        "view_only",
        "auction_mode",
    ],
)
def test_a_product_that_does_not_trade_is_not_entered_and_is_left(
    venue: KnownKeys, fake: Server, time: RecordedClock, flag: str
) -> None:
    fake.exchange.price("BTC", "50000", **{flag: True})
    assert venue.problem(1, ACCOUNT, "BTC", "open") == "market_closed"
    assert venue.problem(1, ACCOUNT, "BTC", "close") == ""
    fake.exchange.price("BTC", "50000", **{flag: False})
    time.move(seconds=60)
    assert venue.problem(1, ACCOUNT, "BTC", "open") == ""


def test_what_coinbase_does_not_list_or_counts_more_coarsely_is_not_entered(
    venue: KnownKeys, fake: Server
) -> None:
    assert venue.problem(1, ACCOUNT, "LTC", "open") == "token_not_listed"
    fake.exchange.price("ETH", "2000", status="delisted")
    assert venue.problem(1, ACCOUNT, "ETH", "open") == "market_closed"
    fake.exchange.price("BTC", "50000", base_increment=str(instruments.instrument("BTC").lot * 10))
    assert venue.problem(1, ACCOUNT, "BTC", "open") == "token_not_listed"


def test_a_coarser_price_step_is_kept(venue: KnownKeys, fake: Server) -> None:
    fake.exchange.price("BTC", "50000", price_increment="100")
    assert venue.problem(1, ACCOUNT, "BTC", "open") == ""
    sent(venue)
    [post] = [one for one in fake.requests if one.method == "POST"]
    assert '"limit_price": "50200"' in post.body


def test_an_exit_waits_for_no_read(venue: KnownKeys, fake: Server) -> None:
    assert venue.problem(1, ACCOUNT, "BTC", "close") == ""
    assert fake.requests == []


@pytest.mark.django_db
def test_an_entry_is_previewed_with_what_the_account_can_pay(
    venue: KnownKeys, fake: Server, time: RecordedClock
) -> None:
    make.price("BTC", "50000")
    fake.exchange.portfolio(ACCOUNT).held = {"USD": D(1000)}
    assert venue.expected_price(ACCOUNT, "BTC", "buy", D(10_000)) == D(50_000)
    [preview] = [one for one in fake.requests if one.method == "POST"]
    assert '"sor_limit_ioc": {"base_size": "0.0196", "limit_price": "50250"}' in preview.body
    fake.exchange.portfolio(ACCOUNT).held = {"USD": D("0.01")}
    time.move(seconds=15)
    with pytest.raises(
        Rejected, match=r"may spend 0\.01 USD at Coinbase: less than one lot of BTC"
    ) as refusal:
        venue.expected_price(ACCOUNT, "BTC", "buy", D(10_000))
    assert refusal.value.code == "insufficient_balance"


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("members", "code"),
    [({"base_min_size": "5"}, "below_minimum"), ({"trading_disabled": True}, "market_closed")],
)
def test_what_the_preview_objects_to_blocks(
    venue: KnownKeys, fake: Server, members: dict[str, Any], code: str
) -> None:
    make.price("BTC", "50000")
    fake.exchange.price("BTC", "50000", **members)
    with pytest.raises(Rejected, match="PREVIEW_") as refusal:
        venue.expected_price(ACCOUNT, "BTC", "buy", D(100))
    assert refusal.value.code == code
    [answer] = venue.answers([Question(1, ACCOUNT, "BTC", "buy", "open", D(100))])
    assert answer.problem == code


@pytest.mark.django_db
def test_many_questions_ask_for_each_product_and_account_once(venue: KnownKeys, fake: Server) -> None:
    make.price("ETH", "2000")
    questions = [Question(1, f"coinbase:{n}", "ETH", "buy", "open", D(100)) for n in range(5)]
    questions[2] = Question(1, "coinbase:2", "ETH", "sell", "close", D(0))
    venue.problem(1, "coinbase:0", "ETH", "open")
    answers = venue.answers(questions)
    assert [(one.problem, one.expected_price) for one in answers] == [
        ("", None if n == 2 else D(2000)) for n in range(5)
    ]
    assert len(fake.requests) == 1 + 4 * 2  # one product; cash and preview of four accounts


@pytest.mark.django_db
def test_a_venue_that_is_down_blocks_and_does_not_raise(venue: KnownKeys, fake: Server) -> None:
    make.price("ETH", "2000")
    fake.misbehaves("maintenance", times=100)
    [answer] = venue.answers([Question(1, ACCOUNT, "ETH", "buy", "open", D(100))])
    assert (answer.problem, answer.expected_price) == (None, None)
    fake.faults.clear()
    fake.misbehaves("nothing", "POST", "/orders/preview")
    [answer] = venue.answers([Question(1, ACCOUNT, "ETH", "buy", "open", D(100))])
    assert (answer.problem, answer.expected_price) == (None, None)
    venue.wrong.add("coinbase:2")
    [answer] = venue.answers([Question(1, "coinbase:2", "ETH", "buy", "open", D(100))])
    assert answer.problem == "credentials_refused"


# --- what it holds


def test_balances_are_of_all_pages_with_what_orders_hold(venue: KnownKeys, fake: Server) -> None:
    fake.exchange.page = 2
    portfolio = fake.exchange.portfolio(ACCOUNT)
    portfolio.held = {"EUR": D(5), "BTC": D("0.5"), "SOL": D(0), "USD": D("12.34"), "DOGE": D(7)}
    fake.exchange.fills = False
    body = {"client_order_id": "by-hand", "product_id": "BTC-USD", "side": "SELL"}
    fake.exchange.create(
        portfolio,
        {**body, "order_configuration": {"limit_limit_gtc": {"base_size": "0.2", "limit_price": "60000"}}},
    )
    expected = {"EUR": D(5), "BTC": D("0.5"), USD: D("12.34"), "DOGE": D(7)}
    assert venue.balances(ACCOUNT) == expected
    assert venue.opening_balance(ACCOUNT) == D("12.34")
    venue.wrong.add("coinbase:2")
    assert venue.balances_of([ACCOUNT, "coinbase:2"]) == {ACCOUNT: expected}
    portfolio.held = {"BTC": D(1)}
    assert venue.opening_balance(ACCOUNT) == 0


@pytest.mark.parametrize("fault", ["maintenance", "page", "nothing", "unsent", "limited"])
def test_an_account_that_cannot_be_read_has_no_balance(venue: KnownKeys, fake: Server, fault: str) -> None:
    fake.misbehaves(fault, path="/accounts")
    with pytest.raises(Retryable):
        venue.balances(ACCOUNT)


def test_the_fee_of_a_fill_is_what_coinbase_took(venue: KnownKeys, fake: Server) -> None:
    report = venue.find(sent(venue).ref)
    assert report is not None
    [fill] = report.fills
    assert (fill.cash, fill.fee) == (D(5000), D(30))
    assert venue.balances(ACCOUNT) == {USD: D(100_000) - fill.cash - fill.fee, "BTC": D("0.1")}


# --- keys


@pytest.mark.parametrize("kind", ["ES256", "EdDSA"])
def test_keys_tell_what_they_may_do(fake: Server, kind: str) -> None:
    issued = issue(kind)
    portfolio = fake.exchange.portfolio(NAME, issued)
    at_coinbase = CoinbaseVenue(base_url=fake.url)
    with at_coinbase.client._http:
        access = at_coinbase.key_access({"key_name": NAME, "private_key": issued.secret})
        assert (access.may_trade, access.may_withdraw) == (True, False)
        assert access.permissions == ("view", "trade", f"portfolio {portfolio.ident}")
        with pytest.raises(Rejected) as refusal:
            at_coinbase.key_access({"key_name": NAME, "private_key": issue(kind).secret})
        assert refusal.value.code == "credentials_refused"


@pytest.mark.parametrize(
    ("permissions", "may_trade", "may_withdraw"),
    [
        ({"can_transfer": True}, True, True),
        ({"can_transfer": None}, True, True),
        ({"can_trade": False}, False, False),
        ({"can_view": False}, False, False),
        ({"can_view": None}, False, False),
    ],
)
def test_a_key_that_can_transfer_or_does_not_tell_may_withdraw(
    venue: KnownKeys, fake: Server, permissions: dict[str, Any], may_trade: bool, may_withdraw: bool
) -> None:
    fake.exchange.portfolio(ACCOUNT).permissions = permissions
    access = venue.access.key_access(venue._keys(ACCOUNT))
    assert (access.may_trade, access.may_withdraw) == (may_trade, may_withdraw)


@pytest.mark.django_db
def test_each_account_is_asked_with_its_stored_keys_and_none_that_can_transfer_is_stored(
    fake: Server, monkeypatch: pytest.MonkeyPatch, use_venue: Callable[[Venue], None]
) -> None:
    monkeypatch.setenv(sealing.PRIVATE, sealing.encode(X25519PrivateKey.generate()))
    at_coinbase = CoinbaseVenue(base_url=fake.url)
    at_coinbase.name = "paper"
    with at_coinbase.client._http:
        use_venue(at_coinbase)
        issued = issue("EdDSA")
        portfolio = fake.exchange.portfolio(NAME, issued, held={"USD": D(7)})
        fields = {"key_name": NAME, "private_key": issued.secret}
        portfolio.permissions = {"can_transfer": True}
        with pytest.raises(Rejected) as too_strong:
            store.store("paper", "one", fields, by="alice")
        assert too_strong.value.code == "credentials_too_strong"
        portfolio.permissions = {}
        store.store("paper", "one", fields, by="alice")
        assert at_coinbase.opening_balance("one") == 7
        assert issued.secret not in redact.text(f"the key {issued.secret}")
        assert at_coinbase.balances_of(["one", "two"]) == {"one": {USD: D(7)}}
        with pytest.raises(Rejected) as missing:
            at_coinbase.balances("two")
        assert missing.value.code == "no_credentials"


# --- from the decision to the ledger


@pytest.fixture
def deployment(
    venue: KnownKeys,
    fake: Server,
    db: None,
    monkeypatch: pytest.MonkeyPatch,
    use_venue: Callable[[Venue], None],
) -> Any:
    """A deployment whose account at the fake holds 1,000 USD when it starts."""
    stanza = venues.VenuePolicy(adapter="coinbase", shorts=False, max_leverage=D(1), paper=False, cash="USD")
    monkeypatch.setattr(venues, "venues", lambda: {"paper": stanza})
    venue.name = "paper"
    use_venue(venue)
    fake.exchange.portfolio(ACCOUNT, held={"USD": D(1000)})
    made = make.deployment(make.agent(), funded=False, account=ACCOUNT)
    assert fund(made)
    return made


def test_the_first_deposit_is_the_cash_of_the_account(venue: KnownKeys, deployment: Any) -> None:
    assert ledger.balances(deployment.pk) == {USD: D(1000)}
    assert reconcile.drifts() == {}


@pytest.mark.parametrize("fault", ["lost", "broken_after", "unexplained", ""])
def test_an_entry_is_one_order_and_ledger_and_account_agree(
    fake: Server, venue: KnownKeys, deployment: Any, no_approval_file: object, fault: str
) -> None:
    make.open_gate()
    make.price("ETH", "2000")
    order = make.order(deployment, by=make.signal(deployment.agent))
    if fault:
        fake.misbehaves(fault, "POST", "/orders$")
    make.place(order, venue, policy())
    for _ in range(3):
        settle.settle_due()
    order.refresh_from_db()

    assert (order.state, order.deadline) == ("filled", T0 + LIFETIME)
    assert fake.exchange.portfolio(ACCOUNT).effects == 1
    assert reconcile.drifts() == {}
    assert ledger.balances(deployment.pk)["ETH"] == order.filled_quantity > 0


@pytest.mark.parametrize("fault", ["unsent", "maintenance", "page", "nothing"])
def test_an_entry_that_never_arrived_is_sent_once_and_expires_after_its_signature(
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
    fake.misbehaves(fault, "POST", "/orders$")
    make.place(order, venue, policy())
    order.refresh_from_db()
    assert order.state == "unknown", order.reason
    time.move(seconds=149)
    settle.settle_due()
    order.refresh_from_db()
    assert order.state == "unknown"
    time.move(seconds=1)
    settle.settle_due()
    order.refresh_from_db()
    assert (order.state, order.reason) == ("expired", "never_arrived")
    assert fake.lines().count("POST /api/v3/brokerage/orders") == 1
    assert reconcile.drifts() == {}


def test_nothing_leaves_before_the_gate_is_opened(
    fake: Server, venue: KnownKeys, deployment: Any, no_approval_file: object
) -> None:
    make.price("ETH", "2000")
    order = make.order(deployment, by=make.signal(deployment.agent))
    make.place(order, venue, policy())
    order.refresh_from_db()
    assert (order.state, order.reason) == ("blocked", "dry_run")
    assert "POST /api/v3/brokerage/orders" not in fake.lines()


# --- the command


def test_the_command_shows_accounts_and_products_and_trades_nothing(
    venue: KnownKeys, fake: Server, deployment: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = StringIO()
    fake.exchange.price("BTC", "50000", trading_disabled=True)
    call_command("verify-venue", "paper", stdout=out)
    assert f"deployment {deployment.pk} ({ACCOUNT}): view, trade, portfolio" in out.getvalue()
    assert "1000 USD in cash" in out.getvalue()
    assert "ETH-USD: open" in out.getvalue()
    assert "BTC-USD: market_closed" in out.getvalue()
    assert "its clock is +0.0 s from ours" in out.getvalue()
    fake.exchange.portfolio(ACCOUNT).permissions = {"can_transfer": True}
    out = StringIO()
    with pytest.raises(SystemExit):
        call_command("verify-venue", "paper", str(deployment.pk), stdout=out, stderr=StringIO())
    assert "transfer" in out.getvalue()
    assert {one.method for one in fake.requests} == {"GET"}


def test_the_client_reads_numbers_without_floats(venue: KnownKeys, fake: Server) -> None:
    fake.exchange.price("BTC", "50000", volume_24h=0.1)
    row = venue.client.get(venue._keys(ACCOUNT), "/products/BTC-USD", "price")
    assert (type(row["volume_24h"]), row["volume_24h"]) == (Decimal, D("0.1"))
