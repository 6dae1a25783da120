"""An order at GMX from intent to its end, on a chain with the double of GMX and its keeper."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from maxxit.core import clock
from maxxit.core.errors import Misconfigured, Rejected, Retryable, StaleState
from maxxit.events.models import Event
from maxxit.evm.codec import encode_call
from maxxit.ops.devchain.anvil import revert_to
from maxxit.ops.devchain.gmx import data_key
from maxxit.ops.devchain.world import transact
from tests.trading.venues.gmx.world import PerpsTrader
from trading import ledger
from trading.chain import outbox
from trading.chain.models import ChainTransaction, SafePlan
from trading.models import FundingPayment
from trading.venues.base import Leg, Prepared, Report
from trading.venues.gmx import endings, events, orders, scan
from trading.venues.gmx.cancellations import AGAIN_AFTER, TIDY_FOR
from trading.venues.gmx.contract import module as p
from trading.venues.gmx.models import GmxScan, GmxTransaction
from trading.venues.gmx.orders import PerpTrade
from trading.venues.safe.verify import plan_in_force

D = Decimal
pytestmark = [pytest.mark.chain, pytest.mark.django_db]


def legs_of(trader: PerpsTrader, ref: str) -> dict[str, Leg]:
    answer = trader.venue.exits([ref])[ref]
    assert isinstance(answer, tuple), answer
    return {leg.reason: leg for leg in answer}


def move(trader: PerpsTrader, factor: str) -> None:
    """The whole market moves."""
    trader.world.move_price("WETH", trader.world.price("WETH") * D(factor))


def cancellations() -> int:
    return ChainTransaction.objects.filter(terms__has_key="cancels").count()


# --- entries ----------------------------------------------------------------------------------------------------------


def test_an_order_is_accepted_until_the_keeper_executes_it(trader: PerpsTrader) -> None:
    ref = trader.send(trader.request())

    assert trader.find(ref).state == "accepted"
    trader.keep()
    report = trader.find(ref)
    [fill] = report.fills
    assert report.state == "filled"
    assert abs(fill.quantity - 1) < D("0.001")
    assert abs(fill.cash - fill.quantity * fill.price) <= D("0.000001")
    assert (fill.cash, fill.platform_fee) == (D(2_500), D("0.2"))
    assert fill.fee > 0
    assert trader.find(ref) == report


def test_the_executor_pays_the_execution_fees_and_the_refund_is_the_safes(trader: PerpsTrader) -> None:
    trader.venue.fee_headroom_bps = 10**7  # the keeper pays more for gas than we do
    before = trader.lab.ether(trader.lab.safe)
    ref = trader.enter(stop=D(2_000), target=D(3_000))
    tx = trader.tx(ref)

    assert tx.value > 0
    assert tx.value % 3 == 0
    refunded = trader.lab.ether(trader.lab.safe) - before
    assert 0 < refunded < tx.value // 3
    coins = ledger.balance(ledger.coins_of_safe(trader.lab.safe), "ETH")
    assert coins == D(refunded).scaleb(-18)
    assert ledger.balance(ledger.execution_fees_of(31337), "ETH") == tx.value.scaleb(-18) - coins


@pytest.mark.parametrize("side", ["buy", "sell"])
def test_an_order_of_either_side_changes_the_balances_as_its_fill_says(
    trader: PerpsTrader, side: str
) -> None:
    before = trader.venue.balances(trader.account)["USDC"]
    ref = trader.enter(side=side)
    [fill] = trader.find(ref).fills
    held, sign = trader.held(), 1 if side == "buy" else -1

    assert held["ETH"] == sign * fill.quantity
    assert held["USDC"] == before - sign * fill.cash - fill.fee - D("0.2")


def test_a_node_that_has_logs_and_no_receipt_yet_is_asked_again(
    trader: PerpsTrader, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = trader.send(trader.request())
    assert trader.find(ref).state == "accepted"
    trader.keep()
    chain = trader.venue.chain
    with monkeypatch.context() as lagging:
        lagging.setattr(chain, "agreed_all", lambda questions: [None for _ in questions])
        with pytest.raises(Retryable, match="no receipt"):
            trader.find(ref)

    assert trader.find(ref).state == "filled"


def test_two_intents_of_one_trade_are_one_position(trader: PerpsTrader) -> None:
    request = trader.request()
    first = trader.send(request)
    again = trader.venue.prepare(trader.request(trade=request.trade))
    with pytest.raises(Rejected):
        trader.venue.send(again)
    trader.keep()

    assert trader.find(first).state == "filled"
    assert trader.find(again.ref).state == "rejected"


def test_sending_the_same_again_changes_nothing(trader: PerpsTrader) -> None:
    prepared = trader.venue.prepare(trader.request())
    for _ in range(3):
        trader.venue.send(prepared)
    trader.keep()
    trader.venue.send(prepared)

    assert trader.find(prepared.ref).state == "filled"
    assert trader.lab.keeper.orders() == []


# --- exits ------------------------------------------------------------------------------------------------------------


def test_stop_and_target_rest_at_gmx_and_one_that_fires_cancels_the_other(trader: PerpsTrader) -> None:
    ref = trader.enter(stop=D(2_300), target=D(2_700))
    assert {(leg.reason, leg.filled, leg.ended) for leg in legs_of(trader, ref).values()} == {
        ("stop_loss", 0, False), ("take_profit", 0, False),
    }  # fmt: skip
    move(trader, "1.1")
    trader.keep()
    legs = legs_of(trader, ref)

    assert (legs["take_profit"].filled > 0, legs["take_profit"].ended) == (True, True)
    assert (legs["stop_loss"].filled, legs["stop_loss"].ended) == (0, True)
    assert trader.find(legs["take_profit"].ref).state == "filled"
    assert trader.find(legs["stop_loss"].ref).state == "canceled"
    assert set(trader.held()) == {"USDC"}


def test_a_stop_that_gaps_is_filled_at_the_price_there_is(trader: PerpsTrader) -> None:
    ref = trader.enter(stop=D(2_450))
    move(trader, "0.9")
    trader.keep()
    [fill] = trader.find(legs_of(trader, ref)["stop_loss"].ref).fills

    assert fill.price < 2_260


def test_they_are_released_before_a_close_of_ours(trader: PerpsTrader) -> None:
    ref = trader.enter(stop=D(2_300), target=D(2_700))
    trader.venue.release([ref])
    assert {leg.ended for leg in legs_of(trader, ref).values()} == {True}
    trader.venue.release([ref])
    assert cancellations() == 2
    [fill] = trader.find(ref).fills
    close = trader.send(trader.request("close", side="sell", quantity=str(fill.quantity), trade="1/1"))
    trader.keep()
    report = trader.find(close)

    assert report.state == "filled"
    assert report.fills[0].quantity == fill.quantity
    assert set(trader.held()) == {"USDC"}


def test_a_part_is_closed_with_its_part_of_the_collateral(trader: PerpsTrader) -> None:
    ref = trader.enter()
    [fill] = trader.find(ref).fills
    close = trader.send(trader.request("close", side="sell", quantity="0.4", trade="1/1"))
    trader.keep()
    [sold] = trader.find(close).fills

    assert abs(sold.quantity - D("0.4")) < D("0.000001")
    assert trader.held()["ETH"] == fill.quantity - sold.quantity


def test_a_close_without_a_position_is_refused_with_its_reason(trader: PerpsTrader) -> None:
    ref = trader.enter(stop=D(2_300))
    move(trader, "0.9")
    trader.keep()
    prepared = trader.venue.prepare(trader.request("close", side="sell", trade="1/1"))
    with pytest.raises(Rejected) as refused:
        trader.venue.send(prepared)

    assert refused.value.code == "no_position"
    assert trader.find(ref).state == "filled"


def test_a_winner_pays_its_share_with_the_fill_that_closed_it(trader: PerpsTrader) -> None:
    ref = trader.enter(target=D(2_700))
    receiver = trader.world.accounts["profit_receiver"]
    before = trader.world.balance("USDC", receiver)
    move(trader, "1.1")
    trader.keep()
    [fill] = trader.find(legs_of(trader, ref)["take_profit"].ref).fills

    paid = trader.world.balance("USDC", receiver) - before
    assert paid > 0
    assert (fill.profit_share, fill.share_receiver) == (D(paid).scaleb(-6), receiver)


# --- a keeper that does not execute -----------------------------------------------------------------------------------


def test_an_order_that_the_keeper_cancels_is_rejected_with_the_decoded_reason(trader: PerpsTrader) -> None:
    ref = trader.send(trader.request(stop=D(2_000), target=D(3_500)))
    trader.find(ref)
    move(trader, "1.05")
    trader.keep()
    assert trader.find(ref).state == "accepted", "its stop and target are being cancelled"
    report = trader.find(ref)

    assert (report.state, report.reason) == ("rejected", "order_not_fulfillable_at_acceptable_price")
    assert trader.find(ref) == report
    assert {leg.ended for leg in legs_of(trader, ref).values()} == {True}, "what it left is cancelled"
    assert trader.lab.keeper.orders() == []
    assert trader.held() == {"USDC": D(10_000) - D("0.2")}


def test_what_a_cancelled_entry_left_is_cancelled_again_until_it_is_gone(
    trader: PerpsTrader, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = trader.send(trader.request(stop=D(2_000), target=D(3_500)))
    trader.find(ref)
    move(trader, "1.05")
    trader.keep()
    with monkeypatch.context() as silent:
        silent.setattr(trader.venue, "send", lambda prepared: (_ for _ in ()).throw(Retryable("no answer")))
        assert [trader.find(ref).state for _ in range(2)] == ["accepted", "accepted"]
    assert len(trader.lab.keeper.orders()) == 2
    states = [trader.find(ref).state for _ in range(3)]

    assert states[-1] == "rejected"
    assert trader.lab.keeper.orders() == []


def test_a_cancelled_entry_whose_exits_cannot_be_cancelled_is_reported_and_stops_the_safe(
    trader: PerpsTrader, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = trader.send(trader.request(stop=D(2_000)))
    trader.find(ref)
    move(trader, "1.05")
    trader.keep()
    monkeypatch.setattr(trader.venue, "send", lambda prepared: (_ for _ in ()).throw(Retryable("no answer")))
    assert trader.find(ref).state == "accepted"
    with clock.frozen(clock.now() + TIDY_FOR + timedelta(seconds=5)):
        assert trader.find(ref).state == "rejected"

    plan = plan_in_force(31337, trader.lab.safe)
    assert plan is not None
    assert plan.stops == {"*": "safe_reverts"}


def test_a_cancelled_entry_is_not_reported_while_its_safe_cannot_be_read(
    trader: PerpsTrader, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = trader.send(trader.request(stop=D(2_000)))
    trader.find(ref)
    move(trader, "1.05")
    trader.keep()
    assert trader.find(ref).state == "accepted"
    monkeypatch.setattr(scan, "read_new", lambda at, safes: {one: Retryable("no answer") for one in safes})
    with (
        clock.frozen(clock.now() + TIDY_FOR + timedelta(seconds=5)),
        pytest.raises(Retryable, match="no answer"),
    ):
        trader.find(ref)

    plan = plan_in_force(31337, trader.lab.safe)
    assert plan is not None
    assert plan.stops == {}


def test_an_order_that_no_keeper_executes_is_cancelled_by_us_after_300_seconds(trader: PerpsTrader) -> None:
    ref = trader.send(trader.request(stop=D(2_000)))
    trader.lab.later(250)
    assert trader.find(ref).state == "accepted"
    assert cancellations() == 0
    trader.lab.later(60)
    states = [trader.find(ref).state for _ in range(3)]

    assert states[-1] == "canceled"
    assert trader.find(ref).reason == "user_initiated_cancel"
    assert trader.lab.keeper.orders() == []
    assert trader.held() == {"USDC": D(10_000) - D("0.2")}
    assert cancellations() == 2


def cancellations_that_ended(trader: PerpsTrader, tx: ChainTransaction, states: list[str]) -> None:
    """Cancellations of an order that ended a moment ago, the newest last."""
    key = orders.key_of(tx)
    for number, state in enumerate(states):
        terms = {
            "venue": "gmx",
            "account": trader.account,
            "safe": trader.lab.safe,
            "purpose": "close",
            "cancels": key,
        }
        made = outbox.plan(f"{key[:34]}/cancel/{number}", tx.chain_id, terms, clock.now())
        rows = ChainTransaction.objects.filter(pk=made.pk)
        rows.update(state=state, updated_at=clock.now(), signer=tx.signer, nonce=10_000 + number)


@pytest.mark.parametrize("newest", ["dropped", "expired", "canceled", "replaced", "reverted"])
def test_a_cancellation_that_never_reached_the_module_is_no_try_and_is_planned_anew(
    trader: PerpsTrader, newest: str
) -> None:
    ref = trader.send(trader.request())
    trader.find(ref)
    trader.lab.later(310)
    cancellations_that_ended(trader, trader.tx(ref), ["reverted", "dropped", "expired", "canceled", newest])
    if newest != "reverted":
        assert [trader.find(ref).state for _ in range(2)] == ["accepted", "accepted"]
        assert cancellations() == 5, "not at once: an executor without gas would plan one with each look"
    with clock.frozen(clock.now() + AGAIN_AFTER + timedelta(seconds=1)):
        states = [trader.find(ref).state for _ in range(3)]

    assert states[-1] == "canceled"
    assert cancellations() == 6
    plan = plan_in_force(31337, trader.lab.safe)
    assert plan is not None
    assert plan.stops == {}


def test_cancellations_that_revert_stop_the_safe_after_three(trader: PerpsTrader) -> None:
    ref = trader.send(trader.request())
    trader.find(ref)
    trader.lab.later(310)
    cancellations_that_ended(trader, trader.tx(ref), ["reverted", "dropped", "reverted", "reverted"])
    assert trader.find(ref).state == "accepted"

    assert cancellations() == 4
    plan = plan_in_force(31337, trader.lab.safe)
    assert plan is not None
    assert plan.stops == {"*": "safe_reverts"}


@pytest.mark.parametrize("module", ["", "0x" + "77" * 20])
def test_an_expired_order_that_the_executor_cannot_pay_to_cancel_is_told_to_a_person(
    trader: PerpsTrader, module: str
) -> None:
    ref = trader.send(trader.request())
    trader.find(ref)
    trader.lab.later(310)
    trader.lab.rpc("anvil_setBalance", trader.world.accounts["executor"], "0x0")
    if module:  # the plan in force is for another module than the one that trades now
        SafePlan.objects.filter(safe=trader.lab.safe).update(module=module)
    assert trader.find(ref).state == "accepted"
    assert not Event.objects.filter(name="safe.entries_stopped").exists()
    for seconds in (5, 60):
        with clock.frozen(clock.now() + timedelta(seconds=310 + seconds) + TIDY_FOR):
            assert trader.find(ref).state == "accepted"

    told = Event.objects.get(name="safe.entries_stopped")
    assert told.data["order"] == orders.key_of(trader.tx(ref))
    assert cancellations() == 3, "it is tried on"


def test_exits_whose_cancellations_never_leave_are_told_to_a_person(trader: PerpsTrader) -> None:
    ref = trader.enter(stop=D(2_300))
    trader.lab.rpc("anvil_setBalance", trader.world.accounts["executor"], "0x0")
    with pytest.raises(Retryable):
        trader.venue.release([ref])
    assert not Event.objects.filter(name="safe.entries_stopped").exists()
    with clock.frozen(clock.now() + TIDY_FOR), pytest.raises(Retryable):
        trader.venue.release([ref])

    assert Event.objects.filter(name="safe.entries_stopped").count() == 1


def test_exits_that_another_executor_would_have_to_cancel_are_told_to_a_person_at_once(
    trader: PerpsTrader,
) -> None:
    ref = trader.enter(stop=D(2_300), target=D(2_700))
    trader.lab.sign(executor=trader.world.accounts["rogue"])
    with pytest.raises(Retryable, match="is none of ours"):
        trader.venue.release([ref])

    assert Event.objects.filter(name="safe.entries_stopped").count() == 1


def test_a_late_keeper_and_our_cancellation_do_not_both_happen(trader: PerpsTrader) -> None:
    ref = trader.send(trader.request())
    trader.lab.later(290)
    trader.keep()
    trader.lab.later(60)

    assert trader.find(ref).state == "filled"
    assert cancellations() == 0


def test_a_safe_whose_entries_all_come_to_nothing_is_stopped_and_told(trader: PerpsTrader) -> None:
    for _ in range(3):
        ref = trader.send(trader.request())
        trader.find(ref)
        move(trader, "1.05")
        trader.keep()
        assert trader.find(ref).state == "rejected"
    plan = plan_in_force(31337, trader.lab.safe)
    assert plan is not None
    assert plan.stops == {"*": "safe_reverts"}
    assert Event.objects.filter(name="safe.entries_stopped").count() == 1
    with pytest.raises(Rejected) as refused:
        trader.venue.send(trader.venue.prepare(trader.request()))
    assert refused.value.code == "safe_reverts"


def test_an_order_whose_block_is_taken_back_is_made_again(trader: PerpsTrader) -> None:
    trader.venue.sending = replace(trader.venue.sending, finality_depth=3)
    before = trader.lab.rpc("evm_snapshot")
    ref = trader.send(trader.request())
    trader.keep()
    revert_to(trader.lab.rpc, before)
    for _ in range(4):
        assert trader.find(ref).state == "accepted"
        trader.lab.mine()
    assert trader.find(ref).state == "accepted"
    trader.keep()
    assert trader.find(ref).state == "accepted", "the execution is not final yet"
    trader.lab.mine(3)

    assert trader.find(ref).state == "filled"
    assert trader.tx(ref).attempts.count() == 1
    assert abs(trader.held()["ETH"] - 1) < D("0.001")


# --- liquidation and deleveraging -------------------------------------------------------------------------------------


def test_a_liquidation_is_found_with_its_fill(trader: PerpsTrader) -> None:
    trader.enter(leverage=D(10))
    before = trader.venue.balances(trader.account)
    move(trader, "0.905")
    trader.keep()
    [one] = trader.venue.liquidations(trader.account)
    report = trader.find(one.ref)
    [fill] = report.fills

    assert (report.state, one.symbol, one.sells, fill.quantity) == ("filled", "ETH", True, one.quantity)
    carried = sum(FundingPayment.objects.values_list("amount", flat=True), D(0))
    assert trader.venue.balances(trader.account)["USDC"] - before["USDC"] == one.cash + carried
    assert len(one.ref) <= 100


def test_a_deleveraging_of_a_part_is_found_as_well(trader: PerpsTrader) -> None:
    ref = trader.enter()
    [fill] = trader.find(ref).fills
    for name in ("MAX_PNL_FACTOR_FOR_ADL", "MAX_PNL_FACTOR"):
        key = data_key(name, trader.lab.market, True, types="ab")
        trader.world.send(
            "deployer", trader.world.gmx.data_store, encode_call("setUint(bytes32,uint256)", key, 1)
        )
    move(trader, "1.2")
    trader.lab.keeper.deleverage(trader.lab.safe, trader.lab.market, 1_000 * 10**30, is_long=True)
    [one] = trader.venue.liquidations(trader.account)

    assert 0 < one.quantity < fill.quantity
    assert trader.held()["ETH"] == fill.quantity - one.quantity


def names_of(trader: PerpsTrader) -> set[str]:
    """The events of GMX in the newest kept transaction."""
    row = GmxTransaction.objects.order_by("-pk")[0]
    receipt = trader.lab.rpc("eth_getTransactionReceipt", row.hash)
    return {
        event.name for event in events.decode_logs(receipt["logs"], trader.world.gmx.event_emitter).events
    }


def test_an_insolvent_liquidation_loses_the_collateral_and_nothing_else(trader: PerpsTrader) -> None:
    trader.enter(leverage=D(10))
    before = trader.venue.balances(trader.account)
    move(trader, "0.5")
    trader.keep()
    [one] = trader.venue.liquidations(trader.account)
    after = trader.venue.balances(trader.account)

    assert {"InsolventClose", "PositionFeesInfo"} <= names_of(trader)
    assert not Event.objects.filter(name="gmx.not_decoded").exists()
    assert after["USDC"] - before["USDC"] == one.cash
    assert after["ETH"] == before["ETH"] - one.quantity == 0


def test_a_stop_that_is_larger_than_what_is_left_closes_what_is_left(trader: PerpsTrader) -> None:
    ref = trader.enter(stop=D(2_300))
    [fill] = trader.find(ref).fills
    trader.find(trader.send(trader.request("close", side="sell", quantity="0.4", trade="1/1")))
    trader.keep()
    left = trader.held()["ETH"]
    move(trader, "0.9")
    trader.keep()
    [closed] = trader.find(legs_of(trader, ref)["stop_loss"].ref).fills

    assert "OrderSizeDeltaAutoUpdated" in names_of(trader)
    assert not Event.objects.filter(name="gmx.not_decoded").exists()
    assert closed.quantity == left < fill.quantity
    assert set(trader.held()) == {"USDC"}


# --- what it refuses before anything leaves ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"quantity": "9", "leverage": D(2)}, "above_max_trade"),
        ({"quantity": "0.01"}, "below_min_trade"),
        ({"leverage": D(11)}, "leverage"),
        ({"symbol": "SOL"}, "token_not_listed"),
        ({"stop": D(2_600)}, "trigger_price"),
    ],
)
def test_what_the_policy_does_not_allow_is_refused_with_its_code(
    trader: PerpsTrader, changes: dict[str, Any], code: str
) -> None:
    with pytest.raises(Rejected) as refused:
        trader.venue.send(trader.venue.prepare(trader.request(**changes)))
    assert refused.value.code == code


def test_an_execution_fee_above_the_limit_is_refused(trader: PerpsTrader) -> None:
    trader.venue.max_execution_fee = 1
    with pytest.raises(Rejected) as refused:
        trader.venue.send(trader.venue.prepare(trader.request()))
    assert refused.value.code == "execution_fee"


def test_an_account_that_names_no_safe_is_left_out(trader: PerpsTrader) -> None:
    assert trader.venue.balances_of(["gmx:nobody"]) == {}
    with pytest.raises(Rejected, match="names no Safe"):
        trader.venue.safe_of("nobody")
    assert isinstance(trader.venue.exits(["mx-unknown"])["mx-unknown"], Retryable)


# --- what is read -----------------------------------------------------------------------------------------------------


def test_an_event_that_is_not_known_stops_nothing(
    trader: PerpsTrader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(events.KNOWN, "OraclePriceUpdate")
    ref = trader.enter()

    assert trader.find(ref).state == "filled"
    [told] = Event.objects.filter(name="gmx.not_decoded")
    assert "OraclePriceUpdate is an event of GMX that is not known" in told.data["problems"]


def test_the_scan_begins_before_anything_leaves_and_keeps_each_transaction_once(trader: PerpsTrader) -> None:
    ref = trader.send(trader.request())
    assert GmxScan.objects.filter(safe=trader.lab.safe).exists()
    trader.find(ref)
    trader.keep()
    for _ in range(3):
        trader.find(ref)

    hashes = list(GmxTransaction.objects.values_list("hash", flat=True))
    assert len(hashes) == len(set(hashes)) == 2


@pytest.mark.django_db(transaction=True)  # several orders are followed in threads
@pytest.mark.parametrize(
    "error", [StaleState("dropped already"), Misconfigured("EXECUTOR_KEYSTORE is not set"), ValueError("7")]
)
def test_an_order_that_cannot_be_cancelled_hides_no_other_order_and_no_exit(
    trader: PerpsTrader, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    entry = trader.enter(stop=D(2_300))
    move(trader, "0.9")
    trader.keep()
    price = trader.world.price("WBTC")
    expired = trader.send(trader.request(symbol="BTC", quantity="0.05", reference_price=price))
    trader.find(expired)
    trader.lab.later(310)
    monkeypatch.setattr(trader.venue, "send", lambda prepared: (_ for _ in ()).throw(error))
    stop = f"{entry}/stop_loss"
    found = trader.venue.find_many([expired, entry, stop])

    assert {ref: getattr(found[ref], "state", "") for ref in (entry, stop)} == {
        entry: "filled",
        stop: "filled",
    }
    if isinstance(error, ValueError):
        assert found[expired] is error, "it is counted as a failure of this order"
    else:
        assert getattr(found[expired], "state", "") == "accepted"


@pytest.mark.parametrize(
    "error", [StaleState("dropped already"), Misconfigured("EXECUTOR_KEYSTORE is not set")]
)
def test_an_exit_that_cannot_be_cancelled_keeps_no_other_from_being_cancelled(
    trader: PerpsTrader, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    ref = trader.enter(stop=D(2_300), target=D(2_700))
    tried = []

    def send(prepared: Prepared) -> None:
        tried.append(prepared.ref)
        raise error

    monkeypatch.setattr(trader.venue, "send", send)
    with pytest.raises(Retryable, match="were not cancelled"):
        trader.venue.release([ref])

    assert len(set(tried)) == 2


@pytest.mark.django_db(transaction=True)
def test_an_order_whose_end_cannot_be_read_hides_no_other(
    trader: PerpsTrader, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = trader.enter()
    price = trader.world.price("WBTC")
    other = trader.enter(symbol="BTC", quantity="0.05", reference_price=price, stop=price / 2)
    ending_of = endings.ending_of

    def broken(at: Any, tx: ChainTransaction, asked: str, *fee: D) -> orders.Ended | None:
        if tx.idempotency_key == first:
            raise KeyError(asked)
        return ending_of(at, tx, asked, *fee)

    monkeypatch.setattr(endings, "ending_of", broken)
    monkeypatch.setattr(endings, "forced_report", lambda at, key: {}[key])
    found = trader.venue.find_many([first, "forced/0x1", other])
    assert {ref: type(one) for ref, one in found.items()} == {
        first: KeyError, "forced/0x1": KeyError, other: Report,
    }  # fmt: skip

    monkeypatch.setattr(endings, "legs_of", lambda at, ref, tx: {other: ()}[ref])
    exits = trader.venue.exits([first, other])
    assert (type(exits[first]), exits[other]) == (KeyError, ())


def test_a_safe_that_cannot_be_read_again_and_again_is_read_less_often(
    trader: PerpsTrader, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = trader.send(trader.request())
    trader.find(ref)
    trader.keep()
    asked, began = [], clock.now()

    def logs(*range_: Any) -> Any:
        asked.append(range_)
        raise ValueError("an event without a market")

    with monkeypatch.context() as broken:
        broken.setattr(trader.venue.chain, "logs", logs)
        for seconds, times in ((0, 1), (0, 2), (4, 2), (6, 3), (20, 3), (22, 4), (50, 4), (55, 5)):
            before = len(asked)
            with clock.frozen(began + timedelta(seconds=seconds)):
                found = trader.venue.find_many([ref])[ref]
            assert len(asked) == times, seconds
            assert isinstance(found, ValueError if times > before else Retryable)
        assert "is read again at" in str(scan.read_new(trader.venue, [trader.lab.safe])[trader.lab.safe])
    with clock.frozen(began + timedelta(seconds=120)):
        assert trader.find(ref).state == "filled"
    assert trader.venue.scan_pauses == {}


@pytest.mark.parametrize("error", [Retryable("a node says no"), ValueError("no number")])
def test_a_cancellation_that_cannot_be_followed_hides_no_exit(
    trader: PerpsTrader, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    ref = trader.enter(stop=D(2_300))
    terms = {"venue": "gmx", "account": trader.account, "safe": trader.lab.safe, "purpose": "close"}
    for kind in ("cancels", "claims"):
        outbox.plan(
            f"stuck/{kind}", 31337, terms | {kind: "0x" + "11" * 32}, clock.now() + timedelta(hours=1)
        )
    followed: list[str] = []

    def advance(tx: ChainTransaction) -> bool:
        followed.append(tx.idempotency_key)
        raise error

    move(trader, "0.9")
    trader.keep()
    with monkeypatch.context() as stuck:
        stuck.setattr(trader.venue, "advance", advance)
        assert legs_of(trader, ref)["stop_loss"].filled > 0
        assert followed == ["stuck/cancels"], "claims wait for the next comparison"
        trader.venue.read_block(trader.lab.safe)
    assert set(followed) == {"stuck/cancels", "stuck/claims"}


def test_what_cannot_be_booked_of_one_safe_keeps_no_other_from_being_read(
    trader: PerpsTrader, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = trader.enter(stop=D(2_300))
    same, later = "0x" + "11" * 20, "0x" + "22" * 20
    began = GmxScan.objects.get(safe=trader.lab.safe).scanned_to
    GmxScan.objects.create(chain_id=31337, safe=same, scanned_to=began)
    GmxScan.objects.create(chain_id=31337, safe=later, scanned_to=began - 1)
    keep, logs = scan._keep, trader.venue.chain.logs

    def broken(at: Any, safe: str, *rest: Any) -> None:
        if safe == same:
            raise ValueError("an event without a market")
        keep(at, safe, *rest)

    def refused(start: int, end: int, filters: Any) -> Any:
        if start == began:
            raise Retryable("this range is refused")
        return logs(start, end, filters)

    monkeypatch.setattr(scan, "_keep", broken)
    monkeypatch.setattr(trader.venue.chain, "logs", refused)
    move(trader, "0.9")
    trader.keep()
    problems = scan.read_new(trader.venue, [later, same, trader.lab.safe])

    assert {safe: str(problem) for safe, problem in problems.items()} == {
        same: "an event without a market", later: "this range is refused",
    }  # fmt: skip
    assert legs_of(trader, ref)["stop_loss"].filled > 0
    assert GmxScan.objects.get(safe=same).scanned_to == began


def test_an_intent_that_another_worker_takes_further_at_the_same_moment_is_no_error(
    trader: PerpsTrader, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meanwhile(*args: Any, **options: Any) -> None:
        raise StaleState("mined already")

    prepared = trader.venue.prepare(trader.request())
    with monkeypatch.context() as raced:
        raced.setattr(outbox, "follow", meanwhile)
        trader.venue.send(prepared)

    assert trader.find(prepared.ref).state == "accepted"


def test_the_owner_closes_without_us_and_the_balances_follow(trader: PerpsTrader) -> None:
    trader.enter()
    request = trader.request("close", side="sell", trade="1/1")
    terms = PerpTrade.of(request, trader.lab.safe, trader.venue.gmx, "gmx")
    data = p.close_data(
        trader.lab.safe, terms.trade, acceptable_price=0, execution_fee=10**17,
        deadline=trader.world.now() + 600,
    )  # fmt: skip
    transact(trader.lab.rpc, trader.lab.safe, trader.lab.perps, data, 10**17)
    trader.keep()

    assert set(trader.held()) == {"USDC"}
