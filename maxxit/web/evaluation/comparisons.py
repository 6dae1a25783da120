"""The operator page of comparisons: a second reader beside the one in use, and the drift of the one in use."""

from decimal import Decimal
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from maxxit.adminkit import log_action
from maxxit.core.errors import MaxxitError
from maxxit.llm import versions
from maxxit.llm.policy import policy as llm_policy
from maxxit.web.once import first_time
from maxxit.web.operators import SENT_BEFORE, operator_page, require
from maxxit.web.sentences import sentence
from signals_app import comparison, drift, shadow
from signals_app.models import Comparison
from signals_app.policy import policy

CHANGE = "signals_app.change_comparison"
LISTED = 50
"""Comparisons on the page at most."""


class StartForm(forms.Form):
    """A new comparison."""

    name = forms.CharField(max_length=60)
    provider = forms.CharField(max_length=40)
    prompt = forms.CharField(max_length=60, required=False)
    share = forms.DecimalField(max_digits=7, decimal_places=6, min_value=Decimal("0.000001"), max_value=1)


@require_http_methods(["GET", "HEAD", "POST"])
@operator_page("operator-comparisons")
def comparisons_page(request: HttpRequest, context: dict[str, Any]) -> HttpResponse:
    """List the comparisons, show one (`?name=`), start or end one; show the drift of the reader in use."""
    problem = ""
    if request.method == "POST":
        require(request, CHANGE)
        try:
            problem = _done(request)
        except MaxxitError as error:
            problem = sentence(error)
        if not problem:
            return redirect(reverse("operator-comparisons"))
    name = request.GET.get("name", "")
    chosen = Comparison.objects.filter(name=name).first() if name else None
    context |= {
        "rows": Comparison.objects.all()[:LISTED],
        "chosen": chosen,
        "found": comparison.compare(chosen) if chosen else None,
        "problem": problem or (f"There is no comparison {name}." if name and not chosen else ""),
        "bands": drift.bands(drift.days(), policy().classify.drift),
        "providers": [one for one, stanza in llm_policy().providers.items() if not stanza.missing],
        "versions": [one.name for one in versions.versions("classify")],
        "given": request.POST,
        "may_change": request.user.has_perm(CHANGE),
    }
    return render(request, "web/operator_comparisons.html", context, status=422 if problem else 200)


def _done(request: HttpRequest) -> str:
    """Start or end a comparison; return what is wrong with the form. Raises Rejected."""
    by = request.user.get_username()
    if request.POST.get("do") == "stop":
        row = shadow.named(request.POST.get("name", ""))
        shadow.stop(row, by=by)
        log_action(request, [row], "Ended")
        messages.success(request, f"{row.name} has ended.")
        return ""
    form = StartForm(request.POST)
    if not form.is_valid():
        return "; ".join(f"{field}: {errors[0]}" for field, errors in form.errors.items())
    if not first_time(request):
        messages.info(request, SENT_BEFORE)
        return ""
    row = shadow.start(**form.cleaned_data, by=by)
    log_action(request, [row], f"Started: {row.provider} {row.prompt}".strip())
    messages.success(request, f"{row.name} reads from the next post on.")
    return ""
