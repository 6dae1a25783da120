"""Output schemas of rows, shared by the API, the commands' `--json` and the trace page.

Amounts are decimal strings, states are upper case, times are UTC with milliseconds.
"""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

from ninja import Schema
from pydantic import Field, PlainSerializer

from maxxit.core.clock import iso_utc
from maxxit.core.money import plain

# Validators are built when they are first used, also those of the models that ninja derives for each operation: only
# the web process uses them, but every system check imports them.
Schema.model_config["defer_build"] = True

Number = Annotated[Decimal, PlainSerializer(plain, return_type=str)]
State = Annotated[str, PlainSerializer(str.upper, return_type=str)]
Moment = Annotated[datetime, PlainSerializer(iso_utc, return_type=str)]


class Problem(Schema):
    """Why a request was refused: a stable `code` for programs and a `message` that names the fix."""

    code: str
    message: str
    detail: list[dict[str, Any]] | None = None


class PostOut(Schema):
    """A post with what was read in it; `outcome` is the furthest stage it reached, with the reason it stopped there."""

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
    link: str
    likes: int | None
    reposts: int | None
    replies: int | None
    quotes: int | None
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
    """An agent's decision to trade a token. Confidence is a fraction; stop and target are percent of the entry."""

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
    """An order with its state; `reason` and `verdict` say which check blocked it, the measured value and the limit."""

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
    """One execution at a venue: quantity in tokens, price in USD, cash and fee in USDC."""

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
    """One ledger entry: a signed amount of one asset on one account. The entries of a `journal` sum to zero."""

    id: int
    journal: str
    account: str
    asset: str
    amount: Number
    kind: str
    order_id: int | None
    at: Moment


class MarginOut(Schema):
    """A position with margin as its venue reported it `at`; null members before that. `funding`: negative is paid.

    `margin_ratio_pct` is maintenance margin / margin left, 100 at the liquidation price; `room_pct` what it can still
    lose before that, in percent of its initial margin. Both at the newest quote.
    """

    leverage: str
    isolated: bool | None
    margin: str | None
    liquidation_price: str | None
    margin_ratio_pct: str | None
    room_pct: str | None
    near_liquidation: bool
    funding: str
    at: str | None


class PositionOut(Schema):
    """A position with its exit levels. Fees, PnL and profit share are USDC; `taken_value`: withdrawn by the owner.

    `margin`: null at a venue without margin. Funding is not in the PnL.
    """

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
    margin: MarginOut | None = None
    correlation_id: UUID

    @staticmethod
    def resolve_margin(row: Any) -> dict[str, Any] | None:
        """As `positions.margins.attach` set it."""
        return row.margin.as_json() if row.margin else None

    @staticmethod
    def resolve_status(row: Any) -> str:
        return str(row.state)

    @staticmethod
    def resolve_unrealised_pnl(row: Any) -> Decimal | None:
        """USDC at the newest quote, before fees; null where the query did not compute it."""
        return getattr(row, "unrealised", None)


class EventOut(Schema):
    """An event: what happened to which row (`subject`), and when."""

    id: int
    at: Moment
    name: str
    subject: str
    data: dict[str, Any]


class CalledOut(Schema):
    """A token and side that a model's call led to, and the price's move to that side after 24 hours in percent."""

    token: str
    side: str
    at: Moment
    post_id: str
    signal: int | None
    move_24h_pct: str | None


class BecameFigures(Schema):
    """What became of calls: hits after 24 hours, mean move to the called side in percent, and PnL in USD.

    `realised_usd` is after fees and profit share, `open_usd` before fees, without the `unquoted` positions.
    """

    calls: int
    known: int
    right: int
    mean_pct: float | None
    signals: int
    positions: int
    unquoted: int
    realised_usd: str
    open_usd: str
    fees_usd: str
    funding_usd: str


class BecameOut(BecameFigures):
    """What became of one call."""

    called: list[CalledOut]
    signal_ids: list[int]
    position_ids: list[int]


class ModelCallOut(Schema):
    """One call of a language model with prompt and answer; `became` is null where no trade or call came of it."""

    id: int
    ts: Moment
    agent_name: str
    purpose: str
    provider: str
    model: str
    latency_ms: int
    status: str
    error_message: str
    prompt_version: str
    request: Any
    response: Any
    prompt_tokens: int | None
    completion_tokens: int | None
    became: BecameOut | None = None

    @staticmethod
    def resolve_became(row: Any) -> dict[str, Any] | None:
        """As `maxxit.reports.trades.trace` set it."""
        became = getattr(row, "became", None)
        return became.as_json() if became else None


class TradeTraceOut(Schema):
    """The trace of one trade, each list in order of time; `traces` are the model calls."""

    correlation_id: UUID
    posts: list[PostOut]
    traces: list[ModelCallOut]
    signals: list[SignalOut]
    orders: list[OrderOut]
    fills: list[FillOut]
    ledger: list[LedgerOut]
    positions: list[PositionOut]
    events: list[EventOut]
    realised_pnl: Number


class BalanceOut(Schema):
    """The balance of one asset: `held` in the deployment's account, or `owed` to the platform."""

    book: str
    asset: str
    amount: str


class LineOut(BalanceOut):
    """One ledger entry of the deployment, with the balance of its asset afterwards."""

    at: datetime
    kind: str
    balance: str
    order_id: int | None
    what: str
    correlation_id: UUID | None


class TotalOut(Schema):
    """The sum of all entries of one kind and asset."""

    kind: str
    asset: str
    amount: str


class MarginPositionOut(MarginOut):
    """A position with margin that was open in the span of a statement; `funding` is all that it paid or received."""

    position: int
    symbol: str
    side: str
    status: str


class StatementOut(Schema):
    """A deployment's ledger between two moments: opening balances plus lines equal closing balances."""

    deployment: int
    account: str
    since: Annotated[datetime, Field(alias="from")]
    until: Annotated[datetime, Field(alias="to")]
    opening: list[BalanceOut]
    lines: list[LineOut]
    closing: list[BalanceOut]
    totals: list[TotalOut]
    margin: list[MarginPositionOut]


class InvoiceLineOut(Schema):
    """The charges of one kind in the month, USDC: `charged` is owed, `collected` was taken by the venue.

    `kind` is `infra_fee` (count: trades), `profit_share` (closed positions) or `subscription` (months).
    """

    kind: str
    count: int
    charged: str
    collected: str
    amount: str


class PaymentOut(Schema):
    """A payment from outside of what the deployment owed, USDC."""

    at: Moment
    reference: str
    amount: str


class CollectedOut(Schema):
    """What the events of the Safe's own transactions say of the fees and shares of the month, USDC.

    `differences` is empty where ledger and chain agree to the base unit.
    """

    source: str
    fees: str
    shares: str
    ledger_fees: str
    ledger_shares: str
    differences: list[str]


class InvoiceOut(Schema):
    """A deployment's invoice for one month, USDC: opening debt + charged - paid = closing debt.

    `total` = charged + collected. Until the month is over, `final` is false and amounts can still change.
    """

    number: str
    deployment: int
    agent: str
    account: str
    owner: str
    month: str
    since: Annotated[Moment, Field(alias="from")]
    until: Annotated[Moment, Field(alias="to")]
    final: bool
    currency: str
    terms: dict[str, str]
    lines: list[InvoiceLineOut]
    payments: list[PaymentOut]
    opening: str
    charged: str
    collected: str
    total: str
    paid: str
    closing: str
    chain: CollectedOut | None


class ReasonCountOut(Schema):
    """How many orders of a signal are in one state for one reason, what it means, what changes it and who can."""

    status: State
    reason: str
    count: int
    meaning: str
    change: str
    audience: str


class QueueOut(Schema):
    """The queue of planned entries: places of your first and last waiting order (1 is next), pace and estimate.

    Places and `length` are among the planned entries of the signal's venue. `last_minute` counts the entries of all
    accounts in the last 60 seconds, `per_minute` is the most that are allowed. Of your `planned` and `waiting` orders
    `leave` are sent at this pace, the last at about `done_at`, and `expire` are not sent before `expires_at`.
    """

    first: int | None
    last: int | None
    length: int
    waiting_since: Moment | None
    last_minute: int
    per_minute: int
    leave: int
    expire: int
    done_at: Moment | None


class WaitingOrderOut(Schema):
    """A planned order with its place (1 is next) among the `length` planned entries of its venue.

    `leaves_at` is an estimate at the allowed pace; null where the signal expires first.
    """

    order_id: int
    account: str
    reason: str
    place: int
    length: int
    leaves_at: Moment | None
    expires_at: Moment | None


class ProgressOut(Schema):
    """Where the entries of a signal are, as far as they are yours: counts by state, reasons, queue, positions.

    `waiting_orders` are the first 15 of the queue; empty in a list of signals.
    """

    signal_id: int
    agent_id: int
    agent: str
    token: str
    venue: str
    side: State
    status: State
    reason: str
    created_at: Moment
    expires_at: Moment
    correlation_id: UUID
    under_way: bool
    orders: int
    planned: int
    waiting: int
    sent: int
    filled: int
    blocked: int
    ended: int
    quarantined: int
    reasons: list[ReasonCountOut]
    queue: QueueOut
    positions_opened: int
    positions_closed: int
    waiting_orders: list[WaitingOrderOut]


class ChangedValueOut(Schema):
    """A value that a change replaces."""

    what: str
    old: str
    new: str


class WaitingChangeOut(Schema):
    """A request for a change that raises risk. Nothing changed yet: people who are logged in decide on it.

    `confirmed` is false after a key: a person who is logged in confirms it first, then another approves it.
    """

    id: int
    kind: str
    state: State
    changes: list[ChangedValueOut]
    reason: str
    asked_by: str
    confirmed: bool
    asked_at: str
    expires_at: str
    sha256: str
