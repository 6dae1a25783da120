"""pending signals -> one order per active deployment -> reserved, sent, or blocked with the reason

Reserve, then send: one transaction reads the gate, takes the locks, checks every limit against what is already
reserved, and moves planned -> sending with what will leave stored. Only then does anything leave.
"""

from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal

import structlog
from django.db import connection, transaction

from maxxit.core import clock, correlation
from maxxit.core.errors import Rejected, Retryable, Unknown
from maxxit.core.money import ZERO, usdc
from maxxit.core.terms import OrderSide, Purpose
from maxxit.events.record import advance, advance_all
from maxxit.market import quotes
from maxxit.market.instruments import all_instruments, instrument, listed_on
from signals_app.models import Signal
from signals_app.states import SignalState
from trading import gate, ledger, limits, quarantine, risk, settle, sizing
from trading.models import Fill, Order
from trading.passes import TimeBudget
from trading.policy import RiskPolicy
from trading.risk import Facts, Verdict
from trading.states import OrderState
from trading.venues.base import Prepared, Request, Venue
from trading.wiring import venue

log = structlog.get_logger(__name__)

FAN_OUT = """
WITH planned AS (
    INSERT INTO orders (deployment_id, signal_id, idempotency_key, purpose, symbol, venue, account, position_side,
                        side, leverage, state, reason, verdict, exit_reason, prepared, venue_ref, filled_quantity,
                        booked_quantity, correlation_id, attempts, last_error, created_at, updated_at)
    SELECT d.id, s.id, 'open:' || d.id || ':' || s.id, 'open', s.token, s.venue, d.account, s.side,
           CASE s.side WHEN 'long' THEN 'buy' ELSE 'sell' END, s.leverage, 'planned', '', '{}', '', '{}', '', 0,
           0, s.correlation_id, 0, '', %(now)s, %(now)s
    FROM signals s
    JOIN agents a ON a.id = s.agent_id AND a.state = 'active'
    JOIN agent_deployments d ON d.agent_id = a.id AND d.state = 'active'
    WHERE s.state = 'pending' AND s.expires_at > %(now)s AND (%(only)s::bigint IS NULL OR s.id = %(only)s)
      AND NOT EXISTS (SELECT FROM orders o WHERE o.signal_id = s.id AND o.deployment_id = d.id AND o.purpose = 'open')
    ORDER BY s.id, d.id
    ON CONFLICT DO NOTHING
    RETURNING id, correlation_id
)
INSERT INTO events (at, name, subject, correlation_id, data)
SELECT %(now)s, 'order.planned', 'trading.order/' || id, correlation_id, '{}' FROM planned ORDER BY id
"""


def fan_out(only: int | None = None) -> int:
    """One planned order for each active deployment of each pending signal (or of the one with the id `only`), in one
    statement; returns how many."""
    with connection.cursor() as cursor:
        cursor.execute(FAN_OUT, {"now": clock.now(), "only": only})
        return int(cursor.rowcount)


@dataclass
class Placed:
    """What became of a set of orders."""

    due: int = 0
    sent: int = 0
    blocked: dict[str, int] = field(default_factory=dict)

    def count(self, verdict: Verdict) -> None:
        """Add one order's verdict."""
        if verdict.allowed:
            self.sent += 1
        else:
            self.blocked[verdict.reason] = self.blocked.get(verdict.reason, 0) + 1


def place_due(purpose: str, policy: RiskPolicy, batch: int, budget: TimeBudget | None = None) -> Placed:
    """Take the planned orders of one purpose to their venues, the oldest first: at most `batch` of them, and none
    once `budget` is used up."""
    due = Order.objects.filter(state=OrderState.PLANNED, purpose=purpose)
    placed = Placed()
    for order in quarantine.oldest_first(due, "deployment__agent", "signal", limit=batch, budget=budget):
        placed.due += 1
        with quarantine.quarantine_on_error(order):
            placed.count(place(order, venue(order.venue), policy))
    return placed


def place(order: Order, at_venue: Venue, policy: RiskPolicy) -> Verdict:
    """Reserve one planned order and send it, or block it. Raises StaleState when another worker was first.

    The venue is asked only about an order that nothing else stops, and outside of the lock, since a network may lie
    between. What is checked before is checked again under the lock that reserves.
    """
    policy = policy.of(order.symbol)
    with transaction.atomic():
        facts = _gather(order, policy, UNASKED)
        verdict = risk.check_unasked(facts, policy)
        if not verdict.allowed:
            return _block(order, verdict, facts)
    answer = _ask(order, at_venue, policy)
    with transaction.atomic():
        facts = _gather(order, policy, answer)
        verdict = risk.check(facts, policy)
        if not verdict.allowed:
            return _block(order, verdict, facts)
        prepared = _reserve(order, at_venue, policy, facts)
    send(order, at_venue, prepared)
    return verdict


def _block(order: Order, verdict: Verdict, facts: Facts) -> Verdict:
    """planned -> blocked, with the check that stopped it; returns the verdict."""
    advance(
        order,
        OrderState.BLOCKED,
        why=verdict.reason,
        data=verdict.as_json(),
        reason=verdict.reason,
        verdict=verdict.as_json(),
        reference_price=facts.price,
    )
    return verdict


@dataclass(frozen=True, slots=True)
class Answer:
    """What a venue says of an order; None what it could not say, which blocks."""

    problem: str | None = None
    """What it objects to, empty for nothing."""
    expected_price: Decimal | None = None
    """What it would fill an entry at, USD a token."""


UNASKED = Answer()


def _ask(order: Order, at_venue: Venue, policy: RiskPolicy) -> Answer:
    """What the venue objects to, and the price of an entry there: for the largest that the sizing allows."""
    largest = policy.sizing[order.deployment.agent.sizing_preset].max_usd  # type: ignore[index]  # the column's choices
    try:
        problem = at_venue.problem(order.deployment_id, order.account, order.symbol, order.purpose)
        if problem or order.purpose == Purpose.CLOSE:
            return Answer(problem)
        cash = largest * order.leverage
        return Answer("", at_venue.expected_price(order.account, order.symbol, order.side, cash))
    except Rejected as no:
        return Answer(no.code)
    except (Retryable, Unknown) as error:
        log.warning("venue_not_read", venue=order.venue, error=str(error))
        return UNASKED


def _gather(order: Order, policy: RiskPolicy, answer: Answer) -> Facts:
    """Every fact that the checks use, read under the lock that is taken here."""
    if order.purpose == Purpose.CLOSE:
        limits.lock(order.account, platform=False)
        return _exit_facts(order, answer)
    limits.lock(order.account)
    return _entry_facts(order, policy, answer)


def _exit_facts(order: Order, answer: Answer) -> Facts:
    """A closing order waits for no throttle and uses up no limit: only its own account counts."""
    price, quantity = _exit_price(order), order.quantity or ZERO
    book = limits.read_book(order.account, order.symbol)
    return Facts(
        gate=gate.read(order.venue, order.account),
        reduces=True,
        buys=order.side == OrderSide.BUY,
        duplicate=order.client_order_id is not None,
        price=price,
        notional_usd=usdc(quantity * price) if price else ZERO,
        quantity=quantity,
        listed=order.symbol in listed_on(order.venue),
        held=book.held.get((order.account, order.symbol), ZERO),
        venue_problem=answer.problem,
    )


def _exit_price(order: Order) -> Decimal | None:
    """The usable quote, also one whose sources disagree. Where a person or the kill switch closes, the last known
    price serves: the venue protects the fill, and what we do not know of the market must not keep anybody in it."""
    fresh = quotes.latest([order.symbol], closing=True).get(order.symbol)
    if fresh is not None:
        return fresh.price
    if not order.is_urgent:
        return None
    known = quotes.last_known(order.symbol)
    if known is not None:
        return known.price
    fills = Fill.objects.filter(order__account=order.account, order__symbol=order.symbol)
    return fills.order_by("-pk").values_list("price", flat=True).first()


def _entry_prices(order: Order) -> dict[str, Decimal]:
    """Usable now, under the lock: while the venue was asked, and the lock awaited, a quote may have grown stale.

    One whose sources disagree values what is held, but opens nothing.
    """
    found = quotes.latest(list(all_instruments()), closing=True)
    return {symbol: one.price for symbol, one in found.items() if one.trusted or symbol != order.symbol}


def _entry_facts(order: Order, policy: RiskPolicy, answer: Answer) -> Facts:
    """What the account and the platform already do, what the entry would add, and its quantity in whole lots."""
    now, prices = clock.now(), _entry_prices(order)
    book, rate = limits.read_book(), limits.read_order_rate(order.account, order.symbol, now)
    price = prices.get(order.symbol)
    spendable = limits.equity(ledger.traded(order.deployment_id), ledger.owed(order.deployment_id), prices)
    exposure = book.exposure(prices, order.account)
    preset = policy.sizing[order.deployment.agent.sizing_preset]  # type: ignore[index]  # the column's choices
    quantity = order.quantity or ZERO
    if order.signal and price and spendable is not None and exposure is not None:
        sized = sizing.size(
            preset,
            equity=spendable,
            exposure=exposure,
            confidence=order.signal.confidence,
            posts=order.signal.size_model.get("posts", 0),
        )
        quantity = instrument(order.symbol).round_quantity(sized.notional * order.leverage / price)
    return Facts(
        gate=gate.read(order.venue, order.account),
        reduces=False,
        buys=order.side == OrderSide.BUY,
        duplicate=order.client_order_id is not None,
        account=book.load(prices, order.symbol, rate.account_last_minute, order.account),
        platform=book.load(prices, order.symbol, rate.platform_last_minute),
        symbol_orders_today=rate.symbol_today,
        since_last_order=rate.since_last,
        price=price,
        signal_price=order.signal.entry_price if order.signal else None,
        volatility_pct=_volatility(order, policy),
        notional_usd=usdc(quantity * price) if price else ZERO,
        quantity=quantity,
        listed=order.symbol in listed_on(order.venue),
        min_usd=preset.min_usd,
        spendable_usd=spendable,
        expected_price=answer.expected_price,
        held=book.held.get((order.account, order.symbol), ZERO),
        venue_problem=answer.problem,
    )


BAND_FIGURE = {"std": "volatility_pct", "ewma": "ewma_pct", "atr": "atr_pct"}
"""Method of the volatility band -> the indicator that was kept with the signal."""


def _volatility(order: Order, policy: RiskPolicy) -> Decimal | None:
    """Percent per bar as the signal knew it; None where it was not kept, which blocks an entry."""
    known = order.signal.market.get(BAND_FIGURE[policy.volatility_band.method]) if order.signal else None
    return None if known is None else Decimal(repr(known))


def _reserve(order: Order, at_venue: Venue, policy: RiskPolicy, facts: Facts) -> Prepared:
    """planned -> sending, with what will leave stored in the same transaction."""
    if facts.price is None:
        raise ValueError("a reservation needs a price: the checks let one pass without")
    now = clock.now()
    deadline = now + timedelta(seconds=policy.order_deadline_seconds)
    client_order_id = f"mx-{correlation.derive_id('order', order.pk, order.correlation_id).hex[:24]}"
    prepared = at_venue.prepare(
        Request(
            client_order_id=client_order_id,
            account=order.account,
            symbol=order.symbol,
            side=order.side,
            purpose=order.purpose,
            quantity=facts.quantity,
            reference_price=facts.price,
            deadline=deadline,
            trade=f"{order.deployment_id}/{order.signal_id}",
            urgent=order.is_urgent,
        )
    )
    advance(
        order,
        OrderState.SENDING,
        client_order_id=client_order_id,
        quantity=facts.quantity,
        reference_price=facts.price,
        notional_usd=facts.notional_usd,
        prepared=dict(prepared.payload),
        venue_ref=prepared.ref,
        reserved_at=now,
        deadline=deadline,
    )
    return prepared


def send(order: Order, at_venue: Venue, prepared: Prepared) -> None:
    """Let what is stored leave, and book what the venue answers at once.

    The gate is read once more: between reserving and sending it may have been shut, and this process have slept.
    """
    if not settle.may_leave(order):
        return
    try:
        at_venue.send(prepared)
    except Rejected as no:
        advance(order, OrderState.REJECTED, why=str(no), reason=no.code)
        return
    except Retryable as later:  # certainly not arrived: the settle sweep sends the same again
        log.warning("order_not_sent", order=order.pk, error=str(later))
        return
    except Unknown as maybe:
        advance(order, OrderState.UNKNOWN, why=str(maybe))
        return
    settle.settle(order, at_venue)


def expire() -> int:
    """Signals past their time, and the orders of theirs that never left. One that traded before has been executed."""
    late = list(
        Signal.objects.filter(state=SignalState.PENDING, expires_at__lte=clock.now()).values_list(
            "pk", flat=True
        )
    )
    if not late:
        return 0
    with transaction.atomic():
        orders = Order.objects.filter(signal__in=late, state=OrderState.PLANNED).values_list("pk", flat=True)
        advance_all(
            Order,
            list(orders),
            OrderState.PLANNED,
            OrderState.EXPIRED,
            why="signal_expired",
            reason="signal_expired",
        )
        with connection.cursor() as cursor:
            cursor.execute(TRADED, [late])
            executed = [pk for (pk,) in cursor.fetchall()]
        advance_all(Signal, executed, SignalState.PENDING, SignalState.EXECUTED)
        return len(
            advance_all(
                Signal,
                sorted(set(late) - set(executed)),
                SignalState.PENDING,
                SignalState.EXPIRED,
                why="not_in_time",
                reason="not_in_time",
            )
        )


IS_TRADED = "(o.state NOT IN ('blocked', 'rejected', 'expired', 'canceled') OR o.filled_quantity > 0)"
TRADED = f"""
SELECT DISTINCT o.signal_id FROM orders o WHERE o.purpose = 'open' AND o.signal_id = ANY(%s) AND {IS_TRADED} ORDER BY 1
"""  # noqa: S608 (constants only)
CONCLUDED = f"""
SELECT s.id,
       bool_or({IS_TRADED}) AS traded,
       (array_agg(o.reason ORDER BY o.id))[1] AS first_reason
FROM signals s LEFT JOIN orders o ON o.signal_id = s.id AND o.purpose = 'open'
WHERE s.state = 'pending' AND NOT EXISTS (
    SELECT FROM agent_deployments d
    WHERE d.agent_id = s.agent_id AND d.state = 'active' AND NOT EXISTS (
        SELECT FROM orders x WHERE x.signal_id = s.id AND x.deployment_id = d.id AND x.purpose = 'open'
    )
)
GROUP BY s.id
HAVING bool_and(o.state IS DISTINCT FROM 'planned')
ORDER BY s.id
"""  # noqa: S608 (constants only)


def conclude() -> dict[str, int]:
    """Pending signals with nothing left to place: executed when any order left, otherwise skipped with the reason.

    A signal that was made after this pass fanned out has no orders yet and waits for the next pass.
    """
    with connection.cursor() as cursor:
        cursor.execute(CONCLUDED)
        rows = cursor.fetchall()
    executed = [pk for pk, traded, _ in rows if traded]
    skipped: dict[str, list[int]] = {}
    for pk, traded, reason in rows:
        if not traded:
            skipped.setdefault(reason or "no_active_deployment", []).append(pk)
    advance_all(Signal, executed, SignalState.PENDING, SignalState.EXECUTED)
    for reason, ids in skipped.items():
        advance_all(Signal, ids, SignalState.PENDING, SignalState.SKIPPED, why=reason, reason=reason)
    return {"executed": len(executed)} | {reason: len(ids) for reason, ids in skipped.items()}
