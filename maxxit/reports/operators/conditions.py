"""Warnings about single rows: an author that cannot be read, a Safe that is not verified, a model budget nearly spent.

A warning is recorded once while its condition lasts, and may be recorded again after it was over (`condition.over`).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

import structlog
from django.db import connection

from agents.models import CtAccount, Deployment
from agents.states import DeploymentState
from maxxit.core import clock
from maxxit.core.money import plain
from maxxit.events.models import Event
from maxxit.events.record import NewEvent, subject, write
from maxxit.llm.models import LlmSpend
from maxxit.llm.policy import policy as llm_policy
from maxxit.reports.checks import unread_accounts

log = structlog.get_logger(__name__)

OVER = "condition.over"
"""Ends a warning; nobody is alerted of it."""
KEPT = timedelta(days=30)
"""How far back a warning that is not over is looked for."""
UNVERIFIED_FOR = timedelta(hours=1)
"""How long a Safe must have been unverified."""
NEAR_PCT = 90
"""Percent of a model budget from which on it is nearly spent."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A row whose condition holds now."""

    subject: str
    text: str
    owner_ids: tuple[int, ...] = ()
    """Customers whom it concerns; staff is alerted in any case."""


def watch_conditions() -> list[str]:
    """Record the warnings that began, and those that are over; return `name subject` of those that began.

    A condition that cannot be read is left as it is, and the others are checked.
    """
    standing, news = _standing(), []
    for name, probe in CONDITIONS.items():
        try:
            found = {one.subject: one for one in probe()}
        except Exception:
            log.exception("condition_not_read", condition=name)
            continue
        news += [
            NewEvent(name, one.subject, None, {"text": one.text, "owner_ids": list(one.owner_ids)})
            for key, one in found.items()
            if (name, key) not in standing
        ]
        news += [
            NewEvent(OVER, key, None, {"of": name})
            for condition, key in sorted(standing)
            if condition == name and key not in found
        ]
    write(news)
    return [f"{one.name} {one.subject}" for one in news if one.name != OVER]


def _standing() -> set[tuple[str, str]]:
    """Return (condition, subject) of the warnings that are not over."""
    newest: dict[tuple[str, str], str] = {}
    rows = Event.objects.filter(name__in=(*CONDITIONS, OVER), at__gt=clock.now() - KEPT).order_by("pk")
    for name, key, of in rows.values_list("name", "subject", "data__of"):
        newest[of if name == OVER else name, key] = name
    return {which for which, name in newest.items() if name != OVER}


def unread_authors() -> Iterator[Finding]:
    """Yield the followed authors that the last two whole passes of ingest could not read, and those switched off."""
    lasting = unread_accounts(passes=2)
    followed = CtAccount.objects.filter(subscriptions__isnull=False).distinct().order_by("pk")
    for account in followed:
        if not account.is_active:
            why = "it is switched off, because its author protects it or it does not exist any more"
        elif account.x_username in lasting:
            why = lasting[account.x_username][:160]
        else:
            continue
        owners = (
            Deployment.objects.filter(agent__subscriptions__account=account, owner__isnull=False)
            .filter(state__in=(DeploymentState.ACTIVE, DeploymentState.PAUSED))
            .order_by("owner_id")
            .values_list("owner_id", flat=True)
            .distinct()
        )
        text = f"Posts of {account} are not read: {why}. Until they are, your agents see no signal of this author."
        yield Finding(subject(account), text, tuple(owners))


UNVERIFIED = """
SELECT d.id, d.safe_wallet, d.owner_id, first.at
FROM agent_deployments d
CROSS JOIN LATERAL (
    SELECT min(e.at) AS at FROM events e
    WHERE e.subject = 'agents.deployment/' || d.id AND e.name = 'safe.not_verified' AND e.id > coalesce((
        SELECT max(v.id) FROM events v WHERE v.subject = e.subject AND v.name = 'safe.verified'), 0)
) AS first
WHERE d.state = %s AND d.safe_wallet <> '' AND d.verified_at IS NULL AND first.at <= %s
ORDER BY d.id
"""


def unverified_safes() -> Iterator[Finding]:
    """Yield the active deployments whose Safe has not been verified for `UNVERIFIED_FOR`: their entries stand still."""
    with connection.cursor() as cursor:
        cursor.execute(UNVERIFIED, [DeploymentState.ACTIVE, clock.now() - UNVERIFIED_FOR])
        rows = cursor.fetchall()
    for pk, safe, owner, at in rows:
        text = (
            f"The Safe {safe} has not been verified since {at:%Y-%m-%d %H:%M} UTC, so it opens no positions; open ones "
            f"are closed as usual. Sign its plan on the page Wallet, or see the differences with "
            f"`manage.py safe verify --deployment {pk}`."
        )
        yield Finding(f"agents.deployment/{pk}", text, (owner,) if owner else ())


def model_budgets() -> Iterator[Finding]:
    """Yield the model budgets of today that are nearly spent; beyond them nothing is read until midnight UTC."""
    rules = llm_policy()
    for row in LlmSpend.objects.filter(day=clock.now().date()).order_by("pk"):
        if row.purpose and not row.account and row.purpose in rules.purposes:
            stanza, what = rules.purposes[row.purpose], f"purpose {row.purpose}"
            used = max(
                _pct(Decimal(row.calls), stanza.calls_per_day), _pct(row.usd, stanza.budget_usd_per_day)
            )
        elif not row.purpose and row.account in rules.providers:
            used, what = (
                _pct(row.usd, rules.providers[row.account].budget_usd_per_day),
                f"provider {row.account}",
            )
        else:
            continue
        if used >= NEAR_PCT:
            text = (
                f"{used:.0f} % of today's model budget of {what} is used: {row.calls} calls, {plain(row.usd)} USD. "
                "Beyond it posts wait until midnight UTC; the budgets stand in config/llm.yaml."
            )
            yield Finding(subject(row), text)


def _pct(used: Decimal, limit: Decimal | int | None) -> Decimal:
    return used * 100 / limit if limit else Decimal(0)


CONDITIONS: dict[str, Callable[[], Iterator[Finding]]] = {
    "author.unread": unread_authors,
    "safe.unverified": unverified_safes,
    "llm.budget_nearly_spent": model_budgets,
}
"""Event -> where it holds."""
