"""Decode `reasonBytes`, the error with which GMX cancels or freezes an order: its name and arguments."""

from dataclasses import dataclass
from typing import Any

from eth_utils.crypto import keccak

from maxxit.core.errors import Retryable
from maxxit.evm.codec import decode, revert_reason

ERRORS = """
AdlNotEnabled()
DisabledFeature(bytes32 key)
DisabledMarket(address market)
EmptyHoldingAddress()
EmptyOrder()
EmptyPosition()
EmptySizeDeltaInTokens()
InsufficientCollateralAmount(uint256 collateralAmount, int256 collateralDeltaAmount)
InsufficientCollateralUsd(int256 remainingCollateralUsd)
InsufficientExecutionFee(uint256 minExecutionFee, uint256 executionFee)
InsufficientExecutionGas(uint256 startingGas, uint256 estimatedGasLimit, uint256 minAdditionalGasForExecution)
InsufficientFundsToPayForCosts(uint256 remainingCostUsd, string step)
InsufficientGasLeft(uint256 gas, uint256 estimatedGasLimit)
InsufficientOutputAmount(uint256 outputAmount, uint256 minOutputAmount)
InsufficientPoolAmount(uint256 poolAmount, uint256 amount)
InsufficientReserve(uint256 reservedUsd, uint256 maxReservedUsd)
InsufficientReserveForOpenInterest(uint256 reservedUsd, uint256 maxReservedUsd)
InsufficientSwapOutputAmount(uint256 outputAmount, uint256 minOutputAmount)
InsufficientWntAmountForExecutionFee(uint256 wntAmount, uint256 executionFee)
InvalidCollateralTokenForMarket(address market, address token)
InvalidDecreaseOrderSize(uint256 sizeDeltaUsd, uint256 positionSizeInUsd)
InvalidKeeperForFrozenOrder(address keeper)
InvalidOrderPrices(uint256 primaryPriceMin, uint256 primaryPriceMax, uint256 triggerPrice, uint256 orderType)
InvalidPositionMarket(address market)
InvalidPositionSizeValues(uint256 sizeInUsd, uint256 sizeInTokens)
LiquidatablePosition(string reason, int256 remainingCollateralUsd, int256 minCollateralUsd,\
 int256 minCollateralUsdForLeverage)
MarketNotFound(address key)
MaxAutoCancelOrdersExceeded(uint256 count, uint256 maxAutoCancelOrders)
MaxCallbackGasLimitExceeded(uint256 callbackGasLimit, uint256 maxCallbackGasLimit)
MaxOpenInterestExceeded(uint256 openInterest, uint256 maxOpenInterest)
MaxPriceAgeExceeded(uint256 oracleTimestamp, uint256 currentTimestamp)
MinPositionSize(uint256 positionSizeInUsd, uint256 minPositionSizeUsd)
NegativeExecutionPrice(int256 executionPrice, uint256 price, uint256 positionSizeInUsd, int256 priceImpactUsd,\
 uint256 sizeDeltaUsd)
OracleTimestampsAreLargerThanRequestExpirationTime(uint256 maxOracleTimestamp, uint256 requestTimestamp,\
 uint256 requestExpirationTime)
OracleTimestampsAreSmallerThanRequired(uint256 minOracleTimestamp, uint256 expectedTimestamp)
OrderNotFound(bytes32 key)
OrderNotFulfillableAtAcceptablePrice(uint256 price, uint256 acceptablePrice)
OrderValidFromTimeNotReached(uint256 validFromTime, uint256 currentTimestamp)
PnlFactorExceededForLongs(int256 pnlToPoolFactor, uint256 maxPnlFactor)
PnlFactorExceededForShorts(int256 pnlToPoolFactor, uint256 maxPnlFactor)
PositionNotFound(bytes32 key)
PriceImpactLargerThanOrderSize(int256 priceImpactUsd, uint256 sizeDeltaUsd)
RequestNotYetCancellable(uint256 requestAge, uint256 requestExpirationAge, string requestType)
UnableToPayOrderFee()
UnableToPayOrderFeeFromCollateral()
UnableToWithdrawCollateral(int256 estimatedRemainingCollateralUsd)
UsdDeltaExceedsLongOpenInterest(int256 usdDelta, uint256 longOpenInterest)
UsdDeltaExceedsPoolValue(int256 usdDelta, uint256 poolUsd)
UsdDeltaExceedsShortOpenInterest(int256 usdDelta, uint256 shortOpenInterest)
Unauthorized(address msgSender, string role)
"""
"""Errors of GMX v2.2 that an order can meet (ABI of @gmx-io/sdk 1.4.0, CustomErrors)."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why GMX cancelled or froze an order."""

    name: str
    arguments: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        listed = ", ".join(f"{name} {value}" for name, value in self.arguments)
        return f"{self.name} ({listed})" if listed else self.name


def _parsed() -> dict[bytes, tuple[str, tuple[str, ...], tuple[str, ...]]]:
    """Return selector -> name, types and names of the arguments."""
    known = {}
    for line in ERRORS.split("\n"):
        name, _, rest = line.strip().rstrip(")").partition("(")
        pairs = [tuple(part.split()) for part in rest.split(", ") if part]
        types, names = tuple(pair[0] for pair in pairs), tuple(pair[1] for pair in pairs)
        if name:
            known[keccak(text=f"{name}({','.join(types)})")[:4]] = (name, types, names)
    return known


_KNOWN = _parsed()


def refusal_of(reason: str, reason_bytes: str) -> Refusal:
    """Return why an order was cancelled or frozen.

    Args:
        reason: GMX's own word, such as AUTO_CANCEL or USER_INITIATED_CANCEL; empty where its execution failed.
        reason_bytes: 0x hex of the error; one that is not listed keeps its hex.
    """
    data = bytes.fromhex(reason_bytes.removeprefix("0x"))
    if reason or not data:
        return Refusal(reason or "no reason given")
    if data[:4] not in _KNOWN:
        return Refusal(revert_reason("0x" + data.hex())[:120])
    name, types, names = _KNOWN[data[:4]]
    try:
        values = decode(types, data[4:]) if types else ()
    except Retryable:
        return Refusal(name)
    return Refusal(name, tuple(zip(names, values, strict=True)))
