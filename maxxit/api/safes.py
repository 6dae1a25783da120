"""The API under /api/safes: predict the address of a Safe, plan, verify and revoke its trading policy.

Nothing here signs or sends. A plan needs the signature of an owner of the Safe: otherwise a policy that an owner has
signed already would let another customer's agent trade it.
"""

import secrets
from typing import Annotated, Any

from django.http import Http404, HttpRequest
from ninja import Router, Schema
from ninja.errors import HttpError
from pydantic import Field

from agents.models import Deployment
from maxxit.access.auth import Caller, caller
from maxxit.access.models import ADMIN, SAFES
from maxxit.access.permissions import needs
from maxxit.access.rows import visible
from maxxit.core.errors import Misconfigured, Rejected
from maxxit.events.record import record
from maxxit.reports.schemas import Problem
from trading.chain import chains
from trading.reasons import Reason
from trading.venues.safe import safes
from trading.wiring import venue

router = Router(tags=["safes"])
ONE = {status: Problem for status in (401, 403, 404, 409, 422, 429, 503)}
Address = Annotated[str, Field(max_length=42, description="EVM address with its checksum")]


class PredictIn(Schema):
    """Owners and threshold of a Safe that is not deployed yet."""

    venue: Annotated[str, Field(max_length=20, description="a venue whose adapter is `safe`")] = "safe"
    owners: Annotated[list[Address], Field(min_length=1, max_length=20)]
    threshold: Annotated[int, Field(ge=1, le=20, description="how many owners must sign")] = 1
    salt: Annotated[
        int | None, Field(ge=0, lt=2**256, description="part of the address; left out: a random one")
    ] = None


class CallOut(Schema):
    """A transaction that any wallet may send; `data` is 0x hex, `value` wei."""

    to: str
    value: str
    data: str


class PredictedOut(Schema):
    """The address of the Safe and the transaction that deploys it there."""

    safe: str
    chain_id: int
    salt: str
    transaction: CallOut


class PlanIn(Schema):
    """The Safe, and the signature of one of its owners."""

    safe: Annotated[
        str, Field(max_length=42, description="its address; may be left out once the deployment has a plan")
    ] = ""
    signature: Annotated[
        str,
        Field(
            max_length=200, description="0x hex, personal_sign of the text in the refusal `owner_signature`"
        ),
    ] = ""
    loosen_delay: Annotated[
        chains.LoosenDelay | None,
        Field(
            description="seconds until a later, looser policy takes effect; 0 = at once; left out: as configured"
        ),
    ] = None


class ToSignOut(Schema):
    """The Safe transaction for the owners to sign, with its EIP-712 hash; a plan includes the permission card."""

    safe: str
    card: dict[str, Any] | None = None
    text: str = ""
    notes: list[str] = []
    transaction: dict[str, Any]


class VerifiedOut(Schema):
    """Whether the Safe on chain agrees with the plan, and each difference."""

    deployment_id: int
    verified: bool
    differences: list[str]
    stopped: dict[str, str] = {}
    """Symbol, or * for all -> why entries in it are stopped."""


def _own_deployment(request: HttpRequest, deployment_id: int) -> tuple[Deployment, Caller]:
    """Return the caller's deployment. Raises 403 for a key without the scope safes or admin, 404 for others' rows."""
    who = caller(request)
    if not {SAFES, ADMIN} & who.scopes:
        raise HttpError(
            403, "this needs a key with the scope `safes`: `manage.py apikey create USER --scope safes`"
        )
    rows = visible(Deployment.objects.select_related("agent"), who.person)
    deployment = rows.filter(pk=deployment_id).first()
    if deployment is None:
        raise Http404(f"no deployment {deployment_id}")
    return deployment, who


@router.post("/predict", response={200: PredictedOut, **ONE})
@needs("agents.view_deployment")
def predict(request: HttpRequest, payload: PredictIn) -> Any:
    """Predict the address of a new Safe, and return the transaction that deploys it. Any wallet may send it."""
    try:
        at = venue(payload.venue).safe_access()
    except Misconfigured as error:
        raise HttpError(422, str(error)) from error
    if at is None:
        raise HttpError(
            422, f"the venue {payload.venue} does not trade from Safes: give one with the adapter `safe`"
        )
    salt = secrets.randbits(64) if payload.salt is None else payload.salt
    return safes.create(at, payload.owners, payload.threshold, salt) | {"salt": str(salt)}


@router.post("/{deployment_id}/plan", response={200: ToSignOut, **ONE})
@needs("agents.change_deployment")
def plan(request: HttpRequest, deployment_id: int, payload: PlanIn) -> Any:
    """Plan the trading policy of a Safe, and return the transaction that its owners sign.

    The previous plan stays in force until the owners have signed the new one and `verify` has found it on chain.
    """
    deployment, who = _own_deployment(request, deployment_id)
    safe = payload.safe or deployment.safe_wallet
    safes.require_owner(deployment, safe, payload.signature)
    record("api.safe_asked", deployment, by=who.name, what="plan", safe=safe)
    proposal = safes.plan(deployment, safe, payload.loosen_delay)
    card = {"card": proposal.card.as_json(), "text": proposal.card.as_text()} if proposal.card else {}
    return {"safe": proposal.safe, "transaction": proposal.transaction, "notes": list(proposal.notes), **card}


@router.post("/{deployment_id}/verify", response={200: VerifiedOut, **ONE})
@needs("agents.change_deployment")
def verify(request: HttpRequest, deployment_id: int) -> Any:
    """Compare the Safe on chain with the plan; the deployment opens positions only when they agree."""
    deployment, who = _own_deployment(request, deployment_id)
    record("api.safe_asked", deployment, by=who.name, what="verify")
    differences = safes.check(deployment)
    return {
        "deployment_id": deployment.pk,
        "verified": not differences,
        "differences": differences,
        "stopped": safes.stopped(deployment),
    }


@router.post("/{deployment_id}/revoke", response={200: ToSignOut, **ONE})
@needs("agents.change_deployment")
def revoke(request: HttpRequest, deployment_id: int) -> Any:
    """Return the transaction that removes the policy and disables the module.

    Tokens of open positions stay in the Safe.
    """
    deployment, who = _own_deployment(request, deployment_id)
    if not deployment.safe_wallet:
        raise Rejected(f"{deployment} has no Safe: plan one first", code=Reason.SAFE_NOT_PLANNED)
    proposal = safes.revoke(deployment)
    record("api.safe_asked", deployment, by=who.name, what="revoke")
    return {"safe": proposal.safe, "transaction": proposal.transaction}
