"""How many calls the screening loses: estimated from the posts that the model was asked about all the same."""

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import connection

from maxxit.core import clock
from maxxit.core.intervals import wilson
from signals_app.policy import policy
from signals_app.reasons import PrefilterReason

AUDITED = "post.screening_audited"
"""The event of a post that was read although no call was expected in it; `call` says whether it was one."""
COUNTS = """
SELECT (SELECT count(*) FROM ct_posts WHERE posted_at > %(since)s AND outcome = %(rejected)s),
       (SELECT count(*) FROM ct_posts WHERE posted_at > %(since)s AND is_signal_candidate),
       count(*), count(*) FILTER (WHERE (data ->> 'call')::boolean)
FROM events WHERE name = %(audited)s AND at > %(since)s
"""


@dataclass(frozen=True, slots=True)
class Audit:
    """Counts of the newest `days`, and what they say of the calls among the posts that no model read."""

    days: int
    rejected: int
    """Posts that no model was asked about."""
    calls: int
    """Calls that the model found, those of audited posts too."""
    audited: int
    """Posts without an expected call that the model was asked about."""
    calls_audited: int
    """Calls among these."""

    @property
    def lost(self) -> tuple[Decimal, Decimal, Decimal] | None:
        """Lost calls as a fraction of all calls, with the ends of the 95 % interval; None without audited posts.

        The share of calls among the audited posts (Wilson's interval) stands for that among the rejected ones.
        """
        interval = wilson(self.calls_audited, self.audited)
        if interval is None:
            return None
        shares = (Decimal(self.calls_audited) / self.audited, *interval)
        missed = [share * self.rejected for share in shares]
        middle, low, high = (one / (one + self.calls) if one else Decimal(0) for one in missed)
        return middle, low, high

    @property
    def alarm(self) -> str:
        """What is wrong, in words: empty unless more calls than allowed are lost for certain."""
        most = policy().classify.screening.most_lost
        if self.lost is None or self.lost[1] <= most:
            return ""
        middle, low, high = self.lost
        return (
            f"the screening loses {middle:.1%} of the calls ({low:.1%} to {high:.1%}; {self.calls_audited} calls in "
            f"{self.audited} audited posts), more than {most:.1%}: lower classify.screening.least_chance in "
            "config/signals.yaml, or switch it off"
        )

    def as_json(self) -> dict[str, Any]:
        """Return the counts and the fractions as text."""
        lost = self.lost
        names = ("lost", "lost_low", "lost_high")
        return asdict(self) | dict(
            zip(names, (None,) * 3 if lost is None else (f"{one:.4f}" for one in lost), strict=True)
        )

    def __str__(self) -> str:
        said = f"{self.rejected} posts of {self.days} days not read, {self.audited} audited"
        if self.lost is None:
            return f"{said}: nothing is known of lost calls"
        middle, low, high = self.lost
        return f"{said}, {self.calls_audited} of them calls: {middle:.1%} of the calls lost ({low:.1%} to {high:.1%})"


def audit() -> Audit | None:
    """Return the audit of the newest `classify.screening.days`; None where the screening is off."""
    rules = policy().classify.screening
    if not rules.reader:
        return None
    params: dict[str, datetime | str] = {
        "since": clock.now() - timedelta(days=rules.days),
        "rejected": f"prefiltered:{PrefilterReason.NO_CALL_EXPECTED}",
        "audited": AUDITED,
    }
    with connection.cursor() as cursor:
        cursor.execute(COUNTS, params)
        return Audit(rules.days, *cursor.fetchone())
