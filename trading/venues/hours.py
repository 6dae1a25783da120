"""Store the sessions of the stock exchange that a venue publishes (`maxxit.market.calendar`)."""

from datetime import timedelta

import structlog

from agents.models import Deployment
from agents.states import DeploymentState
from maxxit.core import clock
from maxxit.market import calendar
from maxxit.market.calendar import NEW_YORK
from trading.passes import ends_the_pass
from trading.wiring import venue

log = structlog.get_logger(__name__)

AHEAD = timedelta(days=400)
"""How far ahead sessions are read: the exchange publishes its holidays more than a year before."""
TRIES = 5
"""Accounts of a venue that are asked before the next run tries again."""


def refresh_calendar() -> int:
    """Read the sessions from today on at the first venue that publishes them; return how many were stored."""
    first = clock.now().astimezone(NEW_YORK).date()
    last = first + AHEAD
    rows = Deployment.objects.filter(state=DeploymentState.ACTIVE).order_by("agent__venue", "pk")
    accounts: dict[str, list[str]] = {}
    for name, account in rows.values_list("agent__venue", "account"):
        accounts.setdefault(name, []).append(account)
    for name, of_venue in accounts.items():
        for account in of_venue[:TRIES]:
            try:
                published = venue(name).sessions(account, first, last)
            except Exception as error:  # another account may answer
                if ends_the_pass(error):
                    raise
                log.warning("calendar_not_read", venue=name, account=account, error=str(error))
                continue
            if published is None:
                break
            if published:
                return calendar.store(published, first, last, now=clock.now())
            log.warning("calendar_empty", venue=name)
            break
    return 0
