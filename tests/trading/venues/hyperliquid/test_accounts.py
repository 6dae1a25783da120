"""What an account may do now, what it holds; which hosts, markets and keys are accepted; from decision to ledger."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from maxxit.core import redact
from maxxit.core.errors import InvalidInput, Misconfigured, Rejected, Retryable
from maxxit.core.money import USDC
from tests import builders as make
from tests.builders import RecordedClock
from tests.trading.venues.hyperliquid.server import Server
from tests.trading.venues.hyperliquid.test_orders import ACCOUNT, BUY, CLOSE, SHORT, sent
from tests.trading.venues.hyperliquid.world import OPTIONS, KnownKeys, keys_of, main_wallet
from trading import ledger, reconcile, settle
from trading.credentials import sealing, store
from trading.risk.policy import policy
from trading.venues.base import Question, Venue
from trading.venues.hyperliquid.accounts import agent_address
from trading.venues.hyperliquid.client import api_host
from trading.venues.hyperliquid.venue import HyperliquidVenue

D = Decimal


@pytest.fixture(autouse=True)
def quoted(time: RecordedClock, db: None) -> None:
    make.price("ETH", "2000")
    make.price("BTC", "50000")


# --- hosts and options


@pytest.mark.parametrize(
    ("network", "url"),
    [
        ("mainnet", "https://api.hyperliquid-testnet.xyz"),
        ("testnet", "https://api.hyperliquid.xyz"),
        ("mainnet", "http://api.hyperliquid.xyz"),
        ("mainnet", "https://api.hyperliquid.xyz.example"),
        ("mainnet", "https://api.hyperliquid.xyz@example.com"),
        ("testnet", "https://user@127.0.0.1"),
        ("anothernet", ""),
    ],
)
def test_no_other_host_is_asked(network: str, url: str) -> None:
    with pytest.raises(Misconfigured, match="venue hyperliquid"):
        HyperliquidVenue(**OPTIONS | {"network": network, "base_url": url})


def test_the_host_follows_from_the_network_and_loopback_is_allowed() -> None:
    assert api_host("mainnet") == "https://api.hyperliquid.xyz"
    assert api_host("testnet") == "https://api.hyperliquid-testnet.xyz"
    assert api_host("testnet", "http://127.0.0.1:8000/") == "http://127.0.0.1:8000"


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_leverage": D("2.5")},
        {"markets": {}},
        {"markets": {"ETH": {"asset": 1}}},
        {"markets": {"ETH": {"asset": "1", "sz_decimals": 4}}},
        {"markets": {"ETH": {"asset": 10_001, "sz_decimals": 4}}},
        {"markets": {"ETH": {"asset": 1, "sz_decimals": 4}, "BTC": {"asset": 1, "sz_decimals": 5}}},
        {"slippage_bps": 200},
        {"exit_slippage_bps": 1_000},
        {"daily_notional_usd": 0},
        {"builder": {"address": "0x1", "tenths_of_bp": 10}},
        {"builder": {"address": "0x" + "b" * 40, "tenths_of_bp": 101}},
    ],
)
def test_options_that_make_no_sense_are_refused(fake: Server, wrong: dict[str, Any]) -> None:
    with pytest.raises(Misconfigured, match="venue hyperliquid"):
        HyperliquidVenue(**OPTIONS | {"base_url": fake.url} | wrong)


# --- what it would take


def test_an_entry_asks_for_agents_mode_and_the_builder_fee(venue: KnownKeys, time: RecordedClock) -> None:
    account = venue.account(ACCOUNT)
    assert venue.problem(1, ACCOUNT, "ETH", "open") == ""
    assert venue.problem(1, ACCOUNT, "SOL", "open") == "token_not_listed"
    time.move(seconds=300)
    account.mode = "unifiedAccount"
    assert venue.problem(1, ACCOUNT, "ETH", "open") == "account_mode"
    time.move(days=90)
    assert venue.problem(1, ACCOUNT, "ETH", "open") == "agent_expired"
    assert venue.problem(1, ACCOUNT, "ETH", "close") == ""


def test_another_agent_of_the_account_stops_its_entries_and_is_an_alarm(
    venue: KnownKeys, fake: Server
) -> None:
    fake.exchange.approve(venue.account(ACCOUNT), "0x" + "ee" * 20, "thief", days=1)
    assert venue.problem(1, ACCOUNT, "ETH", "open") == "unknown_agent"
    assert venue.problem(1, ACCOUNT, "ETH", "close") == ""


def test_an_agent_of_the_past_is_no_alarm(venue: KnownKeys, fake: Server) -> None:
    fake.exchange.approve(venue.account(ACCOUNT), "0x" + "ee" * 20, "old", days=-1)
    assert venue.problem(1, ACCOUNT, "ETH", "open") == ""


def test_a_builder_fee_that_is_not_approved_stops_entries(fake: Server, time: RecordedClock) -> None:
    builder = "0x" + "b0" * 20
    venue = KnownKeys(fake, builder={"address": builder, "tenths_of_bp": 50})
    account = venue.account(ACCOUNT)
    for approved, problem in ((0, "builder_fee_not_approved"), (49, "builder_fee_not_approved"), (50, "")):
        account.builders[builder] = approved
        time.move(seconds=300)
        assert venue.problem(1, ACCOUNT, "ETH", "open") == problem
        assert venue.problem(1, ACCOUNT, "ETH", "close") == ""


@pytest.mark.parametrize("change", [{"name": "PEPE"}, {"sz_decimals": 3}, {"delisted": True}])
def test_a_market_that_is_not_the_configured_one_is_not_traded(
    venue: KnownKeys, fake: Server, change: dict[str, Any]
) -> None:
    for name, value in change.items():
        setattr(fake.exchange.markets[1], name, value)
    [answer] = venue.answers([Question(1, ACCOUNT, "ETH", "buy", "open", D(100))])
    assert answer.problem == "market_differs"
    for request in (BUY, CLOSE):
        with pytest.raises(Rejected) as refusal:
            sent(venue, request)
        assert refusal.value.code == "market_differs"
    assert "order" not in fake.kinds()


def test_more_leverage_than_the_market_allows_is_refused(venue: KnownKeys, fake: Server) -> None:
    fake.exchange.markets[1].max_leverage = 2
    with pytest.raises(Rejected) as refusal:
        sent(venue)
    assert refusal.value.code == "signer_leverage"


def test_an_exit_waits_for_no_list_of_markets(venue: KnownKeys, fake: Server) -> None:
    venue.account(ACCOUNT).held = {"ETH": D("1.5")}
    venue.account(ACCOUNT).entry = {"ETH": D(2000)}
    fake.misbehaves("maintenance", "meta")
    sent(venue, CLOSE)
    assert venue.account(ACCOUNT).held == {}
    fake.misbehaves("maintenance", "meta")
    with pytest.raises(Retryable):
        sent(venue)


def test_the_expected_price_is_the_average_of_the_book(
    venue: KnownKeys, fake: Server, time: RecordedClock
) -> None:
    assert venue.expected_price(ACCOUNT, "ETH", "buy", D(10_000)) == 2000
    fake.exchange.depth = D("0.1")
    time.move(seconds=3)
    make.price("ETH", "2000")
    assert venue.expected_price(ACCOUNT, "ETH", "sell", D(3_999)) == 2000
    assert venue.expected_price(ACCOUNT, "ETH", "buy", D(4_001)) is None, "twenty levels of 0.1 ETH"


def test_shorts_that_are_switched_off_are_refused(fake: Server) -> None:
    venue = KnownKeys(fake, shorts=False)
    with pytest.raises(Rejected) as refusal:
        venue.expected_price(ACCOUNT, "ETH", "sell", D(100))
    assert refusal.value.code == "shorts_not_supported"


def test_many_questions_ask_for_each_account_once(venue: KnownKeys, fake: Server) -> None:
    questions = [Question(1, f"perps:{n % 5}", "ETH", "buy", "open", D(100)) for n in range(20)]
    answers = venue.answers(questions)
    assert {(answer.problem, answer.expected_price) for answer in answers} == {("", D(2000))}
    assert fake.kinds().count("extraAgents") == fake.kinds().count("userAbstraction") == 5
    assert fake.kinds().count("l2Book") == fake.kinds().count("meta") == 1


def test_a_venue_that_is_down_blocks_and_does_not_raise(venue: KnownKeys, fake: Server) -> None:
    fake.misbehaves("maintenance", times=100)
    [answer] = venue.answers([Question(1, ACCOUNT, "ETH", "buy", "open", D(100))])
    assert (answer.problem, answer.expected_price) == (None, None)


# --- what it holds


def test_cash_is_negative_where_positions_are_worth_more_than_the_account(
    venue: KnownKeys, fake: Server
) -> None:
    venue.account(ACCOUNT).cash = D(1000)
    sent(venue)
    assert venue.balances(ACCOUNT) == {USDC: 1000 - 3000 - D("1.35"), "ETH": D("1.5")}
    state = venue.state(ACCOUNT)
    assert (state.value, state.margin_used) == (D("998.65"), D(1000))
    fake.misbehaves("maintenance", "clearinghouseState")
    assert list(venue.balances_of([ACCOUNT, "perps:2"])) in ([ACCOUNT], ["perps:2"])


def test_an_account_that_does_not_add_up_is_not_read(
    venue: KnownKeys, fake: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent(venue)
    real = fake.exchange._info_clearinghouseState

    def torn(ask: Any) -> Any:
        answer = real(ask)
        answer["assetPositions"] = []
        return answer

    monkeypatch.setattr(fake.exchange, "_info_clearinghouseState", torn)
    with pytest.raises(Retryable, match="adds up to"):
        venue.balances(ACCOUNT)


def test_a_deployment_starts_on_an_account_without_positions(venue: KnownKeys) -> None:
    assert venue.opening_balance(ACCOUNT) == 100_000
    sent(venue, SHORT)
    with pytest.raises(Rejected, match=r"holds -1\.5 ETH at Hyperliquid: close its positions first"):
        venue.opening_balance(ACCOUNT)


# --- keys


def test_an_agent_key_tells_until_when_it_is_valid_and_that_it_cannot_withdraw(
    venue: KnownKeys, fake: Server
) -> None:
    account, keys = venue.account(ACCOUNT), keys_of(ACCOUNT)
    secrets = {"address": keys.address.upper().replace("0X", "0x"), "agent_key": keys.agent_key}
    access = venue.key_access(secrets)
    assert (access.may_trade, access.may_withdraw) == (True, False)
    assert access.permissions == (
        "agent maxxit, valid until 2026-05-31 12:00 UTC",
        "no withdrawals and no transfers: they need the main wallet",
    )
    account.mode = "portfolioMargin"
    assert venue.key_access(secrets).may_trade is False
    fake.exchange.approve(account, agent_address(keys.agent_key), days=-1)
    assert venue.key_access(secrets).may_trade is False
    account.agents.clear()
    with pytest.raises(Rejected) as refusal:
        venue.key_access(secrets)
    assert refusal.value.code == "credentials_refused"


def test_the_main_wallets_own_key_counts_as_able_to_withdraw(venue: KnownKeys) -> None:
    venue.account(ACCOUNT)
    access = venue.key_access({"address": keys_of(ACCOUNT).address, "agent_key": main_wallet(ACCOUNT)})
    assert access.may_withdraw


@pytest.mark.parametrize(
    ("field", "value"), [("address", "0x12"), ("agent_key", "0x12"), ("agent_key", "not a key")]
)
def test_a_field_that_is_no_address_or_key_is_named(venue: KnownKeys, field: str, value: str) -> None:
    keys = keys_of(ACCOUNT)
    with pytest.raises(InvalidInput) as wrong:
        venue.key_access({"address": keys.address, "agent_key": keys.agent_key} | {field: value})
    assert list(wrong.value.problems) == [field]
    assert value not in str(wrong.value) or field == "address"


@pytest.mark.django_db
def test_each_account_is_asked_with_its_stored_keys(
    venue: KnownKeys, fake: Server, monkeypatch: pytest.MonkeyPatch, use_venue: Callable[[Venue], None]
) -> None:
    monkeypatch.setenv(sealing.PRIVATE, sealing.encode(X25519PrivateKey.generate()))
    plain = HyperliquidVenue(**OPTIONS | {"base_url": fake.url})
    plain.name = "paper"
    with plain.client._http:
        use_venue(plain)
        venue.account("one", cash=D(7))
        keys = keys_of("one")
        store.store("paper", "one", {"address": keys.address, "agent_key": keys.agent_key}, by="alice")
        assert plain.opening_balance("one") == 7
        assert redact.text(f"the key {keys.agent_key}") == "the key [redacted]"
        assert plain.balances_of(["one", "two"]) == {"one": {USDC: D(7)}}
        with pytest.raises(Rejected) as refusal:
            store.store(
                "paper", "one", {"address": keys.address, "agent_key": main_wallet("one")}, by="alice"
            )
        assert refusal.value.code == "credentials_too_strong"


# --- from the decision to the ledger


@pytest.mark.parametrize("fault", ["lost", "unsent", "broken_after", "maintenance", "page", ""])
@pytest.mark.parametrize("side", ["long", "short"])
def test_an_entry_is_one_order_and_ledger_and_account_agree(
    fake: Server, venue: KnownKeys, deployment: Any, no_approval_file: object, fault: str, side: str
) -> None:
    make.open_gate()
    by = make.signal(deployment.agent, side=side, leverage=D(3))
    order = make.order(deployment, by=by, side="buy" if side == "long" else "sell", leverage=D(3))
    if fault:
        fake.misbehaves(fault, "order")
    make.place(order, venue, policy())
    order.refresh_from_db()
    assert order.state == ("unknown" if fault else "filled"), order.reason
    for _ in range(3):
        settle.settle_due()
    order.refresh_from_db()

    assert order.state == "filled"
    assert venue.account(ACCOUNT).effects == 1
    assert reconcile.drifts() == {}
    held = ledger.balances(deployment.pk)
    assert held["ETH"] == (order.filled_quantity if side == "long" else -order.filled_quantity)
    assert held[USDC] == venue.account(ACCOUNT).cash
    assert venue.account(ACCOUNT).leverage == {"ETH": ("isolated", 3)}
