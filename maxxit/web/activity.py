"""The activity page: the feed with its filters and search, and the answer to why an agent did not trade."""

from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from agents.models import Agent, CtAccount
from maxxit.access.permissions import page_needs
from maxxit.access.rows import Person, visible
from maxxit.core.errors import Rejected
from maxxit.market.instruments import all_instruments
from maxxit.reports.activity import feed, search
from maxxit.reports.activity.rows import Page, activity, url_of
from maxxit.reports.trades import why

OFFERED = 200
"""Agents and accounts that the fields suggest; others can be typed."""
OTHERS = ("before", "q", "at")
"""Query parameters of the page that are no filters."""


@never_cache
@login_required(login_url="login")
@page_needs("signals_app.view_signal")
@require_safe
def activity_page(request: HttpRequest) -> HttpResponse:
    """Show what happened to each post and signal, newest first; a wrong filter is refused with the known ones."""
    person: Any = request.user
    rows, status = _rows(request, person)
    searched = request.GET.get("q", "").strip()
    if searched and status == 200 and "answer" not in rows:
        rows |= {"hits": search.search(searched, person), "searched": searched}
    suggestions = {
        "agents": list(
            visible(Agent.objects.all(), person).order_by("name").values_list("name", flat=True)[:OFFERED]
        ),
        "accounts": list(
            CtAccount.objects.order_by("x_username").values_list("x_username", flat=True)[:OFFERED]
        ),
        "tokens": sorted(all_instruments()),
        "outcomes": feed.OUTCOMES,
    }
    given = {name: request.GET.get(name, "") for name in (*feed.NAMES, *OTHERS)}
    return render(request, "web/activity.html", rows | suggestions | {"given": given}, status=status)


@never_cache
@login_required(login_url="login")
@page_needs("signals_app.view_signal")
@require_safe
def activity_rows(request: HttpRequest) -> HttpResponse:
    """Render the rows of the activity page alone, for its script to refresh."""
    rows, status = _rows(request, request.user)
    return render(request, "web/activity_rows.html", rows, status=status)


def _rows(request: HttpRequest, person: Person) -> tuple[dict[str, Any], int]:
    """Return the rows that the query asks for, and the status: 422 with a message for a query that asks for none."""
    query: dict[str, str] = {
        name: str(value).strip() for name, value in request.GET.items() if str(value).strip()
    }
    own = {name: query.pop(name, "") for name in OTHERS}
    try:
        filters = feed.read_filters(query, person)
        if own["at"]:
            return _answer(query, own["at"], person), 200
        before = feed.Key.parse(own["before"]) if own["before"] else None
        page = activity(person, filters, before)
    except Rejected as error:
        return {"problem": str(error), "page": Page([], None)}, 422
    older = url_of(filters, before=str(page.next_before)) if page.next_before else ""
    return {
        "page": page,
        "older": older,
        "newest": url_of(filters) if before else "",
        "refresh": request.GET.urlencode(),
        "narrowed": filters.active,
        "followed_token": filters.token,
    }, 200


def _answer(query: dict[str, str], at: str, person: Person) -> dict[str, Any]:
    """Return the answer to why the chosen agent did not trade the chosen token around `at`."""
    if not query.get("agent") or not query.get("token"):
        raise Rejected("choose an agent and a token to see why it did not trade at that time", code="invalid")
    answer = why.not_traded(query["agent"], query["token"], feed.time_of("at", at), person)
    return {"page": Page(answer.rows, None), "answer": answer, "narrowed": True}
