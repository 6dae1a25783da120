"""The page *What if* of a trade: the same entry under other settings of its agent."""

from typing import Any

from django import forms
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from maxxit.access.permissions import page_needs
from maxxit.core.errors import Rejected
from maxxit.core.terms import ExitPreset, Preset, choices
from maxxit.reports.trades.trade import position_of

AS_TRADED = ("", "as traded")


def _number(label: str, *, most: int) -> forms.DecimalField:
    return forms.DecimalField(required=False, label=label, min_value=0, max_value=most, decimal_places=6)


class WhatIfForm(forms.Form):
    """Other settings; what is left empty stays as it was traded."""

    exit_preset = forms.ChoiceField(
        required=False, label="Exit preset", choices=[AS_TRADED, *choices(ExitPreset)]
    )
    sizing_preset = forms.ChoiceField(
        required=False, label="Sizing preset", choices=[AS_TRADED, *choices(Preset)]
    )
    min_confidence = _number("Least confidence, 0 to 1", most=1)
    stop_loss_pct = _number("Stop loss, % of the entry", most=100)
    take_profit_pct = _number("Target, % of the entry", most=1000)
    price_band_pct = _number("Price band, %", most=100)


@never_cache
@login_required(login_url="login")
@page_needs("positions.view_position")
@require_safe
def what_if_page(request: HttpRequest, position_id: int) -> HttpResponse:
    """Show what a trade would have become under other settings; nothing is changed or stored."""
    from maxxit.backtest import what_if  # numpy, which no other page of customers needs

    person: Any = request.user
    try:
        position = position_of(position_id, person)
    except Rejected as error:
        raise Http404(str(error)) from error
    form = WhatIfForm(request.GET or None, auto_id="what-if-%s")
    data: dict[str, Any] = {"form": form, "row": position}
    if not form.is_bound or form.is_valid():
        given = form.cleaned_data if form.is_bound else {}
        changes = what_if.Changes(**{name: value for name, value in given.items() if value not in ("", None)})
        try:
            found = what_if.what_if(position, changes)
            data["outcomes"] = [found.same, found.changed]
        except Rejected as error:
            data["problem"] = str(error)
    return render(request, "web/what_if.html", data)
