"""Play what is stored of some accounts through the pipeline in a scratch database, and return the result.

It holds no trading logic: the agent, its deployment and every pass are those of the platform (`maxxit.replay.run`).
"""

import logging
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from django.contrib.auth.models import User
from django.db import connection, connections

from agents.changes import AgentChanges, create_agent
from agents.deploying import create_deployment
from agents.models import CtAccount, Deployment, Subscription
from maxxit.core import clock
from maxxit.embedded.scratch import scratch_database
from maxxit.events import wake
from maxxit.market.instruments import listed_on
from maxxit.replay import figures, stored
from maxxit.replay.plan import Plan
from maxxit.replay.run import open_paper_gates, play
from maxxit.replay.stored import StoredDays
from maxxit.reports.preview_policy import policy
from positions.performance import roll_up
from trading.deployments import activation
from trading.models import LimitsInForce

VENUE, OPERATOR = "paper", "preview"

Progress = Callable[[datetime], None]


def rehearse(plan: Plan, progress: Progress) -> dict[str, Any]:
    """Return what `plan` would have done (`figures.result_of`). `progress` may raise to end it.

    Reads the database of Django's default connection and changes nothing in it. Raises Rejected where nothing is
    recorded, Misconfigured where no scratch database can be made.
    """
    symbols = sorted(listed_on(VENUE))
    days = stored.read(plan.accounts, symbols, plan.start, plan.end, policy().max_posts)
    limits = LimitsInForce.objects.first()
    live = connections["live"] = connection.copy(
        alias="live"
    )  # the default one leads to the scratch database below
    logging.disable(logging.WARNING)  # the events have what the steps log
    try:
        with scratch_database(name="preview"):
            stored.copy_candles(live, symbols, plan.start - stored.warm_up(), plan.end)
            stored.copy_social(live, symbols, plan.start, plan.end)
            live.close()
            if limits is not None:
                limits.save(force_insert=True)
            return run(plan, days, symbols, progress)
    finally:
        live.close()
        del connections["live"]
        logging.disable(logging.NOTSET)


def run(plan: Plan, days: StoredDays, symbols: Sequence[str], progress: Progress) -> dict[str, Any]:
    """Set up the agent in this (scratch) database, play the days and return the result."""
    with clock.frozen(plan.start), wake.collected():
        deployment = _deploy(plan, days)
        open_paper_gates(plan.end)
    play(days, progress)
    roll_up.roll_up()
    return figures.result_of(days, deployment, plan.accounts, symbols)


def _deploy(plan: Plan, days: StoredDays) -> Deployment:
    """Create what the page Start creates: an agent that follows the accounts, and its paper account."""
    owner = User.objects.create_user(OPERATOR)
    accounts = CtAccount.objects.bulk_create(
        CtAccount(x_username=account.name, source=account.source, impact_factor=account.impact_factor)
        for account in days.accounts
    )
    changes = AgentChanges(name="Preview", sizing_preset=plan.sizing_preset, exit_preset=plan.exit_preset)
    agent = create_agent(owner, changes, by=OPERATOR)
    Subscription.objects.bulk_create(Subscription(agent=agent, account=account) for account in accounts)
    deployment = create_deployment(agent, owner, by=OPERATOR, capital=plan.capital)
    activation.activate(deployment, by=OPERATOR)
    return deployment
