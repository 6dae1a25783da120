"""Count the calls of stored posts by token and hour, as features of `maxxit.learning`."""

from collections.abc import Sequence
from datetime import datetime

from django.db import connection

COUNTS = """
SELECT called.token, (extract(epoch FROM ingested_at)::bigint) / 3600, count(*),
       sum(CASE called.side WHEN 'long' THEN 1 ELSE -1 END)
FROM ct_posts, jsonb_each_text(sides) AS called(token, side)
WHERE is_signal_candidate AND ingested_at >= %s AND ingested_at < %s AND called.token = ANY(%s)
GROUP BY 1, 2
"""


class StoredPosts:
    """Calls of the stored posts; each counts in the hour in which it was stored, when it became known."""

    def counts(
        self, symbols: Sequence[str], since: datetime, until: datetime
    ) -> dict[str, dict[int, tuple[int, int]]]:
        """Return symbol -> hour since 1970 -> (number of calls, calls for long minus calls for short)."""
        found: dict[str, dict[int, tuple[int, int]]] = {}
        with connection.cursor() as cursor:
            cursor.execute(COUNTS, [since, until, list(symbols)])
            for token, hour, number, sides in cursor:
                found.setdefault(token, {})[int(hour)] = (int(number), int(sides))
        return found
