"""Explain why the PnL is zero, or not what somebody expects (checklist C47): each cause found, and what to do."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db.models import Count, F, Max, Min, QuerySet, Sum

from agents.models import Deployment
from agents.states import DeploymentState
from maxxit.core import clock
from maxxit.core.clock import duration_text, iso_utc
from maxxit.core.money import ZERO, plain, usdc
from maxxit.core.reasons import Audience
from maxxit.core.terms import Purpose
from maxxit.events.models import Event
from maxxit.market import calendar
from maxxit.market.quotes import latest
from maxxit.pipeline.models import StageRun
from maxxit.reports.scope import Scope
from maxxit.reports.trades.reasons import explain as meaning_of
from positions.models import Position
from positions.performance import figures
from positions.performance.equity import with_unrealised
from positions.performance.identity import Books, Identity, read_identity
from positions.states import PositionState
from signals_app.models import CtPost, Signal
from trading import gate
from trading.deployments import stops
from trading.models import Order
from trading.reasons import Reason
from trading.reconciliation import hours
from trading.risk import checks
from trading.states import IN_FLIGHT, OrderState

LOOK_BACK = timedelta(hours=24)
"""Blocked orders, signals and posts are looked for this far back."""
LISTED = 5
"""Blocked orders and declined signals are named by their most frequent reasons."""
ACT, WAIT, NOTE = "act", "wait", "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """One cause of a PnL of zero, or of one that differs from what was expected."""

    code: str
    urgency: str
    """`act`: somebody has to do something; `wait`: it ends by itself; `note`: nothing is wrong."""
    text: str
    """What was found, with its number."""
    fix: str
    """What to do."""
    audience: Audience = Audience.STAFF
    count: int = 1

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Explanation:
    """Today's PnL, the causes found, and the books of the deployments."""

    label: str
    since: datetime
    realised: Decimal
    """Of the positions closed since midnight UTC, after all costs, USDC."""
    unrealised: Decimal
    """Of the open positions at the newest quotes, before fees, USD."""
    findings: list[Finding]
    books: list[Books]
    """Of each deployment where one was asked for or its books differ; and of all together, which comes first."""

    @property
    def is_zero(self) -> bool:
        """Whether both parts are zero."""
        return not usdc(self.realised) and not usdc(self.unrealised)

    def as_json(self) -> dict[str, Any]:
        """Amounts as decimal strings."""
        return {
            "about": self.label,
            "since": iso_utc(self.since),
            "realised_usdc": plain(usdc(self.realised)),
            "unrealised_usd": plain(usdc(self.unrealised)),
            "is_zero": self.is_zero,
            "findings": [finding.as_json() for finding in self.findings],
            "books": [books.as_json() for books in self.books],
        }


def explain(scope: Scope) -> Explanation:
    """Look for every cause of checklist C47 in these deployments, those that need somebody first."""
    since = figures.midnight(clock.now())
    today = figures.figures(since, scope.deployments)
    causes: tuple[Callable[[Scope], Iterator[Finding]], ...] = (
        _deployments, _gates, _market_hours, _in_flight, _unbooked, _positions, _blocked, _signals, _posts,
    )  # fmt: skip
    identity = read_identity(scope.deployments)
    findings = [*_books(identity), *(finding for cause in causes for finding in cause(scope))]
    findings.sort(key=lambda finding: (ACT, WAIT, NOTE).index(finding.urgency))
    few = scope.deployments is not None and len(scope.deployments) == 1
    shown = identity.deployments if few else [identity.total, *identity.wrong]
    return Explanation(
        scope.label, since, today.realised - today.profit_share, today.unrealised, findings, shown
    )


def _mine(rows: QuerySet[Any], scope: Scope, path: str = "deployment") -> QuerySet[Any]:
    return rows if scope.deployments is None else rows.filter(**{f"{path}__in": scope.deployments})


def _deployed(scope: Scope) -> QuerySet[Deployment]:
    return _mine(Deployment.objects.select_related("agent"), scope, "pk")


def _books(identity: Identity) -> Iterator[Finding]:
    """Yield deployments whose positions and ledger differ, and those with a token that has no quote."""
    for row in identity.wrong[:LISTED]:
        yield Finding(
            "books_differ",
            ACT,
            f"deployment {row.deployment}: PnL by positions is {plain(usdc(row.pnl))} USD, by the ledger "
            f"{plain(usdc(row.equity - row.deposits))} USD: they differ by {plain(row.difference)}; fees differ by "
            f"{plain(row.fee_difference)}",
            "stop its entries (`manage.py kill no_entries --account …`), compare `manage.py statement "
            f"{row.deployment}` with its positions; `manage.py reconcile` compares with the venue",
        )
    if identity.unpriced:
        names = ", ".join(map(str, identity.unpriced[:LISTED]))
        yield Finding(
            "no_quote",
            ACT,
            f"deployments {names} hold a token without a quote, so their equity and PnL are unknown",
            "`manage.py doctor` (lines feed:…) and feeds in config/feeds.yaml",
            count=len(identity.unpriced),
        )


def _deployments(scope: Scope) -> Iterator[Finding]:
    """Yield that nothing trades: no deployment, or none that is active."""
    states = dict(_deployed(scope).order_by().values_list("state").annotate(Count("pk")))
    if not states:
        yield Finding(
            "no_deployment",
            ACT,
            "there is no deployment: nothing can trade",
            "start an agent on paper: page My agents (`make up` brings a demo)",
            Audience.CUSTOMER,
        )
    elif not states.get(DeploymentState.ACTIVE):
        counted = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
        yield Finding(
            "none_active",
            ACT,
            f"no deployment is active: {counted}",
            "activate a deployment: page My agents, or the admin (Deployments, action Activate)",
            Audience.CUSTOMER,
        )


def _gates(scope: Scope) -> Iterator[Finding]:
    """Yield the venues whose gate is closed (dry run, approval, kill switch), and accounts that are stopped."""
    active = _deployed(scope).filter(state=DeploymentState.ACTIVE).order_by()
    for venue, count in active.values_list("agent__venue").annotate(Count("pk")).order_by("agent__venue"):
        verdict = checks.gate_verdict(gate.read(venue), reduces=False)
        if verdict.allowed:
            continue
        text, fix, audience = meaning_of(verdict.reason)
        yield Finding(
            f"gate:{verdict.reason}",
            ACT,
            f"no entry leaves for {venue}, where {count} deployments trade: {text}",
            fix,
            audience,
            count,
        )
    accounts = active.values_list("account", flat=True)
    for switch in gate.latched().filter(account__in=accounts).exclude(account="")[:LISTED]:
        own = switch.cause == stops.OWNER
        yield Finding(
            "gate:kill_switch",
            ACT,
            f"{switch.account} is stopped ({switch.level}): {switch.reason}",
            "its owner releases it: page My agents"
            if own
            else f"`manage.py resume --account {switch.account} --reason …`",
            Audience.CUSTOMER if own else Audience.STAFF,
        )


def _market_hours(scope: Scope) -> Iterator[Finding]:
    """Yield that the exchange is closed where deployments trade stocks: no order of theirs can fill."""
    now = clock.now()
    if calendar.is_open(now):
        return
    stocks = hours.venues_of(stocks=True)
    active = (
        _deployed(scope).filter(state=DeploymentState.ACTIVE, agent__venue__in=stocks).count()
        if stocks
        else 0
    )
    if active:
        yield Finding(
            "market_closed",
            WAIT,
            f"{calendar.closed_text(now)}: orders for stocks of {active} deployments wait for it",
            "nothing: it opens again at its hours; crypto trades on",
            Audience.NOBODY,
            active,
        )


def _in_flight(scope: Scope) -> Iterator[Finding]:
    """Yield orders that the venue has accepted and not ended: they have no result yet."""
    rows = _mine(Order.objects.filter(state__in=IN_FLIGHT), scope)
    for state, count, oldest in (
        rows.order_by("state").values_list("state").annotate(Count("pk"), Min("created_at"))
    ):
        age = duration_text((clock.now() - oldest).total_seconds())
        yield Finding(
            "in_flight",
            WAIT,
            f"{count} orders are still {state} at their venue (oldest {age}): no fill, so no PnL yet",
            "`manage.py reconcile --once` asks about them now; a sweep does every 15 s; `manage.py trades --status "
            f"{state}` lists them",
            Audience.NOBODY,
            count,
        )


def _unbooked(scope: Scope) -> Iterator[Finding]:
    """Yield filled orders without a price, and fills that no position includes yet."""
    unpriced = _mine(Order.objects.filter(filled_quantity__gt=0, average_price=None), scope).count()
    if unpriced:
        yield Finding(
            "no_fill_price",
            ACT,
            f"{unpriced} filled orders have no average price: the venue has reported no fill for them",
            "`manage.py reconcile --once` asks the venue again; `manage.py trades --status filled` lists them",
            count=unpriced,
        )
    waiting = Order.objects.filter(purpose=Purpose.OPEN, filled_quantity__gt=F("booked_quantity"))
    unbooked = _mine(waiting, scope).count()
    if unbooked:
        yield Finding(
            "not_booked",
            WAIT,
            f"{unbooked} filled entries are in no position yet",
            "`manage.py pipeline stage monitor` books them now; a sweep does every 60 s",
            Audience.NOBODY,
            unbooked,
        )


def _positions(scope: Scope) -> Iterator[Finding]:
    """Yield that nothing has closed, that open positions have no usable quote, and what they are worth."""
    rows = _mine(Position.objects.all(), scope)
    opened = rows.exclude(state=PositionState.CLOSED)
    symbols: Sequence[str] = sorted(opened.order_by().values_list("symbol", flat=True).distinct())
    if stale := sorted(set(symbols) - latest(symbols, closing=True).keys()):
        yield Finding(
            "stale_quote",
            ACT,
            f"no usable quote of {', '.join(stale)}: unrealised PnL stands at an old price",
            f"`manage.py why --symbol {stale[0]}` names the cause",
            count=len(stale),
        )
    count = opened.count()
    closed_today = rows.filter(
        state=PositionState.CLOSED, closed_at__gte=figures.midnight(clock.now())
    ).exists()
    if closed_today:
        return
    if count:
        value = with_unrealised(opened).aggregate(total=Sum("unrealised"))["total"] or ZERO
        yield Finding(
            "no_closed_position",
            NOTE,
            f"no position has closed today: {count} are open, worth {plain(usdc(value))} USD unrealised",
            "wait for an exit (`manage.py exits status`), or close one in the admin",
            Audience.NOBODY,
            count,
        )
    else:
        newest = rows.aggregate(at=Max("closed_at"))["at"]
        last = f"the last one closed at {newest:%Y-%m-%d %H:%M} UTC" if newest else "none was ever opened"
        yield Finding(
            "no_position",
            NOTE,
            f"no position is open and none has closed today: {last}",
            "see below for what stops entries, or wait for a signal",
            Audience.NOBODY,
        )


def _blocked(scope: Scope) -> Iterator[Finding]:
    """Yield the reasons that blocked orders, the most frequent first."""
    since = clock.now() - LOOK_BACK
    rows = _mine(Order.objects.filter(state=OrderState.BLOCKED, created_at__gte=since), scope)
    counted = rows.order_by().values_list("reason").annotate(n=Count("pk")).order_by("-n", "reason")
    for reason, count in counted[:LISTED]:
        text, fix, audience = meaning_of(reason)
        urgency = WAIT if reason == Reason.MARKET_CLOSED or audience == Audience.NOBODY else ACT
        yield Finding(
            f"blocked:{reason}",
            urgency,
            f"{count} orders were blocked in the last 24 hours: {text}",
            fix,
            audience,
            count,
        )


def _signals(scope: Scope) -> Iterator[Finding]:
    """Yield that no signal was made, with the reasons why posts were declined."""
    since = clock.now() - LOOK_BACK
    agents = _agents(scope)
    if not agents or Signal.objects.filter(agent__in=agents, created_at__gte=since).exists():
        return
    declined = Event.objects.filter(
        name="signal.declined", at__gte=since, data__agent__in=list(agents.values())
    )
    counted = (
        declined.order_by().values_list("data__reason").annotate(n=Count("pk")).order_by("-n", "data__reason")
    )
    reasons = [(reason, count, *meaning_of(f"candidate:{reason}")) for reason, count in counted[:LISTED]]
    said = "; ".join(f"{count} times {reason}: {text}" for reason, count, text, *_ in reasons)
    yield Finding(
        "no_signal",
        NOTE if not reasons else ACT,
        "no signal was made in the last 24 hours" + (f": declined {said}" if said else ""),
        reasons[0][3]
        if reasons
        else "wait for a post that names a token and a direction; `manage.py why --post ID`",
        reasons[0][4] if reasons else Audience.NOBODY,
    )


def _posts(scope: Scope) -> Iterator[Finding]:
    """Yield that agents follow nobody, or that no post of those whom they follow was read."""
    agents = _agents(scope)
    if not agents:
        return
    since = clock.now() - LOOK_BACK
    posts = CtPost.objects.filter(account__subscriptions__agent__in=agents)
    if posts.filter(posted_at__gte=since).exists():
        return
    run = StageRun.objects.filter(stage="ingest").order_by("-started_at").first()
    last = (
        "ingestion has never run"
        if run is None
        else f"ingestion last ran {run.started_at:%Y-%m-%d %H:%M} UTC"
    )
    failed = bool(run and run.error)
    whole = scope.deployments is None
    error = run.error.strip().splitlines()[-1][:200] if run and failed and whole else ""
    newest = posts.aggregate(at=Max("posted_at"))["at"]
    read = f"the newest is of {newest:%Y-%m-%d %H:%M} UTC" if newest else "none was ever read"
    yield Finding(
        "no_post",
        ACT if failed or run is None else NOTE,
        f"no post of the followed accounts in the last 24 hours: {read}; {last}"
        + (f": {error}" if error else " and failed: staff sees why" if failed else ""),
        "`manage.py pipeline stage ingest` reads them now; `manage.py status` shows the job; follow more accounts"
        if whole
        else "follow more accounts: page Accounts",
    )


def _agents(scope: Scope) -> dict[int, str]:
    """Return the agents with an active deployment: id -> name."""
    active = _deployed(scope).filter(state=DeploymentState.ACTIVE).order_by()
    return dict(active.values_list("agent_id", "agent__name").distinct())
