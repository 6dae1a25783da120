"""The operator page of prompts: their versions, what differs between two, and which is active."""

from dataclasses import dataclass
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import urlencode
from django.views.decorators.http import require_http_methods

from maxxit.adminkit import log_action
from maxxit.core.errors import MaxxitError
from maxxit.llm import versions
from maxxit.llm.models import PromptActivation
from maxxit.llm.policy import policy
from maxxit.llm.versions import Version
from maxxit.web.once import first_time
from maxxit.web.operators import SENT_BEFORE, operator_page, require
from maxxit.web.sentences import sentence

CHANGE = "llm.change_promptversion"
KINDS = {"+": "added", "-": "removed", "@": "place"}
"""First character of a line of a diff -> what it is."""


class ChangeForm(forms.Form):
    """Which version to activate, and why."""

    purpose = forms.CharField(max_length=40)
    name = forms.CharField(max_length=60, required=False)
    reason = forms.CharField(max_length=versions.LONGEST_NOTE, min_length=3)


class NewForm(forms.Form):
    """A new version."""

    purpose = forms.CharField(max_length=40)
    name = forms.CharField(max_length=60)
    note = forms.CharField(max_length=versions.LONGEST_NOTE, required=False)
    text = forms.CharField(max_length=versions.LONGEST_TEXT, strip=False)


@dataclass(frozen=True)
class Compared:
    """One version beside another one."""

    version: Version
    against: Version
    lines: list[tuple[str, str]]
    """(added, removed, place or same; the line)."""
    active: bool
    """Whether posts are read with `version` now."""


@require_http_methods(["GET", "HEAD", "POST"])
@operator_page("operator-prompts")
def prompts_page(request: HttpRequest, context: dict[str, Any]) -> HttpResponse:
    """List the versions of each purpose; show one against another; store, activate or roll back one."""
    problem, given = "", request.GET
    if request.method == "POST":
        require(request, CHANGE)
        try:
            problem = _done(request)
        except MaxxitError as error:
            problem = sentence(error)
        if not problem:
            return redirect("operator-prompts")
        given = request.POST
    compared, wrong = _compared(request)
    purposes = [_purpose(name) for name in policy().prompted]
    context |= {
        "purposes": purposes,
        "compared": compared,
        "base": _base(given, purposes),
        "given": given,
        "problem": problem or wrong,
        "history": versions.history(),
        "may_change": request.user.has_perm(CHANGE),
    }
    return render(request, "web/operator_prompts.html", context, status=422 if problem or wrong else 200)


def _done(request: HttpRequest) -> str:
    """Carry out what the form says; return what is wrong with it, empty where it is done. Raises Rejected."""
    do, by = request.POST.get("do"), request.user.get_username()
    form = NewForm(request.POST) if do == "create" else ChangeForm(request.POST)
    if not form.is_valid():
        return "; ".join(f"{field}: {errors[0]}" for field, errors in form.errors.items())
    if not first_time(request):
        messages.info(request, SENT_BEFORE)
        return ""
    values = form.cleaned_data
    if do == "create":
        row = versions.create(values["purpose"], values["name"], values["text"], by=by, note=values["note"])
        log_action(request, [row], f"Stored: {row.note}")
        messages.success(request, f"{row} is stored. Compare it with the active one, and activate it there.")
    elif do == "rollback":
        _say(request, versions.rollback(values["purpose"], by=by, reason=values["reason"]))
    else:
        _say(request, versions.activate(values["purpose"], values["name"], by=by, reason=values["reason"]))
    return ""


def _say(request: HttpRequest, changed: PromptActivation) -> None:
    log_action(request, [changed], f"{changed.name}: {changed.reason}")
    messages.success(request, f"{changed.purpose} is asked with {changed.name} from the next call on.")


def _compared(request: HttpRequest) -> tuple[Compared | None, str]:
    """Return the two versions that the address names, and what is wrong with it."""
    purpose, name = request.GET.get("purpose", ""), request.GET.get("version", "")
    if not (purpose and name):
        return None, ""
    try:
        version, used = versions.find(purpose, name), versions.active(purpose)
        against = versions.find(purpose, request.GET.get("against") or used)
    except MaxxitError as error:
        return None, sentence(error)
    lines = [(KINDS.get(line[:1], "same"), line) for line in versions.diff(against, version)]
    return Compared(version, against, lines, used == name), ""


def _purpose(name: str) -> dict[str, Any]:
    """Return a purpose with its versions, the active one, and what a rollback leads to."""
    try:
        before = versions.rollback_target(name)
        back = before.name if before else versions.FILE
    except MaxxitError:
        back = ""
    rows, used = versions.versions(name), versions.active(name)
    address = reverse("operator-prompts")
    return {
        "name": name,
        "active": used,
        "back": back,
        "versions": [(row, f"{address}?{urlencode({'purpose': name, 'version': row.name})}") for row in rows],
    }


def _base(given: Any, purposes: list[dict[str, Any]]) -> str:
    """Return the text that the form of a new version begins with."""
    if given.get("text"):
        return str(given["text"])
    wanted = next((one for one in purposes if one["name"] == given.get("purpose")), purposes[0])
    return str(next(row.text for row, _ in wanted["versions"] if row.name == wanted["active"]))
