"""The operator page of changes that need a second person: ask, confirm, approve, refuse, withdraw."""

from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from maxxit.adminkit import log_action
from maxxit.core import clock
from maxxit.core.errors import MaxxitError
from maxxit.market.venues import venues
from maxxit.web.once import first_time
from maxxit.web.operators import SENT_BEFORE, asker, operator_page, require, waits
from maxxit.web.sentences import sentence
from trading.models import ChangeRequest
from trading.operations import change_requests, changes
from trading.operations.changes import ALL, CHANGES
from trading.second_person import Kind, one_person, policy
from trading.states import RequestState

NAME = "operator-change-requests"
LISTED = 50
"""Decided requests on the page at most."""
TITLES = {
    Kind.OPEN_GATE: "End the dry run of a venue",
    Kind.APPROVE_ORDERS: "Approve that orders are sent",
    Kind.RAISE_LIMIT: "Loosen a risk limit",
    Kind.RAISE_OWNER_LIMIT: "Raise a limit of a deployment",
}
ASKED_HERE = (Kind.OPEN_GATE, Kind.APPROVE_ORDERS)


class AskForm(forms.Form):
    """A change of a venue's gate."""

    kind = forms.ChoiceField(choices=[(str(kind), TITLES[kind]) for kind in ASKED_HERE])
    venue = forms.ChoiceField()
    hours = forms.IntegerField(min_value=1, max_value=8760, required=False)
    reason = forms.CharField(
        min_length=change_requests.SHORTEST_REASON, max_length=change_requests.LONGEST_REASON
    )

    def __init__(self, data: Any = None) -> None:
        super().__init__(data)
        field: Any = self.fields["venue"]
        field.choices = [(name, name) for name in (*venues(), ALL)]


@require_http_methods(["GET", "HEAD", "POST"])
@operator_page(NAME)
def change_requests_page(request: HttpRequest, context: dict[str, Any]) -> HttpResponse:
    """Show what waits with from, to, who and why; decide on it, or ask for the opening of a gate."""
    problem = ""
    if request.method == "POST":
        try:
            problem = _done(request)
        except MaxxitError as error:
            problem = sentence(error)
        if not problem:
            return redirect(NAME)
    waiting = [_shown(row, request.user) for row in change_requests.open_requests()]
    kinds = [(TITLES[kind], one_person(kind)) for kind in Kind]
    context |= {
        "waiting": waiting,
        "decided": [
            (row, TITLES[Kind(row.kind)], change_requests.lines_of(row))
            for row in ChangeRequest.objects.exclude(state=RequestState.REQUESTED)[:LISTED]
        ],
        "problem": problem,
        "kinds": kinds,
        "hours": policy().expires_after_hours,
        "asks": [
            (kind, TITLES[kind]) for kind in ASKED_HERE if request.user.has_perm(CHANGES[kind].permission)
        ],
        "venues": [*venues(), ALL],
        "given": request.POST,
    }
    return render(request, "web/operator_change_requests.html", context, status=422 if problem else 200)


def _shown(row: ChangeRequest, person: Any) -> dict[str, Any]:
    """Return a waiting request with what this person may do."""
    own, unconfirmed = row.asked_user_id == person.pk, row.asked_user_id is None
    return {
        "row": row,
        "title": TITLES[Kind(row.kind)],
        "lines": change_requests.lines_of(row),
        "own": own,
        "unconfirmed": unconfirmed,
        "may_confirm": unconfirmed and person.has_perm(CHANGES[Kind(row.kind)].permission),
        "may_approve": not own and not unconfirmed and change_requests.may_approve(person),
        "may_refuse": change_requests.may_approve(person) and not own,
        "may_withdraw": change_requests.may_withdraw(row, person),
    }


def _done(request: HttpRequest) -> str:
    """Do what the form says; return what is wrong, empty where it is done. Raises `MaxxitError`."""
    do = request.POST.get("do", "")
    if do == "ask":
        return _ask(request)
    number = request.POST.get("request", "")
    if do not in ("approve", "refuse", "withdraw") or not (number.isascii() and number.isdigit()):
        return "Choose a request and what to do with it."
    person: Any = request.user
    pk, name = min(int(number), 2**63 - 1), person.get_username()
    if do == "approve":
        row = change_requests.approve(pk, user=person, sha256=request.POST.get("sha256", ""))
    elif do == "refuse":
        require(request, change_requests.APPROVE)
        row = change_requests.refuse(pk, by=name, user=person, reason=request.POST.get("reason", ""))
    else:
        row = change_requests.withdraw(pk, by=name, user=person)
    said = "confirmed: another person has to approve it" if row.state == RequestState.REQUESTED else row.state
    log_action(request, [row], f"Request {row.pk} {said}")
    messages.success(request, f"Request {row.pk} is {said}.")
    return ""


def _ask(request: HttpRequest) -> str:
    form = AskForm(request.POST)
    if not form.is_valid():
        return "; ".join(f"{field}: {errors[0]}" for field, errors in form.errors.items())
    values = form.cleaned_data
    kind, venue = Kind(values["kind"]), values["venue"]
    require(request, CHANGES[kind].permission)
    if kind is Kind.OPEN_GATE:
        if venue == ALL:
            return "Choose one venue: each dry run ends by itself."
        content = changes.open_gate(venue)
    else:
        content = changes.approve_orders(venue, clock.now() + timedelta(hours=values["hours"] or 8))
    if not first_time(request):
        return SENT_BEFORE
    asked = change_requests.ask(kind, content, by=asker(request), reason=values["reason"])
    if asked.request:
        messages.warning(request, waits(asked.request))
    else:
        messages.success(request, f"{TITLES[kind]}: done, {venue}.")
    return ""
