# pragma version 0.4.3
# pragma evm-version cancun
"""
@title HostileToken
@notice A token that works against the Safe that holds it: it keeps a part of each transfer, and in the
    middle of a transfer it calls whom it was told to call. LOCAL CHAINS ONLY.
"""
decimals: public(uint8)
totalSupply: public(uint256)
balanceOf: public(HashMap[address, uint256])
allowance: public(HashMap[address, HashMap[address, uint256]])

fee_bps: public(uint256)           # kept back from every transfer
silent: public(bool)               # approve answers nothing, as some old tokens do
calls_left: uint256                # how many of the coming transfers strike
target: address
payload: Bytes[1024]
struck: public(uint256)            # strikes that succeeded
repelled: public(uint256)          # strikes that reverted
last_word: public(Bytes[256])      # what the last strike got back


@deploy
def __init__(decimals: uint8):
    self.decimals = decimals


@external
def mint(to: address, amount: uint256):
    self.totalSupply += amount
    self.balanceOf[to] += amount


@external
def take_fee(fee_bps: uint256):
    self.fee_bps = fee_bps


@external
def be_silent():
    self.silent = True


@external
def arm(target: address, payload: Bytes[1024], times: uint256):
    self.target = target
    self.payload = payload
    self.calls_left = times


@external
def act(target: address, payload: Bytes[1024]):
    """The token itself may be somebody's executor: it does what anyone tells it."""
    raw_call(target, payload)


@external
def transfer(to: address, amount: uint256) -> bool:
    self._move(msg.sender, to, amount)
    return True


@external
def transferFrom(owner: address, to: address, amount: uint256) -> bool:
    self.allowance[owner][msg.sender] -= amount
    self._move(owner, to, amount)
    return True


@external
@raw_return
def approve(spender: address, amount: uint256) -> Bytes[32]:
    self.allowance[msg.sender][spender] = amount
    if self.silent:
        return b""
    return abi_encode(True)


@internal
def _move(owner: address, to: address, amount: uint256):
    self.balanceOf[owner] -= amount
    self.balanceOf[to] += amount - amount * self.fee_bps // 10_000
    if self.calls_left > 0:
        self.calls_left -= 1
        self._strike()


@internal
def _strike():
    success: bool = False
    word: Bytes[256] = b""
    success, word = raw_call(self.target, self.payload, max_outsize=256, revert_on_failure=False)
    self.last_word = word
    if success:
        self.struck += 1
    else:
        self.repelled += 1
