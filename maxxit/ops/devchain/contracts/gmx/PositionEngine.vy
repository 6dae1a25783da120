# pragma version 0.4.3
# pragma evm-version cancun
"""
@title PositionEngine
@notice Executes orders of the double of GMX v2: funding, borrowing, price impact, fees, positions and payouts.
    Collateral is the market's short token (USDC). USD and factors have 30 decimals, a price is USD with 30 decimals for
    one base unit. GMX has this logic in libraries of its handlers. LOCAL CHAINS ONLY.
"""
import Bank
import DataStore
import Oracle
import Types
import base
import events
import keys
import power

initializes: base
initializes: events

USD: constant(uint256) = 10**30
PER_SIZE: constant(uint256) = 10**45  # decimals of funding amounts per size
TO_18: constant(uint256) = 10**12     # from 30 decimals to 18

MARKET_INCREASE: constant(uint8) = 2
LIMIT_INCREASE: constant(uint8) = 3
MARKET_DECREASE: constant(uint8) = 4
LIMIT_DECREASE: constant(uint8) = 5
STOP_LOSS: constant(uint8) = 6
LIQUIDATION: constant(uint8) = 7
STOP_INCREASE: constant(uint8) = 8
ADL: constant(uint256) = 1
SWAP_FEE_TYPE: constant(bytes32) = 0x7ad0b6f464d338ea140ff9ef891b4a69cf89f107060a105c31bb985d9e532214  # SWAP_FEE_TYPE

oracle: public(immutable(address))
vault: public(immutable(address))

struct Payment:
    output: uint256  # in base units, as the collateral
    collateral: uint256
    unpaid_usd: uint256
    step: String[64]

struct Margin:
    reason: String[32]  # why the position may be liquidated; empty: it may not
    remaining: int256
    minimum: int256
    minimum_for_leverage: int256


@deploy
def __init__(data_store: address, emitter: address, oracle_: address, vault_: address):
    base.__init__(data_store)
    events.__init__(emitter)
    oracle = oracle_
    vault = vault_


# --------------------------------------------------------------------------- execution


@external
def execute(key: bytes32, secondary_type: uint256) -> Types.Result:
    """Execute a stored order at the oracle's prices; reverts with GMX's errors."""
    base._controller()
    order: Types.Order = staticcall DataStore.__at__(base.dataStore).getOrder(key)
    market: Types.Market = self._market(order.addresses.market)
    index: Types.Price = self._price(market.indexToken)
    self._check_trigger(order, index)
    self._accrue(market, index)
    if order.numbers.orderType in [MARKET_INCREASE, LIMIT_INCREASE, STOP_INCREASE]:
        return self._increase(key, order, market, index)
    return self._decrease(key, order, market, index, secondary_type)


@internal
@pure
def _check_trigger(order: Types.Order, index: Types.Price):
    """Limit and stop orders wait for the oracle to reach the trigger price."""
    kind: uint8 = order.numbers.orderType
    if kind in [MARKET_INCREASE, MARKET_DECREASE, LIQUIDATION]:
        return
    below: bool = order.flags.isLong  # whether the trigger is reached from above
    if kind == LIMIT_DECREASE or kind == STOP_INCREASE:
        below = not below
    increase: bool = kind == LIMIT_INCREASE or kind == STOP_INCREASE
    price: uint256 = index.max if increase == order.flags.isLong else index.min
    reached: bool = price <= order.numbers.triggerPrice if below else price >= order.numbers.triggerPrice
    if not reached:
        raw_revert(
            abi_encode(
                index.min, index.max, order.numbers.triggerPrice, convert(kind, uint256),
                method_id=method_id("InvalidOrderPrices(uint256,uint256,uint256,uint256)"),
            )
        )


@internal
def _increase(key: bytes32, order: Types.Order, market: Types.Market, index: Types.Price) -> Types.Result:
    token: address = order.addresses.initialCollateralToken
    is_long: bool = order.flags.isLong
    size: uint256 = order.numbers.sizeDeltaUsd
    position_key: bytes32 = self._position_key(order)
    position: Types.Position = staticcall DataStore.__at__(base.dataStore).getPosition(position_key)
    position.addresses = Types.PositionAddresses(
        account=order.addresses.account, market=market.marketToken, collateralToken=token
    )
    position.flags.isLong = is_long
    collateral_price: Types.Price = self._price(token)
    extcall Bank.__at__(vault).transferOut(
        token, market.marketToken, order.numbers.initialCollateralDeltaAmount
    )

    impact: int256 = 0
    improved: bool = False
    impact, improved = self._impact(market, is_long, convert(size, int256))
    price: uint256 = index.max if is_long else index.min
    impact_amount: int256 = self._rounded_away(impact, price) if impact < 0 else impact // convert(price, int256)
    tokens: uint256 = size // price if is_long else self._ceil(size, price)
    execution_price: uint256 = price
    if size > 0:
        adjusted: int256 = convert(tokens, int256) + (impact_amount if is_long else -impact_amount)
        assert adjusted > 0, "EMPTY_SIZE_DELTA_IN_TOKENS"
        execution_price = size // convert(adjusted, uint256)
        self._check_acceptable(execution_price, order.numbers.acceptablePrice, is_long)

    fees: Types.Fees = self._fees(position, market, size, improved, False, collateral_price)
    collateral_delta: int256 = (
        convert(order.numbers.initialCollateralDeltaAmount, int256) - convert(fees.totalCostAmount, int256)
    )
    collateral: int256 = convert(position.numbers.collateralAmount, int256) + collateral_delta
    if collateral < 0:
        raw_revert(
            abi_encode(
                position.numbers.collateralAmount, collateral_delta,
                method_id=method_id("InsufficientCollateralAmount(uint256,int256)"),
            )
        )
    position.numbers.collateralAmount = convert(collateral, uint256)
    position.numbers.sizeInUsd += size
    position.numbers.sizeInTokens += tokens
    position.numbers.pendingImpactAmount += impact_amount
    position.numbers.increasedAtTime = block.timestamp
    position = self._mark(position, market, fees)

    self._claim(position, market, fees)
    self._add_side(keys.COLLATERAL_SUM, "CollateralSumUpdated", market, token, is_long, collateral_delta)
    self._add_pool(market, token, convert(fees.feeAmountForPool, int256))
    self._add_pending_impact(market, impact_amount)
    self._add_side(
        keys.OPEN_INTEREST, "OpenInterestUpdated", market, token, is_long, convert(size, int256)
    )
    self._add_side(
        keys.OPEN_INTEREST_IN_TOKENS, "OpenInterestInTokensUpdated", market, token, is_long, convert(tokens, int256)
    )
    self._check_open_interest(market, is_long, index)
    self._check_position(position, market, index)
    extcall DataStore.__at__(base.dataStore).setPosition(position_key, position)
    self._log_fees("PositionFeesCollected", key, position_key, position, collateral_price, size, True, fees)
    events._log_of(
        "PositionIncrease", position.addresses.account,
        abi_encode(
            position.addresses, self._position_words(position), execution_price, index.max, index.min,
            collateral_price.max, collateral_price.min, size, tokens, order.numbers.orderType,
            position.numbers.increasedAtTime, collateral_delta, impact, impact_amount, is_long, key, position_key,
        ),
    )
    result: Types.Result = empty(Types.Result)
    result.isIncrease = True
    return result


@internal
def _decrease(
    key: bytes32, order: Types.Order, market: Types.Market, index: Types.Price, secondary_type: uint256
) -> Types.Result:
    position_key: bytes32 = self._position_key(order)
    position: Types.Position = self._position(position_key)
    kind: uint8 = order.numbers.orderType
    is_long: bool = position.flags.isLong
    token: address = position.addresses.collateralToken
    collateral_price: Types.Price = self._price(token)

    d: Types.Decrease = empty(Types.Decrease)
    d.sizeDeltaUsd = order.numbers.sizeDeltaUsd
    if d.sizeDeltaUsd > position.numbers.sizeInUsd:
        if kind == LIMIT_DECREASE or kind == STOP_LOSS:
            events._log(
                "OrderSizeDeltaAutoUpdated", key, abi_encode(d.sizeDeltaUsd, position.numbers.sizeInUsd, key)
            )
            d.sizeDeltaUsd = position.numbers.sizeInUsd
        else:
            raw_revert(
                abi_encode(
                    d.sizeDeltaUsd, position.numbers.sizeInUsd,
                    method_id=method_id("InvalidDecreaseOrderSize(uint256,uint256)"),
                )
            )
    if kind == LIQUIDATION:
        self._check_liquidatable(position, market, index)
    closed: bool = d.sizeDeltaUsd == position.numbers.sizeInUsd
    withdrawn: uint256 = order.numbers.initialCollateralDeltaAmount
    if withdrawn > position.numbers.collateralAmount:
        events._log(
            "OrderCollateralDeltaAmountAutoUpdated", key,
            abi_encode(withdrawn, position.numbers.collateralAmount, key),
        )
        withdrawn = position.numbers.collateralAmount
    if closed:
        withdrawn = 0  # all of it is paid out anyway

    improved: bool = False
    d.priceImpactUsd, improved = self._impact(market, is_long, -convert(d.sizeDeltaUsd, int256))
    price: uint256 = index.min if is_long else index.max
    d.executionPrice = self._decrease_price(position, d, price)
    if kind != LIQUIDATION:
        self._check_acceptable(d.executionPrice, order.numbers.acceptablePrice, not is_long)
    d.sizeDeltaInTokens = position.numbers.sizeInTokens
    if not closed:
        d.sizeDeltaInTokens = position.numbers.sizeInTokens * d.sizeDeltaUsd
        d.sizeDeltaInTokens = (
            self._ceil(d.sizeDeltaInTokens, position.numbers.sizeInUsd)
            if is_long else d.sizeDeltaInTokens // position.numbers.sizeInUsd
        )
    d.basePnlUsd = self._pnl(position, price)
    d.basePnlUsd = (
        d.basePnlUsd * convert(d.sizeDeltaInTokens, int256) // convert(position.numbers.sizeInTokens, int256)
    )
    pending_amount: int256 = position.numbers.pendingImpactAmount
    if not closed:
        pending_amount = (
            pending_amount * convert(d.sizeDeltaUsd, int256) // convert(position.numbers.sizeInUsd, int256)
        )
    d.proportionalPendingImpactUsd = pending_amount * convert(
        index.max if pending_amount < 0 else index.min, int256
    )
    d.totalImpactUsd = self._capped(market, d.priceImpactUsd + d.proportionalPendingImpactUsd, index)

    fees: Types.Fees = self._fees(
        position, market, d.sizeDeltaUsd, improved, kind == LIQUIDATION, collateral_price
    )
    pay: Payment = empty(Payment)
    pay.collateral = position.numbers.collateralAmount
    result: Types.Result = empty(Types.Result)
    result.outputToken = token
    result.sizeDeltaUsd = order.numbers.sizeDeltaUsd
    result.initialCollateralDeltaAmount = order.numbers.initialCollateralDeltaAmount

    secondary: uint256 = 0
    pay.output, secondary = self._pay_profit(key, order, market, index, collateral_price, d)
    if secondary > 0:
        result.secondaryOutputToken = market.longToken
        result.secondaryOutputAmount = secondary
    pay = self._pay_costs(market, token, d, fees, collateral_price, index, pay)
    if pay.unpaid_usd > 0:
        if not closed or not (kind == LIQUIDATION or secondary_type == ADL):
            raw_revert(
                abi_encode(
                    pay.unpaid_usd, pay.step,
                    method_id=method_id("InsufficientFundsToPayForCosts(uint256,string)"),
                )
            )
        self._log_fees(
            "PositionFeesInfo", key, position_key, position, collateral_price, d.sizeDeltaUsd, False, fees
        )
        events._log(
            "InsolventClose", key,
            abi_encode(position.numbers.collateralAmount, pay.unpaid_usd, d.basePnlUsd, key),
        )
    if pay.collateral < withdrawn:
        withdrawn = pay.collateral
    if closed:
        withdrawn = pay.collateral
    pay.output += withdrawn
    pay.collateral -= withdrawn
    d.collateralDeltaAmount = position.numbers.collateralAmount - pay.collateral

    self._claim(position, market, fees)
    position.numbers.sizeInUsd -= d.sizeDeltaUsd
    position.numbers.sizeInTokens -= d.sizeDeltaInTokens
    position.numbers.collateralAmount = pay.collateral
    position.numbers.pendingImpactAmount -= pending_amount
    position.numbers.decreasedAtTime = block.timestamp
    self._add_pending_impact(market, -pending_amount)
    self._add_side(
        keys.COLLATERAL_SUM, "CollateralSumUpdated", market, token, is_long, -convert(d.collateralDeltaAmount, int256)
    )
    self._add_side(
        keys.OPEN_INTEREST, "OpenInterestUpdated", market, token, is_long, -convert(d.sizeDeltaUsd, int256)
    )
    self._add_side(
        keys.OPEN_INTEREST_IN_TOKENS, "OpenInterestInTokensUpdated", market, token, is_long,
        -convert(d.sizeDeltaInTokens, int256),
    )
    if not closed:
        position = self._mark(position, market, fees)
        self._check_position(position, market, index)
    extcall DataStore.__at__(base.dataStore).setPosition(position_key, position)
    if pay.unpaid_usd == 0:
        self._log_fees(
            "PositionFeesCollected", key, position_key, position, collateral_price, d.sizeDeltaUsd, False, fees
        )
    events._log_of(
        "PositionDecrease", position.addresses.account,
        abi_encode(
            position.addresses, self._position_words(position), d.executionPrice, index.max, index.min,
            collateral_price.max, collateral_price.min, d.sizeDeltaUsd, d.sizeDeltaInTokens,
            d.collateralDeltaAmount, empty(uint256), kind, position.numbers.decreasedAtTime, d.priceImpactUsd,
            d.basePnlUsd, d.basePnlUsd, d.proportionalPendingImpactUsd, d.totalImpactUsd, is_long, key, position_key,
        ),
    )

    if pay.output * collateral_price.min < order.numbers.minOutputAmount:
        raw_revert(
            abi_encode(
                pay.output * collateral_price.min, order.numbers.minOutputAmount,
                method_id=method_id("InsufficientOutputAmount(uint256,uint256)"),
            )
        )
    result.outputAmount = pay.output
    result.closed = closed
    if pay.output > 0:
        extcall Bank.__at__(market.marketToken).transferOut(token, order.addresses.receiver, pay.output)
    if result.secondaryOutputAmount > 0:
        extcall Bank.__at__(market.marketToken).transferOut(
            result.secondaryOutputToken, order.addresses.receiver, result.secondaryOutputAmount
        )
    return result


# ----------------------------------------------------------------------------- payouts


@internal
def _pay_profit(
    key: bytes32, order: Types.Order, market: Types.Market, index: Types.Price, collateral_price: Types.Price,
    d: Types.Decrease,
) -> (uint256, uint256):
    """Take profit and positive impact out of the pool, in the long token for a long, else in the short token.

    @return amounts of the collateral token and of the long token: the second where it is not swapped
    """
    token: address = market.longToken if order.flags.isLong else market.shortToken
    price: Types.Price = self._price(token)
    amount: uint256 = 0
    if d.basePnlUsd > 0:
        amount = convert(d.basePnlUsd, uint256) // price.max
        self._add_pool(market, token, -convert(amount, int256))
    if d.totalImpactUsd > 0:
        bonus: uint256 = convert(d.totalImpactUsd, uint256) // price.max
        self._add_pool(market, token, -convert(bonus, int256))
        self._add_impact_pool(market, self._rounded_away(-d.totalImpactUsd, index.min))
        amount += bonus
    if token == market.shortToken or amount == 0:
        return amount, 0
    if order.numbers.decreasePositionSwapType != 1:
        return 0, amount
    out: uint256 = amount * price.min // collateral_price.max
    key_: address = market.marketToken
    events._log_of("SwapImpactPoolAmountUpdated", key_, abi_encode(key_, token, empty(uint256), empty(int256)))
    self._add_pool(market, token, convert(amount, int256))
    self._add_pool(market, market.shortToken, -convert(out, int256))
    events._log_of(
        "SwapInfo", key_,
        abi_encode(
            key_, key_, token, market.shortToken, price.min, collateral_price.max, amount, amount, out,
            empty(int256[3]), key,
        ),
    )
    events._log_of(
        "SwapFeesCollected", key_,
        abi_encode(
            empty(address), key_, token, price.min, empty(uint256[2]), amount, empty(uint256[2]), key, SWAP_FEE_TYPE
        ),
    )
    return out, 0


@internal
def _pay_costs(
    market: Types.Market, token: address, d: Types.Decrease, fees: Types.Fees, price: Types.Price, index: Types.Price,
    pay_: Payment,
) -> Payment:
    """Funding, loss, fees and negative impact, from the output first, then from the collateral."""
    pay: Payment = self._charge(pay_, fees.funding.fundingFeeAmount, "funding", price)
    if d.basePnlUsd < 0 and pay.unpaid_usd == 0:
        pay = self._charge_pool(market, token, pay, self._ceil_usd(-d.basePnlUsd, price.min), "pnl", price)
    if pay.unpaid_usd == 0:
        pay = self._charge_pool(market, token, pay, fees.feeAmountForPool, "fees", price)
    if d.totalImpactUsd < 0 and pay.unpaid_usd == 0:
        before: uint256 = pay.output + pay.collateral
        pay = self._charge_pool(market, token, pay, self._ceil_usd(-d.totalImpactUsd, price.min), "impact", price)
        paid: uint256 = before - pay.output - pay.collateral
        self._add_impact_pool(market, convert(paid * price.min // index.max, int256))
    return pay


@internal
def _charge_pool(
    market: Types.Market, token: address, pay_: Payment, amount: uint256, step: String[64], price: Types.Price
) -> Payment:
    before: uint256 = pay_.output + pay_.collateral
    pay: Payment = self._charge(pay_, amount, step, price)
    self._add_pool(market, token, convert(before - pay.output - pay.collateral, int256))
    return pay


@internal
@pure
def _charge(pay_: Payment, amount: uint256, step: String[64], price: Types.Price) -> Payment:
    pay: Payment = pay_
    from_output: uint256 = min(amount, pay.output)
    from_collateral: uint256 = min(amount - from_output, pay.collateral)
    pay.output -= from_output
    pay.collateral -= from_collateral
    unpaid: uint256 = amount - from_output - from_collateral
    if unpaid > 0:
        pay.unpaid_usd = unpaid * price.min
        pay.step = step
    return pay


@internal
def _claim(position: Types.Position, market: Types.Market, fees: Types.Fees):
    """Book the funding that the position has earned as claimable by its account."""
    amount: uint256 = fees.funding.claimableShortTokenAmount
    if amount == 0:
        return
    token: address = market.shortToken
    account: address = position.addresses.account
    delta: int256 = convert(amount, int256)
    own: uint256 = base._add_uint(
        keccak256(abi_encode(keys.CLAIMABLE_FUNDING_AMOUNT, market.marketToken, token, account)), delta
    )
    pool: uint256 = base._add_uint(
        keys._of_token(keys.CLAIMABLE_FUNDING_AMOUNT, market.marketToken, token), delta
    )
    events._log_of(
        "ClaimableFundingUpdated", account, abi_encode(market.marketToken, token, account, amount, own, pool)
    )


# ------------------------------------------------------------------------------ checks


@internal
@pure
def _check_acceptable(price: uint256, acceptable: uint256, below: bool):
    """@param below whether the price may not be above the acceptable one, else not below it"""
    if (below and price > acceptable) or (not below and price < acceptable):
        raw_revert(
            abi_encode(
                price, acceptable, method_id=method_id("OrderNotFulfillableAtAcceptablePrice(uint256,uint256)")
            )
        )


@internal
@view
def _check_open_interest(market: Types.Market, is_long: bool, index: Types.Price):
    size: uint256 = self._open_interest(market, is_long)
    largest: uint256 = base._uint(keys._of_side(keys.MAX_OPEN_INTEREST, market.marketToken, is_long))
    if size > largest:
        raw_revert(
            abi_encode(size, largest, method_id=method_id("MaxOpenInterestExceeded(uint256,uint256)"))
        )
    reserved: uint256 = self._reserved_usd(market, is_long, index)
    available: uint256 = (
        self._pool_usd(market, is_long)
        * base._uint(keys._of_side(keys.RESERVE_FACTOR, market.marketToken, is_long)) // USD
    )
    if reserved > available:
        raw_revert(abi_encode(reserved, available, method_id=method_id("InsufficientReserve(uint256,uint256)")))


@internal
@view
def _check_position(position: Types.Position, market: Types.Market, index: Types.Price):
    """After a change: the position is large enough, and has the collateral for its size."""
    smallest: uint256 = base._uint(keys.MIN_POSITION_SIZE_USD)
    if position.numbers.sizeInUsd < smallest or position.numbers.sizeInTokens == 0:
        raw_revert(
            abi_encode(
                position.numbers.sizeInUsd, smallest, method_id=method_id("MinPositionSize(uint256,uint256)")
            )
        )
    collateral_usd: uint256 = (
        position.numbers.collateralAmount * self._price(position.addresses.collateralToken).min
    )
    factor: uint256 = base._uint(keys._of_market(keys.MIN_COLLATERAL_FACTOR, market.marketToken))
    if collateral_usd < position.numbers.sizeInUsd * factor // USD:
        raw_revert(
            abi_encode(convert(collateral_usd, int256), method_id=method_id("InsufficientCollateralUsd(int256)"))
        )
    margin: Margin = self._margin(position, market, index, factor)
    if len(margin.reason) > 0:
        raw_revert(
            abi_encode(
                margin.reason, margin.remaining, margin.minimum, margin.minimum_for_leverage,
                method_id=method_id("LiquidatablePosition(string,int256,int256,int256)"),
            )
        )


@internal
@view
def _check_liquidatable(position: Types.Position, market: Types.Market, index: Types.Price):
    factor: uint256 = base._uint(keys._of_market(keys.MIN_COLLATERAL_FACTOR_FOR_LIQUIDATION, market.marketToken))
    margin: Margin = self._margin(position, market, index, factor)
    if len(margin.reason) == 0:
        raw_revert(
            abi_encode(
                margin.reason, margin.remaining, margin.minimum, margin.minimum_for_leverage,
                method_id=method_id("PositionShouldNotBeLiquidated(string,int256,int256,int256)"),
            )
        )


@internal
@view
def _margin(position: Types.Position, market: Types.Market, index: Types.Price, factor: uint256) -> Margin:
    """What would remain of the collateral, in USD, if the position were closed now."""
    price: Types.Price = self._price(position.addresses.collateralToken)
    is_long: bool = position.flags.isLong
    impact: int256 = 0
    improved: bool = False
    impact, improved = self._impact(market, is_long, -convert(position.numbers.sizeInUsd, int256))
    fees: Types.Fees = self._fees(position, market, position.numbers.sizeInUsd, improved, False, price)
    margin: Margin = empty(Margin)
    margin.remaining = (
        convert(position.numbers.collateralAmount * price.min, int256)
        + self._pnl(position, index.min if is_long else index.max)
        + min(impact, 0)
        - convert(fees.totalCostAmount * price.min, int256)
    )
    margin.minimum = convert(base._uint(keys.MIN_COLLATERAL_USD), int256)
    margin.minimum_for_leverage = convert(position.numbers.sizeInUsd * factor // USD, int256)
    if margin.remaining < margin.minimum:
        margin.reason = "min collateral"
    if margin.remaining <= 0:
        margin.reason = "< 0"
    elif margin.remaining < margin.minimum_for_leverage:
        margin.reason = "min collateral for leverage"
    return margin


# ---------------------------------------------------------------------------- formulas


@internal
@view
def _fees(
    position: Types.Position, market: Types.Market, size: uint256, improved: bool, liquidation: bool,
    price: Types.Price,
) -> Types.Fees:
    """@param size by which the position changes; borrowing and funding are due on all of it"""
    key: address = market.marketToken
    is_long: bool = position.flags.isLong
    whole: uint256 = position.numbers.sizeInUsd
    fees: Types.Fees = empty(Types.Fees)
    fees.positionFeeFactor = base._uint(keys._of_side(keys.POSITION_FEE_FACTOR, key, improved))
    fees.positionFeeAmount = size * fees.positionFeeFactor // USD // price.min
    fees.funding.latestFundingFeeAmountPerSize = base._uint(
        keys._of_token_side(keys.FUNDING_FEE_AMOUNT_PER_SIZE, key, position.addresses.collateralToken, is_long)
    )
    fees.funding.latestLongTokenClaimableFundingAmountPerSize = base._uint(
        keys._of_token_side(keys.CLAIMABLE_FUNDING_AMOUNT_PER_SIZE, key, market.longToken, is_long)
    )
    fees.funding.latestShortTokenClaimableFundingAmountPerSize = base._uint(
        keys._of_token_side(keys.CLAIMABLE_FUNDING_AMOUNT_PER_SIZE, key, market.shortToken, is_long)
    )
    if whole > 0:
        factor: uint256 = base._uint(keys._of_side(keys.CUMULATIVE_BORROWING_FACTOR, key, is_long))
        fees.borrowingFeeUsd = whole * (factor - position.numbers.borrowingFactor) // USD
        fees.borrowingFeeAmount = fees.borrowingFeeUsd // price.min
        fees.funding.fundingFeeAmount = self._ceil(
            whole * (fees.funding.latestFundingFeeAmountPerSize - position.numbers.fundingFeeAmountPerSize), PER_SIZE
        )
        fees.funding.claimableLongTokenAmount = whole * (
            fees.funding.latestLongTokenClaimableFundingAmountPerSize
            - position.numbers.longTokenClaimableFundingAmountPerSize
        ) // PER_SIZE
        fees.funding.claimableShortTokenAmount = whole * (
            fees.funding.latestShortTokenClaimableFundingAmountPerSize
            - position.numbers.shortTokenClaimableFundingAmountPerSize
        ) // PER_SIZE
    if liquidation:
        fees.isLiquidation = True
        fees.liquidationFeeAmount = (
            size * base._uint(keys._of_market(keys.LIQUIDATION_FEE_FACTOR, key)) // USD // price.min
        )
    fees.feeAmountForPool = fees.positionFeeAmount + fees.borrowingFeeAmount + fees.liquidationFeeAmount
    fees.totalCostAmount = fees.feeAmountForPool + fees.funding.fundingFeeAmount
    return fees


@internal
@view
def _impact(market: Types.Market, is_long: bool, delta: int256) -> (int256, bool):
    """@param delta of the side's open interest in USD
    @return price impact in USD, and whether the two sides are more alike than before
    """
    long_size: uint256 = self._open_interest(market, True)
    short_size: uint256 = self._open_interest(market, False)
    side: uint256 = long_size if is_long else short_size
    other: uint256 = short_size if is_long else long_size
    next: uint256 = convert(convert(side, int256) + delta, uint256)
    before: uint256 = self._distance(side, other)
    after: uint256 = self._distance(next, other)
    improved: bool = after < before
    same_side: bool = (side <= other) == (next <= other)
    gain: uint256 = self._impact_of(market, before, improved or not same_side)
    loss: uint256 = self._impact_of(market, after, same_side and improved)
    return convert(gain, int256) - convert(loss, int256), improved


@internal
@view
def _impact_of(market: Types.Market, imbalance: uint256, positive: bool) -> uint256:
    if imbalance < USD:
        return 0
    factor: uint256 = base._uint(keys._of_side(keys.POSITION_IMPACT_FACTOR, market.marketToken, positive))
    exponent: uint256 = base._uint(keys._of_market(keys.POSITION_IMPACT_EXPONENT_FACTOR, market.marketToken))
    return power._pow(imbalance // TO_18, exponent // TO_18) * TO_18 * factor // USD


@internal
@view
def _capped(market: Types.Market, impact: int256, index: Types.Price) -> int256:
    """A positive impact is paid out of the impact pool, as far as that goes."""
    pool: uint256 = base._uint(keys._of_market(keys.POSITION_IMPACT_POOL_AMOUNT, market.marketToken))
    return min(impact, convert(pool * index.min, int256))


@internal
@pure
def _decrease_price(position: Types.Position, d: Types.Decrease, price: uint256) -> uint256:
    if d.sizeDeltaUsd == 0:
        return price
    adjustment: int256 = (
        convert(position.numbers.sizeInUsd, int256) * d.priceImpactUsd
        // convert(position.numbers.sizeInTokens, int256) // convert(d.sizeDeltaUsd, int256)
    )
    return convert(convert(price, int256) + (adjustment if position.flags.isLong else -adjustment), uint256)


@internal
@pure
def _pnl(position: Types.Position, price: uint256) -> int256:
    """Profit or loss of the whole position in USD."""
    gain: int256 = convert(position.numbers.sizeInTokens * price, int256) - convert(
        position.numbers.sizeInUsd, int256
    )
    return gain if position.flags.isLong else -gain


@internal
@pure
def _distance(a: uint256, b: uint256) -> uint256:
    return a - b if a > b else b - a


@internal
@pure
def _ceil(a: uint256, b: uint256) -> uint256:
    return (a + b - 1) // b


@internal
@pure
def _ceil_usd(usd: int256, price: uint256) -> uint256:
    return self._ceil(convert(usd, uint256), price)


@internal
@pure
def _rounded_away(usd: int256, price: uint256) -> int256:
    """@return a negative amount, away from zero"""
    return -convert(self._ceil_usd(-usd, price), int256)


# ------------------------------------------------------------------- state of a market


@internal
def _accrue(market: Types.Market, index: Types.Price):
    """Funding and borrowing since the last order."""
    self._accrue_funding(market)
    self._accrue_borrowing(market, True, index)
    self._accrue_borrowing(market, False, index)


@internal
def _accrue_funding(market: Types.Market):
    key: address = market.marketToken
    longs: uint256 = self._open_interest(market, True)
    shorts: uint256 = self._open_interest(market, False)
    factor: uint256 = 0
    if longs > 0 and shorts > 0:
        factor = min(
            self._distance(longs, shorts) * base._uint(keys._of_market(keys.FUNDING_FACTOR, key)) // (longs + shorts),
            base._uint(keys._of_market(keys.MAX_FUNDING_FACTOR_PER_SECOND, key)),
        )
        updated_at: uint256 = base._uint(keys._of_market(keys.FUNDING_UPDATED_AT, key))
        time: uint256 = block.timestamp - updated_at if updated_at > 0 else 0
        longs_pay: bool = longs > shorts
        # the larger side pays
        usd: uint256 = max(longs, shorts) * (factor * time) // USD
        self._add_per_size(
            keys.FUNDING_FEE_AMOUNT_PER_SIZE, "FundingFeeAmountPerSizeUpdated", market, longs_pay, usd, True
        )
        self._add_per_size(
            keys.CLAIMABLE_FUNDING_AMOUNT_PER_SIZE, "ClaimableFundingAmountPerSizeUpdated", market, not longs_pay, usd,
            False,
        )
    base._set_uint(keys._of_market(keys.FUNDING_UPDATED_AT, key), block.timestamp)
    events._log_of("Funding", key, abi_encode(key, factor))


@internal
def _add_per_size(
    name: bytes32, label: String[48], market: Types.Market, is_long: bool, usd: uint256, round_up: bool
):
    """Spread `usd` over the open interest of a side, in the short token."""
    price: uint256 = self._price(market.shortToken).max
    size: uint256 = self._open_interest(market, is_long)
    ratio: uint256 = usd * 10**36
    ratio = (self._ceil(ratio, size) if round_up else ratio // size) * (PER_SIZE // 10**36)
    delta: uint256 = self._ceil(ratio, price) if round_up else ratio // price
    if delta == 0:
        return
    total: uint256 = base._add_uint(
        keys._of_token_side(name, market.marketToken, market.shortToken, is_long), convert(delta, int256)
    )
    events._log_of(
        label, market.marketToken, abi_encode(market.marketToken, market.shortToken, delta, total, is_long)
    )


@internal
def _accrue_borrowing(market: Types.Market, is_long: bool, index: Types.Price):
    key: address = market.marketToken
    pool: uint256 = self._pool_usd(market, is_long)
    rate: uint256 = 0
    if pool > 0:
        rate = (
            self._reserved_usd(market, is_long, index) * USD // pool
            * base._uint(keys._of_side(keys.BORROWING_FACTOR, key, is_long)) // USD
        )
    slot: bytes32 = keys._of_side(keys.CUMULATIVE_BORROWING_FACTOR_UPDATED_AT, key, is_long)
    updated_at: uint256 = base._uint(slot)
    delta: uint256 = rate * (block.timestamp - updated_at) if updated_at > 0 else 0
    total: uint256 = base._add_uint(
        keys._of_side(keys.CUMULATIVE_BORROWING_FACTOR, key, is_long), convert(delta, int256)
    )
    base._set_uint(slot, block.timestamp)
    events._log_of("CumulativeBorrowingFactorUpdated", key, abi_encode(key, delta, total, is_long))
    events._log_of("Borrowing", key, abi_encode(key, rate))


@internal
@view
def _reserved_usd(market: Types.Market, is_long: bool, index: Types.Price) -> uint256:
    """What the pool may have to pay to a side: for longs it grows with the price."""
    if not is_long:
        return self._open_interest(market, False)
    tokens: uint256 = base._uint(
        keys._of_token_side(keys.OPEN_INTEREST_IN_TOKENS, market.marketToken, market.shortToken, True)
    )
    return tokens * index.max


@internal
@view
def _pool_usd(market: Types.Market, is_long: bool) -> uint256:
    """The tokens that back a side."""
    token: address = market.longToken if is_long else market.shortToken
    amount: uint256 = base._uint(keys._of_token(keys.POOL_AMOUNT, market.marketToken, token))
    return amount * self._price(token).min


@internal
@view
def _open_interest(market: Types.Market, is_long: bool) -> uint256:
    return base._uint(keys._of_token_side(keys.OPEN_INTEREST, market.marketToken, market.shortToken, is_long))


@internal
def _log_fees(
    name: String[48], key: bytes32, position_key: bytes32, position: Types.Position, price: Types.Price,
    size: uint256, is_increase: bool, fees: Types.Fees,
):
    words: Bytes[1152] = abi_encode(
        position.addresses.market, position.addresses.collateralToken, empty(address),
        position.addresses.account, empty(address),
        price.min, price.max, size, fees.funding, fees.borrowingFeeUsd, fees.borrowingFeeAmount, empty(uint256[2]),
        fees.positionFeeFactor, fees.positionFeeAmount, empty(uint256[2]), fees.feeAmountForPool,
        fees.positionFeeAmount, fees.positionFeeAmount, fees.totalCostAmount, empty(uint256[2]),
    )
    tail: Bytes[128] = abi_encode(is_increase, key, position_key, empty(bytes32))
    if fees.isLiquidation:
        events._log_of(
            name, position.addresses.market,
            concat(words, abi_encode(fees.liquidationFeeAmount, empty(uint256[2])), tail),
        )
    else:
        events._log_of(name, position.addresses.market, concat(words, tail))


@internal
@pure
def _position_words(position: Types.Position) -> uint256[7]:
    return [
        position.numbers.sizeInUsd,
        position.numbers.sizeInTokens,
        position.numbers.collateralAmount,
        position.numbers.borrowingFactor,
        position.numbers.fundingFeeAmountPerSize,
        position.numbers.longTokenClaimableFundingAmountPerSize,
        position.numbers.shortTokenClaimableFundingAmountPerSize,
    ]


@internal
def _add_side(
    name: bytes32, label: String[48], market: Types.Market, token: address, is_long: bool, delta: int256
):
    total: uint256 = base._add_uint(keys._of_token_side(name, market.marketToken, token, is_long), delta)
    events._log_of(
        label, market.marketToken, abi_encode(market.marketToken, token, total, delta, is_long)
    )


@internal
def _add_pool(market: Types.Market, token: address, delta: int256):
    total: uint256 = base._add_uint(keys._of_token(keys.POOL_AMOUNT, market.marketToken, token), delta)
    events._log_of("PoolAmountUpdated", market.marketToken, abi_encode(market.marketToken, token, total, delta))


@internal
def _add_impact_pool(market: Types.Market, delta: int256):
    """The double lends nothing to the impact pool."""
    key: address = market.marketToken
    events._log_of("LentPositionImpactPoolAmountUpdated", key, abi_encode(key, empty(uint256), empty(int256)))
    total: uint256 = base._add_uint(keys._of_market(keys.POSITION_IMPACT_POOL_AMOUNT, key), delta)
    events._log_of("PositionImpactPoolAmountUpdated", key, abi_encode(key, total, delta))


@internal
def _add_pending_impact(market: Types.Market, delta: int256):
    key: bytes32 = keys._of_market(keys.TOTAL_PENDING_IMPACT_AMOUNT, market.marketToken)
    total: int256 = staticcall DataStore.__at__(base.dataStore).getInt(key) + delta
    extcall DataStore.__at__(base.dataStore).setInt(key, total)
    events._log_of(
        "TotalPendingImpactAmountUpdated", market.marketToken, abi_encode(market.marketToken, delta, total)
    )


@internal
@view
def _mark(position_: Types.Position, market: Types.Market, fees: Types.Fees) -> Types.Position:
    """The position with what it owes settled up to now."""
    position: Types.Position = position_
    position.numbers.borrowingFactor = base._uint(
        keys._of_side(keys.CUMULATIVE_BORROWING_FACTOR, market.marketToken, position.flags.isLong)
    )
    position.numbers.fundingFeeAmountPerSize = fees.funding.latestFundingFeeAmountPerSize
    position.numbers.longTokenClaimableFundingAmountPerSize = fees.funding.latestLongTokenClaimableFundingAmountPerSize
    position.numbers.shortTokenClaimableFundingAmountPerSize = fees.funding.latestShortTokenClaimableFundingAmountPerSize
    return position


@internal
@view
def _market(key: address) -> Types.Market:
    return staticcall DataStore.__at__(base.dataStore).getMarket(key)


@internal
@view
def _price(token: address) -> Types.Price:
    return staticcall Oracle.__at__(oracle).getPrimaryPrice(token)


@internal
@pure
def _position_key(order: Types.Order) -> bytes32:
    return keccak256(
        abi_encode(
            order.addresses.account, order.addresses.market, order.addresses.initialCollateralToken,
            order.flags.isLong,
        )
    )


@internal
@view
def _position(key: bytes32) -> Types.Position:
    position: Types.Position = staticcall DataStore.__at__(base.dataStore).getPosition(key)
    if position.numbers.sizeInUsd == 0:
        raw_revert(method_id("EmptyPosition()", output_type=Bytes[4]))
    return position
