"""Execute signals: plan one order per active deployment, check it, then reserve and send it or block it with a reason.

Reserve, then send: one transaction takes the locks, reads the gate, checks every limit against what is already
reserved, and moves planned -> sending with the exact bytes to send stored. Nothing is sent before it commits.
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
from trading.reasons import Reason
from trading.risk import Facts, Verdict
from trading.states import OrderState
from trading.venues.base import Prepared, Request, Venue
from trading.wiring import venue

log = structlog.get_logger(__name__)

FAN_OUT = """
WITH planned AS (
    INSERT INTO orders (deployment_id, signal_id, idempotency_key, purpose, symbol, venue, account, position_side,
                        side, leverage, correlation_id, created_at, updated_at)
    SELECT d.id, s.id, 'open:' || d.id || ':' || s.id, 'open', s.token, s.venue, d.account, s.side,
           CASE s.side WHEN 'long' THEN 'buy' ELSE 'sell' END, s.leverage, s.correlation_id, %(now)s, %(now)s
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
    """Plan one entry order for each active deployment of each pending signal; return how many.

    `only`: the id of one signal; None: all.
    """
    with connection.cursor() as cursor:
        cursor.execute(FAN_OUT, {"now": clock.now(), "only": only})
        return int(cursor.rowcount)


@dataclass
class PlacementCounts:
    """Counts of orders that were sent or blocked."""

    due: int = 0
    sent: int = 0
    blocked: dict[str, int] = field(default_factory=dict)
    """Reason code -> count."""

    def count(self, verdict: Verdict) -> None:
        """Add one order's verdict."""
        if verdict.allowed:
            self.sent += 1
        else:
            self.blocked[verdict.reason] = self.blocked.get(verdict.reason, 0) + 1


def place_due_orders(
    purpose: str, policy: RiskPolicy, batch: int, budget: TimeBudget | None = None
) -> PlacementCounts:
    """Place the planned orders of one purpose ("open" or "close"), oldest first: `batch` at most, within `budget`."""
    due = Order.objects.filter(state=OrderState.PLANNED, purpose=purpose)
    placed = PlacementCounts()
    for order in quarantine.oldest_first(due, "deployment__agent", "signal", limit=batch, budget=budget):
        placed.due += 1
        with quarantine.quarantine_on_error(order):
            placed.count(place_order(order, venue(order.venue), policy))
    return placed


def place_order(order: Order, at_venue: Venue, policy: RiskPolicy) -> Verdict:
    """Reserve one planned order and send it, or block it; return the verdict.

    The venue is asked only about an order that no other check blocks, and outside the lock, because that is network
    I/O. All checks run again under the lock that reserves. Raises StaleState when another worker was first.
    """
    policy = policy.of(order.symbol)
    with transaction.atomic():
        facts = _read_facts(order, policy, NO_ANSWER)
        verdict = risk.check_before_venue(facts, policy)
        if not verdict.allowed:
            return _block_order(order, verdict, facts)
    answer = _ask_venue(order, at_venue, policy)
    with transaction.atomic():
        facts = _read_facts(order, policy, answer)
        verdict = risk.check(facts, policy)
        if not verdict.allowed:
            return _block_order(order, verdict, facts)
        prepared = _reserve_order(order, at_venue, policy, facts)
    send_order(order, at_venue, prepared)
    return verdict


def _block_order(order: Order, verdict: Verdict, facts: Facts) -> Verdict:
    """Move planned -> blocked with the failed check on the order; return the verdict."""
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
class VenueAnswer:
    """The venue's answer about an order. None means that it could not be read, which blocks."""

    problem: str | None = None
    """The reason code of the venue's objection, empty for none."""
    expected_price: Decimal | None = None
    """USD per token that an entry would be filled at."""


NO_ANSWER = VenueAnswer()


def _ask_venue(order: Order, at_venue: Venue, policy: RiskPolicy) -> VenueAnswer:
    """Ask the venue for objections and, for an entry, the expected price of the largest order the sizing allows."""
    max_usd = policy.sizing[order.deployment.agent.sizing_preset].max_usd  # type: ignore[index]  # the column's choices
    try:
        problem = at_venue.problem(order.deployment_id, order.account, order.symbol, order.purpose)
        if problem or order.purpose == Purpose.CLOSE:
            return VenueAnswer(problem)
        cash = max_usd * order.leverage
        return VenueAnswer("", at_venue.expected_price(order.account, order.symbol, order.side, cash))
    except Rejected as rejection:
        return VenueAnswer(rejection.code)
    except (Retryable, Unknown) as error:
        log.warning("venue_not_read", venue=order.venue, error=str(error))
        return NO_ANSWER


def _read_facts(order: Order, policy: RiskPolicy, answer: VenueAnswer) -> Facts:
    """Take the lock and read every fact that the checks use."""
    if order.purpose == Purpose.CLOSE:
        limits.lock(order.account, platform=False)
        return _exit_facts(order, answer)
    limits.lock(order.account)
    return _entry_facts(order, policy, answer)


def _exit_facts(order: Order, answer: VenueAnswer) -> Facts:
    """Read the facts of a closing order. No throttle and no limit applies to it, so only its account is read."""
    price, quantity = _exit_price(order), order.quantity or ZERO
    holdings = limits.read_holdings(order.account, order.symbol)
    return Facts(
        gate=gate.read(order.venue, order.account),
        reduces=True,
        buys=order.side == OrderSide.BUY,
        duplicate=order.client_order_id is not None,
        price=price,
        notional_usd=usdc(quantity * price) if price else ZERO,
        quantity=quantity,
        listed=order.symbol in listed_on(order.venue),
        held=holdings.held.get((order.account, order.symbol), ZERO),
        venue_problem=answer.problem,
    )


def _exit_price(order: Order) -> Decimal | None:
    """Return the reference price of a closing order in USD; None where there is none.

    A fresh quote counts even if its sources disagree. If an operator or the kill switch closes, the last known price is
    used: the venue's slippage limit protects the fill, and missing quotes must not prevent the exit.
    """
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
    """Return symbol -> fresh price in USD, read again because quotes age while the venue and the lock are awaited.

    A quote whose sources disagree is good enough to value holdings but not to open this order.
    """
    fresh = quotes.latest(list(all_instruments()), closing=True)
    return {symbol: quote.price for symbol, quote in fresh.items() if quote.trusted or symbol != order.symbol}


def _entry_facts(order: Order, policy: RiskPolicy, answer: VenueAnswer) -> Facts:
    """Read the facts of an entry: usage of the account and the platform, and its size in whole lots."""
    now, prices = clock.now(), _entry_prices(order)
    holdings, rate = limits.read_holdings(), limits.read_order_rate(order.account, order.symbol, now)
    price = prices.get(order.symbol)
    spendable = limits.equity(ledger.traded(order.deployment_id), ledger.owed(order.deployment_id), prices)
    exposure = holdings.exposure(prices, order.account)
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
        account=holdings.usage(prices, order.symbol, rate.account_last_minute, order.account),
        platform=holdings.usage(prices, order.symbol, rate.platform_last_minute),
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
        held=holdings.held.get((order.account, order.symbol), ZERO),
        venue_problem=answer.problem,
    )


BAND_FIGURE = {"std": "volatility_pct", "ewma": "ewma_pct", "atr": "atr_pct"}
"""Method of the volatility band -> the indicator stored with the signal."""


def _volatility(order: Order, policy: RiskPolicy) -> Decimal | None:
    """Return the volatility in percent per bar stored with the signal; None (blocks the entry) where none was."""
    stored = order.signal.market.get(BAND_FIGURE[policy.volatility_band.method]) if order.signal else None
    return None if stored is None else Decimal(repr(stored))


def _reserve_order(order: Order, at_venue: Venue, policy: RiskPolicy, facts: Facts) -> Prepared:
    """Move planned -> sending and store what will be sent, in the caller's transaction; return it."""
    if facts.price is None:
        raise ValueError(f"order {order.pk} passed the checks without a price")
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


def send_order(order: Order, at_venue: Venue, prepared: Prepared) -> None:
    """Send a reserved order and settle it at once.

    The gate is read again first: it may have been closed since the reservation.
    """
    if not settle.gate_allows(order):
        return
    try:
        at_venue.send(prepared)
    except Rejected as rejection:
        advance(order, OrderState.REJECTED, why=str(rejection), reason=rejection.code)
        return
    except Retryable as error:  # it did not arrive: the settle sweep sends the same bytes again
        log.warning("order_not_sent", order=order.pk, error=str(error))
        return
    except Unknown as error:
        advance(order, OrderState.UNKNOWN, why=str(error))
        return
    settle.settle(order, at_venue)


def expire_signals() -> int:
    """Expire signals past `expires_at` and their unsent orders; return how many signals expired.

    A signal with an order that traded becomes executed instead.
    """
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
            why=Reason.SIGNAL_EXPIRED,
            reason=Reason.SIGNAL_EXPIRED,
        )
        with connection.cursor() as cursor:
            cursor.execute(TRADED_SIGNALS, [late])
            executed = [pk for (pk,) in cursor.fetchall()]
        advance_all(Signal, executed, SignalState.PENDING, SignalState.EXECUTED)
        return len(
            advance_all(
                Signal,
                sorted(set(late) - set(executed)),
                SignalState.PENDING,
                SignalState.EXPIRED,
                why=Reason.NOT_IN_TIME,
                reason=Reason.NOT_IN_TIME,
            )
        )


IS_TRADED = "(o.state NOT IN ('blocked', 'rejected', 'expired', 'canceled') OR o.filled_quantity > 0)"
TRADED_SIGNALS = f"""
SELECT DISTINCT o.signal_id FROM orders o WHERE o.purpose = 'open' AND o.signal_id = ANY(%s) AND {IS_TRADED} ORDER BY 1
"""  # noqa: S608 (constants only)
FINISHED_SIGNALS = f"""
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


def finish_signals() -> dict[str, int]:
    """Mark pending signals without open decisions executed (an order was sent) or skipped; return the counts.

    The reason of a skipped signal is that of its first blocked order. A signal that still lacks an order for an active
    deployment waits for the next `fan_out`.
    """
    with connection.cursor() as cursor:
        cursor.execute(FINISHED_SIGNALS)
        rows = cursor.fetchall()
    executed = [pk for pk, traded, _ in rows if traded]
    skipped: dict[str, list[int]] = {}
    for pk, traded, reason in rows:
        if not traded:
            skipped.setdefault(reason or Reason.NO_ACTIVE_DEPLOYMENT, []).append(pk)
    advance_all(Signal, executed, SignalState.PENDING, SignalState.EXECUTED)
    for reason, ids in skipped.items():
        advance_all(Signal, ids, SignalState.PENDING, SignalState.SKIPPED, why=reason, reason=reason)
    return {"executed": len(executed)} | {reason: len(ids) for reason, ids in skipped.items()}
