"""Read an account: cash, positions with their margin, its agents and its approvals.

Cash is `totalRawUsd`: what is left when all positions are valued at zero, account value less the value of the
positions. It falls by what a purchase costs and rises by what a sale brings, so it is negative where a position is
worth more than the account, and the ledger books a perpetual future as it books a token (ADR 30).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from eth_account import Account
from eth_utils.address import is_address

from maxxit.core import clock
from maxxit.core.errors import InvalidInput, Rejected, Retryable
from maxxit.core.money import USDC, plain
from trading.perps import isolated
from trading.perps.margin import Margin
from trading.reasons import Reason
from trading.venues.base import KeyAccess
from trading.venues.hyperliquid.client import Client, Keys
from trading.venues.hyperliquid.wire import Builder

PLAIN_MODES = frozenset({"disabled", "default"})
"""Words of userAbstraction for an account whose perps have a balance of their own."""


@dataclass(frozen=True, slots=True)
class PerpPosition:
    """A position as Hyperliquid has it."""

    coin: str
    size: Decimal
    """Tokens; negative for a short."""
    entry_price: Decimal
    leverage: int
    isolated: bool
    margin_used: Decimal
    """USDC."""
    liquidation_price: Decimal | None
    """USD; None where the account's money covers every price."""
    max_leverage: int | None
    """Of the market; None where the answer does not say."""

    @property
    def line(self) -> str:
        """The position in words."""
        kind, level = "isolated" if self.isolated else "cross", self.liquidation_price
        ends = "not liquidated at any price" if level is None else f"liquidated at {plain(level)} USD"
        return (
            f"{plain(self.size)} {self.coin} at {plain(self.entry_price)} USD, {kind} margin "
            f"{plain(self.margin_used)} USDC, leverage {self.leverage}, {ends}"
        )


@dataclass(frozen=True, slots=True)
class State:
    """An account at a moment."""

    cash: Decimal
    """USDC, negative where positions are worth more than the account (`totalRawUsd`)."""
    value: Decimal
    """USDC: cash and positions at Hyperliquid's mark prices."""
    margin_used: Decimal
    withdrawable: Decimal
    positions: tuple[PerpPosition, ...]

    @property
    def balances(self) -> dict[str, Decimal]:
        """Asset -> whole units, as the ledger has them."""
        return {USDC: self.cash} | {one.coin: one.size for one in self.positions}

    @property
    def margins(self) -> list[Margin]:
        """Leverage, margin and liquidation price of each position."""
        return [
            Margin(
                one.coin,
                Decimal(one.leverage),
                one.isolated,
                one.margin_used,
                one.liquidation_price,
                isolated.maintenance(Decimal(one.max_leverage)) if one.max_leverage else None,
            )
            for one in self.positions
        ]


def read_state(client: Client, keys: Keys) -> State:
    """Return an account's cash and positions. Raises Retryable for an answer that does not add up."""
    answer = client.info_object("clearinghouseState", "marginSummary", "assetPositions", user=keys.address)
    return state_of(answer)


def state_of(answer: Mapping[str, Any]) -> State:
    """Return the account of a clearinghouseState answer.

    Raises Retryable where cash and positions do not add up to the account's value.
    """
    summary, rows = answer["marginSummary"], [row["position"] for row in answer["assetPositions"]]
    positions = tuple(_position(row) for row in rows if Decimal(row["szi"]))
    cash, value = Decimal(summary["totalRawUsd"]), Decimal(summary["accountValue"])
    worth = sum((Decimal(row["positionValue"]).copy_sign(Decimal(row["szi"])) for row in rows), Decimal(0))
    if cash + worth != value:
        raise Retryable(f"Hyperliquid's account adds up to {cash + worth} USDC, it says {value}")
    return State(cash, value, Decimal(summary["totalMarginUsed"]), Decimal(answer["withdrawable"]), positions)


def _position(row: Mapping[str, Any]) -> PerpPosition:
    liquidation = row.get("liquidationPx")
    return PerpPosition(
        coin=str(row["coin"]),
        size=Decimal(row["szi"]),
        entry_price=Decimal(row["entryPx"]),
        leverage=int(row["leverage"]["value"]),
        isolated=row["leverage"]["type"] == "isolated",
        margin_used=Decimal(row["marginUsed"]),
        liquidation_price=None if liquidation is None else Decimal(liquidation),
        max_leverage=int(row["maxLeverage"]) if "maxLeverage" in row else None,
    )


@dataclass(frozen=True, slots=True)
class Agent:
    """A key that the account's owner approved."""

    name: str
    address: str
    valid_until: datetime


def read_agents(client: Client, address: str) -> list[Agent]:
    """Return the named agents of an account, expired ones too."""
    return [
        Agent(
            str(row["name"]),
            str(row["address"]).lower(),
            datetime.fromtimestamp(int(row["validUntil"]) / 1000, UTC),
        )
        for row in client.info_list("extraAgents", user=address)
    ]


def access_of(client: Client, keys: Keys, builder: Builder | None) -> KeyAccess:
    """Return what an agent key may do.

    Hyperliquid takes withdrawals and transfers only with the signature of the main wallet: a key that is listed as its
    agent, and is not the main wallet's own, cannot take money out. A key that is not listed counts as able to.
    """
    agent = agent_address(keys.agent_key)
    if agent == keys.address:
        return KeyAccess(keys.address, ("the main wallet's own key",), may_trade=True, may_withdraw=True)
    listed = {one.address: one for one in read_agents(client, keys.address)}
    own = listed.pop(agent, None)
    if own is None:
        raise Rejected(
            f"{agent} is no named agent of {keys.address} at Hyperliquid: approve it there, with an expiry",
            code=Reason.CREDENTIALS_REFUSED,
        )
    words = [
        f"agent {own.name or 'without a name'}, valid until {own.valid_until:%Y-%m-%d %H:%M} UTC",
        "no withdrawals and no transfers: they need the main wallet",
    ]
    words += [f"another agent of the account: {other.name} {other.address}" for other in listed.values()]
    mode = mode_of(client, keys.address)
    if mode not in PLAIN_MODES:
        words.append(f"account mode {mode}: not supported")
    if builder is not None and not builder_is_approved(client, keys.address, builder):
        words.append("the builder fee is not approved yet")
    may_trade = own.valid_until > clock.now() and mode in PLAIN_MODES
    return KeyAccess(keys.address, tuple(words), may_trade=may_trade, may_withdraw=False)


def mode_of(client: Client, address: str) -> str:
    """Return the word for how the account keeps its margin; empty where Hyperliquid names none."""
    answer = client.info("userAbstraction", user=address)
    return str(answer) if isinstance(answer, str) else ""


def builder_is_approved(client: Client, address: str, builder: Builder) -> bool:
    """Return whether the owner approved our builder fee, at its rate or above."""
    answer = client.info("maxBuilderFee", user=address, builder=builder.address)
    return isinstance(answer, int) and answer >= builder.tenths_of_bp


def keys_of(secrets: Mapping[str, str]) -> Keys:
    """Return the keys of stored secrets. Raises InvalidInput for an address or a key that is none."""
    problems = {}
    address = secrets["address"].strip().lower()
    if not is_address(address):
        problems["address"] = "not an address: 0x and 40 hex digits, of the account's main wallet"
    try:
        agent_address(secrets["agent_key"])
    except ValueError:
        problems["agent_key"] = "not a private key: 0x and 64 hex digits"
    if problems:
        raise InvalidInput(problems)
    return Keys(address, secrets["agent_key"].strip())


def agent_address(key: str) -> str:
    """Return the address of an agent key, lower case. Raises ValueError where it is no key."""
    try:
        return str(Account.from_key(key.strip()).address).lower()
    except Exception as error:
        raise ValueError("not a private key") from error
