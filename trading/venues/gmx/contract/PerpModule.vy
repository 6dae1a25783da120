# pragma version 0.4.3
# pragma evm-version cancun
# pragma optimize codesize
"""
@title PerpModule
@notice Lets one executor trade perpetuals on GMX v2 with a Safe's USDC as collateral, inside a policy that the
    Safe itself has set. UNAUDITED.
@dev Nobody owns this contract. Every rule is keyed by the Safe, and only the Safe can write its own.
    USDC amounts are base units (6 decimals) and one USDC counts as one dollar. Sizes and prices are GMX's units:
    USD with 30 decimals, prices with 30 less the index token's decimals.

    What a stolen executor key can take is bounded by the loss budgets. A position cannot lose more than its
    collateral, so collateral and fee of a trade are reserved in both budgets from the order on. What returns to the
    Safe frees its reservation; when the trade ends, what has not returned is charged as a loss. Gains never refill a
    budget.

    GMX acts later and says so by callbacks. They are believed from an address that GMX's role store calls a
    controller, and from nobody else. A callback that never came credits nothing: the whole cost is charged.

    A policy tightens at once and loosens after the delay that the policy in force names. Each Safe has two
    slots for a policy: the one in force, and the one that holds the next. `schedule` says which is in force,
    so that a change of slot copies nothing.
"""
from ethereum.ercs import IERC20
from ethereum.ercs import IERC20Detailed

interface Safe:
    def execTransactionFromModuleReturnData(
        to: address, amount: uint256, data: Bytes[1024], operation: uint8
    ) -> (bool, Bytes[1024]): nonpayable

interface Feed:
    def decimals() -> uint8: view

interface WrappedNative:
    def deposit(): payable
    def transfer(to: address, amount: uint256) -> bool: nonpayable

interface DataStore:
    def getUint(key: bytes32) -> uint256: view
    def containsBytes32(set_key: bytes32, member: bytes32) -> bool: view

interface RoleStore:
    def hasRole(account: address, role: bytes32) -> bool: view

struct Policy:
    executor: address           # may open, close and cancel, inside this policy
    guardian: address           # may stop, nothing else
    fee_receiver: address
    profit_receiver: address
    min_collateral: uint256     # USDC
    max_collateral: uint256     # USDC
    max_leverage_bps: uint256   # size over collateral
    max_notional: uint256       # USDC, size of a trade
    daily_collateral: uint256   # USDC opened in any 24 hours
    daily_notional: uint256     # USDC opened in any 24 hours
    trades_per_day: uint256     # opens in any 24 hours
    cooldown: uint256           # seconds between two opens
    slippage_bps: uint256       # how far from the feed's price an order may be filled
    max_execution_fee: uint256  # wei an order
    loss_budget: uint256        # USDC in any 24 hours
    total_loss_budget: uint256  # USDC until the Safe signs a new policy
    profit_share_bps: uint256
    trade_fee: uint256          # USDC, once per trade, taken at open
    loosen_delay: uint256       # seconds until a later policy that loosens anything is in force; 0 = at once

struct MarketRule:
    market: address             # GMX's market token
    token_decimals: uint256     # of the index token
    feed: address               # Chainlink-shaped, index token in USD
    max_age: uint256            # seconds after which the feed counts as stale
    allow_long: bool
    allow_short: bool

struct Trade:
    market: address             # never cleared: it marks the trade id as used
    terms: uint256              # packed Terms
    profit_receiver: address    # as it was at open
    increase_key: bytes32       # GMX's order keys; empty where there is no such order
    stop_key: bytes32
    target_key: bytes32
    close_key: bytes32          # the latest market close

struct Terms:
    cost: uint256               # USDC: collateral and fee
    collateral: uint256         # USDC
    returned: uint256           # USDC that came back so far
    notional: uint256           # USDC, rounded up
    share_bps: uint256          # as it was at open
    ordered_at: uint256         # time of the latest market order
    is_long: bool
    ended: bool

struct TradeState:
    market: address             # empty: the trade id is free
    terms: Terms
    profit_receiver: address
    increase_key: bytes32
    stop_key: bytes32
    target_key: bytes32
    close_key: bytes32

struct Headroom:
    loss_left: uint256
    total_loss_left: uint256
    collateral_left: uint256
    notional_left: uint256
    trades_left: uint256
    next_open_at: uint256
    stop_level: uint256
    loosens_at: uint256         # when a pending policy is in force; 0 = none is pending

# GMX's parameters of an order, in its field order.
struct OrderAddresses:
    receiver: address
    cancellation_receiver: address
    callback_contract: address
    ui_fee_receiver: address
    market: address
    initial_collateral_token: address
    swap_path: DynArray[address, 1]

struct OrderNumbers:
    size_delta_usd: uint256
    initial_collateral_delta_amount: uint256
    trigger_price: uint256
    acceptable_price: uint256
    execution_fee: uint256
    callback_gas_limit: uint256
    min_output_amount: uint256
    valid_from_time: uint256

struct Order:
    addresses: OrderAddresses
    numbers: OrderNumbers
    order_type: uint256
    decrease_position_swap_type: uint256
    is_long: bool
    should_unwrap_native_token: bool
    auto_cancel: bool
    referral_code: bytes32
    data_list: DynArray[bytes32, 1]

# In force from now on, with a new total loss budget.
event PolicySet:
    safe: indexed(address)
    policy: Policy
    markets: DynArray[MarketRule, 8]

# In force from now on, until the pending policy is; the total loss budget counts on.
event PolicyTightened:
    safe: indexed(address)
    policy: Policy
    markets: DynArray[MarketRule, 8]

# In force from `effective_at` on, with a new total loss budget, unless cancelled or replaced.
event PolicyPending:
    safe: indexed(address)
    effective_at: uint256
    policy: Policy
    markets: DynArray[MarketRule, 8]

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

event PositionRequested:
    safe: indexed(address)
    trade_id: indexed(bytes32)
    market: indexed(address)
    is_long: bool
    collateral: uint256         # USDC
    size_usd: uint256           # GMX's units
    order_key: bytes32
    stop_key: bytes32           # empty without a stop
    target_key: bytes32         # empty without a target
    fee: uint256                # USDC
    fee_receiver: address
    price: uint256              # the feed's, in GMX's units
    reserved: uint256           # USDC in both loss budgets
    profit_receiver: address
    share_bps: uint256
    execution_fee: uint256      # wei an order

event CloseRequested:
    safe: indexed(address)
    trade_id: indexed(bytes32)
    order_key: indexed(bytes32)
    by: address
    size_usd: uint256
    collateral_out: uint256     # USDC of the position's collateral that a partial close asks for
    execution_fee: uint256

# GMX has executed or cancelled an order.
event OrderEnded:
    safe: indexed(address)
    trade_id: indexed(bytes32)
    order_key: indexed(bytes32)  # also of orders that GMX made: liquidation and auto-deleveraging
    outcome: uint256            # 1 = executed, 2 = cancelled
    returned: uint256           # USDC that it brought back to the Safe and that counts for the trade

# The trade is over: reservation released, loss charged, share paid.
event TradeSettled:
    safe: indexed(address)
    trade_id: indexed(bytes32)
    market: indexed(address)
    returned: uint256           # USDC, all of the trade
    cost: uint256
    loss: uint256               # charged to both budgets
    profit: int256              # returned - cost
    share: uint256              # USDC paid to the profit receiver
    profit_receiver: address
    unshared: int256            # after this trade: below zero are losses carried forward

# The Safe has taken a trade as its own.
event TradeReleased:
    safe: indexed(address)
    trade_id: indexed(bytes32)
    market: indexed(address)
    returned: uint256
    cost: uint256

event FundingClaimed:
    safe: indexed(address)
    market: indexed(address)
    token: indexed(address)
    amount: uint256

VERSION: public(constant(String[8])) = "1.0.0"
BPS: constant(uint256) = 10_000
LEAST_COLLATERAL: constant(uint256) = 10 * 10**6
MAX_LEVERAGE_BPS: constant(uint256) = 100 * BPS
MAX_FEE: constant(uint256) = 200_000
MAX_SHARE_BPS: constant(uint256) = 2_000
MAX_SLIPPAGE_BPS: constant(uint256) = 500
MAX_EXECUTION_FEE: constant(uint256) = 10**18
MAX_FEED_AGE: constant(uint256) = 2 * DAY
# Greater numbers can only be lies of a feed; below, no product here overflows and blocks a close.
MAX_ANSWER: constant(int256) = 2**128
MAX_LOOSEN_DELAY: constant(uint256) = 30 * DAY
SEQUENCER_GRACE: constant(uint256) = 3_600
DAY: constant(uint256) = 86_400
USD_PER_USDC: constant(uint256) = 10**24  # GMX's USD units in one base unit of USDC
USD_DECIMALS: constant(uint256) = 30
REQUEST_SECONDS: constant(uint256) = 300  # after which GMX lets an account cancel a market order
CALLBACK_GAS: constant(uint256) = 500_000

# GMX's order types and swap of a decrease's output into the collateral token.
MARKET_INCREASE: constant(uint256) = 2
MARKET_DECREASE: constant(uint256) = 4
LIMIT_DECREASE: constant(uint256) = 5
STOP_LOSS_DECREASE: constant(uint256) = 6
SWAP_TO_COLLATERAL: constant(uint256) = 1

# keccak256(abi.encode(name)): GMX's role and the keys of its data store.
CONTROLLER: constant(bytes32) = 0x97adf037b2472f4a6a9825eff7d2dd45e37f2dc308df2a260d6a72af4189a65b
ORDER_LIST: constant(bytes32) = 0x86f7cfd5d8f8404e5145c91bebb8484657420159dabd0753d6a59f3de3f7b8c1
POSITION_LIST: constant(bytes32) = 0x3fe95e2be5587b71e685e297dc351a27f09a363e7d84b38bb75158a8f06590ac
SIZE_IN_USD: constant(bytes32) = 0xb7546ea7387a34ebc18a4a83bee7e811397161e773fb7bc4e9bfb9fc65e9aa89
COLLATERAL_AMOUNT: constant(bytes32) = 0xb88da5cd71628783263477a6261c2906e380aa32e85e2e87b2463bbdc1127221

# GMX's callbacks: afterOrderExecution, afterOrderCancellation and afterOrderFrozen, each
# (bytes32 key, EventLogData order, EventLogData result).
EXECUTED_CALL: constant(bytes4) = 0xffaf393f
CANCELLED_CALL: constant(bytes4) = 0xd8bbbe42
FROZEN_CALL: constant(bytes4) = 0x83fc34cf
# EventLogData: seven lists of named values, of which three are read; the names as they are padded.
ADDRESSES: constant(uint256) = 0
NUMBERS: constant(uint256) = 1
BOOLS: constant(uint256) = 3
MAX_ITEMS: constant(uint256) = 64
ACCOUNT: constant(bytes32) = 0x6163636f756e7400000000000000000000000000000000000000000000000000
MARKET: constant(bytes32) = 0x6d61726b65740000000000000000000000000000000000000000000000000000
COLLATERAL_TOKEN: constant(bytes32) = 0x696e697469616c436f6c6c61746572616c546f6b656e00000000000000000000
IS_LONG: constant(bytes32) = 0x69734c6f6e670000000000000000000000000000000000000000000000000000
OUTPUT_TOKEN: constant(bytes32) = 0x6f7574707574546f6b656e000000000000000000000000000000000000000000
OUTPUT_AMOUNT: constant(bytes32) = 0x6f7574707574416d6f756e740000000000000000000000000000000000000000
SECOND_TOKEN: constant(bytes32) = 0x7365636f6e646172794f7574707574546f6b656e000000000000000000000000
SECOND_AMOUNT: constant(bytes32) = 0x7365636f6e646172794f7574707574416d6f756e740000000000000000000000

# A rolling day is kept in one word: five buckets of a quarter day, 44 bits each, the newest lowest, and the
# newest bucket's number above them. Five quarters always cover the last 24 hours (and at most 30), so no
# pair of bursts around a boundary passes, as it would with a counter that restarts.
QUARTER: constant(uint256) = DAY // 4
BUCKETS: constant(uint256) = 5
BUCKET_BITS: constant(uint256) = 44
BUCKET_MASK: constant(uint256) = 2**44 - 1
BUCKETS_MASK: constant(uint256) = 2**220 - 1
EPOCH_SHIFT: constant(uint256) = 220
AMOUNT_BITS: constant(uint256) = 48
AMOUNT_MASK: constant(uint256) = 2**48 - 1

# Stop levels: raised by guardian or Safe, lowered by the Safe alone.
NO_ENTRIES: constant(uint256) = 1
HALTED: constant(uint256) = 2

EXECUTED: constant(uint256) = 1
CANCELLED: constant(uint256) = 2

# Reasons of a revert: each constant is its own name in ASCII, as a number. An `assert` with a text takes five times the code.
POLICY_KEYS: constant(uint256) = 97088539753028091902253395
POLICY_COLLATERAL: constant(uint256) = 27327994465855181364645097312994108522828
POLICY_NOTIONAL: constant(uint256) = 416992103055651571908442752933577036
POLICY_BUDGET: constant(uint256) = 6362794541254449021078840231252
POLICY_MARKETS: constant(uint256) = 1628875402561138952470477807113299
MARKET_IN_USE: constant(uint256) = 6120784526610341038694600102725
LOSS_BUDGET: constant(uint256) = 92252966330209999063041364
POLICY_RECEIVER: constant(uint256) = 416992103055651572193839670340502866
POLICY_LEVERAGE: constant(uint256) = 416992103055651571761514996983482181
POLICY_TRADES: constant(uint256) = 6362794541254449040857114101075
POLICY_COOLDOWN: constant(uint256) = 416992103055651571115803733658654542
POLICY_SLIPPAGE: constant(uint256) = 416992103055651572267874233645877061
POLICY_EXECUTION: constant(uint256) = 106749978382246802243184937738101673806
POLICY_SHARE: constant(uint256) = 24854666176775191561385366085
POLICY_FEE: constant(uint256) = 379252108410265983665477
POLICY_DELAY: constant(uint256) = 24854666176775191496911241561
NOTHING_PENDING: constant(uint256) = 406608142861598188334499982060637767
NOT_GUARDIAN: constant(uint256) = 24235734342179805489242128718
STOP_LEVEL: constant(uint256) = 393511659753080473666892
NO_TRADE: constant(uint256) = 5642833673880421445
NOT_EXECUTOR: constant(uint256) = 24235734342036539060004343634
DEADLINE: constant(uint256) = 4919409929565589061
TRADE_ID: constant(uint256) = 6075990608753674564
TRADE_ID_USED: constant(uint256) = 6680622324582441874894460503364
EXECUTION_FEE: constant(uint256) = 5494061628202672140717419545925
TRIGGER_PRICE: constant(uint256) = 6680632010191120794136355619653
SPEND_NOT_EXACT: constant(uint256) = 432588722992384102218160018492048212
STOPPED: constant(uint256) = 23455122693571908
SIDE: constant(uint256) = 1397310533
MIN_COLLATERAL: constant(uint256) = 1567553450341300192568563779912012
MAX_COLLATERAL: constant(uint256) = 1566922719891284291318502676119884
NOTIONAL: constant(uint256) = 5642821531958395212
LEVERAGE: constant(uint256) = 5495893776008300357
COOLDOWN: constant(uint256) = 4850182512683472718
DAILY_COLLATERAL: constant(uint256) = 90726489674079792497652043671841947980
DAILY_NOTIONAL: constant(uint256) = 1384376368317868720157760420725068
TRADES_PER_DAY: constant(uint256) = 1710239315092885347660265943220569
ORDER_LEFT: constant(uint256) = 374584504589483382228564
POSITION_EXISTS: constant(uint256) = 416992657673265057685110681312121939
CLOSE_PENDING: constant(uint256) = 5331903647577993884596037045831
NO_POSITION: constant(uint256) = 94671039109710400612552526
UNKNOWN_ORDER: constant(uint256) = 6758624683723174224179023332690
ORDER_PENDING: constant(uint256) = 6284485143750755157993182547527
UNKNOWN_CALL: constant(uint256) = 26400877670793649312996871244
NOT_CONTROLLER: constant(uint256) = 1588313085830096523474142873011538
ACCEPTABLE_PRICE: constant(uint256) = 86749068028588682067374334051934094149
MARKET_NOT_LISTED: constant(uint256) = 26288569367654256520229467304961397507396
SEQUENCER_DOWN: constant(uint256) = 1688931911688350061402520867002190
FEED_BAD: constant(uint256) = 5063529516006261060
FEED_STALE: constant(uint256) = 331843470361059657862213
TOKEN_CALL: constant(uint256) = 398141501170370547371084
PAYMENT_NOT_EXACT: constant(uint256) = 27309452855058030733734807958681188123476
SAFE_CALL: constant(uint256) = 1535783281254180408396

USDC: public(immutable(address))
WRAPPED_NATIVE: public(immutable(address))
EXCHANGE_ROUTER: public(immutable(address))
ORDER_VAULT: public(immutable(address))
DATA_STORE: public(immutable(address))
ROLE_STORE: public(immutable(address))
SEQUENCER_FEED: public(immutable(address))  # empty where the chain has no sequencer

schedule: HashMap[address, uint256]  # bit 0: slot in force; above it: when the other slot is (0 = it is not)
slots: HashMap[address, HashMap[uint256, Policy]]
slot_markets: HashMap[address, HashMap[uint256, DynArray[MarketRule, 8]]]
slot_charged: HashMap[address, HashMap[uint256, uint256]]  # against the total loss budget of the slot
stop_level: public(HashMap[address, uint256])
trades: HashMap[address, HashMap[bytes32, Trade]]
latest_trade: public(HashMap[address, HashMap[address, bytes32]])  # Safe -> market -> trade id
trade_of: public(HashMap[address, HashMap[bytes32, bytes32]])  # Safe -> order key -> trade id
unshared: public(HashMap[address, int256])  # realised profit not shared yet; negative = losses carried
reserved: public(HashMap[address, uint256])  # cost of open trades that has not returned
last_open: public(HashMap[address, uint256])
loss_window: HashMap[address, uint256]
collateral_window: HashMap[address, uint256]
notional_window: HashMap[address, uint256]
trades_window: HashMap[address, uint256]


@deploy
def __init__(
    usdc: address, wrapped_native: address, exchange_router: address, order_vault: address, data_store: address,
    role_store: address, sequencer_feed: address,
):
    assert staticcall IERC20Detailed(usdc).decimals() == 6, "USDC_DECIMALS"
    for part: address in [wrapped_native, exchange_router, order_vault, data_store, role_store]:
        assert part.is_contract, "GMX"
    USDC = usdc
    WRAPPED_NATIVE = wrapped_native
    EXCHANGE_ROUTER = exchange_router
    ORDER_VAULT = order_vault
    DATA_STORE = data_store
    ROLE_STORE = role_store
    SEQUENCER_FEED = sequencer_feed


# ------------------------------------------------------------------ what the Safe decides about itself


@external
@nonreentrant
def set_policy(policy: Policy, markets: DynArray[MarketRule, 8]):
    """
    @notice The caller, a Safe, sets what may be done with it. What is stricter than the policy in force holds
        at once. If anything is looser, the whole policy is pending for the delay of the policy in force; a
        later `set_policy` replaces it. A new total loss budget is looser too, once losses were charged. The
        rolling day, used trade ids, open trades and carried losses stay.
    """
    self._check(policy)
    slot: uint256 = self._settle_slot(msg.sender)
    other: uint256 = 1 - slot
    self._check_markets(msg.sender, slot, markets)
    self.slots[msg.sender][other] = policy
    self.slot_markets[msg.sender][other] = markets
    renews: bool = self.slot_charged[msg.sender][slot] > 0
    self.slot_charged[msg.sender][other] = 0
    current: Policy = self.slots[msg.sender][slot]
    listed: DynArray[MarketRule, 8] = self.slot_markets[msg.sender][slot]
    strict: Policy = self._stricter(current, policy)
    if current.loosen_delay == 0 or not (renews or self._loosens(strict, policy, listed, markets)):
        self.schedule[msg.sender] = other
        log PolicySet(safe=msg.sender, policy=policy, markets=markets)
        return
    effective_at: uint256 = block.timestamp + current.loosen_delay
    self.schedule[msg.sender] = (effective_at << 1) | slot
    log PolicyPending(safe=msg.sender, effective_at=effective_at, policy=policy, markets=markets)
    if current.executor != empty(address):
        listed = self._stricter_markets(listed, markets)
        self.slots[msg.sender][slot] = strict
        self.slot_markets[msg.sender][slot] = listed
        log PolicyTightened(safe=msg.sender, policy=strict, markets=listed)


@internal
@view
def _check(policy: Policy):
    """The bounds of each limit. No limit may be zero but share, fee, cooldown and delay."""
    self._require(
        policy.executor != empty(address) and policy.guardian != empty(address)
        and policy.executor != policy.guardian and policy.executor != msg.sender,
        POLICY_KEYS,
    )
    self._require(policy.fee_receiver != empty(address) and policy.profit_receiver != empty(address), POLICY_RECEIVER)
    self._require(
        policy.min_collateral >= LEAST_COLLATERAL and policy.min_collateral <= policy.max_collateral
        and policy.max_collateral <= policy.daily_collateral and policy.daily_collateral <= BUCKET_MASK,
        POLICY_COLLATERAL,
    )
    self._require(policy.max_leverage_bps >= BPS and policy.max_leverage_bps <= MAX_LEVERAGE_BPS, POLICY_LEVERAGE)
    self._require(
        policy.max_notional > 0 and policy.max_notional <= policy.daily_notional
        and policy.daily_notional <= BUCKET_MASK,
        POLICY_NOTIONAL,
    )
    self._require(policy.trades_per_day > 0 and policy.trades_per_day <= BUCKET_MASK, POLICY_TRADES)
    self._require(policy.cooldown <= DAY, POLICY_COOLDOWN)
    self._require(policy.slippage_bps > 0 and policy.slippage_bps <= MAX_SLIPPAGE_BPS, POLICY_SLIPPAGE)
    self._require(policy.max_execution_fee > 0 and policy.max_execution_fee <= MAX_EXECUTION_FEE, POLICY_EXECUTION)
    self._require(
        policy.min_collateral + policy.trade_fee <= policy.loss_budget
        and policy.loss_budget <= policy.total_loss_budget and policy.total_loss_budget <= BUCKET_MASK,
        POLICY_BUDGET,
    )
    self._require(policy.profit_share_bps <= MAX_SHARE_BPS, POLICY_SHARE)
    self._require(policy.trade_fee <= MAX_FEE, POLICY_FEE)
    self._require(policy.loosen_delay <= MAX_LOOSEN_DELAY, POLICY_DELAY)


@internal
@view
def _check_markets(safe: address, slot: uint256, wanted: DynArray[MarketRule, 8]):
    """
    The bounds of each market's rule. A market with an open trade must stay: the executor's close needs its feed.
    """
    for i: uint256 in range(len(wanted), bound=8):
        rule: MarketRule = wanted[i]
        digits: uint256 = convert(staticcall Feed(rule.feed).decimals(), uint256)
        self._require(
            rule.market != empty(address) and self._index(wanted, rule.market) == i
            and (rule.allow_long or rule.allow_short) and rule.max_age > 0 and rule.max_age <= MAX_FEED_AGE
            and rule.token_decimals <= USD_DECIMALS and rule.token_decimals + digits <= USD_DECIMALS,
            POLICY_MARKETS,
        )
    self._require(len(wanted) > 0, POLICY_MARKETS)
    for rule: MarketRule in self.slot_markets[safe][slot]:
        self._require(
            self._index(wanted, rule.market) < len(wanted)
            or not self._is_open(safe, self.latest_trade[safe][rule.market]),
            MARKET_IN_USE,
        )


@internal
@pure
def _index(markets: DynArray[MarketRule, 8], market: address) -> uint256:
    """The place of a market in a list; the list's length when it is not there."""
    for i: uint256 in range(len(markets), bound=8):
        if markets[i].market == market:
            return i
    return len(markets)


@internal
@pure
def _loosens(
    strict: Policy, policy: Policy, current: DynArray[MarketRule, 8], markets: DynArray[MarketRule, 8]
) -> bool:
    """Whether a policy allows anything that the current one does not; `strict` is the stricter of the two."""
    if keccak256(abi_encode(strict)) != keccak256(abi_encode(policy)):
        return True
    for wanted: MarketRule in markets:
        i: uint256 = self._index(current, wanted.market)
        if i == len(current):
            return True
        rule: MarketRule = current[i]
        if rule.feed != wanted.feed or rule.token_decimals != wanted.token_decimals:
            return True
        if wanted.max_age > rule.max_age:
            return True
        if (wanted.allow_long and not rule.allow_long) or (wanted.allow_short and not rule.allow_short):
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
        min_collateral=max(current.min_collateral, wanted.min_collateral),
        max_collateral=min(current.max_collateral, wanted.max_collateral),
        max_leverage_bps=min(current.max_leverage_bps, wanted.max_leverage_bps),
        max_notional=min(current.max_notional, wanted.max_notional),
        daily_collateral=min(current.daily_collateral, wanted.daily_collateral),
        daily_notional=min(current.daily_notional, wanted.daily_notional),
        trades_per_day=min(current.trades_per_day, wanted.trades_per_day),
        cooldown=max(current.cooldown, wanted.cooldown),
        slippage_bps=min(current.slippage_bps, wanted.slippage_bps),
        max_execution_fee=min(current.max_execution_fee, wanted.max_execution_fee),
        loss_budget=min(current.loss_budget, wanted.loss_budget),
        total_loss_budget=min(current.total_loss_budget, wanted.total_loss_budget),
        profit_share_bps=min(current.profit_share_bps, wanted.profit_share_bps),
        trade_fee=min(current.trade_fee, wanted.trade_fee),
        loosen_delay=max(current.loosen_delay, wanted.loosen_delay),
    )


@internal
@pure
def _stricter_markets(
    current: DynArray[MarketRule, 8], wanted: DynArray[MarketRule, 8]
) -> DynArray[MarketRule, 8]:
    """The current markets as far as the wanted list has them, with the stricter age and sides."""
    kept: DynArray[MarketRule, 8] = []
    for old: MarketRule in current:
        i: uint256 = self._index(wanted, old.market)
        if i < len(wanted):
            rule: MarketRule = old
            rule.max_age = min(old.max_age, wanted[i].max_age)
            rule.allow_long = old.allow_long and wanted[i].allow_long
            rule.allow_short = old.allow_short and wanted[i].allow_short
            kept.append(rule)
    return kept


@external
@nonreentrant
def cancel_loosening(safe: address):
    """@notice Guardian or Safe: the pending policy is dropped. What was tightened stays."""
    slot: uint256 = self._settle_slot(safe)
    self._only_guardian(safe, slot)
    self._require(self._loosens_at(safe) > 0, NOTHING_PENDING)
    self.schedule[safe] = slot
    log LooseningCancelled(safe=safe, by=msg.sender)


@external
@nonreentrant
def revoke():
    """
    @notice The caller, a Safe, ends the policy and a pending one. Its own `close_position`, `cancel_order` and
        `release_trade` still work. The delay outlasts it, so that revoking and signing anew is no way round.
    """
    slot: uint256 = self._settle_slot(msg.sender)
    delay: uint256 = self.slots[msg.sender][slot].loosen_delay
    self.slots[msg.sender][slot] = empty(Policy)
    self.slots[msg.sender][slot].loosen_delay = delay
    self.schedule[msg.sender] = slot
    log Revoked(safe=msg.sender)


@internal
@view
def _only_guardian(safe: address, slot: uint256):
    self._require(msg.sender == self.slots[safe][slot].guardian or msg.sender == safe, NOT_GUARDIAN)


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
def _settle_slot(safe: address) -> uint256:
    """The slot of the policy in force, after noting that a pending policy's time has come."""
    slot: uint256 = self._slot(safe)
    packed: uint256 = self.schedule[safe]
    if slot != packed & 1:
        self.schedule[safe] = slot
        log PolicyLoosened(safe=safe)
    return slot


@external
@nonreentrant
def stop(safe: address, level: uint256):
    """@notice Guardian or Safe: 1 = no new positions, 2 = the executor can do nothing. It only goes up."""
    self._only_guardian(safe, self._settle_slot(safe))
    self._require(level > self.stop_level[safe] and level <= HALTED, STOP_LEVEL)
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
def release_trade(trade_id: bytes32):
    """
    @notice The caller, a Safe, takes a trade as its own, for instance before it adds to the position itself.
        Counts as neither profit nor loss. The trade id stays used; the Safe's `cancel_order` still works.
    """
    self._require(self._is_open(msg.sender, trade_id), NO_TRADE)
    terms: Terms = self._unpack(self.trades[msg.sender][trade_id].terms)
    self.reserved[msg.sender] -= self._at_risk(terms)
    terms.ended = True
    self.trades[msg.sender][trade_id].terms = self._pack(terms)
    log TradeReleased(
        safe=msg.sender, trade_id=trade_id, market=self.trades[msg.sender][trade_id].market,
        returned=terms.returned, cost=terms.cost,
    )


# ------------------------------------------------------------------ trading


@external
@payable
@nonreentrant
def open_position(
    safe: address, trade_id: bytes32, market: address, is_long: bool, collateral: uint256, size_usd: uint256,
    acceptable_price: uint256, stop_price: uint256, target_price: uint256, execution_fee: uint256,
    deadline: uint256,
) -> bytes32:
    """
    @notice Orders a position at GMX with exactly `collateral` of the Safe, and takes the fee. A stop and a target
        (0 = none) are ordered with it, at any price: the collateral bounds their loss. The caller pays
        `execution_fee` for each order; GMX refunds the rest of it to the Safe.
    @return GMX's key of the order
    """
    slot: uint256 = self._settle_slot(safe)
    policy: Policy = self.slots[safe][slot]
    self._require(msg.sender == policy.executor, NOT_EXECUTOR)
    self._require(block.timestamp <= deadline, DEADLINE)
    self._require(trade_id != empty(bytes32), TRADE_ID)
    self._require(self.trades[safe][trade_id].market == empty(address), TRADE_ID_USED)
    self.trades[safe][trade_id].market = market
    notional: uint256 = self._ceil_div(size_usd, USD_PER_USDC)
    self._admit(safe, slot, policy, market, is_long, collateral, notional)
    orders: uint256 = 1 + convert(stop_price > 0, uint256) + convert(target_price > 0, uint256)
    self._require(execution_fee <= policy.max_execution_fee and msg.value == execution_fee * orders, EXECUTION_FEE)
    price: uint256 = self._accept(safe, slot, market, is_long, acceptable_price)
    low: uint256 = stop_price if is_long else target_price
    high: uint256 = target_price if is_long else stop_price
    self._require(low < price and (high == 0 or high > price), TRIGGER_PRICE)
    self._must_be_free(safe, market)
    self.latest_trade[safe][market] = trade_id
    self._reserve(safe, slot, policy, trade_id, collateral, notional, is_long)
    self._transfer(safe, policy.fee_receiver, policy.trade_fee)
    # GMX counts what its vault has received, so that nobody is given an allowance.
    self._transfer(safe, ORDER_VAULT, collateral)
    self._exec(
        safe,
        EXCHANGE_ROUTER,
        abi_encode(market, self, method_id=method_id("setSavedCallbackContract(address,address)")),
    )
    before: uint256 = staticcall IERC20(USDC).balanceOf(safe)
    extcall WrappedNative(WRAPPED_NATIVE).deposit(value=msg.value)
    key: bytes32 = self._order(
        safe, trade_id, MARKET_INCREASE, size_usd, collateral, 0, acceptable_price, execution_fee
    )
    self.trades[safe][trade_id].increase_key = key
    any_price: uint256 = 0 if is_long else max_value(uint256)
    if stop_price > 0:
        self.trades[safe][trade_id].stop_key = self._order(
            safe, trade_id, STOP_LOSS_DECREASE, size_usd, 0, stop_price, any_price, execution_fee
        )
    if target_price > 0:
        self.trades[safe][trade_id].target_key = self._order(
            safe, trade_id, LIMIT_DECREASE, size_usd, 0, target_price, any_price, execution_fee
        )
    self._require(staticcall IERC20(USDC).balanceOf(safe) == before, SPEND_NOT_EXACT)
    log PositionRequested(
        safe=safe, trade_id=trade_id, market=market, is_long=is_long, collateral=collateral, size_usd=size_usd,
        order_key=key, stop_key=self.trades[safe][trade_id].stop_key,
        target_key=self.trades[safe][trade_id].target_key, fee=policy.trade_fee, fee_receiver=policy.fee_receiver,
        price=price, reserved=collateral + policy.trade_fee, profit_receiver=policy.profit_receiver,
        share_bps=policy.profit_share_bps, execution_fee=execution_fee,
    )
    return key


@internal
def _admit(
    safe: address, slot: uint256, policy: Policy, market: address, is_long: bool, collateral: uint256,
    notional: uint256,
):
    """The limits that need neither feed nor GMX; takes the trade into the rolling day and the cooldown."""
    self._require(self.stop_level[safe] < NO_ENTRIES, STOPPED)
    rule: MarketRule = self._rule(safe, slot, market)
    self._require(rule.allow_long if is_long else rule.allow_short, SIDE)
    self._require(collateral >= policy.min_collateral, MIN_COLLATERAL)
    self._require(collateral <= policy.max_collateral, MAX_COLLATERAL)
    self._require(notional > 0 and notional <= policy.max_notional, NOTIONAL)
    self._require(notional * BPS <= collateral * policy.max_leverage_bps, LEVERAGE)
    self._require(block.timestamp >= self.last_open[safe] + policy.cooldown, COOLDOWN)
    self.last_open[safe] = block.timestamp
    window: uint256 = self._added(self.collateral_window[safe], collateral)
    self._require(self._day(window) <= policy.daily_collateral, DAILY_COLLATERAL)
    self.collateral_window[safe] = window
    window = self._added(self.notional_window[safe], notional)
    self._require(self._day(window) <= policy.daily_notional, DAILY_NOTIONAL)
    self.notional_window[safe] = window
    window = self._added(self.trades_window[safe], 1)
    self._require(self._day(window) <= policy.trades_per_day, TRADES_PER_DAY)
    self.trades_window[safe] = window


@internal
@view
def _must_be_free(safe: address, market: address):
    """
    One trade a market. No position of the Safe on either side, no order left of the trade before: it would act on
    the new position.
    """
    latest: bytes32 = self.latest_trade[safe][market]
    self._require(not self._is_open(safe, latest), MARKET_IN_USE)
    before: Trade = self.trades[safe][latest]
    for key: bytes32 in [before.increase_key, before.stop_key, before.target_key, before.close_key]:
        self._require(not self._pending(key), ORDER_LEFT)
    for is_long: bool in [True, False]:
        self._require(not self._holds(self._position_key(safe, market, is_long)), POSITION_EXISTS)


@internal
def _reserve(
    safe: address, slot: uint256, policy: Policy, trade_id: bytes32, collateral: uint256, notional: uint256,
    is_long: bool,
):
    """Reserves the most that a trade can lose in both budgets, and writes its terms of this moment."""
    cost: uint256 = collateral + policy.trade_fee
    reserved: uint256 = self.reserved[safe] + cost
    self._require(
        self._day(self.loss_window[safe]) + reserved <= policy.loss_budget
        and self.slot_charged[safe][slot] + reserved <= policy.total_loss_budget,
        LOSS_BUDGET,
    )
    self.reserved[safe] = reserved
    self.trades[safe][trade_id].profit_receiver = policy.profit_receiver
    self.trades[safe][trade_id].terms = self._pack(
        Terms(
            cost=cost, collateral=collateral, returned=0, notional=notional, share_bps=policy.profit_share_bps,
            ordered_at=block.timestamp, is_long=is_long, ended=False,
        )
    )


@external
@payable
@nonreentrant
def close_position(
    safe: address, trade_id: bytes32, size_usd: uint256, acceptable_price: uint256, execution_fee: uint256,
    deadline: uint256,
) -> bytes32:
    """
    @notice Orders the close of `size_usd` of a trade's position at the market, at most all of it; of a part, its
        part of the collateral comes back with it. The executor is held to the price feed; the Safe's owners only
        to their own `acceptable_price`, so that they can leave without executor and feed.
    @return GMX's key of the order
    """
    slot: uint256 = self._settle_slot(safe)
    by_owner: bool = msg.sender == safe
    self._require(by_owner or msg.sender == self.slots[safe][slot].executor, NOT_EXECUTOR)
    self._require(by_owner or self.stop_level[safe] < HALTED, STOPPED)
    self._require(block.timestamp <= deadline, DEADLINE)
    self._require(by_owner or self._is_open(safe, trade_id), NO_TRADE)
    self._require(msg.value == execution_fee, EXECUTION_FEE)
    trade: Trade = self.trades[safe][trade_id]
    terms: Terms = self._unpack(trade.terms)
    if not by_owner:
        self._require(execution_fee <= self.slots[safe][slot].max_execution_fee, EXECUTION_FEE)
        self._require(not self._pending(trade.close_key), CLOSE_PENDING)
        self._accept(safe, slot, trade.market, not terms.is_long, acceptable_price)
    position: bytes32 = self._position_key(safe, trade.market, terms.is_long)
    held: uint256 = self._position_field(position, SIZE_IN_USD)
    size: uint256 = min(size_usd, held)
    self._require(size > 0, NO_POSITION)
    collateral_out: uint256 = 0
    if size < held:
        collateral_out = self._position_field(position, COLLATERAL_AMOUNT) * size // held
    terms.ordered_at = block.timestamp
    self.trades[safe][trade_id].terms = self._pack(terms)
    extcall WrappedNative(WRAPPED_NATIVE).deposit(value=msg.value)
    key: bytes32 = self._order(
        safe, trade_id, MARKET_DECREASE, size, collateral_out, 0, acceptable_price, execution_fee
    )
    self.trades[safe][trade_id].close_key = key
    log CloseRequested(
        safe=safe, trade_id=trade_id, order_key=key, by=msg.sender, size_usd=size, collateral_out=collateral_out,
        execution_fee=execution_fee,
    )
    return key


@external
@nonreentrant
def cancel_order(safe: address, order_key: bytes32):
    """
    @notice Cancels an order of a trade at GMX: the Safe and the executor any, anyone else a market order that is
        older than 300 seconds, and what is left of a trade that has ended. What it held returns to the Safe.
    """
    slot: uint256 = self._settle_slot(safe)
    trade_id: bytes32 = self.trade_of[safe][order_key]
    self._require(trade_id != empty(bytes32), UNKNOWN_ORDER)
    trade: Trade = self.trades[safe][trade_id]
    terms: Terms = self._unpack(trade.terms)
    allowed: bool = msg.sender == safe or terms.ended
    if not allowed and msg.sender == self.slots[safe][slot].executor:
        allowed = self.stop_level[safe] < HALTED
    if not allowed and order_key != trade.stop_key and order_key != trade.target_key:
        allowed = block.timestamp > terms.ordered_at + REQUEST_SECONDS
    self._require(allowed, NOT_EXECUTOR)
    before: uint256 = staticcall IERC20(USDC).balanceOf(safe)
    # GMX calls back in the middle of this, which the lock refuses: what returned is measured here.
    self._exec(safe, EXCHANGE_ROUTER, abi_encode(order_key, method_id=method_id("cancelOrder(bytes32)")))
    returned: uint256 = staticcall IERC20(USDC).balanceOf(safe) - before
    self._cancelled(safe, trade_id, order_key, returned)


@external
@nonreentrant
def claim_funding(safe: address, market: address, token: address = empty(address)):
    """
    @notice Anyone: funding that the Safe has earned in a market where it has traded is paid to the Safe; in USDC,
        or in another `token` of the market. It is part of no trade.
    """
    self._require(self.latest_trade[safe][market] != empty(bytes32), NO_TRADE)
    claimed: address = USDC if token == empty(address) else token
    markets: DynArray[address, 1] = [market]
    tokens: DynArray[address, 1] = [claimed]
    before: uint256 = staticcall IERC20(claimed).balanceOf(safe)
    self._exec(
        safe,
        EXCHANGE_ROUTER,
        abi_encode(
            markets, tokens, safe, method_id=method_id("claimFundingFees(address[],address[],address)")
        ),
    )
    log FundingClaimed(
        safe=safe, market=market, token=claimed, amount=staticcall IERC20(claimed).balanceOf(safe) - before
    )


@external
@nonreentrant
def settle(safe: address, trade_id: bytes32):
    """
    @notice Anyone: ends a trade of which GMX holds neither order nor position and whose last callback never came.
        What no callback has credited is charged as lost.
    """
    self._require(self._is_open(safe, trade_id), NO_TRADE)
    trade: Trade = self.trades[safe][trade_id]
    self._require(not self._pending(trade.increase_key), ORDER_PENDING)
    is_long: bool = self._unpack(trade.terms).is_long
    self._require(not self._holds(self._position_key(safe, trade.market, is_long)), POSITION_EXISTS)
    self._end(safe, trade_id)


# ------------------------------------------------------------------ GMX's word


@external
@nonreentrant
def __default__():
    """
    @notice GMX's callbacks about an order: executed, cancelled, frozen. They are read here and not as functions of
        their own, because a compiled decoder would refuse a callback with more values than it was built for.
    """
    call: bytes4 = convert(slice(msg.data, 0, 4), bytes4)
    self._require(call == EXECUTED_CALL or call == CANCELLED_CALL or call == FROZEN_CALL, UNKNOWN_CALL)
    self._require(staticcall RoleStore(ROLE_STORE).hasRole(msg.sender, CONTROLLER), NOT_CONTROLLER)
    if call == FROZEN_CALL:
        return
    key: bytes32 = convert(self._word(4), bytes32)
    order: uint256 = 4 + self._word(36)
    safe: address = self._address_item(order, ACCOUNT)
    trade_id: bytes32 = self.trade_of[safe][key]
    if trade_id == empty(bytes32):
        trade_id = self._trade_of_position(safe, order)
        if trade_id == empty(bytes32):
            return
    if call == CANCELLED_CALL:
        self._cancelled(safe, trade_id, key, max_value(uint256))
        return
    returned: uint256 = 0
    trade: Trade = self.trades[safe][trade_id]
    if key != trade.increase_key and self._is_open(safe, trade_id):
        result: uint256 = 4 + self._word(68)
        returned = self._usdc_item(result, OUTPUT_TOKEN, OUTPUT_AMOUNT)
        returned += self._usdc_item(result, SECOND_TOKEN, SECOND_AMOUNT)
        returned = self._credit(safe, trade_id, returned)
    log OrderEnded(safe=safe, trade_id=trade_id, order_key=key, outcome=EXECUTED, returned=returned)
    if key != trade.increase_key and self._is_open(safe, trade_id):
        is_long: bool = self._unpack(trade.terms).is_long
        if not self._holds(self._position_key(safe, trade.market, is_long)):
            self._end(safe, trade_id)


@internal
@view
def _trade_of_position(safe: address, order: uint256) -> bytes32:
    """The open trade whose position an order of GMX's own decreases: liquidation, auto-deleveraging."""
    trade_id: bytes32 = self.latest_trade[safe][self._address_item(order, MARKET)]
    if not self._is_open(safe, trade_id) or self._address_item(order, COLLATERAL_TOKEN) != USDC:
        return empty(bytes32)
    is_long: bool = self._item(order, BOOLS, IS_LONG) > 0
    return trade_id if is_long == self._unpack(self.trades[safe][trade_id].terms).is_long else empty(bytes32)


@internal
@view
def _usdc_item(result: uint256, token: bytes32, amount: bytes32) -> uint256:
    """An output of a decrease, if it is USDC; what came in another token counts nothing."""
    if self._address_item(result, token) != USDC:
        return 0
    return min(self._item(result, NUMBERS, amount), AMOUNT_MASK)


@internal
@view
def _address_item(data: uint256, name: bytes32) -> address:
    return convert(convert(self._item(data, ADDRESSES, name), bytes32), address)


@internal
@view
def _item(data: uint256, kind: uint256, name: bytes32) -> uint256:
    """The value by its name in one list of an EventLogData, which starts at `data`; 0 when it is not there."""
    group: uint256 = data + self._word(data + 32 * kind)
    items: uint256 = group + self._word(group)
    count: uint256 = min(self._word(items), MAX_ITEMS)
    items += 32
    for i: uint256 in range(count, bound=MAX_ITEMS):
        item: uint256 = items + self._word(items + 32 * i)
        if convert(self._word(item + self._word(item) + 32), bytes32) == name:
            return self._word(item + 32)
    return 0


@internal
@view
def _word(at: uint256) -> uint256:
    """32 bytes of the calldata."""
    return convert(slice(msg.data, at, 32), uint256)


# ------------------------------------------------------------------ the end of a trade


@internal
def _cancelled(safe: address, trade_id: bytes32, key: bytes32, returned: uint256):
    """An order was cancelled. With an increase its collateral returned, at most `returned`, and the trade is over."""
    ends: bool = key == self.trades[safe][trade_id].increase_key and self._is_open(safe, trade_id)
    credited: uint256 = 0
    if ends:
        collateral: uint256 = self._unpack(self.trades[safe][trade_id].terms).collateral
        credited = self._credit(safe, trade_id, min(collateral, returned))
    log OrderEnded(safe=safe, trade_id=trade_id, order_key=key, outcome=CANCELLED, returned=credited)
    if ends:
        self._end(safe, trade_id)


@internal
def _credit(safe: address, trade_id: bytes32, amount: uint256) -> uint256:
    """
    Books what returned and frees its reservation. No trade returns more than its cost and its notional, whatever a
    controller says: that bounds the share of a trade.
    """
    terms: Terms = self._unpack(self.trades[safe][trade_id].terms)
    before: uint256 = self._at_risk(terms)
    credited: uint256 = min(amount, terms.cost + terms.notional - terms.returned)
    terms.returned += credited
    self.trades[safe][trade_id].terms = self._pack(terms)
    self.reserved[safe] -= before - self._at_risk(terms)
    return credited


@internal
def _end(safe: address, trade_id: bytes32):
    """
    Charges what did not return, and pays the share: of all realised profit that was not shared yet, less carried
    losses, less what open trades can still lose. So winners cannot be harvested while losers are left open. What is
    withheld, or cannot be paid, stays in `unshared`.
    """
    slot: uint256 = self._settle_slot(safe)
    trade: Trade = self.trades[safe][trade_id]
    terms: Terms = self._unpack(trade.terms)
    loss: uint256 = self._at_risk(terms)
    terms.ended = True
    self.trades[safe][trade_id].terms = self._pack(terms)
    self.reserved[safe] -= loss
    self.loss_window[safe] = self._added(self.loss_window[safe], loss)
    self.slot_charged[safe][slot] += loss
    profit: int256 = convert(terms.returned, int256) - convert(terms.cost, int256)
    pending: int256 = self.unshared[safe] + profit
    base: int256 = max(0, pending - convert(self.reserved[safe], int256))
    share: uint256 = convert(base, uint256) * terms.share_bps // BPS
    self.unshared[safe] = pending - base
    if not self._try_pay(safe, trade.profit_receiver, share):
        share = 0
        self.unshared[safe] = pending
    log TradeSettled(
        safe=safe, trade_id=trade_id, market=trade.market, returned=terms.returned, cost=terms.cost, loss=loss,
        profit=profit, share=share, profit_receiver=trade.profit_receiver, unshared=self.unshared[safe],
    )


@internal
@pure
def _at_risk(terms: Terms) -> uint256:
    """USDC of a trade's cost that has not returned: all that it can still lose."""
    return terms.cost - min(terms.cost, terms.returned)


@internal
@view
def _is_open(safe: address, trade_id: bytes32) -> bool:
    packed: uint256 = self.trades[safe][trade_id].terms
    return packed > 0 and packed >> 249 == 0


# ------------------------------------------------------------------ what GMX holds


@internal
@view
def _position_key(safe: address, market: address, is_long: bool) -> bytes32:
    return keccak256(abi_encode(safe, market, USDC, is_long))


@internal
@view
def _position_field(position: bytes32, field: bytes32) -> uint256:
    return staticcall DataStore(DATA_STORE).getUint(keccak256(abi_encode(position, field)))


@internal
@view
def _holds(position: bytes32) -> bool:
    return staticcall DataStore(DATA_STORE).containsBytes32(POSITION_LIST, position)


@internal
@view
def _pending(key: bytes32) -> bool:
    """Whether GMX still holds an order."""
    return key != empty(bytes32) and staticcall DataStore(DATA_STORE).containsBytes32(ORDER_LIST, key)


# ------------------------------------------------------------------ the rolling day


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
@view
def _day(window: uint256) -> uint256:
    """The sum of the rolling day."""
    moved: uint256 = self._added(window, 0)
    total: uint256 = 0
    for i: uint256 in range(BUCKETS):
        total += (moved >> (i * BUCKET_BITS)) & BUCKET_MASK
    return total


# ------------------------------------------------------------------ prices


@internal
@view
def _accept(safe: address, slot: uint256, market: address, buys: bool, acceptable: uint256) -> uint256:
    """Holds an acceptable price to the feed and the slippage limit. Returns the feed's price in GMX's units."""
    price: uint256 = self._price(self._rule(safe, slot, market))
    slippage: uint256 = self.slots[safe][slot].slippage_bps
    if buys:
        self._require(acceptable * BPS <= price * (BPS + slippage), ACCEPTABLE_PRICE)
    else:
        self._require(acceptable >= self._ceil_div(price * (BPS - slippage), BPS), ACCEPTABLE_PRICE)
    return price


@internal
@view
def _rule(safe: address, slot: uint256, market: address) -> MarketRule:
    markets: DynArray[MarketRule, 8] = self.slot_markets[safe][slot]
    i: uint256 = self._index(markets, market)
    self._require(i < len(markets), MARKET_NOT_LISTED)
    return markets[i]


@internal
@view
def _price(rule: MarketRule) -> uint256:
    """The feed's price in GMX's units; reverts with the reason when it must not be used."""
    readable: bool = False
    answer: int256 = 0
    started: uint256 = 0
    updated: uint256 = 0
    if SEQUENCER_FEED != empty(address):
        readable, answer, started, updated = self._latest(SEQUENCER_FEED)
        self._require(readable and answer == 0 and started > 0, SEQUENCER_DOWN)
        self._require(block.timestamp >= started + SEQUENCER_GRACE, SEQUENCER_DOWN)
    readable, answer, started, updated = self._latest(rule.feed)
    self._require(readable and answer > 0 and answer <= MAX_ANSWER, FEED_BAD)
    self._require(updated <= block.timestamp and block.timestamp - updated <= rule.max_age, FEED_STALE)
    digits: uint256 = rule.token_decimals + convert(staticcall Feed(rule.feed).decimals(), uint256)
    return convert(answer, uint256) * 10 ** (USD_DECIMALS - digits)


@internal
@view
def _latest(feed: address) -> (bool, int256, uint256, uint256):
    """latestRoundData without reverting, so that a broken feed has a named reason."""
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


# ------------------------------------------------------------------ acting on the Safe, by CALL only and without value


@internal
def _order(
    safe: address, trade_id: bytes32, order_type: uint256, size: uint256, collateral: uint256, trigger: uint256,
    acceptable: uint256, execution_fee: uint256,
) -> bytes32:
    """
    Has the Safe create an order at GMX, paid with this contract's wrapped native token. Whatever it brings goes to
    the Safe, in USDC where GMX can swap it. Returns its key.
    """
    self._require(extcall WrappedNative(WRAPPED_NATIVE).transfer(ORDER_VAULT, execution_fee), EXECUTION_FEE)
    order: Order = Order(
        addresses=OrderAddresses(
            receiver=safe, cancellation_receiver=safe, callback_contract=self, ui_fee_receiver=empty(address),
            market=self.trades[safe][trade_id].market, initial_collateral_token=USDC, swap_path=[],
        ),
        numbers=OrderNumbers(
            size_delta_usd=size, initial_collateral_delta_amount=collateral, trigger_price=trigger,
            acceptable_price=acceptable, execution_fee=execution_fee, callback_gas_limit=CALLBACK_GAS,
            min_output_amount=0, valid_from_time=0,
        ),
        order_type=order_type,
        decrease_position_swap_type=SWAP_TO_COLLATERAL,
        is_long=self._unpack(self.trades[safe][trade_id].terms).is_long,
        should_unwrap_native_token=False,
        auto_cancel=order_type == STOP_LOSS_DECREASE or order_type == LIMIT_DECREASE,
        referral_code=empty(bytes32),
        data_list=[trade_id],
    )
    returned: Bytes[1024] = self._exec(safe, EXCHANGE_ROUTER, abi_encode(order, method_id=0xf59c48eb))
    key: bytes32 = extract32(returned, 0)
    self.trade_of[safe][key] = trade_id
    return key


@internal
def _transfer(safe: address, to: address, amount: uint256):
    """USDC from the Safe, exactly `amount`; one that fails reverts the whole call."""
    if amount == 0 or to == safe:
        return
    before: uint256 = staticcall IERC20(USDC).balanceOf(safe)
    returned: Bytes[1024] = self._exec(safe, USDC, self._transfer_data(to, amount))
    self._require(len(returned) == 0 or extract32(returned, 0, output_type=uint256) == 1, TOKEN_CALL)
    self._require(before - staticcall IERC20(USDC).balanceOf(safe) == amount, PAYMENT_NOT_EXACT)


@internal
def _try_pay(safe: address, to: address, amount: uint256) -> bool:
    """USDC from the Safe, or nothing: a share that cannot be paid must not undo the end of a trade."""
    if amount == 0 or to == safe:
        return True
    before: uint256 = staticcall IERC20(USDC).balanceOf(safe)
    if before < amount:
        return False
    call: Bytes[356] = abi_encode(
        USDC, empty(uint256), self._transfer_data(to, amount), empty(uint8),
        method_id=method_id("execTransactionFromModule(address,uint256,bytes,uint8)"),
    )
    success: bool = raw_call(safe, call, revert_on_failure=False)
    return success and before - staticcall IERC20(USDC).balanceOf(safe) == amount


@internal
@pure
def _transfer_data(to: address, amount: uint256) -> Bytes[68]:
    return abi_encode(to, amount, method_id=method_id("transfer(address,uint256)"))


@internal
def _exec(safe: address, to: address, data: Bytes[1024]) -> Bytes[1024]:
    success: bool = False
    returned: Bytes[1024] = b""
    success, returned = extcall Safe(safe).execTransactionFromModuleReturnData(to, 0, data, 0)
    if not success:
        self._require(len(returned) > 0, SAFE_CALL)
        raw_revert(returned)
    return returned


# ------------------------------------------------------------------ small change


@internal
@pure
def _require(holds: bool, reason: uint256):
    """Reverts with Error(string) where something does not hold."""
    if holds:
        return
    text: uint256 = reason
    length: uint256 = 32
    for i: uint256 in range(32):
        if text >> 248 > 0:
            break
        text = text << 8
        length -= 1
    raw_revert(
        concat(
            0x08c379a0, convert(32, bytes32), convert(length, bytes32), convert(text, bytes32)
        )
    )


@internal
@pure
def _ceil_div(a: uint256, b: uint256) -> uint256:
    return (a + b - 1) // b


@internal
@pure
def _pack(terms: Terms) -> uint256:
    """Each amount fits 48 bits: set_policy keeps every USDC amount below 2**44."""
    flags: uint256 = convert(terms.is_long, uint256) | (convert(terms.ended, uint256) << 1)
    amounts: uint256 = terms.cost | (terms.collateral << 48) | (terms.returned << 96) | (terms.notional << 144)
    return amounts | (terms.share_bps << 192) | (terms.ordered_at << 208) | (flags << 248)


@internal
@pure
def _unpack(packed: uint256) -> Terms:
    return Terms(
        cost=packed & AMOUNT_MASK,
        collateral=(packed >> 48) & AMOUNT_MASK,
        returned=(packed >> 96) & AMOUNT_MASK,
        notional=(packed >> 144) & AMOUNT_MASK,
        share_bps=(packed >> 192) & (2**16 - 1),
        ordered_at=(packed >> 208) & (2**40 - 1),
        is_long=(packed >> 248) & 1 == 1,
        ended=packed >> 249 == 1,
    )


# ------------------------------------------------------------------ reading


@external
@view
def policies(safe: address) -> Policy:
    """@return the policy in force"""
    return self.slots[safe][self._slot(safe)]


@external
@view
def pending(safe: address) -> (uint256, Policy, DynArray[MarketRule, 8]):
    """@return when the pending policy is in force (0 = none is pending), the policy and its markets"""
    effective_at: uint256 = self._loosens_at(safe)
    if effective_at == 0:
        return 0, empty(Policy), []
    other: uint256 = 1 - self._slot(safe)
    return effective_at, self.slots[safe][other], self.slot_markets[safe][other]


@external
@view
def listed_markets(safe: address) -> DynArray[MarketRule, 8]:
    """@return the market rules of the policy in force"""
    return self.slot_markets[safe][self._slot(safe)]


@external
@view
def total_charged(safe: address) -> uint256:
    """@return USDC that count against the total loss budget in force"""
    return self.slot_charged[safe][self._slot(safe)]


@external
@view
def trade(safe: address, trade_id: bytes32) -> TradeState:
    found: Trade = self.trades[safe][trade_id]
    return TradeState(
        market=found.market, terms=self._unpack(found.terms), profit_receiver=found.profit_receiver,
        increase_key=found.increase_key, stop_key=found.stop_key, target_key=found.target_key,
        close_key=found.close_key,
    )


@external
@view
def trade_id_used(safe: address, trade_id: bytes32) -> bool:
    return self.trades[safe][trade_id].market != empty(address)


@external
@view
def price_of(safe: address, market: address) -> uint256:
    """@return the feed's price in GMX's units; reverts with the reason when it must not be used"""
    return self._price(self._rule(safe, self._slot(safe), market))


@external
@view
def headroom(safe: address) -> Headroom:
    """@return what the policy leaves right now; reservations for open trades are already taken off"""
    slot: uint256 = self._slot(safe)
    policy: Policy = self.slots[safe][slot]
    return Headroom(
        loss_left=self._left(policy.loss_budget, self._day(self.loss_window[safe]) + self.reserved[safe]),
        total_loss_left=self._left(policy.total_loss_budget, self.slot_charged[safe][slot] + self.reserved[safe]),
        collateral_left=self._left(policy.daily_collateral, self._day(self.collateral_window[safe])),
        notional_left=self._left(policy.daily_notional, self._day(self.notional_window[safe])),
        trades_left=self._left(policy.trades_per_day, self._day(self.trades_window[safe])),
        next_open_at=self.last_open[safe] + policy.cooldown,
        stop_level=self.stop_level[safe],
        loosens_at=self._loosens_at(safe),
    )


@internal
@pure
def _left(limit: uint256, used: uint256) -> uint256:
    return limit - min(limit, used)
