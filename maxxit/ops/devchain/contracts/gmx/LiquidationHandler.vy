# pragma version 0.4.3
# pragma evm-version cancun
"""
@title LiquidationHandler
@notice Closes positions of the double of GMX v2 against their owners' will: for want of collateral (executeLiquidation),
    or because a side's profits are too large for the pool (executeAdl). It is deployed twice, as GMX's
    LiquidationHandler and as its AdlHandler. LOCAL CHAINS ONLY.
"""
import DataStore
import Oracle
import OrderHandler
import Types
import base
import events
import keys

initializes: base
initializes: events
exports: (base.dataStore, base.roleStore)

USD: constant(uint256) = 10**30
MARKET_DECREASE: constant(uint8) = 4
LIQUIDATION: constant(uint8) = 7
ADL: constant(uint256) = 1

orderHandler: public(immutable(address))
oracle: public(immutable(address))


@deploy
def __init__(data_store: address, emitter: address, order_handler: address, oracle_: address):
    base.__init__(data_store)
    events.__init__(emitter)
    orderHandler = order_handler
    oracle = oracle_


@external
def executeLiquidation(
    account: address, market: address, token: address, is_long: bool, params: Types.SetPricesParams
):
    base._only(keys.LIQUIDATION_KEEPER, "LIQUIDATION_KEEPER")
    extcall Oracle.__at__(oracle).setPrices(params)
    position: Types.Position = self._position(account, market, token, is_long)
    order: Types.Order = self._order(position, LIQUIDATION, position.numbers.sizeInUsd)
    extcall OrderHandler.__at__(orderHandler).executeNow(order, 0, msg.sender)


@external
def updateAdlState(market: address, is_long: bool, params: Types.SetPricesParams):
    """Allow auto-deleveraging of a side while its profits exceed their part of the pool."""
    base._only(keys.ADL_KEEPER, "ADL_KEEPER")
    extcall Oracle.__at__(oracle).setPrices(params)
    factor: int256 = self._pnl_factor(market, is_long)
    largest: uint256 = base._uint(keys._of_side(keys.MAX_PNL_FACTOR_FOR_ADL, market, is_long))
    enabled: bool = factor > convert(largest, int256)
    extcall DataStore.__at__(base.dataStore).setBool(keys._of_side(keys.IS_ADL_ENABLED, market, is_long), enabled)
    events._log_of("AdlStateUpdated", market, abi_encode(market, largest, factor, is_long, enabled))


@external
def executeAdl(
    account: address, market: address, token: address, is_long: bool, size: uint256, params: Types.SetPricesParams
):
    base._only(keys.ADL_KEEPER, "ADL_KEEPER")
    if not staticcall DataStore.__at__(base.dataStore).getBool(keys._of_side(keys.IS_ADL_ENABLED, market, is_long)):
        raw_revert(method_id("AdlNotEnabled()", output_type=Bytes[4]))
    extcall Oracle.__at__(oracle).setPrices(params)
    factor: int256 = self._pnl_factor(market, is_long)
    largest: uint256 = base._uint(keys._of_side(keys.MAX_PNL_FACTOR_FOR_ADL, market, is_long))
    if factor <= convert(largest, int256):
        raw_revert(abi_encode(factor, largest, method_id=method_id("AdlNotRequired(int256,uint256)")))
    position: Types.Position = self._position(account, market, token, is_long)
    if size > position.numbers.sizeInUsd:
        raw_revert(
            abi_encode(
                size, position.numbers.sizeInUsd, method_id=method_id("InvalidSizeDeltaForAdl(uint256,uint256)")
            )
        )
    order: Types.Order = self._order(position, MARKET_DECREASE, size)
    extcall OrderHandler.__at__(orderHandler).executeNow(order, ADL, msg.sender)
    after: int256 = self._pnl_factor(market, is_long)
    if after >= factor:
        raw_revert(abi_encode(after, factor, method_id=method_id("InvalidAdl(int256,int256)")))


@internal
@view
def _order(position: Types.Position, kind: uint8, size: uint256) -> Types.Order:
    """Accepted at any price; what is left goes to the account."""
    account: address = position.addresses.account
    order: Types.Order = empty(Types.Order)
    order.addresses.account = account
    order.addresses.receiver = account
    order.addresses.cancellationReceiver = account
    order.addresses.callbackContract = staticcall DataStore.__at__(base.dataStore).getAddress(
        keccak256(abi_encode(keys.SAVED_CALLBACK_CONTRACT, account, position.addresses.market))
    )
    order.addresses.market = position.addresses.market
    order.addresses.initialCollateralToken = position.addresses.collateralToken
    order.numbers.orderType = kind
    order.numbers.decreasePositionSwapType = 1
    order.numbers.sizeDeltaUsd = size
    order.numbers.acceptablePrice = 0 if position.flags.isLong else max_value(uint256)
    order.numbers.callbackGasLimit = base._uint(keys.MAX_CALLBACK_GAS_LIMIT)
    order.numbers.updatedAtTime = block.timestamp
    order.flags.isLong = position.flags.isLong
    order.flags.shouldUnwrapNativeToken = True
    return order


@internal
@view
def _pnl_factor(market_key: address, is_long: bool) -> int256:
    """Profit of a side as a fraction of what backs it, with 30 decimals."""
    market: Types.Market = staticcall DataStore.__at__(base.dataStore).getMarket(market_key)
    index: Types.Price = staticcall Oracle.__at__(oracle).getPrimaryPrice(market.indexToken)
    size: uint256 = base._uint(keys._of_token_side(keys.OPEN_INTEREST, market_key, market.shortToken, is_long))
    tokens: uint256 = base._uint(
        keys._of_token_side(keys.OPEN_INTEREST_IN_TOKENS, market_key, market.shortToken, is_long)
    )
    gain: int256 = convert(tokens * index.max, int256) - convert(size, int256)
    if not is_long:
        gain = convert(size, int256) - convert(tokens * index.min, int256)
    backing: address = market.longToken if is_long else market.shortToken
    price: Types.Price = staticcall Oracle.__at__(oracle).getPrimaryPrice(backing)
    pool: uint256 = base._uint(keys._of_token(keys.POOL_AMOUNT, market_key, backing)) * price.min
    return gain * convert(USD, int256) // convert(max(pool, 1), int256)


@internal
@view
def _position(account: address, market: address, token: address, is_long: bool) -> Types.Position:
    key: bytes32 = keccak256(abi_encode(account, market, token, is_long))
    position: Types.Position = staticcall DataStore.__at__(base.dataStore).getPosition(key)
    if position.numbers.sizeInUsd == 0:
        raw_revert(abi_encode(key, method_id=method_id("PositionNotFound(bytes32)")))
    return position
