"""Page views: dashboard, market, progress of a signal, trace of a trade, kill switch, and the admin's first page."""

from typing import Any
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.views.decorators import staff_member_required
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe
from unfold.widgets import UnfoldAdminRadioSelectWidget, UnfoldAdminTextInputWidget

from agents.models import Deployment
from maxxit.access.permissions import page_needs
from maxxit.access.rows import Person, visible
from maxxit.adminkit import log_action
from maxxit.core.errors import MaxxitError
from maxxit.core.terms import KillLevel
from maxxit.market.instruments import all_instruments
from maxxit.market.models import RefusedQuote
from maxxit.market.venues import venues
from maxxit.reports import checks, performance, pnl, progress, status
from maxxit.reports import market as markets
from maxxit.reports.progress import Progress
from maxxit.reports.scope import scope_of
from maxxit.reports.trades import reasons, trace
from maxxit.reports.trades.trade import only_position
from maxxit.web import charts, owner_decisions, performance_charts
from maxxit.web.unfold import operator_links
from positions import flatten
from positions.margins import attach
from positions.models import Position
from positions.performance import figures
from positions.performance.equity import with_unrealised
from trading import gate, wiring
from trading.deployments import stops
from trading.models import Order
from trading.operations.approvals import EXPIRED
from trading.states import IN_FLIGHT

ROWS = 15
"""Rows of each table on the dashboard."""
SIGNALS = 5
"""Signals under way on the dashboard at most."""
AT_A_GLANCE = (
    "pipeline.view_stagerun", "positions.view_position", "trading.view_order", "trading.view_gate",
    "agents.view_deployment",
)  # fmt: skip
"""Permissions needed to see the figures on the admin's first page."""


@never_cache
@login_required(login_url="login")
@page_needs("positions.view_position")
@require_safe
def dashboard(request: HttpRequest) -> HttpResponse:
    """Show this person's equity, positions, results and blocked orders."""
    person: Any = request.user
    return render(request, "web/dashboard.html", dashboard_data(person))


def dashboard_data(person: Person) -> dict[str, Any]:
    """Collect the context of the dashboard."""
    rows = Position.objects.select_related("deployment__agent", "entry_order")
    mine = with_unrealised(visible(rows, person))
    scope = scope_of(person)
    ever = performance.glance(scope)
    shown = performance.shown(ever.curve)
    return {
        "plot": performance_charts.pnl_chart(shown.times, shown.pnl),
        "today": pnl.today(scope, traded=False),
        "ever": ever,
        "open": attach(mine.exclude(state="closed").order_by("-opened_at", "-pk")[:ROWS]),
        "closed": attach(mine.filter(state="closed").order_by("-closed_at", "-pk")[:ROWS]),
        "blocked": _blocked_orders(person),
        "signals": [_progress(row) for row in progress.recent(person, SIGNALS) if row.under_way],
        "deployments": visible(Deployment.objects.all(), person).count(),
        "waiting": owner_decisions.waiting_count(person),
        "kill_level": gate.kill_level(),
        "stopped": [
            {"switch": switch, "by_owner": switch.cause == stops.OWNER}
            for switch in gate.latched().filter(account__in=_accounts(person)).exclude(account="")[:ROWS]
        ],
    }


def _accounts(person: Person) -> QuerySet[Deployment, str]:
    """Select the accounts that this person's deployments trade from."""
    return visible(Deployment.objects.all(), person).order_by().values_list("account", flat=True)


def _blocked_orders(person: Person) -> list[dict[str, Any]]:
    """List the newest blocked orders, each with the meaning of its reason and what to change."""
    rows: QuerySet[Order] = visible(Order.objects.filter(state="blocked"), person).order_by("-pk")[:ROWS]
    blocked = []
    for row in rows:
        meaning, change, audience = reasons.explain(row.reason)
        blocked.append({"order": row, "meaning": meaning, "change": change, "who": audience})
    return blocked


def _progress(row: Progress) -> dict[str, Any]:
    """Return the template context of one signal's progress."""
    done_at = row.estimate.done_at
    return {
        "progress": row,
        "segments": [
            {"part": part, "label": progress.LABELS.get(part.name, part.name)}
            for part in charts.stacked_bar(row.parts)
        ],
        "done_in": (done_at - row.pace.now).total_seconds() if done_at else None,
    }


@never_cache
@login_required(login_url="login")
@page_needs("signals_app.view_signal")
@require_safe
def signal(request: HttpRequest, signal_id: int) -> HttpResponse:
    """Show where the entries of one signal are: by state and reason, the queue, pace and estimate."""
    return render(request, "web/signal.html", _signal_data(request.user, signal_id))


@never_cache
@login_required(login_url="login")
@page_needs("signals_app.view_signal")
@require_safe
def signal_progress(request: HttpRequest, signal_id: int) -> HttpResponse:
    """Render the figures of the signal's page alone, for its script to refresh."""
    return render(request, "web/signal_progress.html", _signal_data(request.user, signal_id))


def _signal_data(person: Any, signal_id: int) -> dict[str, Any]:
    """Collect the context of a signal's page. Raises Http404 for a signal that `person` may not see."""
    try:
        row = progress.of_signal(signal_id, person)
    except MaxxitError as error:
        raise Http404(str(error)) from error
    return _progress(row) | {"staff": person.is_staff}


@never_cache
@login_required(login_url="login")
@page_needs("market.view_quote")
@require_safe
def market(request: HttpRequest) -> HttpResponse:
    """Show quotes by source, feed health, refused quotes, and a chart with the person's entries and exits."""
    person: Any = request.user
    query, symbols = request.GET, list(all_instruments())
    tables = _tables()
    first = next((row.symbol for row in tables["prices"]), symbols[0])
    agents = markets.agents(person)
    chosen = {
        "symbol": query.get("symbol") if query.get("symbol") in symbols else first,
        "interval": query.get("interval") if query.get("interval") in markets.INTERVALS else "5m",
        "agent": next((agent.pk for agent in agents if str(agent.pk) == query.get("agent")), None),
    }
    context = chosen | tables | {"symbols": symbols, "intervals": list(markets.INTERVALS), "agents": agents}
    return render(request, "web/market.html", context)


@never_cache
@login_required(login_url="login")
@page_needs("market.view_quote")
@require_safe
def market_tables(request: HttpRequest) -> HttpResponse:
    """Render the tables of the market page alone, for its script to refresh."""
    return render(request, "web/market_tables.html", _tables())


def _tables() -> dict[str, Any]:
    return {
        "prices": markets.prices(),
        "health": markets.health(),
        "refused": RefusedQuote.objects.order_by("-last_at", "-pk")[:ROWS],
    }


@never_cache
@login_required(login_url="login")
@page_needs("events.view_event")
@require_safe
def trade_trace(request: HttpRequest, correlation_id: UUID) -> HttpResponse:
    """Show the trace of one trade, limited to the rows this person may see; of one position alone, the trade page."""
    person: Any = request.user
    if "whole" not in request.GET and (position := only_position(correlation_id, person)) is not None:
        return redirect("trade", position)
    try:
        rows = trace.follow(correlation_id, person)
    except MaxxitError as error:
        raise Http404(str(error)) from error
    context = {"trace": rows, "steps": trace.timeline(rows), "staff": person.is_staff}
    return render(request, "web/trace.html", context)


class StopForm(forms.Form):
    """The form that pulls the kill switch: level, account and reason."""

    level = forms.ChoiceField(
        choices=[
            (KillLevel.NO_ENTRIES, "No entries: no new position is opened; exits continue"),
            (KillLevel.REDUCE_ONLY, "Reduce only: the same, and no position may be increased"),
            (KillLevel.FLATTEN, "Flatten: every open position is closed at the market price"),
        ],
        initial=KillLevel.NO_ENTRIES,
        widget=UnfoldAdminRadioSelectWidget,
    )
    account = forms.CharField(
        max_length=80,
        required=False,
        widget=UnfoldAdminTextInputWidget,
        help_text="stop this account only; empty: the whole platform",
    )
    reason = forms.CharField(
        max_length=300, widget=UnfoldAdminTextInputWidget, help_text="why; it is kept in the event log"
    )

    def clean_account(self) -> str:
        """Refuse an account that no deployment trades from: a misspelt one would stop nothing."""
        account: str = self.cleaned_data["account"]
        if account and not Deployment.objects.filter(account=account).exists():
            raise forms.ValidationError(
                f"no deployment trades from the account {account}: copy it from the list of deployments"
            )
        return account


class ReleaseForm(forms.Form):
    """The form that releases the kill switch, for one account or all of them."""

    account = forms.CharField(max_length=80, required=False)
    reason = forms.CharField(
        max_length=300,
        widget=UnfoldAdminTextInputWidget,
        help_text="what was found, and what was done about it",
    )


@never_cache
@staff_member_required(login_url="admin:login")
@require_http_methods(["GET", "HEAD", "POST"])
def stop(request: HttpRequest) -> HttpResponse:
    """Show the kill switch; pull it, raise its level, or release it."""
    if not request.user.has_perm("trading.change_killswitch"):
        raise PermissionDenied("the kill switch needs the permission trading.change_killswitch")
    releasing = "release" in request.POST
    sent = request.POST or None
    pull, release = StopForm(None if releasing else sent), ReleaseForm(sent if releasing else None)
    form = release if releasing else pull
    if sent and form.is_valid():
        message = _release(request, form) if releasing else _pull(request, form)
        messages.success(request, message)
        return redirect("admin:index")
    latched = gate.latched()
    context = admin.site.each_context(request) | {
        "title": "Stop",
        "pull": pull,
        "release": release,
        "latched": latched,
        "stopped_accounts": sorted({switch.account for switch in latched if switch.account}),
        "unclosed": flatten.unclosed(),
    }
    return render(request, "web/stop.html", context)


def _pull(request: HttpRequest, form: forms.Form) -> str:
    level, reason = form.cleaned_data["level"], form.cleaned_data["reason"]
    account = form.cleaned_data["account"]
    switch = gate.kill(level, by=request.user.get_username(), reason=reason, account=account)
    log_action(request, [switch], f"Pulled: {switch}")
    message = f"the kill switch is latched: {switch.stops}"
    unclosed = flatten.unclosed() if level == KillLevel.FLATTEN else []
    if unclosed:
        message += f"; {len(unclosed)} positions are not closed yet, the Stop page lists them with the reason"
    return message


def _release(request: HttpRequest, form: forms.Form) -> str:
    account = form.cleaned_data["account"] or None
    latched = [switch for switch in gate.latched() if account in (None, switch.account)]
    count = gate.release(by=request.user.get_username(), reason=form.cleaned_data["reason"], account=account)
    log_action(request, latched, f"Released: {form.cleaned_data['reason']}")
    return f"{count} released: orders can be sent again"


def admin_index(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Add the figures, jobs and gates of the admin's first page; nothing for a person without all permissions."""
    person: Any = request.user
    context["operator_links"] = operator_links(request)
    context["may_see"] = person.has_perms(AT_A_GLANCE)
    if not context["may_see"]:
        return context
    open_now = gate.open_venues()
    in_flight = Order.objects.filter(state__in=IN_FLIGHT).count()
    context |= {
        "jobs": status.jobs(),
        "canaries": checks.canaries(),
        "equity": figures.equity(),
        "today": figures.figures(figures.midnight(timezone.now())),
        "open_positions": Position.objects.exclude(state="closed").count(),
        "blocked_by": [
            {"reason": reason, "count": count, "meaning": reasons.explain(reason)[0]}
            for reason, count in figures.blocked().items()
        ],
        "gates": [
            (name, name in open_now, wiring.money_at_stake(venue), EXPIRED if gate.read(name).expired else "")
            for name, venue in venues().items()
        ],
        "latched": gate.latched(),
        "open_note": f"{in_flight} orders in flight",
        "stop_url": reverse("stop"),
    }
    return context
