# pragma version 0.4.3
# pragma evm-version cancun
# pragma optimize gas
"""
@title TradingModule
@notice Lets one executor trade a Safe's USDC for listed tokens and back on Uniswap V3, inside a policy
    that the Safe itself has set. UNAUDITED.
@dev Nobody owns this contract. Every rule is keyed by the Safe, and only the Safe can write its own.
    USDC amounts are base units (6 decimals) and one USDC counts as one dollar.

    What a stolen executor key can take is bounded by the loss budget. Against it count, in USDC:
      * at open: the fee, plus what the tokens received are worth less than the USDC spent;
      * at close: the larger of what the USDC received is worth less than the tokens sold, and the realised
        loss that open has not counted yet.
    Worth is always the price feed's. In addition every open position reserves what its close may cost at
    the slippage limit, so that an honest stop-loss always fits. An open must fit together with all
    reservations; a close must fit too, unless its own reservation covers it. Gains never refill the budget.

    A policy tightens at once and loosens after the delay that the policy in force names. Each Safe has two
    slots for a policy: the one in force, and the one that holds the next. `schedule` says which is in force,
    so that a change of slot copies nothing.
"""
from ethereum.ercs import IERC20
from ethereum.ercs import IERC20Detailed

interface Safe:
    def execTransactionFromModuleReturnData(
        to: address, amount: uint256, data: Bytes[512], operation: uint8
    ) -> (bool, Bytes[1024]): nonpayable

interface Feed:
    def decimals() -> uint8: view

struct Policy:
    executor: address           # may open and close, inside this policy
    guardian: address           # may stop, nothing else
    fee_receiver: address
    profit_receiver: address
    min_trade: uint256          # USDC
    max_trade: uint256          # USDC
    daily_notional: uint256     # USDC opened in any 24 hours
    trades_per_day: uint256     # opens in any 24 hours
    cooldown: uint256           # seconds between two opens
    slippage_bps: uint256       # how far below the feed's price a swap may end
    loss_budget: uint256        # USDC in any 24 hours
    total_loss_budget: uint256  # USDC until the Safe signs a new policy
    profit_share_bps: uint256
    trade_fee: uint256          # USDC, once per round trip, taken at open
    loosen_delay: uint256       # seconds until a later policy that loosens anything is in force; 0 = at once

struct TokenRule:
    token: address
    feed: address               # Chainlink-shaped, token in USD
    pool_fee: uint24            # Uniswap V3 fee tier
    max_age: uint256            # seconds after which the feed counts as stale

struct Rule:
    feed: address
    pool_fee: uint24
    max_age: uint256
    scale: uint256              # quantity * price // scale = USDC
    listed: bool                # may be opened; a delisted token can still be closed

struct Position:
    token: address              # never cleared: it marks the trade id as used
    quantity: uint256           # token base units still held
    terms: uint256              # packed Terms
    profit_receiver: address    # as it was at open

struct Terms:
    cost: uint256               # USDC spent, fee included, for what is still held
    eroded: uint256             # part of cost that open has charged to the loss budget
    reserve: uint256            # USDC kept free in the loss budget for the close
    share_bps: uint256          # as it was at open

struct Holding:
    quantity: uint256           # over all open positions of a Safe in a token
    cost: uint256

struct Headroom:
    loss_left: uint256
    total_loss_left: uint256
    notional_left: uint256
    trades_left: uint256
    next_open_at: uint256
    stop_level: uint256
    loosens_at: uint256         # when a pending policy is in force; 0 = none is pending

# In force from now on, with a new total loss budget.
event PolicySet:
    safe: indexed(address)
    policy: Policy
    tokens: DynArray[TokenRule, 8]

# In force from now on, until the pending policy is; the total loss budget counts on.
event PolicyTightened:
    safe: indexed(address)
    policy: Policy
    tokens: DynArray[TokenRule, 8]

# In force from `effective_at` on, with a new total loss budget, unless cancelled or replaced.
event PolicyPending:
    safe: indexed(address)
    effective_at: uint256
    policy: Policy
    tokens: DynArray[TokenRule, 8]

# The pending policy is in force; logged by the first call after its time.
event PolicyLoosened:
    safe: indexed(address)

event LooseningCancelled:
    safe: indexed(address)
    by: indexed(address)

event Revoked:
    safe: indexed(address)

event Stopped:
    safe: indexed(address)
    by: indexed(address)
    level: uint256

event Resumed:
    safe: indexed(address)

event PositionOpened:
    safe: indexed(address)
    trade_id: indexed(bytes32)
    token: indexed(address)
    usdc_in: uint256
    quantity: uint256
    fee: uint256
    fee_receiver: address
    price: uint256              # the feed's answer, in the feed's decimals
    charged: uint256            # USDC against the loss budget
    reserve: uint256
    profit_receiver: address
    share_bps: uint256

event PositionClosed:
    safe: indexed(address)
    trade_id: indexed(bytes32)
    token: indexed(address)
    by: address
    quantity: uint256           # sold now
    usdc_out: uint256           # before the share
    cost: uint256               # of the quantity sold
    profit: int256              # usdc_out - cost
    share: uint256
    profit_receiver: address
    charged: uint256
    remaining: uint256          # quantity still held
    unshared: int256            # after this close: below zero are losses carried forward

event PositionReleased:
    safe: indexed(address)
    trade_id: indexed(bytes32)
    token: indexed(address)
    quantity: uint256
    cost: uint256

VERSION: public(constant(String[8])) = "1.1.0"
BPS: constant(uint256) = 10_000
MIN_TRADE: constant(uint256) = 10 * 10**6
MAX_FEE: constant(uint256) = 200_000
MAX_SHARE_BPS: constant(uint256) = 2_000
MAX_SLIPPAGE_BPS: constant(uint256) = 500
MAX_FEED_AGE: constant(uint256) = 2 * DAY
# Greater numbers can only be lies of a feed or token; below, no product here overflows and blocks a close.
MAX_ANSWER: constant(int256) = 2**128
MAX_QUANTITY: constant(uint256) = 2**112
MAX_LOOSEN_DELAY: constant(uint256) = 30 * DAY
SEQUENCER_GRACE: constant(uint256) = 3_600
DAY: constant(uint256) = 86_400

# A rolling day is kept in one word: five buckets of a quarter day, 44 bits each, the newest lowest, and the
# newest bucket's number above them. Five quarters always cover the last 24 hours (and at most 30), so no
# pair of bursts around a boundary passes, as it would with a counter that restarts.
QUARTER: constant(uint256) = DAY // 4
BUCKETS: constant(uint256) = 5
BUCKET_BITS: constant(uint256) = 44
BUCKET_MASK: constant(uint256) = 2**44 - 1
BUCKETS_MASK: constant(uint256) = 2**220 - 1
EPOCH_SHIFT: constant(uint256) = 220
TERM_MASK: constant(uint256) = 2**64 - 1

# Stop levels: raised by guardian or Safe, lowered by the Safe alone.
NO_ENTRIES: constant(uint256) = 1
HALTED: constant(uint256) = 2

USDC: public(immutable(address))
ROUTER: public(immutable(address))
SEQUENCER_FEED: public(immutable(address))  # empty where the chain has no sequencer

schedule: HashMap[address, uint256]  # bit 0: slot in force; above it: when the other slot is (0 = it is not)
slots: HashMap[address, HashMap[uint256, Policy]]
slot_rules: HashMap[address, HashMap[uint256, HashMap[address, Rule]]]
slot_tokens: HashMap[address, HashMap[uint256, DynArray[address, 8]]]
slot_charged: HashMap[address, HashMap[uint256, uint256]]  # against the total loss budget of the slot
stop_level: public(HashMap[address, uint256])
positions: HashMap[address, HashMap[bytes32, Position]]
holdings: public(HashMap[address, HashMap[address, Holding]])
unshared: public(HashMap[address, int256])  # realised profit not shared yet; negative = losses carried
reserved: public(HashMap[address, uint256])
last_open: public(HashMap[address, uint256])
loss_window: HashMap[address, uint256]
notional_window: HashMap[address, uint256]
trades_window: HashMap[address, uint256]


@deploy
def __init__(usdc: address, router: address, sequencer_feed: address):
    assert staticcall IERC20Detailed(usdc).decimals() == 6, "USDC_DECIMALS"
    assert router.is_contract, "ROUTER"
    USDC = usdc
    ROUTER = router
    SEQUENCER_FEED = sequencer_feed


# ------------------------------------------------------------------ what the Safe decides about itself


@external
@nonreentrant
def set_policy(policy: Policy, tokens: DynArray[TokenRule, 8]):
    """
    @notice The caller, a Safe, sets what may be done with it. What is stricter than the policy in force holds
        at once. If anything is looser, the whole policy is pending for the delay of the policy in force; a
        later `set_policy` replaces it. A new total loss budget is looser too, once losses were charged. The
        rolling day, used trade ids and carried losses stay.
    """
    self._check(policy)
    slot: uint256 = self._settle(msg.sender)
    other: uint256 = 1 - slot
    self._list_tokens(msg.sender, slot, other, tokens)
    self.slots[msg.sender][other] = policy
    self.slot_charged[msg.sender][other] = 0
    delay: uint256 = self.slots[msg.sender][slot].loosen_delay
    if delay == 0 or not self._loosens(msg.sender, slot, policy, tokens):
        self.schedule[msg.sender] = other
        log PolicySet(safe=msg.sender, policy=policy, tokens=tokens)
        return
    effective_at: uint256 = block.timestamp + delay
    self.schedule[msg.sender] = (effective_at << 1) | slot
    log PolicyPending(safe=msg.sender, effective_at=effective_at, policy=policy, tokens=tokens)
    if self.slots[msg.sender][slot].executor != empty(address):
        self._tighten(msg.sender, slot, policy)


@internal
@view
def _check(policy: Policy):
    """The bounds of each limit. No limit may be zero but share, fee, cooldown and delay."""
    assert policy.executor != empty(address) and policy.guardian != empty(address), "POLICY_KEYS"
    assert policy.executor != policy.guardian and policy.executor != msg.sender, "POLICY_KEYS"
    assert policy.fee_receiver != empty(address) and policy.profit_receiver != empty(address), "POLICY_RECEIVER"
    assert policy.min_trade >= MIN_TRADE and policy.min_trade <= policy.max_trade, "POLICY_TRADE_SIZE"
    assert policy.max_trade <= policy.daily_notional and policy.daily_notional <= BUCKET_MASK, "POLICY_NOTIONAL"
    assert policy.trades_per_day > 0 and policy.trades_per_day <= BUCKET_MASK, "POLICY_TRADES"
    assert policy.cooldown <= DAY, "POLICY_COOLDOWN"
    assert policy.slippage_bps > 0 and policy.slippage_bps <= MAX_SLIPPAGE_BPS, "POLICY_SLIPPAGE"
    assert policy.loss_budget > 0 and policy.loss_budget <= policy.total_loss_budget, "POLICY_BUDGET"
    assert policy.total_loss_budget <= BUCKET_MASK, "POLICY_BUDGET"
    assert policy.profit_share_bps <= MAX_SHARE_BPS, "POLICY_SHARE"
    assert policy.trade_fee <= MAX_FEE, "POLICY_FEE"
    assert policy.loosen_delay <= MAX_LOOSEN_DELAY, "POLICY_DELAY"


@internal
def _list_tokens(safe: address, slot: uint256, other: uint256, wanted: DynArray[TokenRule, 8]):
    """
    Writes the list of the `other` slot. A token with open positions must stay: its open loss has to be seen
    at a share.
    """
    assert len(wanted) > 0, "POLICY_TOKENS"
    for token: address in self.slot_tokens[safe][other]:
        self.slot_rules[safe][other][token].listed = False
    listed: DynArray[address, 8] = []
    for rule: TokenRule in wanted:
        assert rule.token != USDC and not self.slot_rules[safe][other][rule.token].listed, "POLICY_TOKENS"
        assert rule.pool_fee > 0 and rule.max_age > 0 and rule.max_age <= MAX_FEED_AGE, "POLICY_TOKENS"
        digits: uint256 = convert(staticcall IERC20Detailed(rule.token).decimals(), uint256)
        digits += convert(staticcall Feed(rule.feed).decimals(), uint256)
        assert digits >= 6 and digits <= 42, "POLICY_TOKENS"
        self.slot_rules[safe][other][rule.token] = Rule(
            feed=rule.feed, pool_fee=rule.pool_fee, max_age=rule.max_age, scale=10 ** (digits - 6), listed=True
        )
        listed.append(rule.token)
    for token: address in self.slot_tokens[safe][slot]:
        kept: bool = self.slot_rules[safe][other][token].listed
        assert kept or self.holdings[safe][token].quantity == 0, "TOKEN_IN_USE"
    self.slot_tokens[safe][other] = listed


@internal
@view
def _loosens(safe: address, slot: uint256, policy: Policy, tokens: DynArray[TokenRule, 8]) -> bool:
    """Whether a policy allows anything that the one in `slot` does not."""
    if self.slot_charged[safe][slot] > 0:
        return True
    strict: Policy = self._stricter(self.slots[safe][slot], policy)
    if keccak256(abi_encode(strict)) != keccak256(abi_encode(policy)):
        return True
    for wanted: TokenRule in tokens:
        rule: Rule = self.slot_rules[safe][slot][wanted.token]
        if not rule.listed or rule.feed != wanted.feed or rule.pool_fee != wanted.pool_fee:
            return True
        if wanted.max_age > rule.max_age:
            return True
    return False


@internal
@pure
def _stricter(current: Policy, wanted: Policy) -> Policy:
    """Of each limit the stricter one. Another key or receiver is never stricter, so the current ones stay."""
    return Policy(
        executor=current.executor,
        guardian=current.guardian,
        fee_receiver=current.fee_receiver,
        profit_receiver=current.profit_receiver,
        min_trade=max(current.min_trade, wanted.min_trade),
        max_trade=min(current.max_trade, wanted.max_trade),
        daily_notional=min(current.daily_notional, wanted.daily_notional),
        trades_per_day=min(current.trades_per_day, wanted.trades_per_day),
        cooldown=max(current.cooldown, wanted.cooldown),
        slippage_bps=min(current.slippage_bps, wanted.slippage_bps),
        loss_budget=min(current.loss_budget, wanted.loss_budget),
        total_loss_budget=min(current.total_loss_budget, wanted.total_loss_budget),
        profit_share_bps=min(current.profit_share_bps, wanted.profit_share_bps),
        trade_fee=min(current.trade_fee, wanted.trade_fee),
        loosen_delay=max(current.loosen_delay, wanted.loosen_delay),
    )


@internal
def _tighten(safe: address, slot: uint256, policy: Policy):
    """Makes the policy in force as strict as the pending one, which stands in the other slot."""
    strict: Policy = self._stricter(self.slots[safe][slot], policy)
    self.slots[safe][slot] = strict
    listed: DynArray[address, 8] = []
    for token: address in self.slot_tokens[safe][slot]:
        pending: Rule = self.slot_rules[safe][1 - slot][token]
        if not pending.listed:
            self.slot_rules[safe][slot][token].listed = False
            continue
        listed.append(token)
        self.slot_rules[safe][slot][token].max_age = min(
            self.slot_rules[safe][slot][token].max_age, pending.max_age
        )
    self.slot_tokens[safe][slot] = listed
    log PolicyTightened(safe=safe, policy=strict, tokens=self._token_rules(safe, slot))


@external
@nonreentrant
def cancel_loosening(safe: address):
    """@notice Guardian or Safe: the pending policy is dropped. What was tightened stays."""
    slot: uint256 = self._settle(safe)
    assert msg.sender == self.slots[safe][slot].guardian or msg.sender == safe, "NOT_GUARDIAN"
    assert self._loosens_at(safe) > 0, "NOTHING_PENDING"
    self.schedule[safe] = slot
    log LooseningCancelled(safe=safe, by=msg.sender)


@external
@nonreentrant
def revoke():
    """
    @notice The caller, a Safe, ends the policy and a pending one. Its own `close_position` and
        `release_position` still work. The delay outlasts it, so that revoking and signing anew is no way round.
    """
    slot: uint256 = self._settle(msg.sender)
    delay: uint256 = self.slots[msg.sender][slot].loosen_delay
    self.slots[msg.sender][slot] = empty(Policy)
    self.slots[msg.sender][slot].loosen_delay = delay
    self.schedule[msg.sender] = slot
    log Revoked(safe=msg.sender)


@internal
@view
def _loosens_at(safe: address) -> uint256:
    """When the pending policy is in force; 0 = none is pending."""
    effective_at: uint256 = self.schedule[safe] >> 1
    return effective_at if effective_at > block.timestamp else 0


@internal
@view
def _slot(safe: address) -> uint256:
    """The slot of the policy in force."""
    packed: uint256 = self.schedule[safe]
    if packed > 1 and packed >> 1 <= block.timestamp:
        return 1 - (packed & 1)
    return packed & 1


@internal
def _settle(safe: address) -> uint256:
    """The slot of the policy in force, after noting that a pending policy's time has come."""
    packed: uint256 = self.schedule[safe]
    if packed < 2 or packed >> 1 > block.timestamp:
        return packed & 1
    slot: uint256 = 1 - (packed & 1)
    self.schedule[safe] = slot
    log PolicyLoosened(safe=safe)
    return slot


@external
@nonreentrant
def stop(safe: address, level: uint256):
    """@notice Guardian or Safe: 1 = no new positions, 2 = the executor can do nothing. It only goes up."""
    slot: uint256 = self._settle(safe)
    assert msg.sender == self.slots[safe][slot].guardian or msg.sender == safe, "NOT_GUARDIAN"
    assert level > self.stop_level[safe] and level <= HALTED, "STOP_LEVEL"
    self.stop_level[safe] = level
    log Stopped(safe=safe, by=msg.sender, level=level)


@external
@nonreentrant
def resume():
    """@notice The caller, a Safe, lifts a stop."""
    self.stop_level[msg.sender] = 0
    log Resumed(safe=msg.sender)


@external
@nonreentrant
def release_position(trade_id: bytes32):
    """
    @notice The caller, a Safe, takes a position's tokens as its own, for instance after it has sold them
        itself. Counts as neither profit nor loss. The trade id stays used.
    """
    position: Position = self.positions[msg.sender][trade_id]
    assert position.quantity > 0, "NO_POSITION"
    terms: Terms = self._unpack(position.terms)
    self._shrink(msg.sender, trade_id, position.quantity)
    log PositionReleased(
        safe=msg.sender, trade_id=trade_id, token=position.token, quantity=position.quantity, cost=terms.cost
    )


# ------------------------------------------------------------------ trading


@external
@nonreentrant
def open_position(
    safe: address, trade_id: bytes32, token: address, usdc_in: uint256, min_out: uint256, deadline: uint256
) -> uint256:
    """
    @notice Spends exactly `usdc_in` of the Safe on `token` and takes the fee.
    @return quantity of token that arrived in the Safe
    """
    slot: uint256 = self._settle(safe)
    assert msg.sender == self.slots[safe][slot].executor, "NOT_EXECUTOR"
    assert block.timestamp <= deadline, "DEADLINE"
    assert self.positions[safe][trade_id].token == empty(address), "TRADE_ID_USED"
    self.positions[safe][trade_id].token = token
    self._admit(safe, slot, usdc_in)
    rule: Rule = self.slot_rules[safe][slot][token]
    assert rule.listed, "TOKEN_NOT_LISTED"
    price: uint256 = self._price(rule)
    fair: uint256 = usdc_in * rule.scale
    least: uint256 = self._ceil_div(fair * (BPS - self.slots[safe][slot].slippage_bps), price * BPS)
    quantity: uint256 = self._swap(safe, USDC, token, rule.pool_fee, usdc_in, max(min_out, least), deadline)
    self._pay(safe, self.slots[safe][slot].fee_receiver, self.slots[safe][slot].trade_fee)
    worth: uint256 = quantity * price // rule.scale
    self._book_open(safe, slot, trade_id, token, usdc_in, quantity, price, usdc_in - min(worth, usdc_in))
    return quantity


@internal
def _admit(safe: address, slot: uint256, usdc_in: uint256):
    """The limits that are known before the swap; takes the trade into the rolling day and the cooldown."""
    assert self.stop_level[safe] < NO_ENTRIES, "STOPPED"
    assert usdc_in >= self.slots[safe][slot].min_trade, "BELOW_MIN_TRADE"
    assert usdc_in <= self.slots[safe][slot].max_trade, "ABOVE_MAX_TRADE"
    assert block.timestamp >= self.last_open[safe] + self.slots[safe][slot].cooldown, "COOLDOWN"
    self.last_open[safe] = block.timestamp
    notional: uint256 = self._added(self.notional_window[safe], usdc_in)
    assert self._sum(notional) <= self.slots[safe][slot].daily_notional, "DAILY_NOTIONAL"
    self.notional_window[safe] = notional
    trades: uint256 = self._added(self.trades_window[safe], 1)
    assert self._sum(trades) <= self.slots[safe][slot].trades_per_day, "TRADES_PER_DAY"
    self.trades_window[safe] = trades


@internal
def _book_open(
    safe: address, slot: uint256, trade_id: bytes32, token: address, usdc_in: uint256, quantity: uint256,
    price: uint256, shortfall: uint256
):
    """Charges and reserves in the loss budget, then writes the position with the terms of this moment."""
    fee: uint256 = self.slots[safe][slot].trade_fee
    share_bps: uint256 = self.slots[safe][slot].profit_share_bps
    profit_receiver: address = self.slots[safe][slot].profit_receiver
    charged: uint256 = shortfall + fee
    reserve: uint256 = self._ceil_div(usdc_in * self.slots[safe][slot].slippage_bps, BPS)
    self.reserved[safe] += reserve
    self._charge(safe, slot, charged, True)
    cost: uint256 = usdc_in + fee
    self.positions[safe][trade_id].quantity = quantity
    self.positions[safe][trade_id].profit_receiver = profit_receiver
    self.positions[safe][trade_id].terms = self._pack(
        Terms(cost=cost, eroded=charged, reserve=reserve, share_bps=share_bps)
    )
    held: uint256 = self.holdings[safe][token].quantity + quantity
    assert held <= MAX_QUANTITY, "QUANTITY"
    self.holdings[safe][token].quantity = held
    self.holdings[safe][token].cost += cost
    log PositionOpened(
        safe=safe, trade_id=trade_id, token=token, usdc_in=usdc_in, quantity=quantity, fee=fee,
        fee_receiver=self.slots[safe][slot].fee_receiver, price=price, charged=charged, reserve=reserve,
        profit_receiver=profit_receiver, share_bps=share_bps,
    )


@external
@nonreentrant
def close_position(
    safe: address, trade_id: bytes32, min_usdc_out: uint256, deadline: uint256,
    quantity: uint256 = max_value(uint256),
) -> uint256:
    """
    @notice Sells `quantity` of a position (all of it by default) and pays the profit share. The executor is
        held to the price floor and the loss budget; the Safe's owners only to their own `min_usdc_out`, so
        that they can leave without executor and feed.
    @return USDC that arrived in the Safe, before the share
    """
    slot: uint256 = self._settle(safe)
    by_owner: bool = msg.sender == safe
    assert by_owner or msg.sender == self.slots[safe][slot].executor, "NOT_EXECUTOR"
    assert by_owner or self.stop_level[safe] < HALTED, "STOPPED"
    assert block.timestamp <= deadline, "DEADLINE"
    position: Position = self.positions[safe][trade_id]
    sold: uint256 = min(quantity, position.quantity)
    assert sold > 0, "NO_POSITION"
    rule: Rule = self.slot_rules[safe][slot][position.token]
    part: Terms = self._shrink(safe, trade_id, sold)
    least: uint256 = min_usdc_out
    worth: uint256 = 0
    if not by_owner:
        fair: uint256 = sold * self._price(rule)
        worth = self._ceil_div(fair, rule.scale)
        least = max(least, self._ceil_div(fair * (BPS - self.slots[safe][slot].slippage_bps), rule.scale * BPS))
    received: uint256 = self._swap(safe, position.token, USDC, rule.pool_fee, sold, least, deadline)
    charged: uint256 = 0
    if not by_owner:
        charged = self._charge_close(safe, slot, part, worth - min(worth, received), received)
    share: uint256 = self._share(safe, slot, received, part)
    self._pay(safe, position.profit_receiver, share)
    log PositionClosed(
        safe=safe, trade_id=trade_id, token=position.token, by=msg.sender, quantity=sold, usdc_out=received,
        cost=part.cost, profit=convert(received, int256) - convert(part.cost, int256), share=share,
        profit_receiver=position.profit_receiver, charged=charged, remaining=position.quantity - sold,
        unshared=self.unshared[safe],
    )
    return received


@internal
def _shrink(safe: address, trade_id: bytes32, sold: uint256) -> Terms:
    """Takes `sold` out of a position. Returns its part of the terms; the cost is rounded against a profit."""
    position: Position = self.positions[safe][trade_id]
    terms: Terms = self._unpack(position.terms)
    part: Terms = Terms(
        cost=self._ceil_div(terms.cost * sold, position.quantity),
        eroded=terms.eroded * sold // position.quantity,
        reserve=terms.reserve * sold // position.quantity,
        share_bps=terms.share_bps,
    )
    terms.cost -= part.cost
    terms.eroded -= part.eroded
    terms.reserve -= part.reserve
    self.positions[safe][trade_id].quantity = position.quantity - sold
    self.positions[safe][trade_id].terms = self._pack(terms)
    self.holdings[safe][position.token].quantity -= sold
    self.holdings[safe][position.token].cost -= part.cost
    self.reserved[safe] -= part.reserve
    return part


@internal
def _charge_close(safe: address, slot: uint256, part: Terms, shortfall: uint256, received: uint256) -> uint256:
    """
    What a close costs the loss budget. The market's part of a loss counts, so that it stops new positions,
    but it never stops the close itself: only a shortfall beyond the position's own reservation does.
    """
    known: uint256 = received + part.eroded
    charged: uint256 = max(shortfall, part.cost - min(part.cost, known))
    if shortfall > part.reserve:
        assert self._fits(safe, slot, shortfall), "LOSS_BUDGET"
    self._charge(safe, slot, charged, False)
    return charged


@internal
def _share(safe: address, slot: uint256, received: uint256, part: Terms) -> uint256:
    """
    The share of a close: of its profit, but never of more than all realised profit that was not shared yet,
    less carried losses, less the net loss on what is still open. So winners cannot be harvested while losers
    are left open. What is withheld for an open loss stays in `unshared` for a later winner.
    """
    profit: int256 = convert(received, int256) - convert(part.cost, int256)
    pending: int256 = self.unshared[safe] + profit
    base: int256 = 0
    if profit > 0 and pending > 0:
        base = max(0, min(profit, pending - self._open_loss(safe, slot)))
    self.unshared[safe] = pending - base
    return convert(base, uint256) * part.share_bps // BPS


@internal
@view
def _open_loss(safe: address, slot: uint256) -> int256:
    """Net loss in USDC on all that is still open; the largest number when a price cannot be had."""
    loss: int256 = 0
    for token: address in self.slot_tokens[safe][slot]:
        holding: Holding = self.holdings[safe][token]
        if holding.quantity == 0:
            continue
        rule: Rule = self.slot_rules[safe][slot][token]
        price: uint256 = 0
        fault: uint256 = 0
        price, fault = self._read(rule)
        if fault != 0:
            return max_value(int256)
        loss += convert(holding.cost, int256) - convert(holding.quantity * price // rule.scale, int256)
    return max(0, loss)


# ------------------------------------------------------------------ the loss budget and the rolling day


@internal
@view
def _fits(safe: address, slot: uint256, amount: uint256) -> bool:
    """Whether a further loss fits into both budgets beside everything that is reserved."""
    loss: uint256 = amount + self.reserved[safe]
    if self._sum(self._added(self.loss_window[safe], 0)) + loss > self.slots[safe][slot].loss_budget:
        return False
    return self.slot_charged[safe][slot] + loss <= self.slots[safe][slot].total_loss_budget


@internal
def _charge(safe: address, slot: uint256, amount: uint256, must_fit: bool):
    if must_fit:
        assert self._fits(safe, slot, amount), "LOSS_BUDGET"
    self.loss_window[safe] = self._added(self.loss_window[safe], amount)
    self.slot_charged[safe][slot] += amount


@internal
@view
def _added(packed: uint256, amount: uint256) -> uint256:
    """The rolling day moved on to now, with `amount` in its newest bucket (which saturates)."""
    epoch: uint256 = block.timestamp // QUARTER
    elapsed: uint256 = epoch - (packed >> EPOCH_SHIFT)
    buckets: uint256 = 0
    if elapsed < BUCKETS:
        buckets = (packed << (elapsed * BUCKET_BITS)) & BUCKETS_MASK
    newest: uint256 = min((buckets & BUCKET_MASK) + amount, BUCKET_MASK)
    return (epoch << EPOCH_SHIFT) | (buckets & ~BUCKET_MASK) | newest


@internal
@pure
def _sum(packed: uint256) -> uint256:
    total: uint256 = 0
    for i: uint256 in range(BUCKETS):
        total += (packed >> (i * BUCKET_BITS)) & BUCKET_MASK
    return total


# ------------------------------------------------------------------ prices


@internal
@view
def _price(rule: Rule) -> uint256:
    price: uint256 = 0
    fault: uint256 = 0
    price, fault = self._read(rule)
    assert fault != 1, "FEED_BAD"
    assert fault != 2, "FEED_STALE"
    assert fault != 3, "SEQUENCER_DOWN"
    return price


@internal
@view
def _read(rule: Rule) -> (uint256, uint256):
    """The feed's answer and a fault: 1 unreadable or absurd, 2 stale or from the future, 3 sequencer."""
    readable: bool = False
    answer: int256 = 0
    started: uint256 = 0
    updated: uint256 = 0
    if SEQUENCER_FEED != empty(address):
        readable, answer, started, updated = self._latest(SEQUENCER_FEED)
        if not readable or answer != 0 or started == 0 or block.timestamp < started + SEQUENCER_GRACE:
            return 0, 3
    readable, answer, started, updated = self._latest(rule.feed)
    if not readable or answer <= 0 or answer > MAX_ANSWER:
        return 0, 1
    if updated > block.timestamp or block.timestamp - updated > rule.max_age:
        return 0, 2
    return convert(answer, uint256), 0


@internal
@view
def _latest(feed: address) -> (bool, int256, uint256, uint256):
    """latestRoundData without reverting: a broken feed of another token must not block a close."""
    success: bool = False
    data: Bytes[160] = b""
    success, data = raw_call(
        feed, method_id("latestRoundData()"), max_outsize=160, is_static_call=True, revert_on_failure=False
    )
    if not success or len(data) != 160:
        return False, 0, 0, 0
    round_id: uint256 = 0
    answer: int256 = 0
    started: uint256 = 0
    updated: uint256 = 0
    answered_in: uint256 = 0
    round_id, answer, started, updated, answered_in = abi_decode(
        data, (uint256, int256, uint256, uint256, uint256)
    )
    return True, answer, started, updated


# ------------------------------------------------------------------ acting on the Safe, by CALL only


@internal
def _swap(
    safe: address, sell: address, buy: address, pool_fee: uint24, amount: uint256, least: uint256,
    deadline: uint256,
) -> uint256:
    """Swaps inside the Safe. Returns what arrived, measured by the Safe's balance."""
    sell_before: uint256 = staticcall IERC20(sell).balanceOf(safe)
    buy_before: uint256 = staticcall IERC20(buy).balanceOf(safe)
    self._token_call(safe, sell, abi_encode(ROUTER, amount, method_id=method_id("approve(address,uint256)")))
    self._exec(
        safe,
        ROUTER,
        abi_encode(
            sell, buy, pool_fee, safe, deadline, amount, least, empty(uint160),
            method_id=method_id(
                "exactInputSingle((address,address,uint24,address,uint256,uint256,uint256,uint160))"
            ),
        ),
    )
    received: uint256 = staticcall IERC20(buy).balanceOf(safe) - buy_before
    assert sell_before - staticcall IERC20(sell).balanceOf(safe) == amount, "SPEND_NOT_EXACT"
    assert received >= least, "PRICE_FLOOR"
    assert staticcall IERC20(sell).allowance(safe, ROUTER) == 0, "ALLOWANCE_LEFT"
    return received


@internal
def _pay(safe: address, to: address, amount: uint256):
    """USDC from the Safe, exactly `amount`; a payment that fails reverts the whole trade."""
    if amount == 0:
        return
    before: uint256 = staticcall IERC20(USDC).balanceOf(safe)
    self._token_call(safe, USDC, abi_encode(to, amount, method_id=method_id("transfer(address,uint256)")))
    if to != safe:
        assert before - staticcall IERC20(USDC).balanceOf(safe) == amount, "PAYMENT_NOT_EXACT"


@internal
def _token_call(safe: address, token: address, data: Bytes[512]):
    """A token answers true, or nothing at all as some old ones do."""
    returned: Bytes[1024] = self._exec(safe, token, data)
    assert len(returned) == 0 or extract32(returned, 0, output_type=uint256) == 1, "TOKEN_CALL"


@internal
def _exec(safe: address, to: address, data: Bytes[512]) -> Bytes[1024]:
    success: bool = False
    returned: Bytes[1024] = b""
    success, returned = extcall Safe(safe).execTransactionFromModuleReturnData(to, 0, data, 0)
    if not success:
        assert len(returned) > 0, "SAFE_CALL"
        raw_revert(returned)
    return returned


# ------------------------------------------------------------------ small change


@internal
@pure
def _ceil_div(a: uint256, b: uint256) -> uint256:
    return (a + b - 1) // b


@internal
@pure
def _pack(terms: Terms) -> uint256:
    """Each amount fits 64 bits: set_policy keeps every USDC amount below 2**44."""
    return terms.cost | (terms.eroded << 64) | (terms.reserve << 128) | (terms.share_bps << 192)


@internal
@pure
def _unpack(packed: uint256) -> Terms:
    return Terms(
        cost=packed & TERM_MASK,
        eroded=(packed >> 64) & TERM_MASK,
        reserve=(packed >> 128) & TERM_MASK,
        share_bps=packed >> 192,
    )


# ------------------------------------------------------------------ reading


@external
@view
def policies(safe: address) -> Policy:
    """@return the policy in force"""
    return self.slots[safe][self._slot(safe)]


@external
@view
def pending(safe: address) -> (uint256, Policy, DynArray[TokenRule, 8]):
    """@return when the pending policy is in force (0 = none is pending), the policy and its tokens"""
    effective_at: uint256 = self._loosens_at(safe)
    if effective_at == 0:
        return 0, empty(Policy), []
    other: uint256 = 1 - self._slot(safe)
    return effective_at, self.slots[safe][other], self._token_rules(safe, other)


@external
@view
def rules(safe: address, token: address) -> Rule:
    """@return the token's rule in the policy in force"""
    return self.slot_rules[safe][self._slot(safe)][token]


@external
@view
def total_charged(safe: address) -> uint256:
    """@return USDC that count against the total loss budget in force"""
    return self.slot_charged[safe][self._slot(safe)]


@internal
@view
def _token_rules(safe: address, slot: uint256) -> DynArray[TokenRule, 8]:
    listed: DynArray[TokenRule, 8] = []
    for token: address in self.slot_tokens[safe][slot]:
        rule: Rule = self.slot_rules[safe][slot][token]
        listed.append(TokenRule(token=token, feed=rule.feed, pool_fee=rule.pool_fee, max_age=rule.max_age))
    return listed


@external
@view
def position(safe: address, trade_id: bytes32) -> (address, uint256, Terms, address):
    """@return token, quantity still held, terms of what is still held, profit receiver"""
    found: Position = self.positions[safe][trade_id]
    return found.token, found.quantity, self._unpack(found.terms), found.profit_receiver


@external
@view
def trade_id_used(safe: address, trade_id: bytes32) -> bool:
    return self.positions[safe][trade_id].token != empty(address)


@external
@view
def listed_tokens(safe: address) -> DynArray[address, 8]:
    return self.slot_tokens[safe][self._slot(safe)]


@external
@view
def price_of(safe: address, token: address) -> uint256:
    """@return the feed's answer in its decimals; reverts with the reason when it must not be used"""
    return self._price(self.slot_rules[safe][self._slot(safe)][token])


@external
@view
def headroom(safe: address) -> Headroom:
    """@return what the policy leaves right now; reservations for open positions are already taken off"""
    slot: uint256 = self._slot(safe)
    policy: Policy = self.slots[safe][slot]
    loss: uint256 = self._sum(self._added(self.loss_window[safe], 0)) + self.reserved[safe]
    total: uint256 = self.slot_charged[safe][slot] + self.reserved[safe]
    notional: uint256 = self._sum(self._added(self.notional_window[safe], 0))
    trades: uint256 = self._sum(self._added(self.trades_window[safe], 0))
    return Headroom(
        loss_left=policy.loss_budget - min(loss, policy.loss_budget),
        total_loss_left=policy.total_loss_budget - min(total, policy.total_loss_budget),
        notional_left=policy.daily_notional - min(notional, policy.daily_notional),
        trades_left=policy.trades_per_day - min(trades, policy.trades_per_day),
        next_open_at=self.last_open[safe] + policy.cooldown,
        stop_level=self.stop_level[safe],
        loosens_at=self._loosens_at(safe),
    )
