# pragma version 0.4.3
# pragma evm-version cancun
"""
@title Feed
@notice A price or sequencer feed of Chainlink's shape that anyone may set. LOCAL CHAINS ONLY.
"""

decimals: public(uint8)
description: public(String[64])
round_id: uint80
answer: int256
started_at: uint256
updated_at: uint256
dead: bool


@deploy
def __init__(decimals: uint8, answer: int256):
    self.decimals = decimals
    self._set(answer, block.timestamp, block.timestamp)


@external
def set_answer(answer: int256):
    self._set(answer, block.timestamp, block.timestamp)


@external
def set_round(answer: int256, started_at: uint256, updated_at: uint256):
    """Any round at all, stale and absurd ones too; times in seconds."""
    self._set(answer, started_at, updated_at)


@external
def set_description(description: String[64]):
    self.description = description


@external
def refresh():
    """The same answer, as of now."""
    self._set(self.answer, block.timestamp, block.timestamp)


@external
def kill():
    """From now on reading reverts."""
    self.dead = True


@external
@view
def latestRoundData() -> (uint80, int256, uint256, uint256, uint80):
    assert not self.dead, "DEAD_FEED"
    return self.round_id, self.answer, self.started_at, self.updated_at, self.round_id


@internal
def _set(answer: int256, started_at: uint256, updated_at: uint256):
    self.round_id += 1
    self.answer = answer
    self.started_at = started_at
    self.updated_at = updated_at
