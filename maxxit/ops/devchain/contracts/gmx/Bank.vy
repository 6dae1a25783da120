# pragma version 0.4.3
# pragma evm-version cancun
"""
@title Bank
@notice Holds tokens for the double of GMX v2: the OrderVault and each market are one. LOCAL CHAINS ONLY.
"""
from ethereum.ercs import IERC20
import base

interface Wnt:
    def deposit(): payable
    def withdraw(amount: uint256): nonpayable

initializes: base
exports: (base.dataStore, base.roleStore)

NATIVE_TRANSFER_GAS: constant(uint256) = 200_000

wnt: public(immutable(address))
tokenBalances: public(HashMap[address, uint256])


@deploy
def __init__(data_store: address, wrapped: address):
    base.__init__(data_store)
    wnt = wrapped


@external
@payable
def __default__():
    pass


@external
def recordTransferIn(token: address) -> uint256:
    """@return what has come in since the last call"""
    base._controller()
    before: uint256 = self.tokenBalances[token]
    self.tokenBalances[token] = staticcall IERC20(token).balanceOf(self)
    return self.tokenBalances[token] - before


@external
def transferOut(token: address, receiver: address, amount: uint256):
    base._controller()
    extcall IERC20(token).transfer(receiver, amount)
    self.tokenBalances[token] = staticcall IERC20(token).balanceOf(self)


@external
def transferOutNativeToken(receiver: address, amount: uint256):
    """Unwrap, and send native coin; as WNT where the receiver refuses it."""
    base._controller()
    extcall Wnt(wnt).withdraw(amount)
    self.tokenBalances[wnt] = staticcall IERC20(wnt).balanceOf(self)
    success: bool = raw_call(receiver, b"", value=amount, gas=NATIVE_TRANSFER_GAS, revert_on_failure=False)
    if not success:
        extcall Wnt(wnt).deposit(value=amount)
        extcall IERC20(wnt).transfer(receiver, amount)
