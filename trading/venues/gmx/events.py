"""Decode the events of GMX v2's EventEmitter: name and items by key, never by place.

GMX emits every event as EventLog1 or EventLog2, whose data is a list of (key, value) for each type. An event or an item
that is not listed here is a problem that `decode_logs` returns beside what it decoded; it hides no other event.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from maxxit.core.errors import MaxxitError
from maxxit.evm.codec import decode

E = TypeVar("E")

_ITEMS = ",".join(
    f"((string,{kind})[],(string,{kind}[])[])"
    for kind in ("address", "uint256", "int256", "bool", "bytes32", "bytes", "string")
)
EVENT_DATA = f"({_ITEMS})"
"""EventUtils.EventLogData: per type the single values and the lists, each with its key."""
EVENT_LOG_1, EVENT_LOG_2 = (
    "0x" + keccak(text=f"{name}(address,string,string,{topics},{EVENT_DATA})").hex()
    for name, topics in (("EventLog1", "bytes32"), ("EventLog2", "bytes32,bytes32"))
)
TRANSFER = "0x" + keccak(text="Transfer(address,address,uint256)").hex()


class UnknownEvent(MaxxitError):
    """An event, or an item of one, that this module does not know; or one that lacks an item."""


@dataclass(frozen=True, slots=True)
class OrderCreated:
    """An order was stored, and its money is in the vault."""

    key: str
    account: str
    receiver: str
    cancellation_receiver: str
    callback_contract: str
    market: str
    initial_collateral_token: str
    order_type: int
    size_delta_usd: int
    initial_collateral_delta_amount: int
    trigger_price: int
    acceptable_price: int
    execution_fee: int
    updated_at_time: int
    is_long: bool
    auto_cancel: bool
    data_list: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OrderUpdated:
    """An order's size or prices were changed by its account."""

    key: str
    account: str
    size_delta_usd: int
    acceptable_price: int
    trigger_price: int


@dataclass(frozen=True, slots=True)
class OrderExecuted:
    """An order was executed and is gone."""

    key: str
    account: str
    secondary_order_type: int
    """1: automatic deleveraging."""


@dataclass(frozen=True, slots=True)
class OrderCancelled:
    """An order is gone without effect; `reason_bytes` is the error of its execution."""

    key: str
    account: str
    reason: str
    reason_bytes: str


@dataclass(frozen=True, slots=True)
class OrderFrozen:
    """A limit or stop order failed and stays; its fee is spent, and only a keeper of frozen orders executes it."""

    key: str
    account: str
    reason: str
    reason_bytes: str


@dataclass(frozen=True, slots=True)
class PositionIncrease:
    """A position was opened or enlarged. Sizes and collateral without delta are those after the increase."""

    account: str
    market: str
    collateral_token: str
    size_in_usd: int
    size_in_tokens: int
    collateral_amount: int
    execution_price: int
    size_delta_usd: int
    size_delta_in_tokens: int
    collateral_delta_amount: int
    """What came in less the costs, signed."""
    order_type: int
    is_long: bool
    order_key: str
    position_key: str


@dataclass(frozen=True, slots=True)
class PositionDecrease:
    """A position was reduced or closed. Sizes and collateral without delta are those after the decrease."""

    account: str
    market: str
    collateral_token: str
    size_in_usd: int
    size_in_tokens: int
    collateral_amount: int
    execution_price: int
    size_delta_usd: int
    size_delta_in_tokens: int
    collateral_delta_amount: int
    """What left the position's collateral, positive."""
    order_type: int
    base_pnl_usd: int
    total_impact_usd: int
    is_long: bool
    order_key: str
    position_key: str


@dataclass(frozen=True, slots=True)
class PositionFeesCollected:
    """What an increase or a decrease cost, in base units of the collateral token."""

    trader: str
    market: str
    collateral_token: str
    funding_fee_amount: int
    claimable_long_token_amount: int
    claimable_short_token_amount: int
    borrowing_fee_amount: int
    position_fee_amount: int
    ui_fee_amount: int
    total_cost_amount: int
    is_increase: bool
    order_key: str
    position_key: str


@dataclass(frozen=True, slots=True)
class ExecutionFeeRefund:
    """The unused part of an execution fee, wei, sent as the chain's coin."""

    receiver: str
    refund_fee_amount: int


@dataclass(frozen=True, slots=True)
class KeeperExecutionFee:
    """The part of an execution fee that the keeper got, wei."""

    keeper: str
    execution_fee_amount: int


@dataclass(frozen=True, slots=True)
class FundingFeesClaimed:
    """Funding that an account earned and claimed, in base units of the token."""

    market: str
    token: str
    account: str
    receiver: str
    amount: int


@dataclass(frozen=True, slots=True)
class CollateralClaimed:
    """Price impact above GMX's limit that an account got back, in base units of the token."""

    market: str
    token: str
    account: str
    receiver: str
    amount: int


@dataclass(frozen=True, slots=True)
class ClaimableFundingUpdated:
    """Funding that an account earned: it may claim it."""

    market: str
    token: str
    account: str
    delta: int


EVENTS: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        OrderCreated, OrderUpdated, OrderExecuted, OrderCancelled, OrderFrozen, PositionIncrease, PositionDecrease,
        PositionFeesCollected, ExecutionFeeRefund, KeeperExecutionFee, FundingFeesClaimed, CollateralClaimed,
        ClaimableFundingUpdated,
    )
}  # fmt: skip
"""Name -> what it becomes."""

_MARKET_VALUE = "market nextValue delta"
_POSITION = (
    "account market collateralToken sizeInUsd sizeInTokens collateralAmount borrowingFactor fundingFeeAmountPerSize "
    "longTokenClaimableFundingAmountPerSize shortTokenClaimableFundingAmountPerSize executionPrice indexTokenPrice.max "
    "indexTokenPrice.min collateralTokenPrice.max collateralTokenPrice.min sizeDeltaUsd sizeDeltaInTokens "
    "collateralDeltaAmount orderType isLong orderKey positionKey"
)
_FEES = (
    "market collateralToken affiliate trader uiFeeReceiver collateralTokenPrice.min collateralTokenPrice.max "
    "tradeSizeUsd fundingFeeAmount claimableLongTokenAmount claimableShortTokenAmount "
    "latestFundingFeeAmountPerSize latestLongTokenClaimableFundingAmountPerSize "
    "latestShortTokenClaimableFundingAmountPerSize borrowingFeeUsd borrowingFeeAmount "
    "borrowingFeeReceiverFactor borrowingFeeAmountForFeeReceiver positionFeeFactor protocolFeeAmount "
    "positionFeeReceiverFactor feeReceiverAmount feeAmountForPool positionFeeAmountForPool positionFeeAmount "
    "totalCostAmount uiFeeReceiverFactor uiFeeAmount isIncrease orderKey positionKey referralCode "
    "liquidationFeeAmount liquidationFeeReceiverFactor liquidationFeeAmountForFeeReceiver"
)
KNOWN: dict[str, frozenset[str]] = {
    name: frozenset(items.split())
    for name, items in {
        "AdlStateUpdated": "market pnlToPoolFactor maxPnlFactor isLong shouldEnableAdl",
        "Borrowing": "market borrowingFactorPerSecond",
        "ClaimableCollateralUpdated": "market token account timeKey delta nextValue nextPoolValue",
        "ClaimableFeeAmountUpdated": "market token delta nextValue feeType",
        "ClaimableFundingAmountPerSizeUpdated": "market collateralToken delta value isLong",
        "ClaimableFundingUpdated": "market token account delta nextValue nextPoolValue",
        "CollateralClaimed": "market token account receiver timeKey amount nextPoolValue",
        "CollateralSumUpdated": "market collateralToken nextValue delta isLong",
        "CumulativeBorrowingFactorUpdated": "market delta nextValue isLong",
        "ExecutionFeeRefund": "receiver refundFeeAmount",
        "Funding": "market fundingFactorPerSecond",
        "FundingFeeAmountPerSizeUpdated": "market collateralToken delta value isLong",
        "FundingFeesClaimed": "market token account receiver amount nextPoolValue",
        "InsolventClose": "positionCollateralAmount remainingCostUsd basePnlUsd orderKey step",
        "InsufficientFundingFeePayment": "market token expectedAmount amountPaidInCollateralToken "
        "amountPaidInSecondaryOutputToken",
        "KeeperExecutionFee": "keeper executionFeeAmount",
        "LentPositionImpactPoolAmountUpdated": _MARKET_VALUE,
        "OpenInterestInTokensUpdated": "market collateralToken nextValue delta isLong",
        "OpenInterestUpdated": "market collateralToken nextValue delta isLong",
        "OraclePriceUpdate": "token provider minPrice maxPrice timestamp",
        "OrderCollateralDeltaAmountAutoUpdated": "key collateralDeltaAmount nextCollateralDeltaAmount",
        "OrderSizeDeltaAutoUpdated": "key sizeDeltaUsd nextSizeDeltaUsd",
        "OrderCancelled": "account key reasonBytes reason",
        "OrderCreated": "account receiver callbackContract uiFeeReceiver market initialCollateralToken "
        "cancellationReceiver swapPath orderType decreasePositionSwapType sizeDeltaUsd initialCollateralDeltaAmount "
        "triggerPrice acceptablePrice executionFee callbackGasLimit minOutputAmount updatedAtTime validFromTime "
        "srcChainId isLong shouldUnwrapNativeToken autoCancel key dataList",
        "OrderExecuted": "account secondaryOrderType key",
        "OrderFrozen": "account key reasonBytes reason",
        "OrderUpdated": "account key sizeDeltaUsd acceptablePrice triggerPrice minOutputAmount updatedAtTime "
        "validFromTime autoCancel",
        "PoolAmountUpdated": "market token nextValue delta",
        "PositionDecrease": f"{_POSITION} values.priceImpactDiffUsd decreasedAtTime priceImpactUsd basePnlUsd "
        "uncappedBasePnlUsd proportionalPendingImpactUsd totalImpactUsd",
        "PositionFeesCollected": _FEES,
        "PositionFeesInfo": _FEES,
        "PositionImpactPoolAmountUpdated": _MARKET_VALUE,
        "PositionImpactPoolDistributed": "market distributionAmount nextPositionImpactPoolAmount",
        "PositionIncrease": f"{_POSITION} increasedAtTime pendingPriceImpactUsd pendingPriceImpactAmount",
        "SwapFeesCollected": "uiFeeReceiver market token tokenPrice feeReceiverAmount feeAmountForPool amountAfterFees "
        "uiFeeReceiverFactor uiFeeAmount tradeKey swapFeeType",
        "SwapImpactPoolAmountUpdated": "market token nextValue delta",
        "SwapInfo": "market receiver tokenIn tokenOut tokenInPrice tokenOutPrice amountIn amountInAfterFees amountOut "
        "priceImpactUsd priceImpactAmount tokenInPriceImpactAmount orderKey",
        "TotalPendingImpactAmountUpdated": "market delta nextValue",
        "VirtualPositionInventoryUpdated": "token virtualTokenId delta nextValue",
        "VirtualSwapInventoryUpdated": "market isLongToken virtualMarketId delta nextValue",
    }.items()
}
"""Name -> its items, as recorded; those of `DOCUMENTED` as GMX documents them."""
DOCUMENTED = frozenset(
    {
        "AdlStateUpdated", "ClaimableCollateralUpdated", "ClaimableFeeAmountUpdated", "CollateralClaimed",
        "FundingFeesClaimed", "InsolventClose", "InsufficientFundingFeePayment",
        "OrderCollateralDeltaAmountAutoUpdated", "OrderSizeDeltaAutoUpdated", "OrderUpdated", "PositionFeesInfo",
        "PositionImpactPoolDistributed", "VirtualPositionInventoryUpdated", "VirtualSwapInventoryUpdated",
    }
)  # fmt: skip
"""Events that the recording does not have; their items are those of GMX's published sources (gmx-io/gmx-synthetics)."""


def topic_of(name: str) -> str:
    """Return topic 1 of an event: the hash of its name."""
    return "0x" + keccak(text=name).hex()


def padded(address: str) -> str:
    """Return an address as a topic."""
    return "0x" + address.removeprefix("0x").lower().rjust(64, "0")


@dataclass(frozen=True, slots=True)
class Event:
    """One event of GMX in a transaction."""

    name: str
    fields: Mapping[str, Any]
    """Item -> value; addresses with their checksum, bytes as 0x hex."""
    index: int
    """Of the log in its block."""
    value: Any
    """What `EVENTS` makes of it; None for an event that only has `fields`."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """One transfer of a token, base units."""

    token: str
    source: str
    target: str
    amount: int
    index: int


@dataclass(frozen=True, slots=True)
class Decoded:
    """The events of a transaction, and what could not be decoded."""

    events: tuple[Event, ...]
    transfers: tuple[Transfer, ...]
    problems: tuple[str, ...]

    def of(self, kind: type[E]) -> list[E]:
        """Return the events of a kind, in their order."""
        return [event.value for event in self.events if isinstance(event.value, kind)]


def decode_logs(logs: Iterable[Mapping[str, Any]], emitter: str) -> Decoded:
    """Decode GMX's events and the transfers of tokens among JSON-RPC logs. Never raises for one of them."""
    events: list[Event] = []
    transfers: list[Transfer] = []
    problems: list[str] = []
    for place, log in enumerate(logs):
        topics = [_hex(topic) for topic in log["topics"]]
        index = int(log["logIndex"], 16) if log.get("logIndex") else place
        if len(topics) == 3 and topics[0] == TRANSFER:
            source, target = (to_checksum_address("0x" + topic[-40:]) for topic in topics[1:])
            amount = int(_hex(log["data"]), 16)
            transfers.append(Transfer(to_checksum_address(log["address"]), source, target, amount, index))
        if log["address"].lower() != emitter.lower():
            continue
        try:
            event, unknown = _decode(topics, bytes.fromhex(_hex(log["data"])[2:]), index)
        except MaxxitError as error:
            problems.append(f"log {index}: {error}")
            continue
        events.append(event)
        problems += [f"log {index}: {event.name} has the item {key}, which is not known" for key in unknown]
    return Decoded(tuple(events), tuple(transfers), tuple(problems))


def _hex(text: str) -> str:
    return "0x" + text.removeprefix("0x").lower()


def _decode(topics: list[str], data: bytes, index: int) -> tuple[Event, list[str]]:
    """Return an event and the items that are not known. Raises UnknownEvent or Retryable."""
    if not topics or topics[0] not in (EVENT_LOG_1, EVENT_LOG_2):
        raise UnknownEvent(f"topic {topics[0] if topics else 'none'} is neither EventLog1 nor EventLog2")
    _, name, values = decode(["address", "string", EVENT_DATA], data)
    if len(topics) < 2 or topics[1] != topic_of(name):
        raise UnknownEvent(f"{name}: the hash in topic 1 is not that of the name")
    if name not in KNOWN:
        raise UnknownEvent(f"{name} is an event of GMX that is not known")
    items = {key: _text(value) for kind in values for part in kind for key, value in part}
    kind = EVENTS.get(name)
    unknown = sorted(items.keys() - KNOWN[name])
    return Event(name, items, index, _build(kind, items) if kind else None), unknown


def _text(value: Any) -> Any:
    if isinstance(value, bytes):
        return "0x" + value.hex()
    return [_text(one) for one in value] if isinstance(value, list | tuple) else value


def _build(kind: type[E], items: Mapping[str, Any]) -> E:
    """Return the dataclass of an event. Raises UnknownEvent where an item is missing."""
    by_field = {_snake(key): value for key, value in items.items()}
    wanted = [field.name for field in fields(kind)]  # type: ignore[arg-type]  # all of EVENTS are dataclasses
    if missing := [name for name in wanted if name not in by_field]:
        raise UnknownEvent(f"{kind.__name__} lacks {', '.join(missing)}")
    values = {name: by_field[name] for name in wanted}
    return kind(
        **{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    )


def _snake(key: str) -> str:
    """Return an item's key as a field's name: sizeDeltaUsd -> size_delta_usd."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key).lower().replace(".", "_")
