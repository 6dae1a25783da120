"""Plan one entry per active deployment of a signal; expire signals past their time, finish those that are decided."""

from collections.abc import Callable

from django.db import connection, transaction

from maxxit.core import clock
from maxxit.events.record import advance_all
from signals_app.models import Signal
from signals_app.states import SignalState
from trading.models import Order
from trading.reasons import Reason
from trading.states import OrderState

FAN_OUT = """
WITH planned AS (
    INSERT INTO orders (deployment_id, signal_id, idempotency_key, purpose, symbol, venue, account, position_side,
                        side, leverage, reason, correlation_id, created_at, updated_at)
    SELECT d.id, s.id, 'open:' || d.id || ':' || s.id, 'open', s.token, s.venue, d.account, s.side,
           CASE s.side WHEN 'long' THEN 'buy' ELSE 'sell' END, s.leverage,
           CASE WHEN d.confirm_entries THEN 'awaiting_confirmation' ELSE '' END, s.correlation_id, %(now)s, %(now)s
    FROM signals s
    JOIN agents a ON a.id = s.agent_id AND a.state = 'active'
    JOIN agent_deployments d ON d.agent_id = a.id AND d.state = 'active'
    WHERE s.state = 'pending' AND s.expires_at > %(now)s AND (%(only)s::bigint IS NULL OR s.id = %(only)s)
      AND NOT EXISTS (SELECT FROM orders o WHERE o.signal_id = s.id AND o.deployment_id = d.id AND o.purpose = 'open')
    ORDER BY s.id, d.last_entry, d.id
    LIMIT %(most)s
    ON CONFLICT DO NOTHING
    RETURNING id, deployment_id, reason, correlation_id
), told AS (
    INSERT INTO events (at, name, subject, correlation_id, data)
    SELECT %(now)s, 'order.planned', 'trading.order/' || id, correlation_id, '{}' FROM planned ORDER BY id
), asked AS (
    INSERT INTO events (at, name, subject, correlation_id, data)
    SELECT %(now)s, 'order.awaiting_confirmation', 'trading.order/' || p.id, p.correlation_id,
           jsonb_strip_nulls(jsonb_build_object('owner_id', d.owner_id))
    FROM planned p JOIN agent_deployments d ON d.id = p.deployment_id WHERE p.reason <> '' ORDER BY p.id
)
SELECT count(*) FROM planned
"""
"""Orders are served by ascending id: of a signal's deployments the one served longest ago is planned first. An entry
whose owner confirms each waits for that (`trading.deployments.confirmation`)."""
BATCH = 2_000
"""Orders that one statement plans."""


def fan_out(only: int | None = None, *, between: Callable[[], None] | None = None) -> int:
    """Plan one entry order for each active deployment of each pending signal; return how many.

    Args:
        only: the id of one signal; None: all.
        between: called between two batches, outside a transaction of this function.
    """
    planned = 0
    while True:
        with connection.cursor() as cursor:
            cursor.execute(FAN_OUT, {"now": clock.now(), "only": only, "most": BATCH})
            of_batch = int(cursor.fetchone()[0])
        planned += of_batch
        if of_batch < BATCH:
            return planned
        if between:
            between()


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
        planned = Order.objects.filter(signal__in=late, state=OrderState.PLANNED)
        waited = planned.filter(reason=Reason.PLATFORM_PACE)
        asked = planned.filter(reason=Reason.AWAITING_CONFIRMATION)
        for orders, why in (
            (waited, Reason.PLATFORM_PACE),
            (asked, Reason.NOT_CONFIRMED),
            (planned, Reason.SIGNAL_EXPIRED),
        ):
            ids = list(orders.values_list("pk", flat=True))
            advance_all(Order, ids, OrderState.PLANNED, OrderState.EXPIRED, why=why, reason=why)
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
    SELECT d.id FROM agent_deployments d WHERE d.agent_id = s.agent_id AND d.state = 'active'
    EXCEPT
    SELECT x.deployment_id FROM orders x WHERE x.signal_id = s.id AND x.purpose = 'open'
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
