# pragma version 0.4.3
# pragma evm-version cancun
"""
@title OrderHandler
@notice The life of an order in the double of GMX v2: created with its money in the vault; executed, cancelled or frozen
    by a keeper in a later transaction, with callbacks and execution fees. LOCAL CHAINS ONLY.
"""
from ethereum.ercs import IERC20
import Bank
import DataStore
import EventEmitter
import Oracle
import PositionEngine
import Types
import base
import events
import keys

interface Wnt:
    def deposit(): payable
    def withdraw(amount: uint256): nonpayable

initializes: base
initializes: events
exports: (base.dataStore, base.roleStore)

MARKET_INCREASE: constant(uint8) = 2
LIMIT_INCREASE: constant(uint8) = 3
MARKET_DECREASE: constant(uint8) = 4
LIMIT_DECREASE: constant(uint8) = 5
STOP_LOSS: constant(uint8) = 6
STOP_INCREASE: constant(uint8) = 8

NATIVE_TRANSFER_GAS: constant(uint256) = 200_000
LEAST_GAS: constant(uint256) = 4_000_000  # a keeper with less would make a good order fail
ORACLE_PRICES: constant(uint256) = 3      # that an execution is taken to need

# of afterOrderExecution, afterOrderCancellation and afterOrderFrozen(bytes32,EventLogData,EventLogData)
AFTER_EXECUTION: constant(bytes4) = 0xffaf393f
AFTER_CANCELLATION: constant(bytes4) = 0xd8bbbe42
AFTER_FROZEN: constant(bytes4) = 0x83fc34cf

emitter: immutable(address)
oracle: public(immutable(address))
orderVault: public(immutable(address))
engine: public(immutable(address))
wnt: immutable(address)


@deploy
def __init__(data_store: address, emitter_: address, oracle_: address, vault: address, engine_: address):
    base.__init__(data_store)
    events.__init__(emitter_)
    emitter = emitter_
    oracle = oracle_
    orderVault = vault
    engine = engine_
    wnt = staticcall Bank.__at__(vault).wnt()


@external
@payable
def __default__():
    assert msg.sender == wnt, "WNT_ONLY"


# ------------------------------------------------------------------- by ExchangeRouter


@external
@nonreentrant
def createOrder(account: address, params: Types.CreateOrderParams) -> bytes32:
    """Take the order's money from what has come into the vault."""
    base._controller()
    kind: uint8 = params.orderType
    increase: bool = self._is_increase(kind)
    if not increase and kind not in [MARKET_DECREASE, LIMIT_DECREASE, STOP_LOSS] or len(params.addresses.swapPath) > 0:
        raw_revert(abi_encode(convert(kind, uint256), method_id=method_id("OrderTypeCannotBeCreated(uint256)")))
    if params.addresses.receiver == empty(address):
        raw_revert(method_id("EmptyReceiver()", output_type=Bytes[4]))
    market: Types.Market = staticcall DataStore.__at__(base.dataStore).getMarket(params.addresses.market)
    if market.marketToken == empty(address):
        raw_revert(method_id("EmptyMarket()", output_type=Bytes[4]))
    if staticcall DataStore.__at__(base.dataStore).getBool(
        keys._of_market(keys.IS_MARKET_DISABLED, market.marketToken)
    ):
        raw_revert(abi_encode(market.marketToken, method_id=method_id("DisabledMarket(address)")))
    token: address = params.addresses.initialCollateralToken
    if token != market.shortToken:
        raw_revert(
            abi_encode(
                market.marketToken, token, method_id=method_id("InvalidCollateralTokenForMarket(address,address)")
            )
        )

    order: Types.Order = empty(Types.Order)
    order.numbers.initialCollateralDeltaAmount = params.numbers.initialCollateralDeltaAmount
    if increase:
        order.numbers.initialCollateralDeltaAmount = extcall Bank.__at__(orderVault).recordTransferIn(token)
    order.numbers.executionFee = extcall Bank.__at__(orderVault).recordTransferIn(wnt)
    if order.numbers.executionFee < params.numbers.executionFee:
        raw_revert(
            abi_encode(
                order.numbers.executionFee, params.numbers.executionFee,
                method_id=method_id("InsufficientWntAmountForExecutionFee(uint256,uint256)"),
            )
        )
    order.addresses = Types.OrderAddresses(
        account=account,
        receiver=params.addresses.receiver,
        cancellationReceiver=params.addresses.cancellationReceiver,
        callbackContract=params.addresses.callbackContract,
        uiFeeReceiver=params.addresses.uiFeeReceiver,
        market=params.addresses.market,
        initialCollateralToken=token,
        swapPath=params.addresses.swapPath,
    )
    order.numbers.orderType = kind
    order.numbers.decreasePositionSwapType = params.decreasePositionSwapType
    order.numbers.sizeDeltaUsd = params.numbers.sizeDeltaUsd
    order.numbers.triggerPrice = params.numbers.triggerPrice
    order.numbers.acceptablePrice = params.numbers.acceptablePrice
    order.numbers.callbackGasLimit = params.numbers.callbackGasLimit
    order.numbers.minOutputAmount = params.numbers.minOutputAmount
    order.numbers.updatedAtTime = block.timestamp
    order.numbers.validFromTime = params.numbers.validFromTime
    order.flags.isLong = params.isLong
    order.flags.shouldUnwrapNativeToken = params.shouldUnwrapNativeToken
    order.flags.autoCancel = params.autoCancel
    order.dataList = params.dataList
    self._check_fee(order)
    return self._store_new(order)


@external
@nonreentrant
def cancelOrder(account: address, key: bytes32):
    """At the wish of its account: a market order only after the keepers' time is over."""
    start: uint256 = msg.gas
    base._controller()
    order: Types.Order = self._order_of(account, key)
    age: uint256 = block.timestamp - order.numbers.updatedAtTime
    least: uint256 = base._uint(keys.REQUEST_EXPIRATION_TIME)
    if self._is_market(order.numbers.orderType) and age < least:
        raw_revert(
            abi_encode(age, least, "Order", method_id=method_id("RequestNotYetCancellable(uint256,uint256,string)"))
        )
    self._cancel(key, order, account, start, "USER_INITIATED_CANCEL", b"")


@external
@nonreentrant
def updateOrder(
    account: address, key: bytes32, size: uint256, acceptable: uint256, trigger: uint256, min_output: uint256,
    valid_from: uint256, auto_cancel: bool,
):
    """Change a limit or stop order; this thaws a frozen one. WNT in the vault is added to its execution fee."""
    base._controller()
    order: Types.Order = self._order_of(account, key)
    if self._is_market(order.numbers.orderType):
        raw_revert(
            abi_encode(convert(order.numbers.orderType, uint256), method_id=method_id("OrderNotUpdatable(uint256)"))
        )
    order.numbers.executionFee += extcall Bank.__at__(orderVault).recordTransferIn(wnt)
    order.numbers.sizeDeltaUsd = size
    order.numbers.acceptablePrice = acceptable
    order.numbers.triggerPrice = trigger
    order.numbers.minOutputAmount = min_output
    order.numbers.validFromTime = valid_from
    order.numbers.updatedAtTime = block.timestamp
    order.flags.autoCancel = auto_cancel
    order.flags.isFrozen = False
    self._check_fee(order)
    self._store(key, order)
    self._log(
        "OrderUpdated", key, account,
        abi_encode(
            account, size, acceptable, trigger, min_output, block.timestamp, valid_from, auto_cancel, key
        ),
    )


# -------------------------------------------------------------------------- by keepers


@external
@nonreentrant
def executeOrder(key: bytes32, params: Types.SetPricesParams):
    """Execute at the keeper's prices. An order that fails is cancelled (market) or frozen (limit, stop); when it is not
    its time, this reverts and the order stays.
    """
    start: uint256 = msg.gas
    base._only(keys.ORDER_KEEPER, "ORDER_KEEPER")
    if start < LEAST_GAS:
        raw_revert(
            abi_encode(
                start, LEAST_GAS, empty(uint256),
                method_id=method_id("InsufficientExecutionGas(uint256,uint256,uint256)"),
            )
        )
    order: Types.Order = staticcall DataStore.__at__(base.dataStore).getOrder(key)
    if order.addresses.account == empty(address):
        raw_revert(abi_encode(key, method_id=method_id("OrderNotFound(bytes32)")))
    extcall Oracle.__at__(oracle).setPrices(params)
    self._check_time(order)
    if order.flags.isFrozen and not base._has(msg.sender, keys.FROZEN_ORDER_KEEPER):
        raw_revert(abi_encode(msg.sender, method_id=method_id("InvalidKeeperForFrozenOrder(address)")))

    success: bool = False
    output: Bytes[512] = b""
    success, output = raw_call(
        engine,
        abi_encode(key, empty(uint256), method_id=method_id("execute(bytes32,uint256)")),
        max_outsize=512,
        revert_on_failure=False,
    )
    if success:
        self._finish(key, order, msg.sender, start, abi_decode(output, Types.Result), 0)
        return
    selector: bytes4 = empty(bytes4)
    if len(output) >= 4:
        selector = convert(slice(output, 0, 4), bytes4)
    market: bool = self._is_market(order.numbers.orderType)
    too_early: bytes4 = method_id("InvalidOrderPrices(uint256,uint256,uint256,uint256)", output_type=bytes4)
    if selector == too_early or (
        selector == method_id("EmptyPosition()", output_type=bytes4) and not market
    ):
        raw_revert(output)
    if market:
        self._cancel(key, order, msg.sender, start, "", output)
    else:
        self._freeze(key, order, start, output)


@external
@nonreentrant
def executeNow(order: Types.Order, secondary_type: uint256, keeper: address) -> bytes32:
    """Create and execute an order at once, for the handlers of liquidation and auto-deleveraging."""
    start: uint256 = msg.gas
    base._controller()
    key: bytes32 = self._store_new(order)
    result: Types.Result = extcall PositionEngine.__at__(engine).execute(key, secondary_type)
    self._finish(key, order, keeper, start, result, secondary_type)
    return key


# ---------------------------------------------------------------------- ends of orders


@internal
def _finish(
    key: bytes32, order: Types.Order, keeper: address, start: uint256, result: Types.Result, secondary_type: uint256
):
    account: address = order.addresses.account
    self._remove(key, order)
    self._log("OrderExecuted", key, account, abi_encode(account, secondary_type, key))
    self._callback(AFTER_EXECUTION, key, order, result)
    self._pay_fee(order.numbers.executionFee, order.addresses.receiver, keeper, start)
    if result.closed:
        siblings: DynArray[bytes32, 128] = staticcall DataStore.__at__(base.dataStore).getBytes32ValuesAt(
            self._auto_cancel_list(order), 0, 128
        )
        for sibling: bytes32 in siblings:
            other: Types.Order = staticcall DataStore.__at__(base.dataStore).getOrder(sibling)
            self._cancel(sibling, other, keeper, msg.gas, "AUTO_CANCEL", b"")


@internal
def _cancel(
    key: bytes32, order: Types.Order, keeper: address, start: uint256, reason: String[64], reason_bytes: Bytes[512]
):
    """Give the money back."""
    receiver: address = order.addresses.cancellationReceiver
    if receiver == empty(address):
        receiver = order.addresses.account
    self._remove(key, order)
    if self._is_increase(order.numbers.orderType) and order.numbers.initialCollateralDeltaAmount > 0:
        extcall Bank.__at__(orderVault).transferOut(
            order.addresses.initialCollateralToken, receiver, order.numbers.initialCollateralDeltaAmount
        )
    extcall EventEmitter.__at__(emitter).emitOrderFailure(
        "OrderCancelled", key, order.addresses.account, reason, reason_bytes
    )
    self._callback(AFTER_CANCELLATION, key, order, empty(Types.Result))
    self._pay_fee(order.numbers.executionFee, receiver, keeper, start)


@internal
def _freeze(key: bytes32, order_: Types.Order, start: uint256, reason_bytes: Bytes[512]):
    """Keep the order until it is updated, cancelled or executed by a keeper of frozen orders; its fee is spent."""
    order: Types.Order = order_
    if order.flags.isFrozen:
        raw_revert(method_id("OrderAlreadyFrozen()", output_type=Bytes[4]))
    fee: uint256 = order.numbers.executionFee
    order.numbers.executionFee = 0
    order.flags.isFrozen = True
    extcall DataStore.__at__(base.dataStore).setOrder(key, order)
    extcall EventEmitter.__at__(emitter).emitOrderFailure(
        "OrderFrozen", key, order.addresses.account, "", reason_bytes
    )
    self._callback(AFTER_FROZEN, key, order, empty(Types.Result))
    self._pay_fee(fee, order.addresses.receiver, msg.sender, start)


@internal
def _callback(selector: bytes4, key: bytes32, order: Types.Order, result: Types.Result):
    """Tell the order's contract; what it does with that cannot stop the order."""
    target: address = order.addresses.callbackContract
    if not target.is_contract:
        return
    limit: uint256 = order.numbers.callbackGasLimit
    if msg.gas // 64 * 63 < limit:
        raw_revert(
            abi_encode(
                msg.gas // 64 * 63, limit, method_id=method_id("InsufficientGasLeftForCallback(uint256,uint256)")
            )
        )
    data: Bytes[49152] = staticcall EventEmitter.__at__(emitter).callbackData(selector, key, order, result)
    success: bool = raw_call(target, data, gas=limit, revert_on_failure=False)


@internal
def _pay_fee(fee: uint256, receiver: address, keeper: address, start: uint256):
    """The keeper gets the price of its gas as native coin, `receiver` the rest."""
    if fee == 0:
        return
    used: uint256 = start - msg.gas + base._uint(keys.ESTIMATED_GAS_FEE_BASE_AMOUNT_V2_1)
    used += base._uint(keys.ESTIMATED_GAS_FEE_PER_ORACLE_PRICE) * ORACLE_PRICES
    for_keeper: uint256 = min(used * tx.gasprice, fee)
    extcall Bank.__at__(orderVault).transferOutNativeToken(keeper, for_keeper)
    events._log_of("KeeperExecutionFee", keeper, abi_encode(keeper, for_keeper))
    rest: uint256 = fee - for_keeper
    if rest == 0:
        return
    extcall Bank.__at__(orderVault).transferOut(wnt, self, rest)
    extcall Wnt(wnt).withdraw(rest)
    success: bool = raw_call(receiver, b"", value=rest, gas=NATIVE_TRANSFER_GAS, revert_on_failure=False)
    if not success:
        extcall Wnt(wnt).deposit(value=rest)
        extcall IERC20(wnt).transfer(receiver, rest)
    events._log_of("ExecutionFeeRefund", receiver, abi_encode(receiver, rest))


# ----------------------------------------------------------------------------- storage


@internal
def _store_new(order: Types.Order) -> bytes32:
    nonce: uint256 = base._add_uint(keys.NONCE, 1)
    key: bytes32 = keccak256(abi_encode(base.dataStore, nonce))
    self._store(key, order)
    extcall EventEmitter.__at__(emitter).emitOrderCreated(key, order)
    return key


@internal
def _store(key: bytes32, order: Types.Order):
    extcall DataStore.__at__(base.dataStore).setOrder(key, order)
    siblings: bytes32 = self._auto_cancel_list(order)
    if not order.flags.autoCancel:
        extcall DataStore.__at__(base.dataStore).removeBytes32(siblings, key)
        return
    if self._is_market(order.numbers.orderType) or self._is_increase(order.numbers.orderType):
        raw_revert(
            abi_encode(
                convert(order.numbers.orderType, uint256),
                method_id=method_id("UnsupportedOrderTypeForAutoCancellation(uint256)"),
            )
        )
    extcall DataStore.__at__(base.dataStore).addBytes32(siblings, key)
    count: uint256 = staticcall DataStore.__at__(base.dataStore).getBytes32Count(siblings)
    most: uint256 = base._uint(keys.MAX_AUTO_CANCEL_ORDERS)
    if count > most:
        raw_revert(abi_encode(count, most, method_id=method_id("MaxAutoCancelOrdersExceeded(uint256,uint256)")))


@internal
def _remove(key: bytes32, order: Types.Order):
    extcall DataStore.__at__(base.dataStore).removeBytes32(self._auto_cancel_list(order), key)
    extcall DataStore.__at__(base.dataStore).removeOrder(key)


@internal
@pure
def _auto_cancel_list(order: Types.Order) -> bytes32:
    return keys._of(
        keys.AUTO_CANCEL_ORDER_LIST,
        keccak256(
            abi_encode(
                order.addresses.account, order.addresses.market, order.addresses.initialCollateralToken,
                order.flags.isLong,
            )
        ),
    )


@internal
def _log(name: String[48], key: bytes32, account: address, words: Bytes[1376]):
    extcall EventEmitter.__at__(emitter).emitEventLog2(name, key, convert(account, bytes32), words)


# ------------------------------------------------------------------------------ checks


@internal
@view
def _order_of(account: address, key: bytes32) -> Types.Order:
    order: Types.Order = staticcall DataStore.__at__(base.dataStore).getOrder(key)
    if order.addresses.account == empty(address):
        raw_revert(abi_encode(key, method_id=method_id("OrderNotFound(bytes32)")))
    if order.addresses.account != account:
        raw_revert(abi_encode(account, "account for order", method_id=method_id("Unauthorized(address,string)")))
    return order


@internal
@view
def _check_fee(order: Types.Order):
    """@dev what GMX estimates of the execution's gas, at this transaction's gas price"""
    limit: uint256 = order.numbers.callbackGasLimit
    most: uint256 = base._uint(keys.MAX_CALLBACK_GAS_LIMIT)
    if limit > most:
        raw_revert(abi_encode(limit, most, method_id=method_id("MaxCallbackGasLimitExceeded(uint256,uint256)")))
    gas: uint256 = base._uint(
        keys.INCREASE_ORDER_GAS_LIMIT if self._is_increase(order.numbers.orderType) else keys.DECREASE_ORDER_GAS_LIMIT
    )
    gas += limit + base._uint(keys.ESTIMATED_GAS_FEE_BASE_AMOUNT_V2_1)
    gas += base._uint(keys.ESTIMATED_GAS_FEE_PER_ORACLE_PRICE) * ORACLE_PRICES
    if order.numbers.executionFee < gas * tx.gasprice:
        raw_revert(
            abi_encode(
                gas * tx.gasprice, order.numbers.executionFee,
                method_id=method_id("InsufficientExecutionFee(uint256,uint256)"),
            )
        )


@internal
@view
def _check_time(order: Types.Order):
    updated: uint256 = order.numbers.updatedAtTime
    earliest: uint256 = staticcall Oracle.__at__(oracle).minTimestamp()
    latest: uint256 = staticcall Oracle.__at__(oracle).maxTimestamp()
    if earliest < updated:
        raw_revert(
            abi_encode(
                earliest, updated, method_id=method_id("OracleTimestampsAreSmallerThanRequired(uint256,uint256)")
            )
        )
    expiry: uint256 = base._uint(keys.REQUEST_EXPIRATION_TIME)
    if self._is_market(order.numbers.orderType) and latest > updated + expiry:
        raw_revert(
            abi_encode(
                latest, updated, expiry,
                method_id=method_id(
                    "OracleTimestampsAreLargerThanRequestExpirationTime(uint256,uint256,uint256)"
                ),
            )
        )
    if order.numbers.validFromTime > block.timestamp:
        raw_revert(
            abi_encode(
                order.numbers.validFromTime, block.timestamp,
                method_id=method_id("OrderValidFromTimeNotReached(uint256,uint256)"),
            )
        )


@internal
@pure
def _is_market(kind: uint8) -> bool:
    return kind == MARKET_INCREASE or kind == MARKET_DECREASE


@internal
@pure
def _is_increase(kind: uint8) -> bool:
    return kind == MARKET_INCREASE or kind == LIMIT_INCREASE or kind == STOP_INCREASE
