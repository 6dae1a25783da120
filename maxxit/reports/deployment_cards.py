"""The cards of `My agents`: each deployment with its equity curve, returns, followed accounts, positions and stops.

A constant number of statements, whatever the number of deployments.
"""

from collections import defaultdict
from collections.abc import Sequence, Set
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import groupby
from operator import attrgetter
from typing import Any

from django.db.models import Count

from agents.models import Deployment, Subscription
from agents.states import DeploymentState
from maxxit.core import clock
from maxxit.core.money import ZERO
from maxxit.reports.owners.venue_keys import needs_keys
from maxxit.reports.performance import GLANCE_POINTS, thinned
from positions.models import Position
from positions.performance import points, returns
from positions.performance.identity import read_each
from trading.deployments.describe import deployments_data
from trading.models import VenueHolding

MOST = 50
"""Deployments on the page at most."""
DAYS = 30
"""The curve shows this many days."""
POINTS = 120
"""Points of a card's curve at most."""
NAMES = 8
"""Followed accounts that a card names."""


@dataclass(frozen=True, slots=True)
class Card:
    """What the page shows of one deployment. Amounts in USD, returns as fractions."""

    deployment: Deployment
    state: dict[str, Any]
    """As the API gives it: status and stops."""
    equity: Decimal | None
    """None where a token that it holds has no quote."""
    pnl: Decimal | None
    """Since the first deposit, after all costs; None as equity is."""
    twr: float | None
    """Of the last DAYS days."""
    drawdown_pct: float | None
    """The deepest of the last DAYS days, percent."""
    points: list[tuple[datetime, float]]
    """The deposit-neutral index of the last DAYS days, thinned to POINTS."""
    follows: list[str]
    more_follows: int
    open: int
    """Positions that are not closed."""
    stopped_by_owner: bool
    stopped: bool
    discovered: list[tuple[str, Decimal]]
    """(token, quantity) in its account that was opened elsewhere: the owner's own, and not traded."""

    @property
    def needs_keys(self) -> bool:
        """Whether the owner gives keys of the account to us."""
        revoked = self.deployment.state == DeploymentState.REVOKED
        return not revoked and needs_keys(self.deployment.agent.venue)


def cards(deployments: Sequence[Deployment]) -> list[Card]:
    """Return the cards of these deployments, in their order."""
    ids = [row.pk for row in deployments]
    identity = read_each(ids)
    books = {row.deployment: row for row in identity.deployments}
    rows = points.read_points(ids, clock.now() - timedelta(days=DAYS), most=GLANCE_POINTS) if ids else []
    by_deployment = groupby(sorted(rows, key=attrgetter("deployment")), key=attrgetter("deployment"))
    curves = {deployment: returns.curve_of(list(own)) for deployment, own in by_deployment}
    follows = _follows({row.agent_id for row in deployments})
    open_rows = Position.objects.filter(deployment__in=ids).exclude(state="closed").order_by()
    elsewhere = _discovered({row.account for row in deployments})
    open_counts = dict(open_rows.values_list("deployment").annotate(Count("pk")))
    result = []
    for row, state in zip(deployments, deployments_data(deployments), strict=True):
        own, curve = books.get(row.pk), curves.get(row.pk)
        without = None if row.pk in identity.unpriced else ZERO  # nothing was deposited yet
        names = follows[row.agent_id]
        fall = returns.max_drawdown(curve) if curve is not None else None
        result.append(
            Card(
                deployment=row,
                state=state,
                equity=own.equity if own else without,
                pnl=own.pnl if own else without,
                twr=returns.twr(curve) if curve is not None else None,
                drawdown_pct=fall.percent if fall else None,
                points=_points(curve) if curve is not None else [],
                follows=names[:NAMES],
                more_follows=max(len(names) - NAMES, 0),
                open=open_counts.get(row.pk, 0),
                stopped_by_owner=any(stop["by_owner"] for stop in state["stops"]),
                stopped=bool(state["stops"]),
                discovered=elsewhere[row.agent.venue, row.account],
            )
        )
    return result


def _follows(agents: set[int]) -> dict[int, list[str]]:
    """Return agent -> the names of the accounts that it follows."""
    names: dict[int, list[str]] = defaultdict(list)
    rows = Subscription.objects.filter(agent__in=agents).order_by("account__x_username")
    for agent, name in rows.values_list("agent", "account__x_username"):
        names[agent].append(name)
    return names


def _discovered(accounts: Set[str]) -> dict[tuple[str, str], list[tuple[str, Decimal]]]:
    """Return (venue, account) -> what it holds that was opened elsewhere."""
    found: dict[tuple[str, str], list[tuple[str, Decimal]]] = defaultdict(list)
    rows = VenueHolding.objects.filter(account__in=accounts, origin=VenueHolding.Origin.AUTO_DISCOVERED)
    for row in rows.order_by("asset"):
        found[row.venue, row.account].append((row.asset, row.unexplained))
    return found


def _points(curve: returns.Curve) -> list[tuple[datetime, float]]:
    """Return the index over time, POINTS of it at most."""
    return [
        (datetime.fromtimestamp(float(curve.at[place]), UTC), float(curve.index[place]))
        for place in thinned(curve, POINTS)
    ]
