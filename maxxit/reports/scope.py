"""Select the deployments that a report is about, among those that its reader may see, and its span of time."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.db.models import QuerySet

from agents.describe import matching, one_of
from agents.models import Agent, CtAccount, Deployment
from maxxit.access.rows import Person, deployments_of
from maxxit.core import clock
from maxxit.core.errors import Rejected
from maxxit.reports.statement import check_span

PERIODS: dict[str, timedelta | None] = {
    "1d": timedelta(days=1),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
    "all": None,
}
"""Names of the spans that end now."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What a report is about."""

    deployments: list[int] | None
    """Ids; None: the whole platform."""
    label: str
    """For people, as in `deployment 7 (Momentum on 0x…)`."""
    author: int | None = None
    """Id of a followed account: the report is about its share of these deployments' trades."""

    def accounts(self) -> set[tuple[str, str]] | None:
        """Return (venue, account) of its deployments; None: the whole platform."""
        if self.deployments is None:
            return None
        rows = Deployment.objects.filter(pk__in=self.deployments).order_by()
        return set(rows.values_list("agent__venue", "account"))


def scope_of(
    person: Person = None, *, deployment: int | None = None, agent: str = "", account: str = ""
) -> Scope:
    """Return the deployments of one deployment, agent or account, as far as `person` may see them.

    Args:
        agent: name or id.
        account: `@name` of a followed account, or an account at a venue (`paper:1`, the address of a Safe).

    Raises:
        Rejected: more than one was given, or there is none that `person` may see (code not_found).
    """
    if sum(bool(given) for given in (deployment is not None, agent, account)) > 1:
        raise Rejected("give one of deployment, agent and account", code="too_many_scopes")
    own = deployments_of(person)
    rows = Deployment.objects.select_related("agent").order_by("pk")
    rows = rows if own is None else rows.filter(pk__in=own)
    if account.startswith("@"):
        author = CtAccount.objects.filter(x_username__iexact=account[1:]).first()
        if author is None:
            raise Rejected(f"nobody follows {account}", code="not_found")
        return Scope(own, f"trades on posts of {author}", author.pk)
    if deployment is not None:
        rows, what = rows.filter(pk=deployment), f"deployment {deployment}"
    elif agent:
        rows = rows.filter(agent=int(agent)) if agent.isdecimal() else _of_agent_named(rows, agent)
        what = f"deployment of an agent {agent!r}"
    elif account:
        rows, what = rows.filter(account__iexact=account), f"deployment on an account {account!r}"
    else:
        return Scope(own, "all deployments" if own is None else "your deployments")
    found = list(rows)
    if not found:
        raise Rejected(f"there is no {what}: `manage.py portfolio` lists the deployments", code="not_found")
    if deployment is not None:
        return Scope([found[0].pk], f"deployment {found[0].pk}, {found[0]}")
    name = f"agent {found[0].agent}" if agent else f"account {found[0].account}"
    return Scope([row.pk for row in found], name)


def _of_agent_named(rows: QuerySet[Deployment], text: str) -> QuerySet[Deployment]:
    """Select those of `rows` of the agent of this name or `owner/name`. Raises Rejected (`ambiguous`)."""
    traded = Agent.objects.filter(pk__in=rows.order_by().values("agent"))
    agent = one_of(matching(traded, text), text)
    return rows.filter(agent=agent) if agent else rows.none()


def span_of(
    period: str = "all", since: datetime | None = None, until: datetime | None = None
) -> tuple[datetime | None, datetime | None]:
    """Return (since, until) of a period that ends now, or of explicit moments, which take precedence.

    Raises Rejected for an unknown period, and where `since` is after `until`.
    """
    if period not in PERIODS:
        raise Rejected(f"no period {period!r}; known: {', '.join(PERIODS)}", code="no_span")
    width = PERIODS[period]
    if since is None and until is None and width is not None:
        since = clock.now() - width
    since, until = (at if at is None or at.tzinfo else at.replace(tzinfo=UTC) for at in (since, until))
    check_span(since, until)
    return since, until
