"""Encode calls of the TradingModule contract, decode its state and events, and rebuild a Safe's books from its logs.

Amounts are integers in base units: USDC with 6 decimals, tokens with their own.
"""

from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, field, fields, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from maxxit.core.errors import Retryable
from maxxit.evm.codec import decode, encode_call
from trading.venues.safe.contract.build import load

if TYPE_CHECKING:
    from web3.contract import Contract
    from web3.contract.contract import ContractEvent

POLICY_TYPE = "(address,address,address,address" + ",uint256" * 11 + ")"
RULE_TYPE = "(address,address,uint24,uint256)"
ALL = 2**256 - 1
NO_ENTRIES, HALTED = 1, 2
USDC_UNIT = 10**6


@dataclass(frozen=True, slots=True)
class Policy:
    """The policy of a Safe, in the contract's field order. USDC in base units, times in seconds."""

    executor: str
    guardian: str
    fee_receiver: str
    profit_receiver: str
    min_trade: int
    max_trade: int
    daily_notional: int
    trades_per_day: int
    cooldown: int
    slippage_bps: int
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


HIGHER_IS_STRICTER = ("min_trade", "cooldown", "loosen_delay")
LOWER_IS_STRICTER = (
    "max_trade", "daily_notional", "trades_per_day", "slippage_bps", "loss_budget", "total_loss_budget",
    "profit_share_bps", "trade_fee",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class TokenRule:
    """A token that may be bought: price feed (token in USD), pool fee in millionths, maximum feed age in seconds."""

    token: str
    feed: str
    pool_fee: int
    max_age: int


@dataclass(frozen=True, slots=True)
class Headroom:
    """What a policy still allows now. USDC in base units; `next_open_at` and `loosens_at` are Unix times."""

    loss_left: int
    total_loss_left: int
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
    rules: tuple[TokenRule, ...]


def stricter_rules(rules: Iterable[TokenRule], wanted: Iterable[TokenRule]) -> list[TokenRule]:
    """Return the token rules in force after the Safe set `wanted`, until the loosening delay has passed."""
    ages = {rule.token: rule.max_age for rule in wanted}
    return [
        replace(rule, max_age=min(rule.max_age, ages[rule.token])) for rule in rules if rule.token in ages
    ]


def trade_id(deployment: str, signal: str) -> bytes:
    """Return the on-chain id of the one trade that a deployment may make for a signal."""
    return keccak(text=f"maxxit/trade/{deployment}/{signal}")


def set_policy_data(policy: Policy, rules: Iterable[TokenRule]) -> bytes:
    return call_data("set_policy", astuple(policy), [astuple(rule) for rule in rules])


def open_data(safe: str, trade: bytes, token: str, usdc_in: int, min_out: int, deadline: int) -> bytes:
    """Return calldata of `open_position`: spend `usdc_in` for at least `min_out` tokens, base units.

    `deadline`: Unix time.
    """
    signature = "open_position(address,bytes32,address,uint256,uint256,uint256)"
    return encode_call(signature, safe, trade, token, usdc_in, min_out, deadline)


def close_data(safe: str, trade: bytes, min_usdc_out: int, deadline: int, quantity: int = ALL) -> bytes:
    """Return calldata of `close_position`: sell `quantity` (default all) for at least `min_usdc_out`, base units."""
    signature = "close_position(address,bytes32,uint256,uint256,uint256)"
    return encode_call(signature, safe, trade, min_usdc_out, deadline, quantity)


def policies_data(safe: str) -> bytes:
    return encode_call("policies(address)", safe)


def decode_policy(data: bytes) -> Policy:
    return Policy(*decode([POLICY_TYPE], data)[0])


def pending_data(safe: str) -> bytes:
    return encode_call("pending(address)", safe)


def decode_pending(data: bytes) -> PendingPolicy | None:
    """Return the pending policy; None where there is none."""
    effective_at, policy, rules = decode(["uint256", POLICY_TYPE, f"{RULE_TYPE}[]"], data)
    return PendingPolicy(effective_at, *_signed(policy, rules)) if effective_at else None


def _signed(policy: Iterable[Any], rules: Iterable[Iterable[Any]]) -> tuple[Policy, tuple[TokenRule, ...]]:
    return Policy(*policy), tuple(TokenRule(*rule) for rule in rules)


def _logged(args: Mapping[str, Any]) -> tuple[Policy, tuple[TokenRule, ...]]:
    """Return the policy and rules in an event."""
    return Policy(**args["policy"]), tuple(TokenRule(**rule) for rule in args["tokens"])


def headroom_data(safe: str) -> bytes:
    return encode_call("headroom(address)", safe)


def decode_headroom(data: bytes) -> Headroom:
    return Headroom(*decode(["uint256"] * len(fields(Headroom)), data))


def rule_data(safe: str, token: str) -> bytes:
    return encode_call("rules(address,address)", safe, token)


def decode_pool_fee(rule: bytes) -> int:
    """Return the fee tier, in millionths, of an answer to `rule_data`; 0 where the policy does not list the token."""
    return int(decode(["address", "uint24", "uint256", "uint256", "bool"], rule)[1])


def listed_data(safe: str) -> bytes:
    return encode_call("listed_tokens(address)", safe)


@cache
def contract() -> "type[Contract]":
    """Return web3's contract of the module by its compiled ABI, without an address or a connection."""
    from maxxit.evm.provider import offline  # loads web3

    return offline().eth.contract(abi=load("TradingModule")["abi"])


def call_data(function: str, *args: Any) -> bytes:
    """Return the calldata of a function of the module, checked against its ABI.

    The calls of every order and every check have functions of their own, which need no web3 and are 30 times faster.
    """
    from maxxit.evm.provider import calldata  # loads web3

    return calldata(contract(), function, *args)


@dataclass(frozen=True, slots=True)
class Log:
    """An event of the module. `args`: indexed and other values by name; structs are mappings."""

    name: str
    address: str
    args: Mapping[str, Any]
    block: int
    transaction: str
    index: int


@cache
def events() -> "dict[str, ContractEvent]":
    """Return topic0, 0x hex -> event."""
    return events_of(contract())


def events_of(contract: "type[Contract]") -> "dict[str, ContractEvent]":
    """Return topic0, 0x hex -> event of a contract."""
    from eth_utils.abi import event_abi_to_log_topic

    return {
        "0x" + event_abi_to_log_topic(entry).hex(): contract.events[entry["name"]]()
        for entry in contract.abi
        if entry["type"] == "event"
    }


def decode_logs(
    raw: Iterable[Mapping[str, Any]], module: str, known: "Mapping[str, ContractEvent] | None" = None
) -> list[Log]:
    """Return the module's events among JSON-RPC logs (hex strings), in their order.

    `known` are the events of another module: topic0 -> event. Raises Retryable for a malformed log.
    """
    known = events() if known is None else known
    address = to_checksum_address(module)
    ours = (entry for entry in raw if to_checksum_address(entry["address"]) == address)
    found = ((entry, known.get(str(entry["topics"][0]).lower())) for entry in ours if entry["topics"])
    return [_decoded(entry, event) for entry, event in found if event is not None]


def _decoded(entry: Mapping[str, Any], event: "ContractEvent") -> Log:
    """Decode one log."""
    from eth_abi.exceptions import DecodingError
    from web3.exceptions import Web3Exception

    # web3 asks for the log's whole place in the chain and only passes it on
    log = {"blockHash": None, "transactionIndex": None, **entry}
    try:
        args = event.process_log(log)["args"]
    except (Web3Exception, DecodingError, OverflowError, ValueError) as error:
        raise Retryable(f"a log of {event.event_name} is malformed, check the node: {error}") from error
    return Log(
        str(event.event_name), to_checksum_address(entry["address"]), args, int(entry.get("blockNumber") or "0x0", 16),
        str(entry.get("transactionHash")), int(entry.get("logIndex") or "0x0", 16),
    )  # fmt: skip


@dataclass(slots=True)
class BookPosition:
    """A position rebuilt from logs."""

    token: str
    quantity: int
    cost: int
    profit_receiver: str
    share_bps: int
    profit: int = 0
    shares: int = 0


@dataclass(slots=True)
class Book:
    """One Safe's state, rebuilt from logs alone."""

    policy: Policy | None = None
    tokens: tuple[TokenRule, ...] = ()
    pending: PendingPolicy | None = None
    stop_level: int = 0
    positions: dict[bytes, BookPosition] = field(default_factory=dict)
    fees: dict[str, int] = field(default_factory=dict)
    shares: dict[str, int] = field(default_factory=dict)
    unshared: int = 0
    total_charged: int = 0
    usdc_delta: int = 0


def rebuild(logs: Iterable[Log]) -> dict[str, Book]:
    """Return Safe -> book. `usdc_delta` is the change of the Safe's USDC through trading alone, base units."""
    books: dict[str, Book] = {}
    for log in logs:
        _apply(books.setdefault(log.args["safe"], Book()), log)
    return books


def _apply(book: Book, log: Log) -> None:
    args = log.args
    match log.name:
        case "Stopped":
            book.stop_level = args["level"]
        case "Resumed":
            book.stop_level = 0
        case "PositionOpened":
            _apply_open(book, args)
        case "PositionClosed":
            _apply_close(book, args)
        case "PositionReleased":
            position = book.positions[args["trade_id"]]
            position.quantity -= args["quantity"]
            position.cost -= args["cost"]
        case _:
            _apply_policy(book, log)


def _apply_policy(book: Book, log: Log) -> None:
    args = log.args
    match log.name:
        case "PolicySet":
            book.policy, book.tokens = _logged(args)
            book.pending, book.total_charged = None, 0
        case "PolicyPending":
            book.pending = PendingPolicy(args["effective_at"], *_logged(args))
        case "PolicyTightened":
            book.policy, book.tokens = _logged(args)
        case "PolicyLoosened" if book.pending is not None:
            book.policy, book.tokens = book.pending.policy, book.pending.rules
            book.pending, book.total_charged = None, 0
        case "LooseningCancelled":
            book.pending = None
        case "Revoked":
            book.policy = book.pending = None


def _apply_open(book: Book, args: Mapping[str, Any]) -> None:
    book.positions[args["trade_id"]] = BookPosition(
        args["token"],
        args["quantity"],
        args["usdc_in"] + args["fee"],
        args["profit_receiver"],
        args["share_bps"],
    )
    book.fees[args["fee_receiver"]] = book.fees.get(args["fee_receiver"], 0) + args["fee"]
    book.total_charged += args["charged"]
    book.usdc_delta -= args["usdc_in"] + args["fee"]


def _apply_close(book: Book, args: Mapping[str, Any]) -> None:
    position = book.positions[args["trade_id"]]
    position.quantity -= args["quantity"]
    position.cost -= args["cost"]
    position.profit += args["profit"]
    position.shares += args["share"]
    receiver = args["profit_receiver"]
    book.shares[receiver] = book.shares.get(receiver, 0) + args["share"]
    book.unshared = args["unshared"]
    book.total_charged += args["charged"]
    book.usdc_delta += args["usdc_out"] - args["share"]
