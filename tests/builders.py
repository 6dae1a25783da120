"""Rows for tests, with the least that they need; everything else has a sensible value."""

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import Any

from agents.evidence import EVIDENCE, POSTS
from agents.models import Agent, CtAccount, Deployment, Subscription
from maxxit.core import clock, correlation
from maxxit.core.errors import StaleState
from maxxit.events.models import Event
from maxxit.market import candles
from maxxit.market.bars import Snapshot
from maxxit.market.feeds.file import BAR, Bar
from maxxit.market.models import Quote
from maxxit.notify import endpoints
from maxxit.notify.channels import CHANNELS
from maxxit.notify.models import Endpoint
from positions.models import Position
from signals_app.models import CtPost, Signal
from trading import execute, gate, ledger, settle
from trading.deployments.funding import fund
from trading.models import Fill, Order
from trading.risk.checks import Facts, GateFacts, LimitUsage, OwnerTerms, Verdict
from trading.risk.policy import RiskPolicy
from trading.venues.base import Report, Venue

T0 = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
"""A Monday noon at the start of a six-hour bucket."""
HOUR = timedelta(hours=1)
TWEETS_ONLY = {name: 100 if name == POSTS else 0 for name in EVIDENCE}
NO_TWEETS = {name: 0 if name == POSTS else 50 for name in EVIDENCE}
_number = count(1)


class RecordedClock:
    """`clock.now()` for one test: stands still until it is moved."""

    def __init__(self, moment: datetime = T0) -> None:
        self._block = ExitStack()
        self.to(moment)

    def to(self, moment: datetime) -> datetime:
        """Set it."""
        self.release()
        self._block.enter_context(clock.frozen(moment))
        self.now = moment
        return moment

    def move(self, **delta: float) -> datetime:
        """Let it pass, for example `move(minutes=5)`."""
        return self.to(self.now + timedelta(**delta))

    def release(self) -> None:
        """Give the machine's clock back."""
        self._block.close()


def price(symbol: str, usd: str, *, at: datetime | None = None) -> Quote:
    """The newest quote of a symbol."""
    values = {"price": Decimal(usd), "at": at or clock.now(), "source": "test"}
    quote, _ = Quote.objects.update_or_create(symbol=symbol, defaults=values)
    return quote


def hourly_bars(symbol: str, closes: Iterable[float], *, until: datetime = T0) -> None:
    """One five-minute bar at the end of each hour, the last one just closed at `until`."""
    values = list(closes)
    candles.store(symbol, (_bar(until - BAR - HOUR * (len(values) - 1 - i), c) for i, c in enumerate(values)))


def _bar(opened: datetime, close: float) -> Bar:
    value = Decimal(repr(close))
    return Bar(opened, value, value * Decimal("1.001"), value * Decimal("0.999"), value, Decimal(10))


def calm(level: float = 2000.0, bars: int = 60) -> list[float]:
    """Closes that go up and down by the same step: an RSI near 50."""
    return [level * (1.001 if i % 2 else 0.999) for i in range(bars)]


def rising(level: float = 2000.0, bars: int = 60) -> list[float]:
    """Closes of an upward trend with small setbacks."""
    return [level * (1 + 0.004 * i - (0.005 if i % 3 == 2 else 0)) for i in range(bars)]


def agent(*, weights: Mapping[str, int] = TWEETS_ONLY, state: str = "active", **fields: Any) -> Agent:
    """An agent on paper that hears posts only."""
    values = {"name": f"agent {next(_number)}", "tokens": ["ETH"]} | fields
    return Agent.objects.create(state=state, weights=dict(weights), **values)


def account(*followers: Agent, username: str = "", **fields: Any) -> CtAccount:
    """An author, followed by `followers`."""
    name = username or f"author{next(_number)}"
    made = CtAccount.objects.create(x_username=name, **{"source": "jsonl"} | fields)
    Subscription.objects.bulk_create([Subscription(agent=one, account=made) for one in followers])
    return made


def deployment(of: Agent, *, usdc: str = "10000", funded: bool = True, **fields: Any) -> Deployment:
    """A deployment with play money, active."""
    values = {"account": f"paper:{next(_number)}", "state": "active"} | fields
    made = Deployment.objects.create(agent=of, starting_balance=Decimal(usdc), **values)
    if funded:
        fund(made)
    return made


def booked_deployment(of: Agent, *, usdc: str = "10000", **fields: Any) -> Deployment:
    """The same where the venue is a fake: money in the ledger only."""
    made = deployment(of, usdc=usdc, funded=False, **fields)
    ledger.deposit(made, Decimal(usdc))
    return made


def open_gate(venue: str = "paper") -> None:
    """Orders may leave for a year."""
    gate.set_dry_run(venue, False, by="test", reason="test")
    gate.approve(venue, by="test", until=clock.now() + timedelta(days=365), reason="test")


def post(by: CtAccount, text: str = "buying $ETH here, looks strong", **fields: Any) -> CtPost:
    """A post as ingestion leaves it."""
    ident = str(10**18 + next(_number))
    values = {
        "post_id": ident,
        "source": by.source,
        "posted_at": clock.now(),
        "ingested_at": clock.now(),
        "correlation_id": correlation.derive_id("post", ident),
    }
    return CtPost.objects.create(account=by, text=text, **values | fields)


def candidate(
    by: CtAccount, sides: Mapping[str, str] | None = None, confidence: str = "0.9", **fields: Any
) -> CtPost:
    """A post as classification leaves it."""
    chosen = dict(sides or {"ETH": "long"})
    values: dict[str, Any] = {
        "state": "classified",
        "is_signal_candidate": True,
        "sides": chosen,
        "tokens": list(chosen),
        "confidence": Decimal(confidence),
        "outcome": "candidate:waiting",
    }
    return post(by, **values | fields)


def signal(of: Agent, *, token: str = "ETH", side: str = "long", usd: str = "2000", **fields: Any) -> Signal:
    """A pending signal."""
    now = clock.now()
    values: dict[str, Any] = {
        "venue": of.venue,
        "bucket": clock.bucket(now, timedelta(hours=6)) + timedelta(hours=6) * next(_number),
        "confidence": Decimal("0.72"),
        "entry_price": Decimal(usd),
        "stop_loss_pct": Decimal(6),
        "take_profit_pct": Decimal(18),
        "leverage": Decimal(1),
        "size_model": {"posts": 1},
        "market": {"volatility_pct": 1.0, "ewma_pct": 1.0, "atr_pct": 1.0},
        "correlation_id": correlation.derive_id("test signal", next(_number)),
        "created_at": now,
        "expires_at": now + timedelta(hours=6),
    }
    return Signal.objects.create(agent=of, token=token, side=side, **values | fields)


def order(
    of: Deployment, *, by: Signal | None = None, purpose: str = "open", side: str = "buy", **fields: Any
) -> Order:
    """A planned order; a closing order closes an entry that was booked before."""
    number = next(_number)
    if purpose == "close" and "closes" not in fields:
        entry = "sell" if side == "buy" else "buy"
        bought = Decimal(fields.get("quantity") or 1)
        fields["closes"] = order(
            of, side=entry, state="filled", quantity=bought, filled_quantity=bought, booked_quantity=bought
        )
    values: dict[str, Any] = {
        "idempotency_key": f"{purpose}:{of.pk}:test-{number}",
        "symbol": by.token if by else "ETH",
        "venue": of.agent.venue,
        "account": of.account,
        "position_side": by.side if by else "long",
        "correlation_id": by.correlation_id if by else correlation.derive_id("test order", number),
        "created_at": clock.now(),
    }
    return Order.objects.create(deployment=of, signal=by, purpose=purpose, side=side, **values | fields)


def position(of: Deployment, *, side: str = "long", entry: str = "2000", **fields: Any) -> Position:
    """An open position with its filled entry order."""
    started = fields.pop("by", None)
    quantity = Decimal(fields.pop("quantity", "0.4"))
    filled = order(
        of,
        by=started,
        side="buy" if side == "long" else "sell",
        position_side=side,
        symbol=fields.get("symbol", "ETH"),
        state="filled",
        quantity=quantity,
        filled_quantity=quantity,
        booked_quantity=quantity,
        average_price=Decimal(entry),
    )
    sign = 1 if side == "long" else -1
    values: dict[str, Any] = {
        "symbol": filled.symbol,
        "entry_price": Decimal(entry),
        "stop_loss": Decimal(entry) * (1 - sign * Decimal("0.06")),
        "take_profit": Decimal(entry) * (1 + sign * Decimal("0.18")),
        "time_exit_at": clock.now() + timedelta(days=7),
        "opened_at": clock.now(),
        "correlation_id": filled.correlation_id,
    }
    return Position.objects.create(
        deployment=of, signal=started, entry_order=filled, side=side, quantity=quantity, **values | fields
    )


def market(**fields: float) -> Snapshot:
    """Indicators of a market that leans nowhere."""
    values = {
        "close": 2000.0,
        "rsi": 50.0,
        "macd_histogram": 0.0,
        "bollinger_b": 0.5,
        "volume_z": 0.0,
        "fast_average": 2000.0,
        "slow_average": 2000.0,
        "momentum_pct": 0.0,
        "atr_pct": 1.0,
        "volatility_pct": 1.0,
        "ewma_pct": 1.0,
    }
    return Snapshot(**values | fields)


OPEN_GATE = GateFacts(dry_run=False, approved=True, kill_level="")
IDLE = LimitUsage(
    orders_last_minute=0, open_orders=0, exposure_usd=Decimal(0), symbol_exposure_usd=Decimal(0)
)


def facts(**fields: Any) -> Facts:
    """An entry that nothing speaks against."""
    values: dict[str, Any] = {
        "gate": OPEN_GATE,
        "reduces": False,
        "buys": True,
        "duplicate": False,
        "owner": OwnerTerms(),
        "account": IDLE,
        "platform": IDLE,
        "symbol_orders_today": 0,
        "since_last_order": timedelta(days=1),
        "price": Decimal(2000),
        "signal_price": Decimal(2000),
        "volatility_pct": Decimal(1),
        "notional_usd": Decimal(800),
        "quantity": Decimal("0.4"),
        "listed": True,
        "min_usd": Decimal(10),
        "spendable_usd": Decimal(10_000),
        "expected_price": fields.get("price", Decimal(2000)),
        "held": Decimal(0),
        "venue_problem": "",
    }
    return Facts(**values | fields)


def event_names(*, after: int = 0, of: str = "") -> list[str]:
    """The names of the events since the event `after`, oldest first; of one subject where given."""
    found = Event.objects.filter(pk__gt=after).order_by("pk")
    return list((found.filter(subject=of) if of else found).values_list("name", flat=True))


def last_event() -> int:
    """The id of the newest event."""
    newest = Event.objects.order_by("-pk").first()
    return newest.pk if newest else 0


def place(order: Order, venue: Venue, policy: RiskPolicy) -> Verdict:
    """Reserve and send one planned order, or block it. Raises StaleState where another worker was first."""
    for placed in execute.place([order], venue, policy):
        return placed.verdict
    raise StaleState(f"order {order.pk} was not placed")


def settle_order(order: Order, venue: Venue) -> bool:
    """Ask the venue for one order's status and book it; return whether anything changed."""
    return bool(settle.settle_orders([order], venue))


def apply_report(order: Order, report: Report, *, collects_fees: bool = False) -> bool:
    """Book one report; return whether anything changed."""
    return settle.apply_reports([settle.Reported(order, report)], collects_fees=collects_fees)[0].changed


def book_fill(order: Order, fill: Fill) -> bool:
    """Book a stored fill in the ledger."""
    return bool(ledger.post_all([ledger.fill_journal(order, fill.pk, fill)]))


def webhook(user: Any, address: str, channel: str = "webhook", **values: Any) -> Endpoint:
    """A webhook of a user, as `endpoints.set_endpoint` would store it; nothing resolves its host."""
    now = clock.now()
    row = Endpoint(user=user, channel=channel, created_at=now, verified_at=now, **values)
    sealed = endpoints.KEYS.seal({"address": address}, endpoints.context_of(row))
    row.content, row.key_id, row.hint = sealed.content, sealed.key_id, CHANNELS.open(channel).shown(address)
    row.save()
    return row
