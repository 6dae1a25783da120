"""Pages: the dashboard, the way of one trade, the kill switch, and the admin's first page."""

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
from maxxit.access.rows import Person, deployments_of, visible
from maxxit.adminkit import log
from maxxit.core.errors import MaxxitError
from maxxit.core.terms import KillLevel
from maxxit.market.instruments import all_instruments
from maxxit.market.models import RefusedQuote
from maxxit.market.venues import venues
from maxxit.reports import checks, reasons, status
from maxxit.reports import market as markets
from maxxit.reports import trace as chains
from maxxit.web import charts
from positions import figures, flatten
from positions.models import Position
from positions.performance import with_unrealised
from trading import gate, wiring
from trading.approvals import EXPIRED
from trading.models import Order
from trading.states import IN_FLIGHT

ROWS = 15
"""Of each table on the dashboard."""
AT_A_GLANCE = (
    "pipeline.view_stagerun", "positions.view_position", "trading.view_order", "trading.view_gate",
    "agents.view_deployment",
)  # fmt: skip
"""The permissions whose figures stand on the admin's first page."""


@never_cache
@login_required(login_url="login")
@page_needs("positions.view_position")
@require_safe
def dashboard(request: HttpRequest) -> HttpResponse:
    """What this person's agents hold, earned and were not allowed to do."""
    person: Any = request.user
    return render(request, "web/dashboard.html", dashboard_data(person))


def dashboard_data(person: Person) -> dict[str, Any]:
    """Everything on the page."""
    mine = with_unrealised(visible(Position.objects.select_related("deployment__agent"), person))
    scope = deployments_of(person)
    ever = figures.results(None, scope)
    return {
        "plot": charts.equity(figures.curve(scope, ever)),
        "equity": figures.equity(scope),
        "today": figures.figures(figures.midnight(timezone.now()), scope),
        "ever": figures.figures(None, scope, ever),
        "open": mine.exclude(state="closed").order_by("-opened_at", "-pk")[:ROWS],
        "closed": mine.filter(state="closed").order_by("-closed_at", "-pk")[:ROWS],
        "blocked": _why_not(person),
        "deployments": visible(Deployment.objects.all(), person).count(),
        "kill_level": gate.kill_level(),
        "stopped": gate.latched().filter(account__in=_accounts(person)).exclude(account="")[:ROWS],
    }


def _accounts(person: Person) -> QuerySet[Deployment, str]:
    """The accounts that this person's deployments trade from."""
    return visible(Deployment.objects.all(), person).order_by().values_list("account", flat=True)


def _why_not(person: Person) -> list[dict[str, Any]]:
    """The newest blocked orders, each with its reason in words and what to change."""
    rows: QuerySet[Order] = visible(Order.objects.filter(state="blocked"), person).order_by("-pk")[:ROWS]
    return [
        {"order": row, "meaning": (said := reasons.explain(row.reason))[0], "change": said[1]} for row in rows
    ]


@never_cache
@login_required(login_url="login")
@page_needs("market.view_quote")
@require_safe
def market(request: HttpRequest) -> HttpResponse:
    """Prices by source, the feeds' health, what was refused, and a chart with the entries and exits of one's agents."""
    person: Any = request.user
    asked, symbols = request.GET, list(all_instruments())
    priced = _tables()
    first = next((row.symbol for row in priced["prices"]), symbols[0])
    agents = markets.agents(person)
    chosen = {
        "symbol": asked.get("symbol") if asked.get("symbol") in symbols else first,
        "interval": asked.get("interval") if asked.get("interval") in markets.INTERVALS else "5m",
        "agent": next((one.pk for one in agents if str(one.pk) == asked.get("agent")), None),
    }
    context = chosen | priced | {"symbols": symbols, "intervals": list(markets.INTERVALS), "agents": agents}
    return render(request, "web/market.html", context)


@never_cache
@login_required(login_url="login")
@page_needs("market.view_quote")
@require_safe
def market_tables(request: HttpRequest) -> HttpResponse:
    """The tables of that page alone, for its script."""
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
def chain(request: HttpRequest, correlation_id: UUID) -> HttpResponse:
    """The way of one trade, as far as it is this person's."""
    person: Any = request.user
    try:
        found = chains.follow(correlation_id, person)
    except MaxxitError as error:
        raise Http404(str(error)) from error
    context = {"chain": found, "steps": chains.timeline(found), "staff": person.is_staff}
    return render(request, "web/chain.html", context)


class StopForm(forms.Form):
    """How hard to stop, and why."""

    level = forms.ChoiceField(
        choices=[
            (KillLevel.NO_ENTRIES, "No entries: nothing new is opened; exits go on"),
            (KillLevel.REDUCE_ONLY, "Reduce only: the same, and nothing may grow"),
            (KillLevel.FLATTEN, "Flatten: every open position is closed at the market"),
        ],
        initial=KillLevel.NO_ENTRIES,
        widget=UnfoldAdminRadioSelectWidget,
    )
    account = forms.CharField(
        max_length=80,
        required=False,
        widget=UnfoldAdminTextInputWidget,
        help_text="only this one; empty: everybody",
    )
    reason = forms.CharField(
        max_length=300, widget=UnfoldAdminTextInputWidget, help_text="who reads the log will ask"
    )

    def clean_account(self) -> str:
        """An account that somebody trades from: a misspelt one would stop nobody."""
        account: str = self.cleaned_data["account"]
        if account and not Deployment.objects.filter(account=account).exists():
            raise forms.ValidationError(f"no deployment trades from the account {account}")
        return account


class ReleaseForm(forms.Form):
    """Why it may go on; for one account, or for everybody."""

    account = forms.CharField(max_length=80, required=False)
    reason = forms.CharField(
        max_length=300, widget=UnfoldAdminTextInputWidget, help_text="what was found and done"
    )


@never_cache
@staff_member_required(login_url="admin:login")
@require_http_methods(["GET", "HEAD", "POST"])
def stop(request: HttpRequest) -> HttpResponse:
    """The kill switch: pull it, or pull it harder, or release what is latched."""
    if not request.user.has_perm("trading.change_killswitch"):
        raise PermissionDenied("the kill switch needs the permission trading.change_killswitch")
    releasing = "release" in request.POST
    sent = request.POST or None
    pull, release = StopForm(None if releasing else sent), ReleaseForm(sent if releasing else None)
    form = release if releasing else pull
    if sent and form.is_valid():
        told = _release(request, form) if releasing else _pull(request, form)
        messages.success(request, told)
        return redirect("admin:index")
    latched = gate.latched()
    context = admin.site.each_context(request) | {
        "title": "Stop",
        "pull": pull,
        "release": release,
        "latched": latched,
        "stopped_accounts": sorted({one.account for one in latched if one.account}),
        "unclosed": flatten.unclosed(),
    }
    return render(request, "web/stop.html", context)


def _pull(request: HttpRequest, form: forms.Form) -> str:
    level, reason = form.cleaned_data["level"], form.cleaned_data["reason"]
    account = form.cleaned_data["account"]
    switch = gate.kill(level, by=request.user.get_username(), reason=reason, account=account)
    log(request, [switch], f"Pulled: {switch}")
    told = f"the kill switch is latched: {switch.stops}"
    left = flatten.unclosed() if level == KillLevel.FLATTEN else []
    if left:
        told += f"; {len(left)} positions are not closed, the Stop page says why"
    return told


def _release(request: HttpRequest, form: forms.Form) -> str:
    account = form.cleaned_data["account"] or None
    latched = [one for one in gate.latched() if account in (None, one.account)]
    count = gate.release(by=request.user.get_username(), reason=form.cleaned_data["reason"], account=account)
    log(request, latched, f"Released: {form.cleaned_data['reason']}")
    return f"{count} released: orders may leave again"


def admin_index(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """The admin's first page: what the machine does, at a glance; empty for who may not see all of it."""
    person: Any = request.user
    context["may_see"] = person.has_perms(AT_A_GLANCE)
    if not context["may_see"]:
        return context
    open_now = gate.open_venues()
    flying = Order.objects.filter(state__in=IN_FLIGHT).count()
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
        "open_note": f"{flying} orders in flight",
        "stop_url": reverse("stop"),
    }
    return context
