# pragma version 0.4.3
# pragma evm-version cancun
"""
@title Meter
@notice What an account is worth at the feeds' answers, whatever their age: the yardstick of the attack runs,
    written apart from the module so that the two cannot share a mistake. LOCAL CHAINS ONLY.
"""
from ethereum.ercs import IERC20
from ethereum.ercs import IERC20Detailed

interface Feed:
    def decimals() -> uint8: view
    def latestRoundData() -> (uint80, int256, uint256, uint256, uint80): view


@external
@view
def worth(account: address, usdc: address, tokens: DynArray[address, 8], feeds: DynArray[address, 8]) -> uint256:
    """@return micro-USDC (10**-12 USD), fine enough that rounding cannot hide a loss"""
    total: uint256 = staticcall IERC20(usdc).balanceOf(account) * 10**6
    for i: uint256 in range(len(tokens), bound=8):
        round_id: uint80 = 0
        answer: int256 = 0
        started: uint256 = 0
        updated: uint256 = 0
        answered_in: uint80 = 0
        round_id, answer, started, updated, answered_in = staticcall Feed(feeds[i]).latestRoundData()
        digits: uint256 = convert(staticcall IERC20Detailed(tokens[i]).decimals(), uint256)
        digits += convert(staticcall Feed(feeds[i]).decimals(), uint256)
        held: uint256 = staticcall IERC20(tokens[i]).balanceOf(account)
        total += held * convert(max(answer, 0), uint256) * 10**12 // 10**digits
    return total
