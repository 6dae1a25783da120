# pragma version 0.4.3
# pragma evm-version cancun
"""
@title Router
@notice The double's contract that accounts approve; plug-ins move their tokens by it. LOCAL CHAINS ONLY.
"""
from ethereum.ercs import IERC20
import base
import keys

initializes: base
exports: base.roleStore


@deploy
def __init__(data_store: address):
    base.__init__(data_store)


@external
def pluginTransfer(token: address, account: address, receiver: address, amount: uint256):
    base._only(keys.ROUTER_PLUGIN, "ROUTER_PLUGIN")
    extcall IERC20(token).transferFrom(account, receiver, amount)
