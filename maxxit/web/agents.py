"""Customers' pages of agents: `Start` sets up an agent, `My agents` shows each deployment and stops it."""

from decimal import Decimal
from itertools import count
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db import transaction
from django.db.models import F, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from agents import following
from agents.changes import AgentChanges, create_agent
from agents.deploying import create_deployment
from agents.models import CtAccount, Deployment
from agents.policy import policy as customer_policy
from agents.policy import post_sources
from agents.states import DeploymentState
from maxxit.access.permissions import page_needs
from maxxit.core.errors import InvalidInput, MaxxitError, Rejected
from maxxit.core.terms import ExitPreset, KillLevel, Preset
from maxxit.reports import authors, deployment_cards
from maxxit.reports.owners.venue_keys import needs_keys
from maxxit.web import charts, owner_decisions, previews, wallet_start
from maxxit.web.once import first_time
from trading.deployments import activation, stops
from trading.deployments.plan_check import PlanCheck
from trading.deployments.wallet_setup import SafeVenueChoice

SUGGESTED = 12
"""Accounts that the page offers, those with the best record first."""
PRESETS = {
    Preset.CONSERVATIVE: "Conservative: small orders",
    Preset.MODERATE: "Moderate",
    Preset.AGGRESSIVE: "Aggressive: large orders",
}
EXITS = {
    ExitPreset.SIGNAL: "As each signal says",
    ExitPreset.CONSERVATIVE: "Conservative: close stop loss and target",
    ExitPreset.MODERATE: "Moderate",
    ExitPreset.AGGRESSIVE: "Aggressive: wide stop loss and target",
    ExitPreset.VOLATILITY: "As each signal says, stop loss by the forecast volatility",
}


class StartForm(forms.Form):
    """What a customer chooses: accounts, capital and risk."""

    name = forms.CharField(
        label="Name of your agent", max_length=60, widget=forms.TextInput(attrs={"autocomplete": "off"})
    )
    accounts = forms.MultipleChoiceField(
        label="Accounts to follow", required=False, widget=forms.CheckboxSelectMultiple
    )
    others = forms.CharField(
        label="Other accounts",
        required=False,
        max_length=2_000,
        help_text="Names on X, with or without @, separated by spaces or commas.",
        widget=forms.TextInput(
            attrs={"autocapitalize": "none", "spellcheck": "false", "autocomplete": "off"}
        ),
    )
    capital = forms.DecimalField(
        label="Capital in USDC",
        min_value=Decimal("0.000001"),
        error_messages={
            "min_value": "Enter more than 0 USDC.",
            "invalid": "Enter an amount in USDC, such as 1000.",
        },
        max_digits=20,
        decimal_places=6,
        widget=forms.NumberInput(attrs={"inputmode": "decimal", "step": "any"}),
    )
    sizing_preset = forms.ChoiceField(label="Size of orders", choices=list(PRESETS.items()))
    exit_preset = forms.ChoiceField(label="When positions close", choices=list(EXITS.items()))

    def __init__(
        self, *given: Any, accounts: list[CtAccount], safes: list[SafeVenueChoice], **named: Any
    ) -> None:
        super().__init__(*given, **named)
        self.safes, self.accounts_at_venues = safes, wallet_start.account_choices()
        self.fields["money"] = wallet_start.money_field(safes, self.accounts_at_venues)
        field: Any = self.fields["accounts"]
        field.choices = [(account.x_username, f"@{account.x_username}") for account in accounts]

    def clean_money(self) -> str:
        """Return the venue; paper where none was chosen. Refuse one whose chain does not answer."""
        name = str(self.cleaned_data["money"] or wallet_start.PAPER)
        if problem := wallet_start.problem_of(self.safes, name):
            raise forms.ValidationError(problem)
        return name

    def names(self) -> list[str]:
        """Return all chosen account names."""
        typed = self.cleaned_data.get("others", "").replace(",", " ").split()
        return [*self.cleaned_data.get("accounts", ()), *typed]

    def clean(self) -> dict[str, Any]:
        """Check every account name, so that each wrong one is named; require one account at least."""
        values = self.cleaned_data
        if "accounts" not in values:
            return values
        names = self.names()
        if not names:
            self.add_error("others", "Choose at least one account to follow, or enter a name.")
            return values
        try:
            wrong = [answer for answer in following.check_names(names) if not answer.ok and answer.message]
        except InvalidInput as error:
            self.add_error("others", str(error))
            return values
        for answer in wrong:
            self.add_error("others", f"{answer.name}: {answer.message}")
        return values


@never_cache
@login_required(login_url="login")
@page_needs("agents.add_deployment")
@require_http_methods(["GET", "HEAD", "POST"])
def start(request: HttpRequest) -> HttpResponse:
    """Choose accounts, capital and risk; see what would be traded; start on paper, or go on with wallet or keys."""
    known, safes = list(_suggested()), wallet_start.safe_choices(request)
    context = previews.context_of(request)
    initial = {"capital": 1000, "sizing_preset": Preset.MODERATE, "exit_preset": ExitPreset.SIGNAL}
    initial |= {"name": _free_name(request)} | previews.typed_before(context["preview"])
    form = StartForm(request.POST or None, accounts=known, safes=safes, initial=initial)
    plan = _plan(form) if request.method == "POST" else None
    wanted = request.POST.get("do") == "preview" and plan is not None
    if wanted and (answer := previews.ask(request, form, form.names())):
        return answer
    if (
        request.method == "POST"
        and request.POST.get("do") == "start"
        and form.is_valid()
        and plan is not None
    ):
        if not first_time(request):
            return redirect("my-agents")
        if deployment := _started(request, form, plan):
            return _next_step(request, deployment)
    status = 200 if request.method != "POST" or form.is_valid() else 422
    most = customer_policy().max_followed_accounts
    context |= {
        "form": form,
        "plan": plan,
        "offered": offered(form, known),
        "most": most,
    }
    return render(request, "web/start.html", context, status=status)


def offered(form: StartForm, accounts: list[CtAccount]) -> list[dict[str, Any]]:
    """Return the accounts to choose from, each with its checkbox and its record."""
    standings = authors.standings(accounts)
    return [
        {"choice": choice, "standing": standing}
        for choice, standing in zip(form["accounts"], standings, strict=True)
    ]


def _suggested() -> QuerySet[CtAccount]:
    """Select the accounts that are read, those with the highest return over the benchmark first."""
    active = CtAccount.objects.filter(is_active=True, source__in=post_sources())
    return active.select_related("record").order_by(
        F("record__excess_pct").desc(nulls_last=True), "-impact_factor", "x_username"
    )[:SUGGESTED]


def _free_name(request: HttpRequest) -> str:
    """Return a name that none of this person's agents has."""
    person: Any = request.user
    taken = set(person.agents.values_list("name", flat=True))
    numbers = (f"{person.get_username()[:50]} {number}" for number in count(1))
    return next(name for name in numbers if name not in taken)


def _plan(form: StartForm) -> PlanCheck | None:
    """Return what the form's capital would trade; None where the form is incomplete. Adds its errors to the form."""
    if not form.is_valid():
        return None
    values = form.cleaned_data
    try:
        return activation.check(
            values["capital"], values["sizing_preset"], values["money"], values["exit_preset"]
        )
    except InvalidInput as error:
        for field, text in error.problems.items():
            form.add_error(field if field in form.fields else None, text)
        return None


def _next_step(request: HttpRequest, deployment: Deployment) -> HttpResponse:
    """Lead to what the owner still has to do: choose a Safe or store keys; on paper to the list of agents."""
    name, page = deployment.agent.name, "my-agents"
    if deployment.state == DeploymentState.ACTIVE:
        text = f"{name} trades on paper now."
    elif needs_keys(deployment.agent.venue):
        text, page = f"{name} is set up. Store the keys of its account now.", "venue-keys"
    else:
        text, page = f"{name} is set up. Choose its Safe now.", "wallet-setup"
    messages.success(request, text, "start")
    return redirect(page) if page == "my-agents" else redirect(page, deployment.pk)


def _started(request: HttpRequest, form: StartForm, plan: PlanCheck) -> Deployment | None:
    """Create agent, follows and deployment, all or nothing, and activate it on paper; None with errors on the form.

    One that trades from a Safe or with keys stays a draft until its owner has signed or stored them, and is refused
    here if it could not work. An account at a broker or exchange is its own capital: the form's is for the check alone.
    """
    person: Any = request.user
    by, values = person.get_username(), form.cleaned_data
    with_keys, paper = needs_keys(values["money"]), wallet_start.is_paper(values["money"])
    changes = AgentChanges(
        name=values["name"],
        venue=values["money"],
        sizing_preset=values["sizing_preset"],
        exit_preset=values["exit_preset"],
    )
    try:
        with transaction.atomic():
            agent = create_agent(person, changes, by=by)
            refused = [answer for answer in following.follow(agent, form.names(), by=by) if not answer.ok]
            if refused:
                raise InvalidInput({"others": f"{refused[0].name}: {refused[0].message}"})
            capital = None if with_keys and not paper else values["capital"]
            deployment = create_deployment(agent, person, by=by, capital=capital)
            if paper and not with_keys:
                activation.activate(deployment, by=by, why="page")
            elif plan.problems:
                raise Rejected("; ".join(plan.problems), code="cannot_work")
    except InvalidInput as error:
        for field, text in error.problems.items():
            form.add_error(field if field in form.fields else None, text)
        return None
    except Rejected as error:
        form.add_error(None, str(error))
        return None
    return deployment


@never_cache
@login_required(login_url="login")
@page_needs("agents.view_deployment")
@require_safe
def my_agents(request: HttpRequest) -> HttpResponse:
    """Show a card per deployment: curve, return, drawdown, followed accounts, state, and what can be done."""
    cards = deployment_cards.cards(list(_own(request)[: deployment_cards.MOST]))
    shown = [{"card": card, "plot": charts.sparkline(card.points)} for card in cards]
    return render(
        request,
        "web/my_agents.html",
        {"cards": shown, "waiting": owner_decisions.waiting_count(request.user)},
    )


def _own(request: HttpRequest) -> QuerySet[Deployment]:
    """Select the deployments of this person, the newest first. Staff see all of them in the admin."""
    person: Any = request.user
    return Deployment.objects.filter(owner=person).select_related("agent", "owner").order_by("-pk")


ACTIONS = ("pause", "resume", "stop", "close-all", "release", "revoke")


@login_required(login_url="login")
@page_needs("agents.change_deployment")
@require_POST
def change_deployment(request: HttpRequest, deployment_id: int, action: str) -> HttpResponse:
    """Pause, resume, stop, close or revoke one of this person's deployments, and return to the list."""
    deployment = _own(request).filter(pk=deployment_id).first()
    if deployment is None or action not in ACTIONS:
        raise Http404(f"there is no deployment {deployment_id}")
    person: Any = request.user
    try:
        text = _changed(deployment, action, by=person.get_username())
    except MaxxitError as error:
        messages.error(request, str(error))
    else:
        messages.success(request, f"{deployment.agent.name}: {text}")
    return redirect("my-agents")


def _changed(deployment: Deployment, action: str, *, by: str) -> str:
    """Do it and return what was done as a sentence. Raises MaxxitError where it is not allowed."""
    if action == "pause":
        activation.pause(deployment, by=by, why="page")
        return "it opens no more positions. Open positions keep their stop loss and target."
    if action == "resume":
        activation.activate(deployment, by=by, why="page")
        return "it trades now."
    if action == "stop":
        stops.stop(deployment, KillLevel.NO_ENTRIES, by=by, reason="stopped by its owner")
        return "its account is stopped: no position is opened until you release it."
    if action == "close-all":
        stops.stop(deployment, KillLevel.FLATTEN, by=by, reason="closed by its owner")
        return "all positions are being closed, and none is opened until you release it."
    if action == "release":
        left = stops.release(deployment, by=by, reason="released by its owner")
        return "your stop is released." if not left else "your stop is released; an operator's stop remains."
    activation.revoke(deployment, by=by, why="page")
    return "it is revoked for good. Open positions keep their stop loss and target."
