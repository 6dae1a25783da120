"""Encode calls of the PerpModule contract, decode its state and events, and rebuild a Safe's books from its logs.

USDC amounts are integers in base units (6 decimals), sizes and prices are GMX's (`trading.venues.gmx.units`), execution
fees are wei.
"""

from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, field, fields, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from maxxit.evm.codec import decode, encode_call
from trading.venues.safe.contract import module as safe_module
from trading.venues.safe.contract.build import load
from trading.venues.safe.contract.module import ALL, HALTED, NO_ENTRIES, Log

if TYPE_CHECKING:
    from web3.contract import Contract
    from web3.contract.contract import ContractEvent

__all__ = ["ALL", "HALTED", "NO_ENTRIES", "Log"]

POLICY_TYPE = "(address,address,address,address" + ",uint256" * 15 + ")"
RULE_TYPE = "(address,uint256,address,uint256,bool,bool)"
TERMS_TYPE = "(" + "uint256," * 6 + "bool,bool)"
TRADE_TYPE = f"(address,{TERMS_TYPE},address" + ",bytes32" * 4 + ")"
EXECUTED, CANCELLED = 1, 2
"""Outcomes of an order in OrderEnded."""
REQUEST_SECONDS = 300
"""Age of a market order after which anyone may have it cancelled (GMX's REQUEST_EXPIRATION_TIME on Arbitrum)."""
CALLBACK_GAS = 500_000
"""Gas that each order sets aside for GMX's callback; a part of the execution fee."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The policy of a Safe, in the contract's field order. USDC in base units, times in seconds."""

    executor: str
    guardian: str
    fee_receiver: str
    profit_receiver: str
    min_collateral: int
    max_collateral: int
    max_leverage_bps: int
    """Size over collateral in basis points: 50,000 is fivefold."""
    max_notional: int
    """USDC, the size of a trade."""
    daily_collateral: int
    daily_notional: int
    trades_per_day: int
    cooldown: int
    slippage_bps: int
    max_execution_fee: int
    """Wei an order."""
    loss_budget: int
    total_loss_budget: int
    profit_share_bps: int = 2_000
    trade_fee: int = 200_000
    loosen_delay: int = 0

    def stricter(self, wanted: "Policy") -> "Policy":
        """Return the policy in force after the Safe set `wanted`, until the loosening delay has passed."""
        tighter = {name: max(getattr(self, name), getattr(wanted, name)) for name in HIGHER_IS_STRICTER}
        tighter |= {name: min(getattr(self, name), getattr(wanted, name)) for name in LOWER_IS_STRICTER}
        return replace(self, **tighter)


HIGHER_IS_STRICTER = ("min_collateral", "cooldown", "loosen_delay")
LOWER_IS_STRICTER = (
    "max_collateral", "max_leverage_bps", "max_notional", "daily_collateral", "daily_notional", "trades_per_day",
    "slippage_bps", "max_execution_fee", "loss_budget", "total_loss_budget", "profit_share_bps", "trade_fee",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class MarketRule:
    """A market that may be traded. `feed`: of Chainlink's shape, index token in USD; `max_age`: its age in seconds."""

    market: str
    token_decimals: int
    """Of the index token."""
    feed: str
    max_age: int
    allow_long: bool = True
    allow_short: bool = True


def stricter_rules(rules: Iterable[MarketRule], wanted: Iterable[MarketRule]) -> list[MarketRule]:
    """Return the market rules in force after the Safe set `wanted`, until the loosening delay has passed."""
    new = {rule.market: rule for rule in wanted}
    kept = (
        replace(
            rule,
            max_age=min(rule.max_age, new[rule.market].max_age),
            allow_long=rule.allow_long and new[rule.market].allow_long,
            allow_short=rule.allow_short and new[rule.market].allow_short,
        )
        for rule in rules
        if rule.market in new
    )
    return list(kept)


@dataclass(frozen=True, slots=True)
class Headroom:
    """What a policy still allows now. USDC in base units; `next_open_at` and `loosens_at` are Unix times."""

    loss_left: int
    """Reservations of open trades are taken off already: the most that another trade may cost."""
    total_loss_left: int
    collateral_left: int
    notional_left: int
    trades_left: int
    next_open_at: int
    stop_level: int
    loosens_at: int
    """When a pending policy takes effect; 0: none is pending."""


@dataclass(frozen=True, slots=True)
class PendingPolicy:
    """A policy that the Safe has set and that takes effect at `effective_at`, a Unix time."""

    effective_at: int
    policy: Policy
    rules: tuple[MarketRule, ...]


@dataclass(frozen=True, slots=True)
class Opening:
    """What `open_position` orders, in the contract's argument order."""

    trade: bytes
    market: str
    is_long: bool
    collateral: int
    size_usd: int
    acceptable_price: int
    stop_price: int
    """0: no stop order."""
    target_price: int
    """0: no target order."""
    execution_fee: int
    """Wei for each order."""

    @property
    def value(self) -> int:
        """Wei to send: the execution fee of each order that is created."""
        return self.execution_fee * (1 + bool(self.stop_price) + bool(self.target_price))


@dataclass(frozen=True, slots=True)
class Trade:
    """A trade as the module stores it. Keys are GMX's order keys, all zeros where there is no such order."""

    market: str
    cost: int
    """USDC: collateral and fee."""
    collateral: int
    returned: int
    """USDC that came back so far."""
    notional: int
    share_bps: int
    ordered_at: int
    """Unix time of the latest market order."""
    is_long: bool
    ended: bool
    profit_receiver: str
    increase_key: bytes
    stop_key: bytes
    target_key: bytes
    close_key: bytes

    @property
    def at_risk(self) -> int:
        """USDC of the cost that has not returned: what is reserved in both loss budgets while the trade is open."""
        return max(0, self.cost - self.returned)


def set_policy_data(policy: Policy, rules: Iterable[MarketRule]) -> bytes:
    signature = f"set_policy({POLICY_TYPE},{RULE_TYPE}[])"
    return encode_call(signature, astuple(policy), [astuple(rule) for rule in rules])


def open_data(safe: str, opening: Opening, deadline: int) -> bytes:
    """Return calldata of `open_position`; send `opening.value` wei with it. `deadline`: Unix time."""
    return encode_call(
        "open_position(address,bytes32,address,bool,uint256,uint256,uint256,uint256,uint256,uint256,uint256)",
        safe,
        *astuple(opening),
        deadline,
    )


def close_data(
    safe: str, trade: bytes, *, acceptable_price: int, execution_fee: int, deadline: int, size_usd: int = ALL
) -> bytes:
    """Return calldata of `close_position`, of `size_usd` (default all); send `execution_fee` wei with it."""
    signature = "close_position(address,bytes32,uint256,uint256,uint256,uint256)"
    return encode_call(signature, safe, trade, size_usd, acceptable_price, execution_fee, deadline)


def cancel_data(safe: str, order_key: bytes) -> bytes:
    return encode_call("cancel_order(address,bytes32)", safe, order_key)


def claim_data(safe: str, market: str, token: str | None = None) -> bytes:
    """Return calldata of `claim_funding`, in USDC unless `token` names another token of the market."""
    if token is None:
        return encode_call("claim_funding(address,address)", safe, market)
    return encode_call("claim_funding(address,address,address)", safe, market, token)


def settle_data(safe: str, trade: bytes) -> bytes:
    return encode_call("settle(address,bytes32)", safe, trade)


def policies_data(safe: str) -> bytes:
    return encode_call("policies(address)", safe)


def decode_policy(data: bytes) -> Policy:
    return Policy(*decode([POLICY_TYPE], data)[0])


def pending_data(safe: str) -> bytes:
    return encode_call("pending(address)", safe)


def decode_pending(data: bytes) -> PendingPolicy | None:
    """Return the pending policy; None where there is none."""
    effective_at, policy, rules = decode(["uint256", POLICY_TYPE, f"{RULE_TYPE}[]"], data)
    return PendingPolicy(effective_at, Policy(*policy), _rules(rules)) if effective_at else None


def listed_data(safe: str) -> bytes:
    return encode_call("listed_markets(address)", safe)


def decode_listed(data: bytes) -> tuple[MarketRule, ...]:
    return _rules(decode([f"{RULE_TYPE}[]"], data)[0])


def _rules(rows: Iterable[Iterable[Any]]) -> tuple[MarketRule, ...]:
    return tuple(MarketRule(*row) for row in rows)


def headroom_data(safe: str) -> bytes:
    return encode_call("headroom(address)", safe)


def decode_headroom(data: bytes) -> Headroom:
    return Headroom(*decode(["uint256"] * len(fields(Headroom)), data))


def trade_data(safe: str, trade: bytes) -> bytes:
    return encode_call("trade(address,bytes32)", safe, trade)


def decode_trade(data: bytes) -> Trade | None:
    """Return a trade; None where its id is free."""
    market, terms, *rest = decode([TRADE_TYPE], data)[0]
    return Trade(*(market, *terms, *rest)) if int(market, 16) else None


@cache
def contract() -> "type[Contract]":
    """Return web3's contract of the module by its compiled ABI, without an address or a connection."""
    from maxxit.evm.provider import offline  # loads web3

    return offline().eth.contract(abi=load("PerpModule")["abi"])


def call_data(function: str, *args: Any) -> bytes:
    """Return the calldata of a function of the module, checked against its ABI."""
    from maxxit.evm.provider import calldata  # loads web3

    return calldata(contract(), function, *args)


@cache
def events() -> "dict[str, ContractEvent]":
    """Return topic0, 0x hex -> event."""
    return safe_module.events_of(contract())


def decode_logs(raw: Iterable[Mapping[str, Any]], module: str) -> list[Log]:
    """Return the module's events among JSON-RPC logs (hex strings), in their order.

    Raises Retryable for a malformed log.
    """
    return safe_module.decode_logs(raw, module, events())


@dataclass(slots=True)
class BookTrade:
    """A trade rebuilt from logs."""

    market: str
    is_long: bool
    cost: int
    profit_receiver: str
    share_bps: int
    orders: set[bytes]
    """Keys of orders that have not ended."""
    returned: int = 0
    ended: bool = False
    loss: int = 0
    share: int = 0


@dataclass(slots=True)
class Book:
    """One Safe's state, rebuilt from logs alone."""

    policy: Policy | None = None
    rules: tuple[MarketRule, ...] = ()
    pending: PendingPolicy | None = None
    stop_level: int = 0
    trades: dict[bytes, BookTrade] = field(default_factory=dict)
    fees: dict[str, int] = field(default_factory=dict)
    shares: dict[str, int] = field(default_factory=dict)
    unshared: int = 0
    total_charged: int = 0

    @property
    def reserved(self) -> int:
        """USDC of open trades' cost that has not returned."""
        return sum(max(0, trade.cost - trade.returned) for trade in self.trades.values() if not trade.ended)


def rebuild(logs: Iterable[Log]) -> dict[str, Book]:
    """Return Safe -> book."""
    books: dict[str, Book] = {}
    for log in logs:
        if log.name == "FundingClaimed":  # of no trade
            continue
        _apply(books.setdefault(log.args["safe"], Book()), log)
    return books


def _apply(book: Book, log: Log) -> None:
    args = log.args
    match log.name:
        case "Stopped":
            book.stop_level = args["level"]
        case "Resumed":
            book.stop_level = 0
        case "PositionRequested" | "CloseRequested" | "OrderEnded" | "TradeSettled" | "TradeReleased":
            _apply_trade(book, log)
        case _:
            _apply_policy(book, log)


def _apply_policy(book: Book, log: Log) -> None:
    args = log.args
    match log.name:
        case "PolicySet":
            book.policy, book.rules = _logged(args)
            book.pending, book.total_charged = None, 0
        case "PolicyPending":
            book.pending = PendingPolicy(args["effective_at"], *_logged(args))
        case "PolicyTightened":
            book.policy, book.rules = _logged(args)
        case "PolicyLoosened" if book.pending is not None:
            book.policy, book.rules = book.pending.policy, book.pending.rules
            book.pending, book.total_charged = None, 0
        case "LooseningCancelled":
            book.pending = None
        case "Revoked":
            book.policy = book.pending = None


def _logged(args: Mapping[str, Any]) -> tuple[Policy, tuple[MarketRule, ...]]:
    """Return the policy and rules in an event."""
    return Policy(**args["policy"]), tuple(MarketRule(**rule) for rule in args["markets"])


def _apply_trade(book: Book, log: Log) -> None:
    args = log.args
    if log.name == "PositionRequested":
        orders = {args["order_key"], args["stop_key"], args["target_key"]} - {bytes(32)}
        book.trades[args["trade_id"]] = BookTrade(
            args["market"], args["is_long"], args["collateral"] + args["fee"], args["profit_receiver"],
            args["share_bps"], orders,
        )  # fmt: skip
        book.fees[args["fee_receiver"]] = book.fees.get(args["fee_receiver"], 0) + args["fee"]
        return
    trade = book.trades[args["trade_id"]]
    match log.name:
        case "CloseRequested":
            trade.orders.add(args["order_key"])
        case "OrderEnded":
            trade.orders.discard(args["order_key"])
            trade.returned += args["returned"]
        case "TradeReleased":
            trade.ended = True
        case "TradeSettled":
            trade.ended, trade.loss, trade.share = True, args["loss"], args["share"]
            book.shares[args["profit_receiver"]] = book.shares.get(args["profit_receiver"], 0) + args["share"]
            book.unshared = args["unshared"]
            book.total_charged += args["loss"]
