# pragma version 0.4.3
# pragma evm-version cancun
"""
@title Oracle
@notice Prices of the running transaction, as its keeper brought them; the keeper's role vouches for them. USD with
    30 decimals for one base unit of the token. LOCAL CHAINS ONLY.
"""
import Types
import base
import events

initializes: base
initializes: events
exports: base.dataStore

MAX_AGE: constant(uint256) = 300

price: transient(HashMap[address, Types.Price])
minTimestamp: public(transient(uint256))
maxTimestamp: public(transient(uint256))


@deploy
def __init__(data_store: address, emitter: address):
    base.__init__(data_store)
    events.__init__(emitter)


@external
def setPrices(params: Types.SetPricesParams):
    """Each of `params.data` is (minimum, maximum, Unix time) of the token at the same place."""
    base._controller()
    self.minTimestamp = max_value(uint256)
    self.maxTimestamp = 0
    for i: uint256 in range(len(params.tokens), bound=8):
        price: Types.Price = empty(Types.Price)
        timestamp: uint256 = 0
        price.min, price.max, timestamp = abi_decode(params.data[i], (uint256, uint256, uint256))
        if price.min == 0 or price.min > price.max:
            raw_revert(
                abi_encode(
                    params.tokens[i], price.min, price.max,
                    method_id=method_id("InvalidMinMaxForPrice(address,uint256,uint256)"),
                )
            )
        if timestamp + MAX_AGE < block.timestamp:
            raw_revert(
                abi_encode(timestamp, block.timestamp, method_id=method_id("MaxPriceAgeExceeded(uint256,uint256)"))
            )
        self.price[params.tokens[i]] = price
        self.minTimestamp = min(self.minTimestamp, timestamp)
        self.maxTimestamp = max(self.maxTimestamp, timestamp)
        events._log_of(
            "OraclePriceUpdate", params.tokens[i],
            abi_encode(params.tokens[i], params.providers[i], price.min, price.max, timestamp),
        )


@external
@view
def getPrimaryPrice(token: address) -> Types.Price:
    price: Types.Price = self.price[token]
    if price.min == 0:
        raw_revert(abi_encode(token, method_id=method_id("EmptyPrimaryPrice(address)")))
    return price
