"""The API's side of Safes: predict, plan, verify and revoke.

Nothing here signs or sends. Who plans for a Safe must show that one of its owners wants it: a policy that an owner
has signed already would else let another tenant's agent trade it.
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
from trading.venues.safe import safes
from trading.venues.safe.venue import SafeVenue
from trading.wiring import venue

router = Router(tags=["safes"])
ONE = {status: Problem for status in (401, 403, 404, 409, 422, 429, 503)}
Address = Annotated[str, Field(max_length=42, description="with its checksum")]


class PredictIn(Schema):
    """A Safe that does not stand yet."""

    venue: Annotated[str, Field(max_length=20, description="a venue whose adapter is `safe`")] = "safe"
    owners: Annotated[list[Address], Field(min_length=1, max_length=20)]
    threshold: Annotated[int, Field(ge=1, le=20, description="how many owners must sign")] = 1
    salt: Annotated[int | None, Field(ge=0, lt=2**256, description="another salt, another Safe")] = None


class CallOut(Schema):
    """A plain transaction that anyone may send; `data` is 0x hex, `value` wei."""

    to: str
    value: str
    data: str


class PredictedOut(Schema):
    """Where the Safe will be, and what puts it there."""

    safe: str
    chain_id: int
    salt: str
    transaction: CallOut


class PlanIn(Schema):
    """Whose Safe, and the word of one of its owners."""

    safe: Annotated[str, Field(max_length=42, description="may be left out the second time")] = ""
    signature: Annotated[
        str, Field(max_length=200, description="0x hex, personal_sign of the text that a refusal names")
    ] = ""
    loosen_delay: Annotated[
        chains.LoosenDelay | None,
        Field(
            description="seconds until a later, looser policy is in force; 0 = at once; none = the configured one"
        ),
    ] = None


class ToSignOut(Schema):
    """The transaction for the owners' wallet, with its EIP-712 hash; a plan has the permission card too."""

    safe: str
    card: dict[str, Any] | None = None
    text: str = ""
    notes: list[str] = []
    transaction: dict[str, Any]


class VerifiedOut(Schema):
    """Whether the chain says what was planned."""

    deployment_id: int
    verified: bool
    differences: list[str]
    stopped: dict[str, str] = {}
    """Symbol, or * for all -> why no position is opened in it."""


def _mine(request: HttpRequest, deployment_id: int) -> tuple[Deployment, Caller]:
    """Your deployment, by a key that may change it."""
    who = caller(request)
    if not {SAFES, ADMIN} & who.scopes:
        raise HttpError(
            403, "this needs a key with the scope safes (`manage.py apikey create --scope safes`)"
        )
    rows = visible(Deployment.objects.select_related("agent"), who.person)
    found = rows.filter(pk=deployment_id).first()
    if found is None:
        raise Http404(f"no deployment {deployment_id}")
    return found, who


@router.post("/predict", response={200: PredictedOut, **ONE})
@needs("agents.view_deployment")
def predict(request: HttpRequest, wish: PredictIn) -> Any:
    """Where a new Safe of these owners will be, and the transaction that anyone may send to put it there."""
    try:
        at = venue(wish.venue)
    except Misconfigured as error:
        raise HttpError(422, str(error)) from error
    if not isinstance(at, SafeVenue):
        raise HttpError(422, f"{wish.venue} does not trade from Safes")
    salt = secrets.randbits(64) if wish.salt is None else wish.salt
    return safes.create(at, wish.owners, wish.threshold, salt) | {"salt": str(salt)}


@router.post("/{deployment_id}/plan", response={200: ToSignOut, **ONE})
@needs("agents.change_deployment")
def plan(request: HttpRequest, deployment_id: int, wish: PlanIn) -> Any:
    """What the owners are to sign. Until they have, and `verify` has seen it, the plan before it stays in force."""
    deployment, who = _mine(request, deployment_id)
    safe = wish.safe or deployment.safe_wallet
    safes.require_owner(deployment, safe, wish.signature)
    record("api.safe_asked", deployment, by=who.name, what="plan", safe=safe)
    made = safes.plan(deployment, safe, wish.loosen_delay)
    card = {"card": made.card.as_json(), "text": made.card.as_text()} if made.card else {}
    return {"safe": made.safe, "transaction": made.transaction, "notes": list(made.notes), **card}


@router.post("/{deployment_id}/verify", response={200: VerifiedOut, **ONE})
@needs("agents.change_deployment")
def verify(request: HttpRequest, deployment_id: int) -> Any:
    """Hold the chain against the plan; the deployment is usable only when they agree."""
    deployment, who = _mine(request, deployment_id)
    record("api.safe_asked", deployment, by=who.name, what="verify")
    wrong = safes.check(deployment)
    return {
        "deployment_id": deployment.pk,
        "verified": not wrong,
        "differences": wrong,
        "stopped": safes.stopped(deployment),
    }


@router.post("/{deployment_id}/revoke", response={200: ToSignOut, **ONE})
@needs("agents.change_deployment")
def revoke(request: HttpRequest, deployment_id: int) -> Any:
    """The transaction that ends it: policy gone, module disabled. Open positions stay the Safe's tokens."""
    deployment, who = _mine(request, deployment_id)
    if not deployment.safe_wallet:
        raise Rejected(f"{deployment} has no Safe: plan one first", code="safe_not_planned")
    made = safes.revoke(deployment)
    record("api.safe_asked", deployment, by=who.name, what="revoke")
    return {"safe": made.safe, "transaction": made.transaction}
