"""How rows look outside: the same for the API, for `--json` and for the chain page.

Amounts are decimal strings, states are upper case, times are UTC to the millisecond.
"""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

from ninja import Schema
from pydantic import Field, PlainSerializer

from maxxit.core.clock import iso_utc
from maxxit.core.money import plain

Number = Annotated[Decimal, PlainSerializer(plain, return_type=str)]
State = Annotated[str, PlainSerializer(str.upper, return_type=str)]
Moment = Annotated[datetime, PlainSerializer(iso_utc, return_type=str)]


class Problem(Schema):
    """Why a request was refused, and what to do about it."""

    code: str
    message: str
    detail: list[dict[str, Any]] | None = None


class PostOut(Schema):
    """A post and how far it came."""

    id: int
    post_id: str
    author: str
    text: str
    posted_at: Moment
    ingested_at: Moment
    status: State
    outcome: str
    is_signal_candidate: bool | None
    tokens: list[str]
    sides: dict[str, str]
    sentiment: str
    confidence: Number | None
    reasoning: str
    correlation_id: UUID

    @staticmethod
    def resolve_author(row: Any) -> str:
        """The account's name on X."""
        name: str = row.account.x_username
        return name

    @staticmethod
    def resolve_status(row: Any) -> str:
        return str(row.state)


class SignalOut(Schema):
    """A decision to trade."""

    id: int
    agent_id: int
    agent: str
    token: str
    venue: str
    side: State
    status: State
    reason: str
    confidence: Number
    entry_price: Number
    stop_loss_pct: Number
    take_profit_pct: Number
    leverage: Number
    size_model: dict[str, Any]
    risk_model: dict[str, Any]
    market: dict[str, Any]
    bucket: Moment
    created_at: Moment
    expires_at: Moment
    correlation_id: UUID

    @staticmethod
    def resolve_agent(row: Any) -> str:
        """The agent's name."""
        return str(row.agent)

    @staticmethod
    def resolve_status(row: Any) -> str:
        return str(row.state)


class OrderOut(Schema):
    """An intent to trade and what became of it."""

    id: int
    deployment_id: int
    signal_id: int | None
    purpose: State
    symbol: str
    side: State
    venue: str
    account: str
    status: State
    reason: str
    exit_reason: str
    verdict: dict[str, Any]
    quantity: Number | None
    filled_quantity: Number
    average_price: Number | None
    reference_price: Number | None
    notional_usd: Number | None
    leverage: Number
    client_order_id: str | None
    venue_ref: str
    created_at: Moment
    reserved_at: Moment | None
    correlation_id: UUID

    @staticmethod
    def resolve_status(row: Any) -> str:
        return str(row.state)


class FillOut(Schema):
    """One execution at a venue."""

    id: int
    order_id: int
    symbol: str
    side: State
    quantity: Number
    price: Number
    cash: Number
    fee: Number
    at: Moment
    correlation_id: UUID

    @staticmethod
    def resolve_symbol(row: Any) -> str:
        """The order's token."""
        return str(row.order.symbol)

    @staticmethod
    def resolve_side(row: Any) -> str:
        """The order's side."""
        return str(row.order.side)

    @staticmethod
    def resolve_correlation_id(row: Any) -> UUID:
        found: UUID = row.order.correlation_id
        return found


class LedgerOut(Schema):
    """One line of the journal."""

    id: int
    journal: str
    account: str
    asset: str
    amount: Number
    kind: str
    order_id: int | None
    at: Moment


class PositionOut(Schema):
    """What was held because of a signal."""

    id: int
    deployment_id: int
    signal_id: int | None
    entry_order_id: int
    exit_order_id: int | None
    symbol: str
    side: State
    status: State
    quantity: Number
    closed_quantity: Number
    taken_value: Number
    entry_price: Number
    exit_price: Number | None
    stop_loss: Number
    take_profit: Number
    trailing_stop: Number | None
    time_exit_at: Moment | None
    exit_reason: str
    opened_at: Moment
    closed_at: Moment | None
    fees: Number
    realised_pnl: Number
    unrealised_pnl: Number | None = None
    profit_share: Number
    correlation_id: UUID

    @staticmethod
    def resolve_status(row: Any) -> str:
        return str(row.state)

    @staticmethod
    def resolve_unrealised_pnl(row: Any) -> Decimal | None:
        """USDC at the newest quote, before fees; set where the query asked for it."""
        return getattr(row, "unrealised", None)


class EventOut(Schema):
    """What happened."""

    id: int
    at: Moment
    name: str
    subject: str
    data: dict[str, Any]


class TraceOut(Schema):
    """One question to a model and its answer."""

    id: int
    ts: Moment
    agent_name: str
    purpose: str
    provider: str
    model: str
    latency_ms: int
    status: str
    error_message: str
    request: Any
    response: Any
    prompt_tokens: int | None
    completion_tokens: int | None


class ChainOut(Schema):
    """The whole way of one trade, each list in order of time."""

    correlation_id: UUID
    posts: list[PostOut]
    traces: list[TraceOut]
    signals: list[SignalOut]
    orders: list[OrderOut]
    fills: list[FillOut]
    ledger: list[LedgerOut]
    positions: list[PositionOut]
    events: list[EventOut]
    realised_pnl: Number


class BalanceOut(Schema):
    """What a deployment holds or owes of one asset."""

    book: str
    asset: str
    amount: str


class LineOut(BalanceOut):
    """One line of its ledger, with the balance of that asset after it."""

    at: datetime
    kind: str
    balance: str
    order_id: int | None
    what: str
    correlation_id: UUID | None


class MovedOut(Schema):
    """What moved of one kind in all."""

    kind: str
    asset: str
    amount: str


class StatementOut(Schema):
    """A deployment's ledger between two moments: opening plus lines is closing."""

    deployment: int
    account: str
    since: Annotated[datetime, Field(alias="from")]
    until: Annotated[datetime, Field(alias="to")]
    opening: list[BalanceOut]
    lines: list[LineOut]
    closing: list[BalanceOut]
    totals: list[MovedOut]
