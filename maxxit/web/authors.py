"""The pages of followed accounts: a leaderboard, and the record of one account."""

from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from maxxit.access.permissions import page_needs
from maxxit.core.errors import Rejected
from maxxit.reports import authors
from maxxit.web import charts

HEADINGS = {
    "name": "Account",
    "calls": "Calls",
    "hit": "Hit rate",
    "mean": "Mean return",
    "excess": "Over the benchmark",
    "impact": "Impact factor",
}
"""Sort key -> heading of the column."""


@never_cache
@login_required(login_url="login")
@page_needs("agents.view_ctaccount")
@require_safe
def accounts(request: HttpRequest) -> HttpResponse:
    """Show the leaderboard of accounts, sortable; the same to every user."""
    person: Any = request.user
    query = {name: str(value) for name, value in request.GET.items()}
    context: dict[str, Any] = {"headings": HEADINGS, "sort": query.get("sort", "excess")}
    try:
        if unknown := sorted(set(query) - {"sort", "page"}):
            raise Rejected(f"no parameter {', '.join(unknown)}; known: page, sort", code="invalid")
        board = authors.leaderboard(
            person, query.get("sort", "excess"), _number("page", query.get("page", "1"))
        )
    except Rejected as error:
        return render(request, "web/accounts.html", context | {"problem": str(error)}, status=422)
    return render(request, "web/accounts.html", context | {"board": board})


@never_cache
@login_required(login_url="login")
@page_needs("agents.view_ctaccount")
@require_safe
def account(request: HttpRequest, name: str) -> HttpResponse:
    """Show the record of one account: figures by horizon, decay, and each call with its outcome."""
    person: Any = request.user
    before = request.GET.get("before", "")
    try:
        page = authors.author(name, person, _number("before", before) if before else None)
    except Rejected as error:
        raise Http404(str(error)) from error
    context = {"page": page, "before": before, "plot": charts.decay(page.horizons)}
    return render(request, "web/account.html", context)


def _number(name: str, text: str) -> int:
    """Parse a whole number from 1. Raises Rejected."""
    if not (text.isascii() and text.isdigit() and 0 < len(text) < 19 and int(text)):
        raise Rejected(f"{name} {text!r} is not a whole number from 1", code="invalid")
    return int(text)
