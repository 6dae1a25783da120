"""The page `/agents/N/twin`: a live deployment beside its paper twin."""

from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from agents.models import Deployment
from maxxit.access.permissions import page_needs
from maxxit.access.rows import visible
from maxxit.web import performance_charts as charts
from positions.twin import report
from positions.twin.models import TwinFill
from positions.twin.policy import policy

ORDERS = 30
"""Latest orders in the table and the chart: within so many the alarm finds 20 bp."""


@never_cache
@login_required(login_url="login")
@page_needs("positions.view_position")
@require_safe
def twin_page(request: HttpRequest, deployment_id: int) -> HttpResponse:
    """Show price, fees, latency and PnL against those of the paper twin, and which of them drift."""
    rows = visible(Deployment.objects.select_related("agent"), request.user)
    deployment = rows.filter(pk=deployment_id).first()
    if deployment is None:
        raise Http404(f"there is no deployment {deployment_id}")
    orders = report.newest(deployment_id, ORDERS)
    context: dict[str, Any] = {
        "d": deployment,
        "figures": next(iter(report.figures(deployments=[deployment_id])), None),
        "tests": report.drifts([deployment_id]).get(deployment_id, []),
        "tokens": report.figures("symbol", [deployment_id]),
        "orders": orders,
        "chart": price_chart(orders),
        "costs": policy().costs(deployment.agent.venue),
        "sought": policy().rule("price").shift,
    }
    return render(request, "web/twin.html", context)


def price_chart(orders: list[TwinFill]) -> charts.Chart | None:
    """Lay out how much worse than the twin's each order was filled, the oldest first; None without a filled one."""
    bars = [
        (
            f"{row.at:%d %b}",
            row.price_bps,
            f"order {row.order_id}, {row.symbol}: {row.price_bps:+.1f} bp",
            "down" if row.price_bps > 0 else "up",
        )
        for row in reversed(orders)
        if row.price_bps is not None
    ]
    return charts.bar_chart("Filled worse than on paper, basis points of each order", bars)
