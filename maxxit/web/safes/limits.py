"""Change the limits of a Safe that trades: choose them here, then sign them on the page of the Safe."""

from decimal import Decimal
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from maxxit.access.permissions import page_needs
from maxxit.core.errors import InvalidInput, MaxxitError
from maxxit.web.once import first_time
from maxxit.web.safes.pages import own_deployment
from maxxit.web.sentences import sentence
from trading.deployments import safe_limits
from trading.venues.safe.limits import Limit, Unit


class SafeLimitsForm(forms.Form):
    """The limits of a Safe that its owner may choose."""

    def __init__(self, *given: Any, largest: dict[Limit, Decimal], **named: Any) -> None:
        super().__init__(*given, **named)
        for limit, most in largest.items():
            self.fields[limit.name] = _field(limit, most)


def _field(limit: Limit, most: Decimal) -> forms.Field:
    unit = {Unit.USDC: " USDC", Unit.TIMES: "x", Unit.COUNT: ""}[limit.unit]
    text = f"{limit.help} At most {most:,.0f}{unit}.".strip()
    if limit.unit == Unit.COUNT:
        return forms.IntegerField(label=limit.title, help_text=text)
    return forms.DecimalField(
        label=limit.title,
        help_text=text,
        max_digits=20,
        decimal_places=limit.places,
        widget=forms.NumberInput(attrs={"inputmode": "decimal", "step": "any"}),
    )


@never_cache
@login_required(login_url="login")
@page_needs("agents.change_deployment")
@require_http_methods(["GET", "HEAD", "POST"])
def wallet_limits(request: HttpRequest, deployment_id: int) -> HttpResponse:
    """Show the limits in force; plan others and lead on to the signature."""
    deployment = own_deployment(request, deployment_id)
    person: Any = request.user
    try:
        now = safe_limits.values_of(safe_limits.in_force(deployment))
    except MaxxitError as error:
        messages.error(request, sentence(error))
        return redirect("wallet")
    initial = {name: f"{value.normalize():f}" for name, value in now.items()}
    largest = safe_limits.largest(deployment)
    form = SafeLimitsForm(request.POST or None, initial=initial, largest=largest)
    if request.method == "POST" and form.is_valid():
        given = {limit.name: Decimal(form.cleaned_data[limit.name]) for limit in largest}
        try:
            if first_time(request):
                safe_limits.propose(deployment, given, by=person.get_username())
        except InvalidInput as error:
            for name, text in error.problems.items():
                form.add_error(name, sentence(text))
        except MaxxitError as error:
            form.add_error(None, sentence(error))
        else:
            for warning in safe_limits.warnings_of(deployment):
                messages.warning(request, sentence(warning))
            return redirect("wallet-setup", deployment.pk)
    context = {"form": form, "d": deployment, "smallest": safe_limits.smallest_trade(deployment)}
    return render(request, "web/wallet_limits.html", context, status=422 if form.errors else 200)
