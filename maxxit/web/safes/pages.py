"""The customer's page `Wallet`: each Safe with its balance, limits, fees, module and stops, and its revocation."""

from typing import Any

from django.contrib.auth.decorators import login_required
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from pydantic import Field

from agents.models import Deployment
from agents.states import DeploymentState
from maxxit.access.permissions import page_needs
from maxxit.core import clock
from maxxit.core.errors import MaxxitError
from maxxit.reports.safes import wallet as report
from maxxit.web.json_calls import JsonBody, json_call
from trading.deployments import safe_revocation
from trading.venues.safe import plans, safes, snapshot
from trading.venues.safe.builder_file import builder_file


def own(request: HttpRequest) -> QuerySet[Deployment]:
    """Select this person's deployments at Safes, the newest first."""
    person: Any = request.user
    rows = Deployment.objects.filter(owner=person).exclude(safe_wallet="")
    return rows.select_related("agent", "owner").order_by("-pk")


def own_deployment(request: HttpRequest, deployment_id: int) -> Deployment:
    """Return one of this person's deployments. Raises Http404."""
    person: Any = request.user
    rows = Deployment.objects.filter(owner=person).select_related("agent", "owner")
    deployment = rows.filter(pk=deployment_id).first()
    if deployment is None:
        raise Http404(f"there is no deployment {deployment_id}")
    return deployment


def _context(request: HttpRequest, *, fresh: bool = False) -> dict[str, Any]:
    rows = report.wallets(list(own(request)[: report.MOST]), fresh=fresh)
    return {"wallets": rows, "drafts": _drafts(request)[: report.MOST], "most": report.MOST}


def _drafts(request: HttpRequest) -> QuerySet[Deployment]:
    """Select this person's deployments that are to trade from a Safe which is not chosen yet, the newest first."""
    person: Any = request.user
    rows = Deployment.objects.filter(owner=person, state=DeploymentState.DRAFT, safe_wallet="")
    return rows.filter(safe_capital__isnull=False).select_related("agent").order_by("-pk")


@never_cache
@login_required(login_url="login")
@page_needs("agents.view_deployment")
@require_safe
def wallet_page(request: HttpRequest) -> HttpResponse:
    """Show this person's Safes."""
    return render(request, "web/wallet.html", _context(request))


@never_cache
@login_required(login_url="login")
@page_needs("agents.view_deployment")
@require_safe
def wallet_cards(request: HttpRequest) -> HttpResponse:
    """Render the cards of the Safes alone, for the page's script to refresh."""
    return render(request, "web/wallet_cards.html", _context(request))


class NoBody(JsonBody):
    """A call without arguments."""


class SentBody(JsonBody):
    """The hash of a transaction that the wallet sent; empty where none was."""

    hash: str = Field(default="", max_length=66)


@login_required(login_url="login")
@page_needs("agents.change_deployment")
@json_call(NoBody)
def wallet_revoke(request: HttpRequest, body: NoBody, deployment_id: int) -> dict[str, Any]:
    """Return the transaction with which the only owner revokes; `send` is null where several owners sign."""
    deployment = own_deployment(request, deployment_id)
    snapshot.require_answer(safes.safe_access(deployment))
    made = plans.revoke(deployment)
    return {
        "owners": list(made.owners),
        "send": made.send.as_json() if made.send else None,
    }


@login_required(login_url="login")
@page_needs("agents.change_deployment")
@json_call(SentBody)
def wallet_revoked(request: HttpRequest, body: SentBody, deployment_id: int) -> dict[str, Any]:
    """Look whether the chain shows the revocation; end the deployment then. Return the cards as they are now."""
    deployment = own_deployment(request, deployment_id)
    person: Any = request.user
    outcome = safe_revocation.settle(deployment, body.hash, by=person.get_username())
    html = render_to_string("web/wallet_cards.html", _context(request, fresh=True), request)
    return {"done": outcome.done, "failed": outcome.failed, "message": outcome.text, "html": html}


@never_cache
@login_required(login_url="login")
@page_needs("agents.view_deployment")
@require_safe
def revoke_file(request: HttpRequest, deployment_id: int) -> HttpResponse:
    """Download the revocation for Safe's Transaction Builder."""
    deployment = own_deployment(request, deployment_id)
    try:
        snapshot.require_answer(safes.safe_access(deployment))
        made = plans.revocation(deployment)
    except MaxxitError as error:
        return render(request, "web/wallet_problem.html", {"problem": str(error)}, status=409)
    return download(
        deployment,
        made.safe,
        [call.as_json() for call in made.calls],
        f"Revoke Maxxit in {made.safe}",
        "Ends the policy of Maxxit's trading module and disables the module. Your tokens stay in the Safe.",
        "revoke",
    )


def download(
    deployment: Deployment, safe: str, calls: list[dict[str, str]], name: str, description: str, kind: str
) -> JsonResponse:
    """Return a file for Safe's Transaction Builder."""
    content = builder_file(
        chain_id=deployment.chain_id or 0,
        safe=safe,
        calls=calls,
        name=name,
        description=description,
        at=clock.now(),
    )
    file = f"maxxit-{kind}-{safe}.json"
    return JsonResponse(
        content,
        json_dumps_params={"indent": 2},
        headers={"Content-Disposition": f'attachment; filename="{file}"'},
    )
