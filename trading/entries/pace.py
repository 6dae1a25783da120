"""The platform's pace: entries beyond it stay planned and are sent in their turn, or expire with their signal.

Entries also give way to closing orders: exits are sent first.
"""

import time
from datetime import timedelta

from django.db import connection, transaction

from maxxit.core import clock
from maxxit.events.record import NewEvent, write
from trading.reasons import Reason

MARK = """
WITH waiting AS (
    SELECT id FROM orders WHERE state = 'planned' AND purpose = 'open' AND reason = '' ORDER BY id
    FOR NO KEY UPDATE SKIP LOCKED
), marked AS (
    UPDATE orders o SET reason = %(reason)s, updated_at = %(now)s FROM waiting w WHERE o.id = w.id
    RETURNING o.signal_id, o.correlation_id
)
SELECT signal_id, correlation_id, count(*) FROM marked GROUP BY signal_id, correlation_id ORDER BY signal_id
"""


@transaction.atomic
def note_waiting() -> int:
    """Mark planned entries as waiting for the platform's pace, and record it per signal; return how many are new."""
    with connection.cursor() as cursor:
        cursor.execute(MARK, {"reason": Reason.PLATFORM_PACE, "now": clock.now()})
        rows = cursor.fetchall()
    write(
        [
            NewEvent(
                "signal.waiting",
                f"signals_app.signal/{signal}",
                correlation_id,
                {"why": str(Reason.PLATFORM_PACE), "orders": count},
            )
            for signal, correlation_id, count in rows
        ]
    )
    return sum(count for *_, count in rows)


EXITS_WAIT = """
SELECT EXISTS (
    SELECT FROM orders
    WHERE state = 'planned' AND purpose = 'close' AND attempts = 0 AND created_at > %s
)
"""


def give_way(seconds: float) -> None:
    """Wait while closing orders of the last `seconds` are planned and not sent, for `seconds` at most.

    Called before each batch of entries, so that exits need not share the processor and the disk with a crowd.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with connection.cursor() as cursor:
            cursor.execute(EXITS_WAIT, [clock.now() - timedelta(seconds=seconds)])
            [waits] = cursor.fetchone()
        if not waits:
            return
        time.sleep(POLL_SECONDS)


POLL_SECONDS = 0.02
