"""Warn owner and staff once a day when an account has used most of its daily loss or drawdown limit."""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from agents.models import Deployment
from agents.states import DeploymentState
from maxxit.core import clock
from maxxit.events.models import Event
from maxxit.events.record import NewEvent, subject, write
from positions.health import AccountHealth, Health
from trading.risk.policy import Triggers

NEAR = "account.loss_near_limit"
WARN_AT_PCT = 80
"""Percent of the limit from which on is warned; at 100 the kill switch stops the account."""


@dataclass(frozen=True, slots=True)
class NearLimit:
    """A loss of an account that is near the limit of its trigger."""

    account: str
    cause: str
    """daily_loss or drawdown."""
    lost_usd: Decimal
    lost_pct: Decimal
    limit_pct: Decimal


def decide(health: Health, rules: Triggers) -> list[NearLimit]:
    """Return the losses that have reached `WARN_AT_PCT` percent of their limit, but not the limit. Pure function."""
    return [near for account in health.accounts for near in _of_account(account, rules)]


def _of_account(one: AccountHealth, rules: Triggers) -> Iterator[NearLimit]:
    measured = (
        ("daily_loss", one.daily_loss, one.equity_at_midnight, rules.daily_loss.limit_pct),
        ("drawdown", one.drawdown, one.peak, rules.drawdown.limit_pct),
    )
    for cause, lost, whole, limit_pct in measured:
        if whole <= 0:
            continue
        lost_pct = lost * 100 / whole
        if lost_pct < limit_pct and lost_pct * 100 >= limit_pct * WARN_AT_PCT:
            yield NearLimit(one.account, cause, lost, lost_pct, limit_pct)


def warn(health: Health, rules: Triggers) -> int:
    """Record `account.loss_near_limit` for each owner of an account, once per cause and UTC day; return how many."""
    found = decide(health, rules)
    if not found:
        return 0
    midnight = clock.now().replace(hour=0, minute=0, second=0, microsecond=0)
    warned = set(
        Event.objects.filter(name=NEAR, at__gte=midnight).values_list("data__account", "data__cause")
    )
    new = [one for one in found if (one.account, one.cause) not in warned]
    rows = Deployment.objects.filter(account__in=[one.account for one in new]).exclude(
        state=DeploymentState.DRAFT
    )
    by_account: dict[str, list[Deployment]] = {}
    for row in rows.order_by("pk"):
        by_account.setdefault(row.account, []).append(row)
    write([_event(one, by_account[one.account]) for one in new if one.account in by_account])
    return len(new)


def _event(one: NearLimit, deployments: list[Deployment]) -> NewEvent:
    what = "has lost" if one.cause == "daily_loss" else "is below its highest PnL by"
    since = " since midnight UTC" if one.cause == "daily_loss" else ""
    text = (
        f"Account {one.account} {what} {one.lost_usd:.2f} USD{since}, {one.lost_pct:.2f} % of its equity; at "
        f"{one.limit_pct} % it is stopped. Close positions or deposit if it should not be."
    )
    owners = sorted({row.owner_id for row in deployments if row.owner_id is not None})
    data = {"account": one.account, "cause": one.cause, "owner_ids": owners, "text": text}
    return NewEvent(NEAR, subject(deployments[0]), None, data)
