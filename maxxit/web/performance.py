"""The page `/performance`: a customer's own results, or the platform's for staff; of all deployments or of one."""

from typing import Any
from urllib.parse import urlencode

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from agents.models import Deployment
from maxxit.access.permissions import page_needs
from maxxit.access.rows import Person, visible
from maxxit.core.errors import Rejected
from maxxit.reports import performance
from maxxit.reports.scope import PERIODS, Scope, scope_of, span_of
from maxxit.web import performance_charts as charts
from positions.performance.parts import Dimension
from positions.performance.report import Performance
from positions.performance.returns import NotEnough, Ratio

TABLES: dict[Dimension, str] = {
    "agent": "By agent", "author": "By followed account", "token": "By token", "exit_reason": "By exit reason",
    "hour": "By hour of entry (UTC)",
}  # fmt: skip
ROWS = 12
"""Rows of a table; hours have all 24."""
CHOICES = 50
"""Deployments in the selection; others by their number."""


@never_cache
@login_required(login_url="login")
@page_needs("positions.view_position")
@require_safe
def performance_page(request: HttpRequest) -> HttpResponse:
    """Show returns, risk, results and costs of a period."""
    person: Any = request.user
    period = request.GET.get("period", "all")
    number = request.GET.get("deployment", "")
    if period not in PERIODS or (number and not (number.isdecimal() and len(number) < 19)):
        raise Http404("no such period or deployment")
    try:
        scope = scope_of(person, deployment=int(number) if number else None)
    except Rejected as error:
        raise Http404(str(error)) from error
    return render(request, "web/performance.html", page_data(person, scope, period, number))


def page_data(person: Person, scope: Scope, period: str, number: str = "") -> dict[str, Any]:
    """Collect the context of the page."""
    since, until = span_of(period)
    figures = performance.read(scope, since, until)
    shown = performance.shown(figures.curve)
    parts = performance.breakdown(scope, list(TABLES), since, until)
    query = urlencode({"deployment": number, "period": period} if number else {"period": period})
    mine = visible(Deployment.objects.select_related("agent").exclude(state="draft"), person)
    return {
        "scope": scope,
        "period": period,
        "periods": list(PERIODS),
        "number": number,
        "choices": mine.order_by("pk")[:CHOICES],
        "query": query,
        "figures": figures,
        "waits": waits(figures),
        "ratios": ratios(figures),
        "charts": [
            charts.index_chart(shown.times, shown.index),
            charts.equity_chart(shown.times, shown.equity, shown.flows, figures.pnl),
            charts.underwater_chart(shown.times, shown.below),
            charts.daily_chart(performance.daily_pnl(figures.curve)),
            charts.distribution_chart(performance.results(scope, since, until)),
        ],
        "tables": [
            {
                "title": title,
                "by": by,
                "rows": parts[by][: 24 if by == "hour" else ROWS],
                "more": len(parts[by]) - ROWS,
            }
            for by, title in TABLES.items()
        ],
        "spent": performance.spent(scope, since, until),
        "compared": performance.compared(scope),
    }


def waits(figures: Performance) -> dict[str, str]:
    """Return the figures that need a longer history, as in `12 of 30 days`: name -> text."""
    texts = {name: getattr(figures, name) for name in ("apr", "risk")}
    return {name: value.text() for name, value in texts.items() if isinstance(value, NotEnough)}


def ratios(figures: Performance) -> list[tuple[str, Ratio]]:
    """Return the risk ratios with their names; empty where the history is too short."""
    risk = figures.risk
    if isinstance(risk, NotEnough):
        return []
    return [("Sharpe", risk.sharpe), ("Sortino", risk.sortino), ("Calmar", risk.calmar)]
