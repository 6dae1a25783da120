"""The keys of a deployment's account at its venue: set, test, replace and remove them. Nothing shows them again."""

from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_safe

from agents.models import Deployment
from agents.states import DeploymentState
from maxxit.access.permissions import page_needs
from maxxit.core.errors import InvalidInput, MaxxitError
from maxxit.reports.owners import venue_keys as report
from maxxit.web.once import first_time
from maxxit.web.safes.pages import own_deployment
from maxxit.web.sentences import sentence
from trading.credentials import requests, store


class KeysForm(forms.Form):
    """The keys that a venue wants, the public one first. What was typed is never shown again."""

    def __init__(self, names: tuple[str, ...], *given: Any) -> None:
        super().__init__(*given)
        for place, name in enumerate(names):
            attrs = {"autocomplete": "off", "spellcheck": "false", "autocapitalize": "none"}
            self.fields[name] = forms.CharField(
                label=report.label_of(name),
                max_length=store.MAX_LENGTH,
                widget=forms.TextInput(attrs)
                if place == 0
                else forms.Textarea({**attrs, "rows": "2", "class": "secret"}),
            )


@sensitive_post_parameters()
@never_cache
@login_required(login_url="login")
@page_needs("agents.change_deployment")
@require_http_methods(["GET", "HEAD", "POST"])
def keys_page(request: HttpRequest, deployment_id: int) -> HttpResponse:
    """Show the state of the keys; take new ones, let them be tested, or remove them."""
    deployment = own_deployment(request, deployment_id)
    names = requests.fields_of(deployment)
    if not names:
        messages.info(
            request, f"{deployment.agent.name} trades at {deployment.agent.venue}, which needs no keys."
        )
        return redirect("my-agents")
    if request.method != "POST":
        return _show(request, deployment)
    action = {"set": _set, "test": _test, "remove": _remove}.get(request.POST.get("do", ""))
    if action is None:
        raise Http404("there is no such form")
    return action(request, deployment)


@never_cache
@login_required(login_url="login")
@page_needs("agents.change_deployment")
@require_safe
def keys_part(request: HttpRequest, deployment_id: int) -> HttpResponse:
    """Render the state of the keys alone, for the page's script to refresh."""
    deployment = own_deployment(request, deployment_id)
    return render(request, "web/venue_keys_state.html", {"d": deployment, "keys": report.keys_of(deployment)})


def _show(
    request: HttpRequest, deployment: Deployment, problems: dict[str, str] | None = None
) -> HttpResponse:
    """Render the page; `problems` are of a form that was refused, whose values are not shown again."""
    names = requests.fields_of(deployment)
    form = KeysForm(names, {} if problems else None)
    if problems:
        form.errors.clear()
        for name, text in problems.items():
            form.add_error(name if name in names else None, text)
    context = {
        "d": deployment,
        "keys": report.keys_of(deployment),
        "form": form,
        "open": deployment.state != DeploymentState.REVOKED,
    }
    return render(request, "web/venue_keys.html", context, status=422 if problems else 200)


def _set(request: HttpRequest, deployment: Deployment) -> HttpResponse:
    person: Any = request.user
    given = {name: request.POST.get(name, "") for name in requests.fields_of(deployment)}
    try:
        if first_time(request):
            requests.ask_to_store(deployment, given, by=person.get_username())
    except InvalidInput as error:
        return _show(
            request,
            deployment,
            {name: sentence(text) for name, text in error.problems.items()},
        )
    except MaxxitError as error:
        return _show(request, deployment, {"": sentence(error)})
    return redirect("venue-keys", deployment.pk)


def _test(request: HttpRequest, deployment: Deployment) -> HttpResponse:
    person: Any = request.user
    try:
        if first_time(request):
            requests.ask_to_test(deployment, by=person.get_username())
    except MaxxitError as error:
        messages.error(request, sentence(error))
    return redirect("venue-keys", deployment.pk)


def _remove(request: HttpRequest, deployment: Deployment) -> HttpResponse:
    person: Any = request.user
    try:
        removed = requests.remove(deployment, by=person.get_username())
    except MaxxitError as error:
        messages.error(request, sentence(error))
    else:
        text = "The keys are removed. Revoke them at the venue as well." if removed else "There were no keys."
        messages.success(request, text)
    return redirect("venue-keys", deployment.pk)
