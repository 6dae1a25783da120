"""Funding that Safes earned is claimed to them and booked; tokens that GMX pays out are never lost."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from io import StringIO

import pytest
from django.core.management import call_command

from maxxit.core import clock
from maxxit.evm.codec import ZERO_ADDRESS, encode_call
from maxxit.ops.devchain.gmx import data_key
from maxxit.ops.devchain.world import transact
from tests import builders as make
from tests.chain.gmx import router
from tests.chain.gmx.router import OrderParams
from tests.trading.venues.gmx.world import PerpsTrader
from trading import ledger, tasks
from trading.chain.models import ChainTransaction
from trading.models import FundingPayment
from trading.passes import TimeBudget
from trading.venues.gmx import claims as earned
from trading.venues.gmx.calls import OrderType
from trading.venues.safe import safes
from trading.venues.safe.reconcile import reconcile

D = Decimal
pytestmark = [pytest.mark.chain, pytest.mark.django_db]
DAY = 86_400
FEE = 10**17


def earn(trader: PerpsTrader) -> None:
    """A short, which the larger side pays, is held for three days and closed."""
    trader.enter(side="sell")
    trader.lab.later(3 * DAY)
    late = clock.now() + timedelta(days=4)
    trader.send(trader.request("close", side="buy", quantity="1", trade="1/1", deadline=late))
    trader.keep()
    trader.venue.balances(trader.account)


def funding() -> Decimal:
    return sum(FundingPayment.objects.values_list("amount", flat=True), D(0))


def claim(trader: PerpsTrader, seconds: float = 60) -> int:
    return trader.venue.claim_earned(TimeBudget(seconds))


def claims() -> list[str]:
    rows = ChainTransaction.objects.filter(terms__has_key="claims").order_by("pk")
    return list(rows.values_list("state", flat=True))


def set_uint(trader: PerpsTrader, amount: int, name: str, *words: str) -> None:
    """Write GMX's data store as a controller."""
    key = data_key(name, *words, types="a" * len(words))
    trader.world.send(
        "deployer", trader.world.gmx.data_store, encode_call("setUint(bytes32,uint256)", key, amount)
    )


def owe(trader: PerpsTrader, symbol: str, amount: int) -> None:
    """GMX owes the Safe earned funding in a token of the market."""
    words = (trader.lab.market, trader.world.address_of(symbol))
    set_uint(trader, amount, "CLAIMABLE_FUNDING_AMOUNT", *words, trader.lab.safe)
    set_uint(trader, amount, "CLAIMABLE_FUNDING_AMOUNT", *words)


def test_earned_funding_is_claimed_to_the_safe_and_booked_once(trader: PerpsTrader) -> None:
    assert safes.check(trader.deployment) == []
    earn(trader)
    trader.venue.claim_from_usd = D("0.000001")
    before, booked = trader.venue.balances(trader.account)["USDC"], funding()

    assert claim(trader) == 1
    after = trader.venue.balances(trader.account)["USDC"]
    assert after > before
    assert funding() - booked == after - before
    assert claim(trader) == 0
    assert claims() == ["final"]
    assert trader.venue.balances(trader.account)["USDC"] == after
    result = reconcile(trader.venue, trader.lab.safe)
    assert result.external == {}, "what the claim paid is not the owner's deposit"


def test_less_than_the_threshold_stays_at_gmx(trader: PerpsTrader) -> None:
    trader.enter()
    owe(trader, "USDC", 4_999_999)
    assert claim(trader) == 0
    owe(trader, "USDC", 5_000_000)

    assert claim(trader) == 1


def test_a_safe_that_cannot_claim_stops_no_other_and_pays_no_gas(trader: PerpsTrader) -> None:
    owe(trader, "USDC", 10**9)  # it has never traded there: the module refuses

    assert claim(trader) == 0
    assert claims() == []


def test_a_run_claims_the_largest_first_while_its_time_and_its_number_last(
    trader: PerpsTrader, monkeypatch: pytest.MonkeyPatch
) -> None:
    make.price("ETH", "2500")
    trader.enter()
    owe(trader, "USDC", 10**7)
    owe(trader, "WETH", 10**16)
    assert claim(trader, seconds=0) == 0
    with monkeypatch.context() as closed:
        closed.setattr(trader.venue, "may_send", lambda tx: False)
        assert claim(trader) == 0
    assert claims() == [], "nothing is planned that may not be sent"

    monkeypatch.setattr(earned, "CLAIMS_A_RUN", 1)
    assert claim(trader) == 1
    weth = trader.world.address_of("WETH")
    assert ChainTransaction.objects.get(terms__has_key="claims").terms["token"] == weth
    assert claim(trader) == 1
    assert claims() == ["final", "final"]


def test_a_claim_under_way_is_followed_by_the_next_run(trader: PerpsTrader) -> None:
    trader.enter()
    owe(trader, "USDC", 10**7)
    trader.venue.sending = replace(trader.venue.sending, finality_depth=3)
    trader.lab.mine(3)
    assert claim(trader) == 1
    assert claims() == ["mined"]
    trader.lab.mine(3)

    assert claim(trader) == 0
    assert claims() == ["final"]


def test_the_scheduled_pass_claims_at_every_venue(trader: PerpsTrader) -> None:
    trader.enter()
    owe(trader, "USDC", 10**7)

    assert tasks.run_claims() == 1
    assert tasks.run_claims() == 0


def test_funding_in_wrapped_ether_is_booked_as_the_safes_own(trader: PerpsTrader) -> None:
    assert safes.check(trader.deployment) == []
    make.price("ETH", "2500")
    trader.enter()
    owe(trader, "WETH", 10**16)
    before = trader.venue.balances(trader.account)

    assert claim(trader) == 1
    assert trader.venue.balances(trader.account) == before
    assert trader.world.balance("WETH", trader.lab.safe) == 10**16
    assert ledger.balance(ledger.coins_of_safe(trader.lab.safe), "WETH") == D("0.01")
    assert ledger.drift() == {}
    result = reconcile(trader.venue, trader.lab.safe)
    assert (result.external, result.unexplained) == ({}, {})


def test_a_profit_that_gmx_pays_in_wrapped_ether_is_booked_as_the_safes_own(trader: PerpsTrader) -> None:
    assert safes.check(trader.deployment) == []
    ref = trader.enter()
    trader.world.move_price("WETH", trader.world.price("WETH") * D("1.1"))
    gmx, safe = trader.world.gmx, trader.lab.safe
    size = int(trader.find(ref).fills[0].cash) * 10**30
    order = OrderParams(
        safe, safe, ZERO_ADDRESS, trader.lab.market, trader.world.usdc, size, OrderType.MARKET_DECREASE, True, 0, FEE,
        decrease_swap_type=0,
    )  # fmt: skip
    data = router.multicall([router.send_wnt(gmx.order_vault, FEE), router.create_order(order)])
    transact(trader.lab.rpc, safe, gmx.exchange_router, data, FEE)
    trader.keep()

    assert set(trader.held()) == {"USDC"}
    received = trader.world.balance("WETH", safe)
    assert received > 0
    assert ledger.balance(ledger.coins_of_safe(safe), "WETH") == D(received).scaleb(-18)
    shown = StringIO()
    call_command("perps", "show", "--deployment", str(trader.deployment.pk), stdout=shown)
    assert "WETH that GMX paid to the Safe" in shown.getvalue()
    assert ledger.drift() == {}


def test_wrapped_ether_that_the_owner_sends_is_no_difference(trader: PerpsTrader) -> None:
    assert safes.check(trader.deployment) == []
    trader.world.mint("WETH", trader.lab.safe, 10**17)
    trader.lab.mine()
    result = reconcile(trader.venue, trader.lab.safe)

    assert (result.external, result.unexplained) == ({}, {})
