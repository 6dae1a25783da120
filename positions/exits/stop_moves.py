"""Tell owners that a trailing stop was set or moved: at most once an hour for each position."""

from datetime import timedelta

from django.db import connection, transaction

from maxxit.core import clock
from maxxit.events import wake
from positions.states import PositionState

MOVED = "position.stop_moved"
INTERVAL = timedelta(hours=1)

TELL = """
INSERT INTO events (at, name, subject, correlation_id, data)
SELECT %(now)s, %(name)s, p.subject, p.correlation_id, jsonb_build_object(
    'side', p.side, 'symbol', p.symbol, 'stop', trim_scale(p.trailing_stop)::text, 'before', told.data->>'stop',
    'entry', trim_scale(p.entry_price)::text, 'owner_id', d.owner_id)
FROM (SELECT *, 'positions.position/' || id AS subject FROM positions
      WHERE state = %(open)s AND trailing_pct IS NOT NULL AND trailing_stop IS NOT NULL) AS p
JOIN agent_deployments d ON d.id = p.deployment_id AND d.owner_id IS NOT NULL
LEFT JOIN LATERAL (
    SELECT at, data FROM events e WHERE e.subject = p.subject AND e.name = %(name)s ORDER BY id DESC LIMIT 1
) AS told ON true
WHERE told.at IS NULL
   OR told.at <= %(before)s AND told.data->>'stop' IS DISTINCT FROM trim_scale(p.trailing_stop)::text
ORDER BY p.id
"""


@transaction.atomic
def tell() -> int:
    """Record `position.stop_moved` for open positions whose trailing stop is not the one told last; return how many."""
    now = clock.now()
    with connection.cursor() as cursor:
        cursor.execute(
            TELL, {"now": now, "name": MOVED, "before": now - INTERVAL, "open": PositionState.OPEN}
        )
        moved: int = cursor.rowcount
    if moved:
        wake.after_commit(MOVED)
    return moved
