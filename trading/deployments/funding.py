"""Book the first deposit of a deployment: play money of paper accounts, what an account at a broker holds."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import structlog
from django.db import connection, transaction

from agents.models import Deployment
from maxxit.core import clock
from maxxit.core.errors import Misconfigured
from maxxit.market.venues import venues
from trading import ledger
from trading.passes import TimeBudget, ends_the_pass
from trading.wiring import capability, venue

log = structlog.get_logger(__name__)

NEVER = datetime.min.replace(tzinfo=UTC)

UNFUNDED = """
SELECT d.id FROM agent_deployments d JOIN agents a ON a.id = d.agent_id
WHERE d.state = 'active' AND a.venue = ANY(%(venues)s) AND (d.starting_balance > 0 OR %(brokers)s)
  AND NOT EXISTS (SELECT FROM ledger_entries e WHERE e.deployment_id = d.id AND e.kind = 'deposit')
"""
"""Active deployments without a first deposit: with `AT_PAPER`, or with the venues whose customers bring keys."""
DEPOSITS_SECONDS = 5.0
"""How long one pass over the accounts at brokers begins to ask about another one."""
_asked_at: dict[int, datetime] = {}
"""Deployment -> when this process last asked about its account."""


def at_paper() -> dict[str, Any]:
    """Return the parameters of `UNFUNDED` for play money."""
    return {
        "venues": [name for name, stanza in venues().items() if stanza.adapter == "paper"],
        "brokers": False,
    }


def fund_due() -> int:
    """Fund every active paper deployment that was not funded yet; return how many. Asks nobody outside."""
    return sum(_fund(deployment) for deployment in _unfunded(at_paper()))


def book_deposits() -> int:
    """Book the first deposit of active deployments at brokers; return how many.

    A worker does it, not the activation: only workers have the keys of customers. It is no part of the entry pass,
    which must not wait for a broker. Those asked longest ago come first, so that a slow account delays no other long.
    """
    budget = TimeBudget(DEPOSITS_SECONDS)
    brokers = [
        name for name in venues() if capability(name, lambda one: bool(one.credential_fields), default=False)
    ]
    rows = _unfunded({"venues": brokers, "brokers": True})
    funded = 0
    for deployment in sorted(rows, key=lambda row: _asked_at.get(row.pk, NEVER)):
        if not budget.left():
            break
        _asked_at[deployment.pk] = clock.now()
        funded += _fund(deployment)
    return funded


def _unfunded(parameters: Mapping[str, Any]) -> list[Deployment]:
    with connection.cursor() as cursor:
        cursor.execute(UNFUNDED, parameters)
        ids = [pk for (pk,) in cursor.fetchall()]
    return list(Deployment.objects.filter(pk__in=ids).select_related("agent").order_by("pk")) if ids else []


def _fund(deployment: Deployment) -> bool:
    """Fund one deployment; an account that fails is logged, tried again by the next pass, and stops no other."""
    try:
        return fund(deployment)
    except Exception as error:
        if ends_the_pass(error):
            raise
        log.warning("not_funded", deployment=deployment.pk, venue=deployment.agent.venue, error=str(error))
        return False


def fund(deployment: Deployment) -> bool:
    """Book the first deposit of a deployment once, in its venue's cash; return whether it was booked now.

    A paper account is credited with its `starting_balance`; at a broker it is the cash that the account holds.

    Raises Misconfigured at a venue where neither is so, and what the venue raises where it cannot be read.
    """
    at_venue = venue(deployment.agent.venue)
    play_money = at_venue.capabilities.play_money
    amount = deployment.starting_balance if play_money else at_venue.opening_balance(deployment.account)
    if amount is None:
        raise Misconfigured(
            f"{deployment} trades on {deployment.agent.venue}: only paper accounts get play money"
        )
    if amount <= 0:
        return False
    with transaction.atomic():
        # The second of two workers finds it funded.
        Deployment.objects.select_for_update(no_key=True).get(pk=deployment.pk)
        new = ledger.deposit(deployment, amount)
        if new and play_money:
            at_venue.deposit(deployment.account, amount)
    return new
