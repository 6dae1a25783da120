# pragma version 0.4.3
# pragma evm-version cancun
"""
@title EventEmitter
@notice Emits EventLog1 and EventLog2 of GMX v2. Knows every event's items, their names and order as recorded (those of
    no recorded event: as documented); the callers send the values, one word each. GMX's contract takes the whole
    EventLogData instead. LOCAL CHAINS ONLY.
"""
import Types
import base

initializes: base
exports: (base.dataStore, base.roleStore)

EVENT_LOG_1: constant(bytes32) = 0x137a44067c8961cd7e1d876f4754a5a3a75989b4552f1843fc69c3b372def160
EVENT_LOG_2: constant(bytes32) = 0x468a25a7ba624ceea6e540ad6f49171b52495b648417ae91bca21676d8a24dc5


SPACE: constant(uint256) = 32
BAR: constant(uint256) = 124
BODY: constant(uint256) = 16384  # bytes of encoded data

# Keys of events' items: addresses | uints | ints | bools | bytes32.
ORDER: constant(String[337]) = "account receiver callbackContract uiFeeReceiver market initialCollateralToken cancellationReceiver | orderType decreasePositionSwapType sizeDeltaUsd initialCollateralDeltaAmount triggerPrice acceptablePrice executionFee callbackGasLimit minOutputAmount updatedAtTime validFromTime srcChainId | | isLong shouldUnwrapNativeToken autoCancel"
OUTPUT: constant(String[121]) = "outputToken secondaryOutputToken | outputAmount secondaryOutputAmount orderSizeDeltaUsd orderInitialCollateralDeltaAmount"


struct AddressItem:
    key: String[64]
    value: address

struct AddressArrayItem:
    key: String[64]
    value: DynArray[address, 5]

struct AddressItems:
    items: DynArray[AddressItem, 7]
    arrayItems: DynArray[AddressArrayItem, 1]

struct UintItem:
    key: String[64]
    value: uint256

struct UintArrayItem:
    key: String[64]
    value: DynArray[uint256, 1]

struct UintItems:
    items: DynArray[UintItem, 26]
    arrayItems: DynArray[UintArrayItem, 1]

struct IntItem:
    key: String[64]
    value: int256

struct IntArrayItem:
    key: String[64]
    value: DynArray[int256, 1]

struct IntItems:
    items: DynArray[IntItem, 5]
    arrayItems: DynArray[IntArrayItem, 1]

struct BoolItem:
    key: String[64]
    value: bool

struct BoolArrayItem:
    key: String[64]
    value: DynArray[bool, 1]

struct BoolItems:
    items: DynArray[BoolItem, 3]
    arrayItems: DynArray[BoolArrayItem, 1]

struct Bytes32Item:
    key: String[64]
    value: bytes32

struct Bytes32ArrayItem:
    key: String[64]
    value: DynArray[bytes32, 18]

struct Bytes32Items:
    items: DynArray[Bytes32Item, 3]
    arrayItems: DynArray[Bytes32ArrayItem, 1]

struct BytesItem:
    key: String[64]
    value: Bytes[512]

struct BytesArrayItem:
    key: String[64]
    value: DynArray[Bytes[32], 1]

struct BytesItems:
    items: DynArray[BytesItem, 1]
    arrayItems: DynArray[BytesArrayItem, 1]

struct StringItem:
    key: String[64]
    value: String[64]

struct StringArrayItem:
    key: String[64]
    value: DynArray[String[32], 1]

struct StringItems:
    items: DynArray[StringItem, 1]
    arrayItems: DynArray[StringArrayItem, 1]

struct EventLogData:
    addressItems: AddressItems
    uintItems: UintItems
    intItems: IntItems
    boolItems: BoolItems
    bytes32Items: Bytes32Items
    bytesItems: BytesItems
    stringItems: StringItems


# What is not one word: arrays of an order, reasons of a failure.
struct Extra:
    isOrder: bool
    swapPath: DynArray[address, 5]
    dataList: DynArray[bytes32, 18]
    isFailure: bool
    reason: String[64]
    reasonBytes: Bytes[512]


@deploy
def __init__(data_store: address):
    base.__init__(data_store)


@external
def emitEventLog1(name: String[48], topic1: bytes32, words: Bytes[1376]):
    base._controller()
    data: Bytes[BODY] = self._body(self._layout(name, len(words) // 32), words, empty(Extra))
    raw_log([EVENT_LOG_1, keccak256(name), topic1], self._encoded(name, data))


@external
def emitEventLog2(name: String[48], topic1: bytes32, topic2: bytes32, words: Bytes[1376]):
    base._controller()
    self._log2(name, topic1, topic2, self._body(self._layout(name, 0), words, empty(Extra)))


@external
def emitOrderCreated(key: bytes32, order: Types.Order):
    base._controller()
    data: Bytes[BODY] = self._order_body(concat(ORDER, " | key"), concat(self._order_words(order), key), order)
    self._log2("OrderCreated", key, convert(order.addresses.account, bytes32), data)


@external
def emitOrderFailure(name: String[48], key: bytes32, account: address, reason: String[64], reason_bytes: Bytes[512]):
    """OrderCancelled and OrderFrozen."""
    base._controller()
    extra: Extra = empty(Extra)
    extra.isFailure = True
    extra.reason = reason
    extra.reasonBytes = reason_bytes
    data: Bytes[BODY] = self._body("account | | | | key", abi_encode(account, key), extra)
    self._log2(name, key, convert(account, bytes32), data)


@external
@view
def callbackData(selector: bytes4, key: bytes32, order: Types.Order, result: Types.Result) -> Bytes[3 * BODY]:
    """@return calldata of afterOrderExecution, afterOrderCancellation or afterOrderFrozen"""
    order_data: Bytes[BODY] = self._order_body(ORDER, self._order_words(order), order)
    data: Bytes[BODY] = b""
    if result.outputToken == empty(address):
        data = self._body("|", b"", empty(Extra))
    else:
        data = self._body(
            OUTPUT,
            abi_encode(
                result.outputToken, result.secondaryOutputToken, result.outputAmount,
                result.secondaryOutputAmount, result.sizeDeltaUsd, result.initialCollateralDeltaAmount,
            ),
            empty(Extra),
        )
    return concat(
        selector, abi_encode(key, convert(96, uint256), 96 + len(order_data)), order_data, data
    )


@internal
def _log2(name: String[48], topic1: bytes32, topic2: bytes32, data: Bytes[BODY]):
    raw_log([EVENT_LOG_2, keccak256(name), topic1, topic2], self._encoded(name, data))


@internal
@view
def _encoded(name: String[48], data: Bytes[BODY]) -> Bytes[2 * BODY]:
    """@return abi_encode(msg.sender, name, data), of data that are encoded already"""
    text: Bytes[128] = slice(abi_encode(name), 32, 64 if len(name) <= 32 else 96)
    return concat(abi_encode(msg.sender, convert(96, uint256), 96 + len(text)), text, data)


@internal
@pure
def _order_words(order: Types.Order) -> Bytes[704]:
    return abi_encode(
        order.addresses.account, order.addresses.receiver, order.addresses.callbackContract,
        order.addresses.uiFeeReceiver, order.addresses.market, order.addresses.initialCollateralToken,
        order.addresses.cancellationReceiver,
        order.numbers,
        order.flags.isLong, order.flags.shouldUnwrapNativeToken, order.flags.autoCancel,
    )


@internal
@pure
def _order_body(layout: String[768], words: Bytes[1376], order: Types.Order) -> Bytes[BODY]:
    extra: Extra = empty(Extra)
    extra.isOrder = True
    extra.swapPath = order.addresses.swapPath
    extra.dataList = order.dataList
    return self._body(layout, words, extra)


@internal
@pure
def _body(layout: String[768], words: Bytes[1376], extra: Extra) -> Bytes[BODY]:
    """Encode an EventLogData.

    @param layout keys of addresses | uints | ints | bools | bytes32, one for each of `words`
    """
    data: EventLogData = empty(EventLogData)
    text: Bytes[832] = concat(convert(layout, Bytes[768]), b" ", empty(bytes32), empty(bytes31))
    kind: uint256 = 0
    start: uint256 = 0
    place: uint256 = 0
    for end: uint256 in range(len(layout) + 1, bound=769):
        if convert(extract32(text, end), uint256) >> 248 != SPACE:
            continue
        head: bytes32 = extract32(text, start)
        if end == start + 1 and convert(head, uint256) >> 248 == BAR:
            kind += 1
        else:
            key: String[64] = convert(
                slice(concat(head, extract32(text, start + 32)), 0, end - start), String[64]
            )
            word: bytes32 = extract32(words, place)
            place += 32
            if kind == 0:
                data.addressItems.items.append(AddressItem(key=key, value=convert(word, address)))
            elif kind == 1:
                data.uintItems.items.append(UintItem(key=key, value=convert(word, uint256)))
            elif kind == 2:
                data.intItems.items.append(IntItem(key=key, value=convert(word, int256)))
            elif kind == 3:
                data.boolItems.items.append(BoolItem(key=key, value=convert(word, bool)))
            else:
                data.bytes32Items.items.append(Bytes32Item(key=key, value=word))
        start = end + 1
    assert place == len(words), "WORDS"
    if extra.isOrder:
        data.addressItems.arrayItems.append(AddressArrayItem(key="swapPath", value=extra.swapPath))
        data.bytes32Items.arrayItems.append(Bytes32ArrayItem(key="dataList", value=extra.dataList))
    if extra.isFailure:
        data.bytesItems.items.append(BytesItem(key="reasonBytes", value=extra.reasonBytes))
        data.stringItems.items.append(StringItem(key="reason", value=extra.reason))
    encoded: Bytes[BODY] = abi_encode(data)
    return slice(encoded, 32, len(encoded) - 32)


@internal
@pure
def _layout(name: String[48], words: uint256) -> String[768]:
    if name == "OraclePriceUpdate":
        return "token provider | minPrice maxPrice timestamp"
    if name == "FundingFeeAmountPerSizeUpdated" or name == "ClaimableFundingAmountPerSizeUpdated":
        return "market collateralToken | delta value | | isLong"
    if name == "Funding":
        return "market | fundingFactorPerSecond"
    if name == "Borrowing":
        return "market | borrowingFactorPerSecond"
    if name == "CumulativeBorrowingFactorUpdated":
        return "market | delta nextValue | | isLong"
    if name == "PoolAmountUpdated" or name == "SwapImpactPoolAmountUpdated":
        return "market token | nextValue | delta"
    if name == "PositionImpactPoolAmountUpdated" or name == "LentPositionImpactPoolAmountUpdated":
        return "market | nextValue | delta"
    if name == "TotalPendingImpactAmountUpdated":
        return "market | | delta nextValue"
    if name == "CollateralSumUpdated" or name == "OpenInterestUpdated" or name == "OpenInterestInTokensUpdated":
        return "market collateralToken | nextValue | delta | isLong"
    if name == "ClaimableFundingUpdated":
        return "market token account | delta nextValue nextPoolValue"
    if name == "FundingFeesClaimed":
        return "market token account receiver | amount nextPoolValue"
    if name == "SwapInfo":
        return "market receiver tokenIn tokenOut | tokenInPrice tokenOutPrice amountIn amountInAfterFees amountOut | priceImpactUsd priceImpactAmount tokenInPriceImpactAmount | | orderKey"
    if name == "SwapFeesCollected":
        return "uiFeeReceiver market token | tokenPrice feeReceiverAmount feeAmountForPool amountAfterFees uiFeeReceiverFactor uiFeeAmount | | | tradeKey swapFeeType"
    if name == "PositionIncrease":
        return "account market collateralToken | sizeInUsd sizeInTokens collateralAmount borrowingFactor fundingFeeAmountPerSize longTokenClaimableFundingAmountPerSize shortTokenClaimableFundingAmountPerSize executionPrice indexTokenPrice.max indexTokenPrice.min collateralTokenPrice.max collateralTokenPrice.min sizeDeltaUsd sizeDeltaInTokens orderType increasedAtTime | collateralDeltaAmount pendingPriceImpactUsd pendingPriceImpactAmount | isLong | orderKey positionKey"
    if name == "PositionDecrease":
        return "account market collateralToken | sizeInUsd sizeInTokens collateralAmount borrowingFactor fundingFeeAmountPerSize longTokenClaimableFundingAmountPerSize shortTokenClaimableFundingAmountPerSize executionPrice indexTokenPrice.max indexTokenPrice.min collateralTokenPrice.max collateralTokenPrice.min sizeDeltaUsd sizeDeltaInTokens collateralDeltaAmount values.priceImpactDiffUsd orderType decreasedAtTime | priceImpactUsd basePnlUsd uncappedBasePnlUsd proportionalPendingImpactUsd totalImpactUsd | isLong | orderKey positionKey"
    if name == "InsolventClose":
        return "| positionCollateralAmount remainingCostUsd | basePnlUsd | | orderKey"
    if name == "OrderExecuted":
        return "account | secondaryOrderType | | | key"
    if name == "OrderUpdated":
        return "account | sizeDeltaUsd acceptablePrice triggerPrice minOutputAmount updatedAtTime validFromTime | | autoCancel | key"
    if name == "OrderSizeDeltaAutoUpdated":
        return "| sizeDeltaUsd nextSizeDeltaUsd | | | key"
    if name == "OrderCollateralDeltaAmountAutoUpdated":
        return "| collateralDeltaAmount nextCollateralDeltaAmount | | | key"
    if name == "KeeperExecutionFee":
        return "keeper | executionFeeAmount"
    if name == "ExecutionFeeRefund":
        return "receiver | refundFeeAmount"
    if name == "AdlStateUpdated":
        return "market | maxPnlFactor | pnlToPoolFactor | isLong shouldEnableAdl"
    fees: bool = name == "PositionFeesCollected" or name == "PositionFeesInfo"
    if fees and words > 32:  # of a liquidation
        return "market collateralToken affiliate trader uiFeeReceiver | collateralTokenPrice.min collateralTokenPrice.max tradeSizeUsd fundingFeeAmount claimableLongTokenAmount claimableShortTokenAmount latestFundingFeeAmountPerSize latestLongTokenClaimableFundingAmountPerSize latestShortTokenClaimableFundingAmountPerSize borrowingFeeUsd borrowingFeeAmount borrowingFeeReceiverFactor borrowingFeeAmountForFeeReceiver positionFeeFactor protocolFeeAmount positionFeeReceiverFactor feeReceiverAmount feeAmountForPool positionFeeAmountForPool positionFeeAmount totalCostAmount uiFeeReceiverFactor uiFeeAmount liquidationFeeAmount liquidationFeeReceiverFactor liquidationFeeAmountForFeeReceiver | | isIncrease | orderKey positionKey referralCode"
    if fees:
        return "market collateralToken affiliate trader uiFeeReceiver | collateralTokenPrice.min collateralTokenPrice.max tradeSizeUsd fundingFeeAmount claimableLongTokenAmount claimableShortTokenAmount latestFundingFeeAmountPerSize latestLongTokenClaimableFundingAmountPerSize latestShortTokenClaimableFundingAmountPerSize borrowingFeeUsd borrowingFeeAmount borrowingFeeReceiverFactor borrowingFeeAmountForFeeReceiver positionFeeFactor protocolFeeAmount positionFeeReceiverFactor feeReceiverAmount feeAmountForPool positionFeeAmountForPool positionFeeAmount totalCostAmount uiFeeReceiverFactor uiFeeAmount | | isIncrease | orderKey positionKey referralCode"
    raise "UNKNOWN_EVENT"
