"""What a Safe and its pools must be like: at planning, at each check, and what stops entries when they change."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from safe_eth.safe import Safe

from maxxit.core import clock
from maxxit.core.errors import Rejected, Retryable
from maxxit.events.models import Event
from maxxit.notify import alerts
from maxxit.notify.models import Alert
from maxxit.ops.devchain.world import Builder
from tests import builders as make
from tests.chain.sending.safe_trader import SafeTrader, store_plan, verified
from trading.chain.models import SafePlan
from trading.chain.outbox import Call
from trading.venues.safe import entry_stops, library, plans, pools, safe_contract, safes, verify
from trading.venues.safe import venue as safe_venue
from trading.venues.safe.contract import module as m
from trading.venues.safe.trades import Trade
from trading.wiring import venue

pytestmark = [pytest.mark.chain, pytest.mark.django_db]

SINGLETON_SLOT = "0x0"
GUARD_SLOT = hex(Safe.TRANSACTION_GUARD_STORAGE_SLOT)
MODULE_GUARD_SLOT = hex(Safe.MODULE_GUARD_STORAGE_SLOT)
FALLBACK_SLOT = hex(Safe.FALLBACK_HANDLER_STORAGE_SLOT)
LIQUIDITY_SLOT = "0x" + "4".zfill(64)
"""Of a Uniswap V3 pool."""


def address_word(address: str) -> str:
    return "0x" + address[2:].rjust(64, "0")


def set_slot(trader: SafeTrader, slot: str, address: str) -> None:
    slot = "0x" + slot.removeprefix("0x").zfill(64)
    trader.lab.rpc("anvil_setStorageAt", trader.world.safe, slot, address_word(address))


def thin_out(trader: SafeTrader, symbol: str = "WETH", *, divide_by: int = 5_000) -> None:
    """Take liquidity out of the pool that the policy names."""
    token = trader.world.token(symbol)
    pool = token.pools[str(token.policy_fee)]
    kept = int(trader.lab.rpc("eth_getStorageAt", pool, LIQUIDITY_SLOT, "latest"), 16) // divide_by
    trader.lab.rpc("anvil_setStorageAt", pool, LIQUIDITY_SLOT, "0x" + f"{kept:064x}")


@pytest.fixture
def deployment(trader: SafeTrader) -> Any:
    """Planned and verified, owned by a customer."""
    store_plan(trader.lab)
    owner = User.objects.create_user("customer")
    agent = make.agent(venue="safe", tokens=["ETH", "BTC"])
    return verified(make.deployment(agent, account=trader.world.safe, funded=False, owner=owner), trader.lab)


def plan_of(trader: SafeTrader) -> SafePlan:
    found = verify.plan_in_force(trader.world.chain_id, trader.world.safe)
    assert found is not None
    return found


# -- the Safe's contract


def test_a_plain_safe_has_no_objection_and_no_note(trader: SafeTrader) -> None:
    found = safe_contract.read(trader.venue.chain, trader.world.safe)
    assert (found.objections, found.notes) == ([], ())
    assert found.singleton == library.deployed("SafeL2")


@pytest.mark.parametrize(
    ("slot", "named"),
    [
        (GUARD_SLOT, "it has a transaction guard, {}"),
        (MODULE_GUARD_SLOT, "it has a module guard, {}"),
        (SINGLETON_SLOT, "its singleton {} is not one of Safe's releases"),
    ],
)
def test_a_strange_singleton_or_a_guard_is_named_and_refused(
    trader: SafeTrader, deployment: Any, slot: str, named: str
) -> None:
    stranger = trader.world.accounts["rogue"]
    if slot == SINGLETON_SLOT:  # it answers like a Safe
        stranger = trader.world.usdc
        code = trader.lab.rpc("eth_getCode", library.deployed("SafeL2"), "latest")
        trader.lab.rpc("anvil_setCode", stranger, code)
    set_slot(trader, slot, stranger)
    with pytest.raises(Rejected, match="cannot be traded") as refused:
        plans.plan(deployment)
    assert refused.value.code == "safe_unsupported"
    assert named.format(stranger) in str(refused.value)

    assert any(named.format(stranger) in line for line in safes.check(deployment))
    assert trader.problem() == "safe_not_verified"
    assert trader.problem(purpose="close") == ""


def test_a_look_alike_proxy_is_refused(trader: SafeTrader, deployment: Any) -> None:
    code = trader.lab.rpc("eth_getCode", trader.world.safe, "latest")
    trader.lab.rpc("anvil_setCode", trader.world.safe, code + "00")
    with pytest.raises(Rejected, match="is not a Safe proxy of release 1"):
        plans.plan(deployment)


def test_another_fallback_handler_is_noted(trader: SafeTrader, deployment: Any) -> None:
    set_slot(trader, FALLBACK_SLOT, trader.world.accounts["rogue"])
    (note,) = plans.plan(deployment).notes
    assert trader.world.accounts["rogue"] in note


def test_what_changes_later_stops_entries_and_staff_and_owner_are_told(
    trader: SafeTrader, deployment: Any
) -> None:
    User.objects.create_user("staff", is_staff=True)
    set_slot(trader, GUARD_SLOT, trader.world.accounts["rogue"])
    safes.recheck_all()
    safes.recheck_all()

    assert trader.problem() == "safe_changed"
    assert trader.problem(purpose="close") == ""
    (event,) = Event.objects.filter(name="safe.entries_stopped")
    assert trader.world.accounts["rogue"] in event.data["found"]
    assert event.name in settings.ALERTS
    alerts.write()
    assert set(Alert.objects.values_list("user__username", flat=True)) == {"staff", "customer"}

    set_slot(trader, GUARD_SLOT, "0x" + "0" * 40)
    safes.recheck_all()
    assert trader.problem() == "safe_changed", "a person looks before entries go on"
    assert safes.check(deployment) == []
    assert trader.problem() == ""


@pytest.mark.parametrize(("error", "told"), [(Retryable("no answer"), 0), (ValueError("no number"), 1)])
def test_a_safe_that_cannot_be_read_keeps_no_other_from_its_check(
    trader: SafeTrader, deployment: Any, monkeypatch: pytest.MonkeyPatch, error: Exception, told: int
) -> None:
    away = "0x" + "1" * 40
    broken = make.deployment(
        make.agent(venue="safe"), id=-1, account=away, safe_wallet=away, verified_at=clock.now(), funded=False
    )  # the first to be looked at
    real = safe_contract.read

    def read(chain: Any, safe: str) -> Any:
        if safe == away:
            raise error
        return real(chain, safe)

    monkeypatch.setattr(safe_contract, "read", read)
    SafePlan.objects.create(
        chain_id=31337, safe=away, module=trader.world.module, created_at=broken.created_at,
        verified_at=broken.created_at, **verify.as_plan(trader.world.policy(), trader.world.rules()),
    )  # fmt: skip
    thin_out(trader)
    safes.recheck_all()
    assert list(plan_of(trader).stops.values()) == [entry_stops.SHALLOW]
    safes.recheck_all()
    assert Event.objects.filter(name="safe.check_failed", data__safe=away).count() == told
    assert "safe.check_failed" in settings.ALERTS


def test_a_chain_that_does_not_answer_is_asked_once_whatever_safes_are_rechecked(
    trader: SafeTrader, deployment: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for digit in "345":
        safe = "0x" + digit * 40
        made = make.deployment(
            make.agent(venue="safe"), account=safe, safe_wallet=safe, verified_at=clock.now(), funded=False
        )
        SafePlan.objects.create(
            chain_id=31337, safe=safe, module=trader.world.module, created_at=made.created_at,
            verified_at=made.created_at, **verify.as_plan(trader.world.policy(), trader.world.rules()),
        )  # fmt: skip
    asked: list[str] = []

    def silent(*question: Any) -> Any:
        asked.append(str(question[-1:]))
        raise Retryable("no endpoint is healthy")

    at: Any = venue("safe")
    monkeypatch.setattr(safe_contract, "read", silent)
    monkeypatch.setattr(at.chain, "head", silent)
    safes.recheck_all()
    assert len(asked) == 2, "one Safe, then whether the chain answers at all"


def test_after_an_upgrade_the_plan_in_force_is_compared_on_its_own_module(
    trader: SafeTrader, deployment: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = trader.world
    newer = Builder(world.rpc_url).local(
        "TradingModule", ["address"] * 3, [world.usdc, world.router, world.sequencer_feed]
    )
    at: Any = venue("safe")
    monkeypatch.setattr(at, "places", at.places.model_copy(update={"module": newer}))
    with pytest.raises(Rejected, match="plan it anew"):
        safes.check(deployment)
    SafePlan.objects.create(
        chain_id=31337, safe=world.safe, module=newer, created_at=clock.now(),
        **verify.as_plan(world.policy(), world.rules()),
    )  # fmt: skip
    assert "the module is not enabled in the Safe" in safes.check(deployment), "not signed yet"
    deployment.refresh_from_db()
    assert deployment.verified_at is not None, "so that the recheck sees when it is signed"

    set_slot(trader, GUARD_SLOT, world.accounts["rogue"])
    safes.recheck_all()
    assert plan_of(trader).stops == {"*": "safe_changed"}


def test_a_proposal_for_another_module_keeps_no_safe_from_its_recheck(
    trader: SafeTrader, deployment: Any
) -> None:
    SafePlan.objects.create(
        chain_id=31337, safe=trader.world.safe, module="0x" + "3" * 40, created_at=clock.now(),
        **verify.as_plan(trader.world.policy(), trader.world.rules()),
    )  # fmt: skip
    set_slot(trader, GUARD_SLOT, trader.world.accounts["rogue"])
    safes.recheck_all()
    assert trader.problem() == "safe_changed"


# -- pools


def depth(trader: SafeTrader, fee: int, max_trade: int = 1_000_000_000) -> pools.Depth | None:
    venue = trader.venue
    return pools.depth(venue.chain, venue.places, trader.world.address_of("WETH"), fee, 10_000_000, max_trade)


def test_the_depth_is_what_a_trade_there_and_back_loses(trader: SafeTrader) -> None:
    narrow, wide = depth(trader, 500), depth(trader, 3000)
    assert narrow is not None
    assert wide is not None
    assert (narrow.impact_bps, wide.impact_bps) == (1, 1)
    assert 998_900_000 < narrow.returned < 999_000_000  # two fees of 0.05 % on 1,000 USDC
    assert 993_900_000 < wide.returned < 994_100_000
    assert depth(trader, 10_000) is None

    thin_out(trader, divide_by=1_000)
    thin = depth(trader, 500)
    assert thin is not None
    assert 450 < thin.impact_bps < 550  # 1,000 USDC into 20,000 on each side


def test_the_plan_takes_the_pool_with_the_best_quote_there_and_back(
    trader: SafeTrader, deployment: Any
) -> None:
    def tiers() -> list[int]:
        plans.plan(deployment)
        proposed = verify.proposal(trader.world.chain_id, trader.world.safe)
        assert proposed is not None
        return [rule.pool_fee for rule in verify.rules_of(proposed)]

    assert tiers() == [500, 3000]
    thin_out(trader)
    assert tiers() == [3000, 3000]


def test_a_plan_without_a_pool_deep_enough_is_refused(trader: SafeTrader, deployment: Any) -> None:
    thin_out(trader, "WBTC")
    with pytest.raises(Rejected, match="50 are allowed") as refused:
        plans.plan(deployment)
    assert refused.value.code == "pool_too_shallow"


def test_a_pool_that_thins_out_stops_entries_in_its_token_alone(trader: SafeTrader, deployment: Any) -> None:
    thin_out(trader)
    safes.recheck_all()
    assert (trader.problem("ETH"), trader.problem("BTC")) == ("pool_too_shallow", "")
    assert trader.problem("ETH", purpose="close") == ""
    (event,) = Event.objects.filter(name="safe.entries_stopped")
    assert safes.check(deployment) == []
    assert safes.stopped(deployment) == {"ETH": "pool_too_shallow"}
    assert (event.data["code"], event.data["token"]) == ("pool_too_shallow", trader.world.address_of("WETH"))
    with pytest.raises(Rejected) as refused:
        trader.send(trader.request())
    assert refused.value.code == "pool_too_shallow"

    trader.lab.fresh()
    trader.world.refresh_feeds()
    safes.recheck_all()
    assert trader.problem("ETH") == ""


# -- orders that revert


@pytest.fixture
def reverting(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """What goes through when it is tried reverts in its block."""

    def hopeless(chain: Any, places: Any, trade: Trade, **_: Any) -> Call:
        least = 2**200
        data = m.open_data(
            trade.safe, bytes.fromhex(trade.trade_id[2:]), trade.token, trade.amount, least, trade.deadline
        )
        return Call(places.module, data)

    with monkeypatch.context() as inside:
        inside.setattr(safe_venue, "call_of", hopeless)
        yield inside


def test_a_safe_whose_orders_revert_is_stopped_until_it_is_checked(
    trader: SafeTrader, deployment: Any, reverting: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        assert trader.trade().state == "rejected"
    assert trader.problem() == ""
    assert trader.trade().state == "rejected"
    assert trader.problem() == "safe_reverts"
    assert trader.problem(purpose="close") == ""
    safes.recheck_all()
    assert trader.problem() == "safe_reverts"
    (event,) = Event.objects.filter(name="safe.entries_stopped")
    assert (event.data["reverts"], event.data["owner_id"]) == (3, deployment.owner_id)

    assert safes.check(deployment) == []
    assert trader.problem() == ""
    assert trader.trade().state == "rejected"
    assert trader.problem() == "", "what failed before the check does not count"


def test_reverts_count_only_in_a_row(
    trader: SafeTrader, deployment: Any, reverting: pytest.MonkeyPatch
) -> None:
    trader.trade(), trader.trade()
    reverting.undo()
    assert trader.trade().state == "filled"
    assert trader.problem() == ""
