"""The trade page: one position from post to result, with its chart, its costs, and a button that closes it."""

from collections.abc import Callable
from typing import Any, TypeVar

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from maxxit.access.permissions import allowed, page_needs
from maxxit.access.rows import Person
from maxxit.core.errors import Rejected
from maxxit.reports.trades import trade as trades
from maxxit.reports.trades.trade import TradeFigures, position_of
from maxxit.web.once import first_time
from positions.manual_close import close_by_hand

Row = TypeVar("Row", bound=TradeFigures)
CLOSE = "positions.change_position"
"""Permission that staff need to close a position; customers close their own."""


@never_cache
@login_required(login_url="login")
@page_needs("positions.view_position")
@require_http_methods(["GET", "HEAD", "POST"])
def trade_page(request: HttpRequest, position_id: int) -> HttpResponse:
    """Show one trade; a POST closes the position, once however often it is sent."""
    if request.method == "POST":
        return _close(request, position_id)
    row = _read(trades.trade, request, position_id)
    return render(request, "web/trade.html", _data(request, row) | {"chart": row.chart()})


@never_cache
@login_required(login_url="login")
@page_needs("positions.view_position")
@require_safe
def trade_figures(request: HttpRequest, position_id: int) -> HttpResponse:
    """Render the figures of the trade page alone, for its script to refresh."""
    row = _read(trades.trade_figures, request, position_id)
    return render(request, "web/trade_figures.html", _data(request, row))


def _read(read: Callable[[int, Person], Row], request: HttpRequest, position_id: int) -> Row:
    """Return what `read` gives. Raises Http404 for a position that this person may not see."""
    person: Any = request.user
    try:
        return read(position_id, person)
    except Rejected as error:
        raise Http404(str(error)) from error


def _data(request: HttpRequest, row: TradeFigures) -> dict[str, Any]:
    """Return the context of the figures."""
    person: Any = request.user
    return {"trade": row, "row": row.position, "may_close": allowed(person, CLOSE)}


def _close(request: HttpRequest, position_id: int) -> HttpResponse:
    """Close the position and go back to its page, which says what was done."""
    person: Any = request.user
    try:
        position = position_of(position_id, person)
    except Rejected as error:
        raise Http404(str(error)) from error
    if not allowed(person, CLOSE):
        raise PermissionDenied(f"closing a position needs the permission {CLOSE}")
    if not first_time(request):
        messages.warning(request, "This was sent before: nothing was done again.")
        return redirect("trade", position_id)
    answer = close_by_hand(position, by=person.get_username())
    tell = messages.success if answer.started else messages.warning
    tell(request, f"{answer.text[0].upper()}{answer.text[1:]}.")
    return redirect("trade", position_id)
