"""Pages of what an owner decides about a deployment: limits of their own, and a yes or no to each entry that waits."""

from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from agents.models import Deployment
from agents.states import DeploymentState
from maxxit.access.permissions import page_needs
from maxxit.core.errors import InvalidInput, MaxxitError
from maxxit.reports.owners.waiting_entries import waiting_entries
from trading.deployments import confirmation, owner_limits
from trading.models import Order
from trading.operations import change_requests, changes
from trading.operations.change_requests import Asker
from trading.risk.limits_in_force import protective_limits
from trading.second_person import Kind

MOST = 50
"""Waiting entries on the page, the first to expire first."""


class LimitsForm(forms.Form):
    """An owner's limits; an empty field is no limit."""

    max_daily_usd = forms.DecimalField(
        label="Entries of one UTC day, USD",
        required=False,
        max_digits=20,
        decimal_places=2,
        help_text="Empty: no limit of your own.",
    )
    max_position_usd = forms.DecimalField(
        label="One position, USD", required=False, max_digits=20, decimal_places=2
    )
    max_open_positions = forms.IntegerField(
        label="Tokens held at once", required=False, help_text="Empty: no limit of your own."
    )
    confirm_entries = forms.BooleanField(
        label="Ask me before each entry",
        required=False,
        help_text="It waits for your confirmation until its signal expires. Exits never wait.",
    )


@never_cache
@login_required(login_url="login")
@page_needs("agents.change_deployment")
@require_http_methods(["GET", "HEAD", "POST"])
def limits(request: HttpRequest, deployment_id: int) -> HttpResponse:
    """Show and set the limits of one of this person's deployments, and whether its entries wait for confirmation."""
    person: Any = request.user
    deployment = Deployment.objects.select_related("agent").filter(pk=deployment_id, owner=person).first()
    if deployment is None:
        raise Http404(f"there is no deployment {deployment_id}")
    if deployment.state == DeploymentState.REVOKED:
        messages.error(
            request, f"{deployment.agent.name} is revoked: it places no orders, so it needs no limits."
        )
        return redirect("my-agents")
    now = {name: getattr(deployment, name) for name in (*owner_limits.NAMES, "confirm_entries")}
    form = LimitsForm(request.POST or None, initial=now)
    largest = protective_limits().account.max_symbol_exposure_usd
    form.fields[
        "max_position_usd"
    ].help_text = f"At most the platform's {largest:,.0f} USD. Empty: no limit of your own."
    if request.method == "POST" and form.is_valid():
        values = dict(form.cleaned_data)
        ask = values.pop("confirm_entries")
        try:
            notes, waits = _set_limits(request, deployment, values)
        except InvalidInput as error:
            for name, text in error.problems.items():
                form.add_error(name, text)
        else:
            if ask != deployment.confirm_entries:
                confirmation.ask(deployment, ask, by=person.get_username())
            for note in notes:
                messages.warning(request, note)
            if not waits:
                messages.success(
                    request,
                    f"{deployment.agent.name}: saved. It holds from the next order on.",
                    f"limits-{deployment.pk}",
                )
            return redirect("my-agents")
    return render(
        request, "web/limits.html", {"form": form, "d": deployment}, status=422 if form.errors else 200
    )


def _set_limits(
    request: HttpRequest, deployment: Deployment, values: dict[str, Any]
) -> tuple[list[str], bool]:
    """Set the limits; return what to say, and whether staff's own raise waits for a second person."""
    person: Any = request.user
    if not person.is_staff:
        return owner_limits.set_limits(deployment, values, by=person.get_username()), False
    asked = change_requests.ask(
        Kind.RAISE_OWNER_LIMIT,
        changes.owner_limits_of(deployment, values),
        by=Asker(person.get_username(), person),
        reason="set on the page of the deployment's limits",
    )
    if asked.request:
        return [
            f"No limit changed yet: request {asked.request.pk} waits until another person approves it."
        ], True
    return asked.result, False


@never_cache
@login_required(login_url="login")
@page_needs("trading.view_order")
@require_safe
def confirmations(request: HttpRequest) -> HttpResponse:
    """List the entries that wait for this person's yes."""
    return render(request, "web/confirmations.html", _waiting(request))


@never_cache
@login_required(login_url="login")
@page_needs("trading.view_order")
@require_safe
def confirmation_rows(request: HttpRequest) -> HttpResponse:
    """Render the list alone, for the page to refresh."""
    return render(request, "web/confirmation_rows.html", _waiting(request))


def waiting_count(person: Any) -> int:
    """Return how many entries wait for this person's yes, `MOST` + 1 for more."""
    return len(_own(person)[: MOST + 1].values_list("pk"))


def _own(person: Any) -> Any:
    return confirmation.waiting(Order.objects.filter(deployment__owner=person))


def _waiting(request: HttpRequest) -> dict[str, Any]:
    orders = list(_own(request.user)[: MOST + 1])
    return {"rows": waiting_entries(orders[:MOST]), "more": len(orders) > MOST}


@login_required(login_url="login")
@page_needs("trading.change_order")
@require_POST
def answer(request: HttpRequest, order_id: int, word: str) -> HttpResponse:
    """Say yes or no to one waiting entry of this person, and return to the list."""
    person: Any = request.user
    order = Order.objects.select_related("signal").filter(pk=order_id, deployment__owner=person).first()
    if order is None or word not in ("confirm", "decline"):
        raise Http404(f"there is no order {order_id}")
    try:
        if word == "confirm":
            confirmation.confirm(order, by=person.get_username())
            messages.success(request, f"{order.symbol}: confirmed. It is placed as soon as the checks allow.")
        else:
            confirmation.decline(order, by=person.get_username())
            messages.success(request, f"{order.symbol}: declined.")
    except MaxxitError as error:
        messages.error(request, str(error))
    return redirect("confirmations")
