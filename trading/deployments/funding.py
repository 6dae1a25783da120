"""Book the first deposit of a deployment: play money of paper accounts, what an account at a broker holds."""

from datetime import UTC, datetime, timedelta

import structlog
from django.db import connection, transaction

from agents.models import Deployment
from maxxit.core import clock
from maxxit.core.errors import MaxxitError, Misconfigured
from maxxit.market.venues import venues
from trading import ledger
from trading.wiring import venue

log = structlog.get_logger(__name__)

UNFUNDED = """
SELECT d.id FROM agent_deployments d JOIN agents a ON a.id = d.agent_id
WHERE d.state = 'active' AND (d.starting_balance > 0 AND a.venue = ANY(%(paper)s) OR a.venue = ANY(%(brokers)s))
  AND NOT EXISTS (SELECT FROM ledger_entries e WHERE e.deployment_id = d.id AND e.kind = 'deposit')
"""
"""Active deployments without a first deposit, at the venues of `unfunded_at`."""
ASK_AGAIN, NEVER = timedelta(minutes=1), datetime.min.replace(tzinfo=UTC)
"""How often a broker is asked about an account that is empty or was not read."""
_asked_at: dict[int, datetime] = {}
"""Deployment -> when this process asked about an account that had nothing to book."""


def unfunded_at() -> dict[str, list[str]]:
    """Return the parameters of `UNFUNDED`: names of venues."""
    return {
        "paper": [name for name, stanza in venues().items() if stanza.adapter == "paper"],
        "brokers": [name for name in venues() if _brings_keys(name)],
    }


def fund_due() -> int:
    """Fund every active deployment whose first deposit is not booked yet; return how many.

    A worker does it, not the activation: only workers have the keys of customers. An account that is empty or cannot be
    read is asked about again after `ASK_AGAIN`, and stops no other.
    """
    with connection.cursor() as cursor:
        cursor.execute(UNFUNDED, unfunded_at())
        unfunded = [pk for (pk,) in cursor.fetchall()]
    due = [pk for pk in unfunded if clock.now() - _asked_at.get(pk, NEVER) >= ASK_AGAIN]
    if not due:
        return 0
    funded = 0
    for deployment in Deployment.objects.filter(pk__in=due).select_related("agent").order_by("pk"):
        try:
            new = fund(deployment)
        except MaxxitError as error:
            log.warning(
                "not_funded", deployment=deployment.pk, venue=deployment.agent.venue, error=str(error)
            )
            new = False
        funded += new
        if not new:
            _asked_at[deployment.pk] = clock.now()
    return funded


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


def _brings_keys(name: str) -> bool:
    try:
        return bool(venue(name).credential_fields)
    except Exception as error:  # a venue that cannot be opened stops no other
        log.error("venue_not_opened", venue=name, error=str(error))
        return False
