"""Operator pages under /admin: health, limits, transactions, reconciliation, model calls and the checklist."""

from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.views.decorators import staff_member_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import urlencode
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods
from unfold.widgets import UnfoldAdminTextInputWidget

from maxxit.adminkit import log_action
from maxxit.core import clock
from maxxit.core.errors import MaxxitError, Rejected
from maxxit.core.money import plain
from maxxit.llm import statistics
from maxxit.llm.models import LlmCircuit
from maxxit.reports import model_calls, status
from maxxit.reports.operators import checklist, health, limits, transactions
from maxxit.reports.owners import holdings
from maxxit.reports.scope import Scope
from maxxit.web.once import first_time
from maxxit.web.sentences import sentence
from maxxit.web.unfold import OPERATOR_PAGES
from positions import discovered
from positions.performance import day_ends
from trading.models import ChangeRequest, LimitsInForce
from trading.operations import change_requests, changes, differences, limit_overrides
from trading.operations.change_requests import Asker
from trading.risk.limits_in_force import value_text
from trading.second_person import Kind, one_person

View = Callable[..., HttpResponse]
CHANGE_LIMITS, BOOK = "trading.change_limitsinforce", "trading.change_ledgerentry"
SENT_BEFORE = "This form was sent before, and took effect then."
PERIODS = {"1": "24 hours", "7": "7 days", "30": "30 days"}
"""Days -> label of the periods of model calls."""


def operator_page(name: str) -> Callable[[View], View]:
    """Decorate a view of staff with its permission in `OPERATOR_PAGES`, and pass it the theme's context."""
    _, title, _, permission = next(page for page in OPERATOR_PAGES if page[0] == name)

    def decorate(view: View) -> View:
        @wraps(view)
        def checked(request: HttpRequest, **of_path: Any) -> HttpResponse:
            if not request.user.has_perm(permission):
                raise PermissionDenied(f"the page {title} needs the permission {permission}")
            context = admin.site.each_context(request) | {"title": title, "now": clock.now()}
            return view(request, context, **of_path)

        guarded: View = never_cache(staff_member_required(login_url="admin:login")(checked))
        return guarded

    return decorate


def require(request: HttpRequest, permission: str) -> None:
    """Raise PermissionDenied where this member of staff lacks a permission."""
    if not request.user.has_perm(permission):
        raise PermissionDenied(f"this needs the permission {permission}")


@require_http_methods(["GET", "HEAD"])
@operator_page("operator-health")
def health_page(request: HttpRequest, context: dict[str, Any]) -> HttpResponse:
    """Show one green or red line, then every check by section, and the jobs."""
    read = health.read_health()
    try:
        jobs = status.jobs()
    except Exception:  # the section Jobs says why
        jobs = []
    return render(request, "web/operator_health.html", context | {"health": read, "jobs": jobs})


@require_http_methods(["GET", "HEAD"])
@operator_page("operator-checklist")
def checklist_page(request: HttpRequest, context: dict[str, Any]) -> HttpResponse:
    """Show the operator's day with live ticks."""
    parts = [
        (part, [(tick, reverse(tick.page) if _may_open(request, tick.page) else "") for tick in ticks])
        for part, ticks in checklist.checklist().items()
    ]
    return render(request, "web/operator_checklist.html", context | {"parts": parts})


def _may_open(request: HttpRequest, page: str) -> bool:
    """Return whether this member of staff may open the page of an item; without a page False."""
    needed = {name: permission for name, _, _, permission in OPERATOR_PAGES} | {
        "stop": "trading.change_killswitch",
        "market": "market.view_quote",
    }
    return page in needed and request.user.has_perm(needed[page])


class LimitForm(forms.Form):
    """A new value of one limit, and why."""

    limit = forms.ChoiceField(label="Limit")
    value = forms.CharField(label="New value", max_length=60, required=False)
    reason = forms.CharField(label="Reason", max_length=limit_overrides.LONGEST_REASON, min_length=3)

    def __init__(self, data: Any = None) -> None:
        super().__init__(data)
        field: Any = self.fields["limit"]
        field.choices = [(key, key) for key in limits.overridable()]


@require_http_methods(["GET", "HEAD", "POST"])
@operator_page("operator-limits")
def limits_page(request: HttpRequest, context: dict[str, Any]) -> HttpResponse:
    """Show each limit with its use; override one, or return it to the file's value, in two steps.

    The first step (`do=check`) shows what the change does; the second (`do=set` or `do=remove`) takes effect.
    """
    form, effect, status_code = LimitForm(), None, 200
    removing = request.POST.get("do") in ("check-removal", "remove")
    if request.method == "POST":
        require(request, CHANGE_LIMITS)
        form = LimitForm(request.POST)
        if form.is_valid():
            try:
                if request.POST.get("do") in ("set", "remove"):
                    return _change_limit(request, form.cleaned_data, removing=removing)
                effect = _preview(form.cleaned_data, removing=removing)
            except Rejected as error:
                form.add_error("value", sentence(error))
        status_code = 200 if form.is_valid() else 422
    elif request.GET.get("limit"):
        form = LimitForm({"limit": request.GET["limit"]})
        form.errors.clear()
    context |= {
        "limits": limits.read_limits(),
        "changes": limits.last_changes(),
        "form": form,
        "effect": effect,
        "removing": removing,
        "takes_effect": limits.in_words(effect.in_force_at) if effect else "",
        "old": value_text(effect.old) if effect else "",
        "new": value_text(effect.new) if effect else "",
        "may_change": request.user.has_perm(CHANGE_LIMITS),
        "needs_second": not one_person(Kind.RAISE_LIMIT),
    }
    return render(request, "web/operator_limits.html", context, status=status_code)


def _preview(values: dict[str, Any], *, removing: bool) -> limit_overrides.Effect:
    if removing:
        return limit_overrides.preview_removal(values["limit"])
    if not values["value"].strip():
        raise Rejected("enter the new value", code="bad_value")
    effect = limit_overrides.preview(values["limit"], values["value"])
    if effect.old == effect.new:
        raise Rejected(f"{effect.key} is {value_text(effect.new)} already", code="no_change")
    return effect


def _change_limit(request: HttpRequest, values: dict[str, Any], *, removing: bool) -> HttpResponse:
    """Take the second step. Raises Rejected."""
    if not first_time(request):
        messages.info(request, SENT_BEFORE)
        return redirect("operator-limits")
    key, reason = values["limit"], values["reason"]
    content = changes.unset_limit(key) if removing else changes.set_limit(key, values["value"])
    asked = change_requests.ask(Kind.RAISE_LIMIT, content, by=asker(request), reason=reason)
    if asked.request:
        messages.warning(request, waits(asked.request))
        return redirect("operator-change-requests")
    effect: limit_overrides.Effect = asked.result
    change = f"{key}: {value_text(effect.old)} to {value_text(effect.new)}"
    log_action(request, list(LimitsInForce.objects.all()[:1]), f"{change} ({reason})")
    messages.success(request, f"{change}, {limits.in_words(effect.in_force_at)}.")
    return redirect("operator-limits")


def asker(request: HttpRequest) -> Asker:
    """Return the person of this session."""
    person: Any = request.user
    return Asker(person.get_username(), person)


def waits(row: ChangeRequest) -> str:
    """Return the message after a change was asked for."""
    return f"Nothing changed yet: request {row.pk} waits until another person approves it."


@require_http_methods(["GET", "HEAD"])
@operator_page("operator-transactions")
def transactions_page(request: HttpRequest, context: dict[str, Any]) -> HttpResponse:
    """Show the chain outbox in pages, newest first."""
    state, before = request.GET.get("state", ""), request.GET.get("before", "")
    try:
        page = transactions.transactions(state=state, before=int(before) if before.isdecimal() else None)
        problem = ""
    except (Rejected, ValueError) as error:
        page, problem, state = transactions.transactions(), str(error), ""
    older = urlencode({"state": state, "before": str(page.next_before)}) if page.next_before else ""
    known = [transactions.UNDER_WAY, *transactions.TxState]
    context |= {
        "page": page,
        "state": state,
        "states": known,
        "older": older,
        "problem": problem,
        "before": before,
    }
    return render(request, "web/operator_transactions.html", context, status=422 if problem else 200)


EVERYTHING = Scope(None, "all deployments")
STORED = 50
"""Stored holdings on the page at most."""


class BookForm(forms.Form):
    """The difference to book, and why."""

    account = forms.CharField(max_length=80)
    asset = forms.CharField(max_length=20)
    amount = forms.DecimalField(max_digits=38, decimal_places=18)
    reason = forms.CharField(
        max_length=differences.LONGEST_REASON, min_length=3, widget=UnfoldAdminTextInputWidget
    )


@require_http_methods(["GET", "HEAD", "POST"])
@operator_page("operator-reconciliation")
def reconciliation_page(request: HttpRequest, context: dict[str, Any]) -> HttpResponse:
    """Compare ledger and venues on request; show each difference with cause and fix; book one with a reason."""
    result, problem = None, ""
    if request.method == "POST":
        if (do := request.POST.get("do")) in ("book", "adopt"):
            require(request, BOOK)
            problem = _booked(request, BookForm(request.POST), adopt=do == "adopt")
            if not problem:
                return redirect("operator-reconciliation")
        result = differences.compare()
    context |= {
        "result": result,
        "problem": problem,
        "job": next((job for job in status.jobs() if job.task == "trading.tasks.reconcile"), None),
        "may_book": request.user.has_perm(BOOK),
        "adoptable": [row for row in result.rows if discovered.problem(row) is None] if result else [],
        "stored": holdings.holdings(EVERYTHING, unexplained=True, most=STORED),
        "day_ends": day_ends.newest(),
    }
    return render(request, "web/operator_reconciliation.html", context, status=422 if problem else 200)


def _booked(request: HttpRequest, form: BookForm, *, adopt: bool) -> str:
    """Book the difference as a transfer, or adopt it as a position; return what is wrong, empty where it is done."""
    if not form.is_valid():
        return "; ".join(f"{field}: {errors[0]}" for field, errors in form.errors.items())
    if not first_time(request):
        return SENT_BEFORE
    values = form.cleaned_data
    shown = (values["account"], values["asset"], values["amount"])
    by, reason = request.user.get_username(), values["reason"]
    try:
        if adopt:
            position = discovered.adopt(*shown, by=by, reason=reason)
            done = (
                f"Adopted {plain(position.quantity)} {position.symbol} of {values['account']} as position "
                f"{position.pk} from {plain(position.entry_price)} USD."
            )
        else:
            row = differences.apply(*shown, by=by, reason=reason)
            done = f"Booked {plain(row.amount)} {row.asset} of {row.account} as a transfer by its owner."
    except MaxxitError as error:
        return str(error)
    messages.success(request, done)
    return ""


@require_http_methods(["GET", "HEAD"])
@operator_page("operator-models")
def models_page(request: HttpRequest, context: dict[str, Any]) -> HttpResponse:
    """Show calls, cost and latency of a period, by day, and versions of prompts side by side."""
    days = request.GET.get("days", "1")
    days = days if days in PERIODS else "1"
    rows = statistics.traces(since=clock.now() - timedelta(days=int(days)))
    context |= {
        "days": days,
        "periods": PERIODS,
        "period": PERIODS[days],
        "summary": statistics.summary(rows),
        "by_day": statistics.days(rows),
        "prompts": statistics.prompts(rows),
        "became": model_calls.by_version(rows),
        "circuits": LlmCircuit.objects.filter(failures__gt=0),
    }
    return render(request, "web/operator_models.html", context)
