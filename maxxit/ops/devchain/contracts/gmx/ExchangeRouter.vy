# pragma version 0.4.3
# pragma evm-version cancun
"""
@title ExchangeRouter
@notice What accounts call in the double of GMX v2. LOCAL CHAINS ONLY.
"""
from ethereum.ercs import IERC20
import Bank
import DataStore
import EventEmitter
import OrderHandler
import Router
import Types
import base
import events
import keys

interface Wnt:
    def deposit(): payable

initializes: base
initializes: events
exports: (base.dataStore, base.roleStore)

router: public(immutable(address))
orderHandler: public(immutable(address))
wnt: immutable(address)


@deploy
def __init__(data_store: address, emitter: address, router_: address, order_handler: address, wrapped: address):
    base.__init__(data_store)
    events.__init__(emitter)
    router = router_
    orderHandler = order_handler
    wnt = wrapped


@external
@payable
def multicall(data: DynArray[Bytes[4096], 16]) -> DynArray[Bytes[1024], 16]:
    """Call this contract's functions in turn, as the sender, all or none."""
    results: DynArray[Bytes[1024], 16] = []
    for call: Bytes[4096] in data:
        results.append(raw_call(self, call, max_outsize=1024, is_delegate_call=True))
    return results


@external
@payable
def sendWnt(receiver: address, amount: uint256):
    extcall Wnt(wnt).deposit(value=amount)
    extcall IERC20(wnt).transfer(receiver, amount)


@external
@payable
def sendNativeToken(receiver: address, amount: uint256):
    raw_call(receiver, b"", value=amount)


@external
@payable
def sendTokens(token: address, receiver: address, amount: uint256):
    extcall Router.__at__(router).pluginTransfer(token, msg.sender, receiver, amount)


@external
@payable
def createOrder(params: Types.CreateOrderParams) -> bytes32:
    return extcall OrderHandler.__at__(orderHandler).createOrder(msg.sender, params)


@external
@payable
def updateOrder(
    key: bytes32, size: uint256, acceptable: uint256, trigger: uint256, min_output: uint256, valid_from: uint256,
    auto_cancel: bool,
):
    extcall OrderHandler.__at__(orderHandler).updateOrder(
        msg.sender, key, size, acceptable, trigger, min_output, valid_from, auto_cancel
    )


@external
@payable
def cancelOrder(key: bytes32):
    extcall OrderHandler.__at__(orderHandler).cancelOrder(msg.sender, key)


@external
@payable
def claimFundingFees(
    markets: DynArray[address, 8], tokens: DynArray[address, 8], receiver: address
) -> DynArray[uint256, 8]:
    """Pay out what the sender's positions have earned of funding."""
    if len(markets) != len(tokens):
        raw_revert(
            abi_encode(
                len(markets), len(tokens), method_id=method_id("InvalidClaimFundingFeesInput(uint256,uint256)")
            )
        )
    if receiver == empty(address):
        raw_revert(method_id("EmptyReceiver()", output_type=Bytes[4]))
    amounts: DynArray[uint256, 8] = []
    for i: uint256 in range(len(markets), bound=8):
        own: bytes32 = keccak256(
            abi_encode(keys.CLAIMABLE_FUNDING_AMOUNT, markets[i], tokens[i], msg.sender)
        )
        amount: uint256 = base._uint(own)
        base._set_uint(own, 0)
        pool: uint256 = base._add_uint(
            keys._of_token(keys.CLAIMABLE_FUNDING_AMOUNT, markets[i], tokens[i]), -convert(amount, int256)
        )
        if amount > 0:
            extcall Bank.__at__(markets[i]).transferOut(tokens[i], receiver, amount)
        events._log_of(
            "FundingFeesClaimed", msg.sender,
            abi_encode(markets[i], tokens[i], msg.sender, receiver, amount, pool),
        )
        amounts.append(amount)
    return amounts


@external
@payable
def setSavedCallbackContract(market: address, callback: address):
    """The contract that is told of liquidations and auto-deleveraging of the sender's positions."""
    extcall DataStore.__at__(base.dataStore).setAddress(
        keccak256(abi_encode(keys.SAVED_CALLBACK_CONTRACT, msg.sender, market)), callback
    )
