# pragma version 0.4.3
# pragma evm-version cancun
"""
@title WrappedEther
@notice A Token that also wraps the chain's native coin, as WETH does. What was minted is backed by nothing, so it can be
    unwrapped only as far as others have deposited. LOCAL CHAINS ONLY.
"""
from ethereum.ercs import IERC20

import Token

initializes: Token
exports: Token.__interface__


@deploy
def __init__(name: String[32], symbol: String[8], decimals: uint8):
    Token.__init__(name, symbol, decimals)


@external
@payable
def __default__():
    self._deposit()


@external
@payable
def deposit():
    self._deposit()


@external
def withdraw(amount: uint256):
    Token.balanceOf[msg.sender] -= amount
    Token.totalSupply -= amount
    log IERC20.Transfer(sender=msg.sender, receiver=empty(address), value=amount)
    send(msg.sender, amount, gas=msg.gas)


@internal
@payable
def _deposit():
    Token.balanceOf[msg.sender] += msg.value
    Token.totalSupply += msg.value
    log IERC20.Transfer(sender=empty(address), receiver=msg.sender, value=msg.value)
