"""GMX's calls and events against the recording of its own contracts, and round trips of what we encode."""

from typing import Any

import pytest
from eth_abi.abi import encode
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak
from hypothesis import given
from hypothesis import strategies as st

from maxxit.core.errors import Retryable
from maxxit.evm.codec import ZERO_ADDRESS
from tests.chain.gmx import router
from tests.chain.gmx.router import OrderParams
from tests.trading.venues.gmx.recorded import ADDRESSES, SAFE, steps
from trading.venues.gmx.calls import OrderType
from trading.venues.gmx.events import (
    DOCUMENTED,
    EVENT_DATA,
    EVENT_LOG_1,
    EVENT_LOG_2,
    EVENTS,
    KNOWN,
    OrderCancelled,
    OrderCreated,
    OrderExecuted,
    OrderFrozen,
    PositionDecrease,
    PositionIncrease,
    decode_logs,
    padded,
    topic_of,
)
from trading.venues.gmx.refusals import refusal_of
from trading.venues.gmx.units import execution_fee, execution_gas

EMITTER = ADDRESSES["EventEmitter"]
STEPS = [pytest.param(step, id=step["step"]) for step in steps()]


def shown(value: Any) -> Any:
    """A decoded value as the recording writes it: hex without 0x, addresses with it."""
    if isinstance(value, str) and value.startswith("0x") and len(value) != 42:
        return value[2:]
    return [shown(one) for one in value] if isinstance(value, list) else value


# --- what was recorded ---------------------------------------------------------------------------------------------


def test_topic_0_is_that_of_the_recording() -> None:
    assert EVENT_LOG_1.startswith("0x137a4406")
    assert EVENT_LOG_2.startswith("0x468a25a7")


@pytest.mark.parametrize("step", STEPS)
def test_every_recorded_log_decodes_by_key_to_the_recorded_fields(step: dict[str, Any]) -> None:
    decoded = decode_logs(step["logs"], EMITTER)

    assert decoded.problems == ()
    assert [(event.name, {k: shown(v) for k, v in event.fields.items()}) for event in decoded.events] == [
        (event["name"], event["fields"]) for event in step["events"]
    ]


def test_every_kind_of_event_that_was_recorded_is_known_with_exactly_its_items() -> None:
    recorded: dict[str, set[str]] = {}
    for step in steps():
        for event in step["events"]:
            recorded.setdefault(event["name"], set()).update(event["fields"])

    assert {name: set(KNOWN[name]) for name in recorded} == recorded
    assert KNOWN.keys() - recorded.keys() == DOCUMENTED
    assert EVENTS.keys() <= KNOWN.keys()


def test_recorded_events_become_what_the_adapter_reads() -> None:
    created = decode_logs(steps()[0]["logs"], EMITTER).of(OrderCreated)
    executed = decode_logs(steps()[1]["logs"], EMITTER)
    closed = decode_logs(steps()[4]["logs"], EMITTER)

    assert [one.order_type for one in created] == [OrderType.MARKET_INCREASE]
    assert created[0].account == created[0].receiver == SAFE
    assert [one.key for one in executed.of(OrderExecuted)] == [created[0].key]
    assert [one.order_key for one in executed.of(PositionIncrease)] == [created[0].key]
    [decrease] = closed.of(PositionDecrease)
    assert decrease.position_key == "0x" + router.position_key(
        SAFE, ADDRESSES["market"], ADDRESSES["usdc"], is_long=True
    ).hex()  # fmt: skip
    assert [one.reason for one in closed.of(OrderCancelled)] == ["AUTO_CANCEL"]


def reasons(number: int, kind: type[OrderCancelled] | type[OrderFrozen]) -> list[str]:
    """The reasons of an event in a recorded step."""
    found = decode_logs(steps()[number]["logs"], EMITTER).of(kind)
    return [str(refusal_of(one.reason, one.reason_bytes)) for one in found]


def test_reasons_of_cancelled_and_frozen_orders_are_named_with_their_arguments() -> None:
    unfulfillable = "OrderNotFulfillableAtAcceptablePrice (price {}, acceptablePrice {})"

    assert reasons(6, OrderCancelled) == [unfulfillable.format(3000000051000000, 2990000000000000)]
    assert reasons(8, OrderCancelled)[0].startswith("InsufficientCollateralUsd (remainingCollateralUsd ")
    assert reasons(12, OrderFrozen) == [unfulfillable.format(3150000046499999, 3110000000000000)]
    assert reasons(16, OrderCancelled) == ["EmptyPosition"]
    assert reasons(4, OrderCancelled) == ["AUTO_CANCEL"]


@pytest.mark.parametrize(
    ("reason_bytes", "name"), [("0x", "no reason given"), ("0xe09ad0e9", "OrderNotFulfillableAtAcceptablePrice"),
                               ("0xdeadbeef00", "0xdeadbeef00")],
)  # fmt: skip
def test_a_reason_that_does_not_decode_keeps_what_is_known(reason_bytes: str, name: str) -> None:
    assert str(refusal_of("", reason_bytes)) == name


# --- what was not recorded is a problem, and hides nothing ---------------------------------------------------------


def data_of(name: str, **items: tuple[str, Any]) -> str:
    """Event data with single values: key=(type, value)."""
    types = ("address", "uint256", "int256", "bool", "bytes32", "bytes", "string")
    lists: tuple[Any, ...] = tuple(
        ([(key, value) for key, (kind, value) in items.items() if kind == one], []) for one in types
    )
    return "0x" + encode(["address", "string", EVENT_DATA], [ZERO_ADDRESS, name, lists]).hex()


def log_of(name: str, data: str, index: int = 7) -> dict[str, Any]:
    return {
        "address": EMITTER, "topics": [EVENT_LOG_1, topic_of(name), padded(SAFE)], "data": data,
        "logIndex": hex(index),
    }  # fmt: skip


REFUND = {"receiver": ("address", SAFE), "refundFeeAmount": ("uint256", 5)}


def test_an_unknown_event_is_named_and_the_others_decode() -> None:
    logs = [log_of("SomethingNew", data_of("SomethingNew")), *steps()[1]["logs"]]
    decoded = decode_logs(logs, EMITTER)

    assert decoded.problems == ("log 7: SomethingNew is an event of GMX that is not known",)
    assert len(decoded.events) == len(steps()[1]["events"])


def test_an_unknown_item_is_named_and_the_event_is_read_without_it() -> None:
    data = data_of("ExecutionFeeRefund", **REFUND, surcharge=("uint256", 1))
    decoded = decode_logs([log_of("ExecutionFeeRefund", data)], EMITTER)

    assert decoded.problems == ("log 7: ExecutionFeeRefund has the item surcharge, which is not known",)
    assert decoded.events[0].value.refund_fee_amount == 5


def test_a_missing_item_is_named() -> None:
    decoded = decode_logs(
        [log_of("ExecutionFeeRefund", data_of("ExecutionFeeRefund", receiver=("address", SAFE)))], EMITTER
    )

    assert decoded.events == ()
    assert decoded.problems == ("log 7: ExecutionFeeRefund lacks refund_fee_amount",)


@pytest.mark.parametrize("data", ["0x", "0x" + "ff" * 64])
def test_a_damaged_log_is_a_problem(data: str) -> None:
    decoded = decode_logs([log_of("ExecutionFeeRefund", data), *steps()[6]["logs"]], EMITTER)

    assert len(decoded.problems) == 1
    assert len(decoded.events) == len(steps()[6]["events"])


def test_logs_of_other_contracts_with_the_same_topics_are_not_gmxs() -> None:
    forged = log_of("ExecutionFeeRefund", data_of("ExecutionFeeRefund", **REFUND)) | {"address": SAFE}

    assert decode_logs([forged], EMITTER).events == ()


def test_a_name_that_is_not_the_hash_of_topic_1_is_a_problem() -> None:
    forged = log_of("OrderExecuted", data_of("ExecutionFeeRefund", **REFUND))

    assert decode_logs([forged], EMITTER).problems == (
        "log 7: ExecutionFeeRefund: the hash in topic 1 is not that of the name",
    )


# --- round trips ---------------------------------------------------------------------------------------------------

addresses = st.binary(min_size=20, max_size=20).map(lambda raw: to_checksum_address("0x" + raw.hex()))
amounts = st.integers(0, 2**256 - 1)
params = st.builds(
    OrderParams,
    receiver=addresses, cancellation_receiver=addresses, callback_contract=addresses, market=addresses,
    initial_collateral_token=addresses, size_delta_usd=amounts, order_type=st.sampled_from(OrderType),
    is_long=st.booleans(), acceptable_price=amounts, execution_fee=amounts, initial_collateral_delta_amount=amounts,
    trigger_price=amounts, callback_gas_limit=amounts, auto_cancel=st.booleans(),
    data_list=st.lists(st.binary(min_size=32, max_size=32), max_size=18).map(tuple), min_output_amount=amounts,
    valid_from_time=amounts, ui_fee_receiver=addresses, swap_path=st.lists(addresses, max_size=3).map(tuple),
    decrease_swap_type=st.integers(0, 2), should_unwrap=st.booleans(),
    referral_code=st.binary(min_size=32, max_size=32),
)  # fmt: skip


def test_the_selector_of_create_order_is_the_current_one() -> None:
    assert keccak(text=router.CREATE_ORDER)[:4].hex() == "f59c48eb"


@given(params)
def test_an_order_reads_back_as_it_was_encoded(order: OrderParams) -> None:
    assert router.decode_call(router.create_order(order)) == ("createOrder", (order,))


@given(params, addresses, addresses, amounts)
def test_a_multicall_reads_back_call_by_call(order: OrderParams, token: str, vault: str, amount: int) -> None:
    sent = [
        router.send_wnt(vault, amount),
        router.send_tokens(token, vault, amount),
        router.create_order(order),
    ]
    name, (inner,) = router.decode_call(router.multicall(sent))

    assert name == "multicall"
    assert [router.decode_call(one) for one in inner] == [
        ("sendWnt", (vault, amount)), ("sendTokens", (token, vault, amount)), ("createOrder", (order,)),
    ]  # fmt: skip


def test_more_data_than_gmx_accepts_is_refused() -> None:
    order = OrderParams(SAFE, SAFE, SAFE, SAFE, SAFE, 1, OrderType.MARKET_INCREASE, True, 1, 1,
                        data_list=(bytes(32),) * 19)  # fmt: skip
    with pytest.raises(ValueError, match="GMX accepts 18"):
        router.create_order(order)


@pytest.mark.parametrize("data", [b"", b"\x00\x01\x02\x03", router.cancel_order(bytes(32))[:20]])
def test_a_call_that_is_not_ours_is_refused(data: bytes) -> None:
    with pytest.raises(Retryable):
        router.decode_call(data)


@given(addresses, amounts)
def test_an_event_reads_back_as_it_was_encoded(receiver: str, amount: int) -> None:
    data = data_of("ExecutionFeeRefund", refundFeeAmount=("uint256", amount), receiver=("address", receiver))
    decoded = decode_logs([log_of("ExecutionFeeRefund", data)], EMITTER)

    assert (decoded.events[0].value.receiver, decoded.events[0].value.refund_fee_amount) == (receiver, amount)
    assert decoded.problems == ()


@given(st.binary(max_size=200))
def test_any_bytes_as_event_data_never_raise(raw: bytes) -> None:
    decode_logs([log_of("ExecutionFeeRefund", "0x" + raw.hex())], EMITTER)


# --- fees ----------------------------------------------------------------------------------------------------------


def test_the_execution_fee_follows_the_gas_price_and_the_limits() -> None:
    assert execution_gas(0) == 600_000 + 250_000 * 3 + 3_900_000
    assert execution_gas(300_000, 1) == 600_000 + 250_000 * 4 + 3_900_000 + 1_000_000 + 300_000
    assert execution_fee(10**8, 300_000) == 10**8 * execution_gas(300_000)
    assert execution_fee(10**8 + 1, 0, headroom_bps=15_000) == -(-(10**8 + 1) * 5_250_000 * 3 // 2)
