"""Pages of invoices: what each deployment owes, and its printable invoice for one month."""

from datetime import datetime
from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from agents.models import Deployment
from maxxit.access.permissions import page_needs
from maxxit.access.rows import visible
from maxxit.core import clock
from maxxit.core.errors import Rejected
from trading.billing import debts
from trading.billing.invoice import invoice as read_invoice
from trading.billing.invoice import parse_month
from trading.billing.subscriptions import add_months

ROWS = 50
"""Deployments of the list at most, the newest first."""
MONTHS = 6
"""Months that the list links to."""


@never_cache
@login_required(login_url="login")
@page_needs("trading.view_ledgerentry")
@require_safe
def invoices(request: HttpRequest) -> HttpResponse:
    """List this person's deployments with what each owes and links to its invoices."""
    related = Deployment.objects.select_related("agent")
    rows = list(visible(related.exclude(state="draft"), request.user).order_by("-pk")[:ROWS])
    owed = {debt.deployment: debt for debt in debts.debts([row.pk for row in rows])}
    listed = [{"row": row, "debt": owed.get(row.pk), "months": _months(row.created_at)} for row in rows]
    return render(request, "web/invoices.html", {"deployments": listed, "most": ROWS})


def _months(created_at: datetime) -> list[datetime]:
    """Return the begins of the last months in which the deployment existed, the newest first."""
    this = clock.now().replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    months = [add_months(this, -back) for back in range(MONTHS)]
    return [month for month in months if add_months(month, 1) > created_at]


@never_cache
@login_required(login_url="login")
@page_needs("trading.view_ledgerentry")
@require_safe
def invoice(request: HttpRequest, deployment_id: int, month: str) -> HttpResponse:
    """Show the invoice of one deployment for one month, on one page of paper."""
    related: Any = Deployment.objects.select_related("agent", "owner")
    row = visible(related, request.user).filter(pk=deployment_id).first()
    if row is None:
        raise Http404(f"there is no deployment {deployment_id}")
    try:
        start = parse_month(month)
    except Rejected as error:
        raise Http404(str(error)) from error
    return render(request, "web/invoice.html", {"invoice": read_invoice(row, start)})
