"""What the module believes of GMX: the word of controllers, read by name, and no more than a trade can return."""

from typing import Any

import pytest

from maxxit.evm.codec import encode_call
from maxxit.ops.devchain.gmx import data_key
from maxxit.ops.devchain.world import Reverted, transact
from tests.chain.perps.callbacks import CALLBACKS, CANCELLATION, EXECUTION, FROZEN, callback, event_data
from tests.chain.perps.lab import USDC, PerpLab, reverts
from trading.venues.gmx.contract import module as p

pytestmark = pytest.mark.chain

COST = 100 * USDC + 200_000
UNKNOWN = b"\x07" * 32
MOST_GAS = p.CALLBACK_GAS * 3 // 5
"""Gas that a callback may need at most: the rest is a margin for what GMX changes."""


def order_of(lab: PerpLab, **changes: Any) -> tuple[Any, ...]:
    """The order's data of a callback about the demo Safe's ETH long."""
    addresses = {
        "receiver": lab.safe, "account": lab.safe, "market": lab.market(), "initialCollateralToken": lab.world.usdc,
    }  # fmt: skip
    bools = {"autoCancel": False, "isLong": changes.pop("is_long", True)}
    return event_data({**addresses, **changes}, {"orderType": 7, "sizeDeltaUsd": 1}, bools)


def output(lab: PerpLab, amount: int, second: int = 0, **tokens: str) -> tuple[Any, ...]:
    """The result of a decrease."""
    named = {"outputToken": lab.world.usdc, "secondaryOutputToken": lab.world.usdc, **tokens}
    return event_data(
        named, {"outputAmount": amount, "secondaryOutputAmount": second, "orderSizeDeltaUsd": 5}
    )


def tell(
    lab: PerpLab,
    name: str,
    key: bytes,
    result: tuple[Any, ...] | None = None,
    by: str = "deployer",
    **order: Any,
) -> list[p.Log]:
    """A callback by a controller: the local chain's deployer has the role."""
    return lab.send(by, callback(name, key, order_of(lab, **order), result or event_data()))


def test_only_controllers_are_believed(lab: PerpLab) -> None:
    log = lab.open(stop_price=lab.units("2400"))
    for name in CALLBACKS:
        for stranger in ("executor", "guardian", "owner", "rogue", "keeper", lab.safe):
            with reverts("NOT_CONTROLLER"):
                tell(lab, name, log.args["stop_key"], output(lab, 90 * USDC), by=stranger)
    assert lab.known().returned == 0


def test_a_controller_whose_role_ends_is_not_believed_any_more(lab: PerpLab) -> None:
    log = lab.open(stop_price=lab.units("2400"))
    deployer = lab.world.accounts["deployer"]
    revoke = encode_call("revokeRole(address,bytes32)", deployer, data_key("CONTROLLER"))
    transact(lab.rpc, deployer, lab.gmx.role_store, revoke)
    with reverts("NOT_CONTROLLER"):
        tell(lab, EXECUTION, log.args["stop_key"], output(lab, 90 * USDC))


def test_outputs_in_usdc_count_and_others_do_not(lab: PerpLab) -> None:
    key = lab.open(stop_price=lab.units("2400")).args["stop_key"]
    (log,) = tell(lab, EXECUTION, key, output(lab, 30 * USDC, 4 * USDC))
    assert log.args["returned"] == 34 * USDC
    weth = lab.world.address_of("WETH")
    (log,) = tell(lab, EXECUTION, key, output(lab, 10**18, 5 * USDC, outputToken=weth))
    assert log.args["returned"] == 5 * USDC
    (log,) = tell(lab, EXECUTION, key, output(lab, 6 * USDC, 10**18, secondaryOutputToken=weth))
    assert log.args["returned"] == 6 * USDC
    (log,) = tell(lab, EXECUTION, key)
    assert log.args["returned"] == 0, "a result without outputs credits nothing"
    assert (lab.known().returned, lab.reserved()) == (45 * USDC, COST - 45 * USDC)


def test_values_are_found_by_name_wherever_they_stand(lab: PerpLab) -> None:
    key = lab.open(stop_price=lab.units("2400")).args["stop_key"]
    numbers = {f"of a later version of GMX {number}": number for number in range(40)}
    numbers |= {"outputAmountInUsd": 7, "outputAmoun": 8, "outputAmount": 9 * USDC}
    result = event_data({"market": lab.market(), "a name that is longer than thirty-two bytes": lab.safe,
                         "outputToken": lab.world.usdc}, numbers)  # fmt: skip
    (log,) = tell(lab, EXECUTION, key, result)
    assert log.args["returned"] == 9 * USDC


def test_no_trade_returns_more_than_its_cost_and_notional(lab: PerpLab) -> None:
    """Even a controller that lies bounds the share of a trade to a fifth of its size."""
    log = lab.open(stop_price=lab.units("2400"))
    (told,) = tell(lab, EXECUTION, log.args["stop_key"], output(lab, 2**255))
    assert told.args["returned"] == COST + 500 * USDC == lab.known().returned
    (again,) = tell(lab, EXECUTION, log.args["stop_key"], output(lab, 10**12))
    assert again.args["returned"] == 0
    (over,) = (log for log in lab.close() if log.name == "TradeSettled")
    assert over.args["share"] == 100 * USDC == lab.usdc("profit_receiver")


def test_orders_and_positions_that_are_not_the_modules_are_ignored(lab: PerpLab) -> None:
    lab.open()
    rogue = lab.world.accounts["rogue"]
    for changes in (
        {"account": rogue}, {"market": lab.market("WBTC")}, {"is_long": False},
        {"initialCollateralToken": lab.world.address_of("WETH")},
    ):  # fmt: skip
        assert tell(lab, EXECUTION, UNKNOWN, output(lab, 50 * USDC), **changes) == []
    assert lab.known().returned == 0
    (log,) = tell(
        lab, EXECUTION, UNKNOWN, output(lab, 50 * USDC)
    )  # its own position: a liquidation or deleveraging
    assert log.args["returned"] == 50 * USDC


def test_a_frozen_order_changes_nothing(lab: PerpLab) -> None:
    key = lab.open(stop_price=lab.units("2400")).args["stop_key"]
    assert tell(lab, FROZEN, key, output(lab, 50 * USDC)) == []
    assert lab.known().returned == 0


def test_an_increase_returns_nothing_when_it_is_executed(lab: PerpLab) -> None:
    key = lab.request().args["order_key"]
    (log,) = tell(lab, EXECUTION, key, output(lab, 50 * USDC))
    assert (log.args["returned"], lab.known().returned) == (0, 0)
    assert not lab.known().ended


def test_only_a_cancelled_increase_gives_its_collateral_back(lab: PerpLab) -> None:
    key = lab.open(stop_price=lab.units("2400")).args["stop_key"]
    (log,) = tell(lab, CANCELLATION, key)
    assert (log.args["returned"], lab.known().ended) == (0, False)
    (log,) = tell(lab, CANCELLATION, UNKNOWN)
    assert (log.args["returned"], lab.known().ended) == (0, False)


def test_a_trade_that_has_ended_is_credited_nothing_more(lab: PerpLab) -> None:
    log = lab.open(stop_price=lab.units("2400"))
    lab.feed("2300")
    lab.close()
    before = (lab.known(), lab.charged(), lab.unshared(), lab.usdc("profit_receiver"))
    for name in (EXECUTION, CANCELLATION):
        for key in (log.args["stop_key"], log.args["order_key"]):
            (told,) = tell(lab, name, key, output(lab, 500 * USDC))
            assert told.args["returned"] == 0
    assert (lab.known(), lab.charged(), lab.unshared(), lab.usdc("profit_receiver")) == before


def test_a_malformed_callback_reverts(lab: PerpLab) -> None:
    key = lab.open(stop_price=lab.units("2400")).args["stop_key"]
    whole = callback(EXECUTION, key, order_of(lab), output(lab, 50 * USDC))
    far = whole[:36] + (2**255).to_bytes(32) + whole[68:]
    for data in (whole[:36], whole[:100], far):
        with pytest.raises(Reverted):
            lab.send("deployer", data)
    assert lab.known().returned == 0


def test_callbacks_fit_their_gas(lab: PerpLab) -> None:
    """The dearest callback, the end of a winner with its share, has a margin in the gas that orders set aside."""
    log = lab.open(stop_price=lab.units("2400"), target_price=lab.units("2600"))
    lab.feed("2600")
    receipt = lab.keeper.execute(log.args["target_key"])
    trace = lab.rpc("debug_traceTransaction", receipt["transactionHash"], {"tracer": "callTracer"})
    used = [int(call["gasUsed"], 16) for call in flat(trace) if call["to"] == lab.module.lower()]
    assert len(used) == 2, "the target, and the stop that is cancelled with it"
    assert max(used) < MOST_GAS, used


def flat(trace: dict[str, Any]) -> list[dict[str, Any]]:
    return [call for inner in trace.get("calls", []) for call in (inner, *flat(inner))]
