"""Set up the Safe of a draft in the browser: choose a Safe, sign beside the permission card, watch the chain.

The page may be left and opened again at any step: each call returns the state as it is, rendered, and what counts is
what the chain shows (`trading.deployments.wallet_setup`).
"""

from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.template.loader import render_to_string
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from pydantic import Field

from agents.models import Deployment
from maxxit.access.permissions import page_needs
from maxxit.core.errors import MaxxitError, Rejected
from maxxit.web.json_calls import JsonBody, json_call
from maxxit.web.safes.pages import NoBody, SentBody, download, own_deployment
from trading import gate
from trading.chain import chains
from trading.deployments import activation, safe_limits, wallet_setup
from trading.deployments.wallet_setup import Status, Step
from trading.venues.safe import plans, safes
from trading.venues.safe.units import USDC_DECIMALS, base

TRANSFER = "0xa9059cbb"
"""Selector of `transfer(address,uint256)` of a token."""


class NewBody(JsonBody):
    """The wallet that owns the new Safe."""

    owner: str = Field(max_length=42)


class ExistingBody(JsonBody):
    """A Safe that exists, and what shows that one of its owners agrees."""

    safe: str = Field(max_length=60)
    signature: str = Field(default="", max_length=200)


@never_cache
@login_required(login_url="login")
@page_needs("agents.view_deployment")
@require_safe
def wallet_setup_page(request: HttpRequest, deployment_id: int) -> HttpResponse:
    """Show how far the Safe of a deployment is, without a look at the chain; the page's script looks at it."""
    deployment = own_deployment(request, deployment_id)
    try:
        safes.safe_access(deployment)
    except MaxxitError:
        return redirect("my-agents")  # it does not trade from a Safe
    if problem := activation.venue_problem(deployment.agent.venue):
        messages.error(request, f"{problem[0].upper()}{problem[1:]}.")
        return redirect("my-agents")
    context = _context(deployment, wallet_setup.stored_status(deployment))
    return render(request, "web/wallet_setup.html", context)


def _context(deployment: Deployment, status: Status) -> dict[str, Any]:
    at = safes.safe_access(deployment)
    plan, stanza = status.plan, at.stanza
    owners = status.onboarding.get("owners", [])
    capital, missing = activation.capital_of(deployment), None
    if status.usdc is not None and status.usdc < capital and status.step == Step.READY:
        missing = capital - status.usdc
    changes = safe_limits.changes(deployment, plan) if plan else []
    return {
        "deployment": deployment,
        "status": status,
        "step": status.step.value,
        "several": status.several,
        "owner": owners[0] if len(owners) == 1 else "",
        "owners": owners,
        "send": status.onboarding.get("send"),
        "notes": status.onboarding.get("notes", []),
        "sharing": wallet_setup.sharing(deployment),
        "changes": changes,
        "loosens": safe_limits.loosens(changes),
        "is_new": bool(status.onboarding.get("new")),
        "card": plans.card_of(at, plan) if plan else plans.card_for(deployment),
        "perps": at.kind.name == "perps",
        "chain_id": stanza.chain_id,
        "chain": chains.title(stanza.chain_id),
        "coin": stanza.coin,
        "explorer": stanza.explorer,
        "usdc_contract": at.places.usdc,
        "capital": capital,
        "missing": missing,
        "transfer": _transfer(deployment, missing) if missing else "",
        "gate_open": deployment.agent.venue in gate.open_venues(),
    }


def _transfer(deployment: Deployment, missing: Any) -> str:
    """Return the calldata that sends the missing USDC to the Safe."""
    amount = base(missing, USDC_DECIMALS)
    return f"{TRANSFER}{deployment.safe_wallet[2:].lower():0>64}{amount:064x}"


def _answer(request: HttpRequest, deployment: Deployment, status: Status) -> dict[str, Any]:
    """Return the step and its HTML."""
    html = render_to_string("web/wallet_setup_state.html", _context(deployment, status), request)
    return {"step": status.step.value, "html": html}


@login_required(login_url="login")
@page_needs("agents.change_deployment")
@json_call(NewBody)
def wallet_plan_new(request: HttpRequest, body: NewBody, deployment_id: int) -> dict[str, Any]:
    """Plan a new Safe of the wallet; a plan for the same wallet that is still a proposal is shown again."""
    deployment = own_deployment(request, deployment_id)
    status = wallet_setup.stored_status(deployment)
    known = status.plan is not None and status.onboarding.get("new")
    if not (known and [owner.lower() for owner in status.onboarding["owners"]] == [body.owner.lower()]):
        wallet_setup.plan_new(deployment, body.owner)
    return _answer(request, deployment, wallet_setup.stored_status(deployment))


@login_required(login_url="login")
@page_needs("agents.change_deployment")
@json_call(ExistingBody)
def wallet_plan_existing(request: HttpRequest, body: ExistingBody, deployment_id: int) -> dict[str, Any]:
    """Plan for an existing Safe. Where no owner has agreed yet, return the text that one of them signs."""
    deployment = own_deployment(request, deployment_id)
    person: Any = request.user
    proven = list(person.wallets.values_list("address", flat=True))
    try:
        wallet_setup.plan_existing(deployment, body.safe, signature=body.signature, proven=proven)
    except Rejected as error:
        if error.code != "owner_signature" or body.signature:
            raise
        safe = wallet_setup.checksummed(body.safe, str(error))
        return {"step": "consent", "text": plans.consent(deployment, safe)}
    return _answer(request, deployment, wallet_setup.stored_status(deployment))


@login_required(login_url="login")
@page_needs("agents.change_deployment")
@json_call(SentBody)
def wallet_sent(request: HttpRequest, body: SentBody, deployment_id: int) -> dict[str, Any]:
    """Keep the hash of the transaction that the wallet sent."""
    deployment = own_deployment(request, deployment_id)
    wallet_setup.note_sent(deployment, body.hash)
    return _answer(request, deployment, wallet_setup.stored_status(deployment))


@login_required(login_url="login")
@page_needs("agents.change_deployment")
@json_call(NoBody)
def wallet_check(request: HttpRequest, body: NoBody, deployment_id: int) -> dict[str, Any]:
    """Look at the chain; the plan comes into force and the agent starts where the chain shows it."""
    deployment = own_deployment(request, deployment_id)
    person: Any = request.user
    status = wallet_setup.look(deployment, by=person.get_username())
    return _answer(request, deployment, status)


@login_required(login_url="login")
@page_needs("agents.change_deployment")
@json_call(NoBody)
def wallet_forget(request: HttpRequest, body: NoBody, deployment_id: int) -> dict[str, Any]:
    """Withdraw the proposal, so that another Safe may be chosen."""
    deployment = own_deployment(request, deployment_id)
    wallet_setup.forget(deployment)
    return _answer(request, deployment, wallet_setup.stored_status(deployment))


@never_cache
@login_required(login_url="login")
@page_needs("agents.view_deployment")
@require_safe
def plan_file(request: HttpRequest, deployment_id: int) -> HttpResponse:
    """Download the plan for Safe's Transaction Builder."""
    deployment = own_deployment(request, deployment_id)
    plan = wallet_setup.newest_plan(deployment)
    calls = plan.onboarding.get("calls") if plan else None
    if plan is None or not calls:
        problem = "There is no plan of an existing Safe to sign: choose the Safe first."
        return render(request, "web/wallet_problem.html", {"problem": problem}, status=409)
    return download(
        deployment,
        plan.safe,
        calls,
        f"Maxxit trading policy of {plan.safe}",
        "Enables Maxxit's trading module and sets the limits of the permission card.",
        "plan",
    )
