"""The API under /api/safes: show Safes, create one, plan, verify and revoke its trading policy.

Nothing here signs or sends. A plan needs the signature of an owner of the Safe: otherwise a policy that an owner has
signed already would let another customer's agent trade it.
"""

import secrets
from decimal import Decimal
from typing import Annotated, Any

from django.http import Http404, HttpRequest
from ninja import Schema
from ninja.errors import HttpError
from pydantic import ConfigDict, Field

from agents.models import Deployment
from agents.states import DeploymentState
from maxxit.access.auth import READERS, Caller, caller
from maxxit.access.models import ADMIN, SAFES, TRADE
from maxxit.access.permissions import needs
from maxxit.access.rows import visible
from maxxit.api.routing import Router
from maxxit.core.errors import Misconfigured, Rejected
from maxxit.events.record import record
from maxxit.paging import SKIPPED, bounded_count
from maxxit.reports.safes.wallet import wallets
from maxxit.reports.schemas import Problem
from trading.chain import chains
from trading.deployments import safe_limits, wallet_setup
from trading.reasons import Reason
from trading.venues.safe import plans, safes
from trading.wiring import venue

router = Router(tags=["safes"])
REFUSALS = {401: Problem, 403: Problem, 422: Problem, 429: Problem}
Limit = Annotated[int, Field(ge=1, le=100, description="maximum number of rows")]
Offset = Annotated[int, Field(ge=0, le=SKIPPED, description="rows to skip")]
ONE = {status: Problem for status in (401, 403, 404, 409, 422, 429, 503)}
NOT_ACTIVATED = "this key may not activate the deployment: use one with the scope trade, or the page /agents"
Address = Annotated[str, Field(max_length=42, description="EVM address with its checksum")]


class PredictIn(Schema):
    """Owners and threshold of a Safe that is not deployed yet."""

    venue: Annotated[str, Field(max_length=20, description="a venue whose adapter is `safe` or `gmx`")] = (
        "safe"
    )
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


class LimitsIn(Schema):
    """Limits of a Safe that trades, USDC; what is left out stays as in force.

    Spot trading has `max_trade`, perpetual futures have collateral, sizes and leverage. A limit that the Safe's policy
    does not have is refused by name.
    """

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"max_trade": "50"}})

    max_trade: Annotated[Decimal | None, Field(description="spot: of one order, USDC")] = None
    max_collateral: Annotated[
        Decimal | None, Field(description="perpetual futures: collateral of one trade, USDC")
    ] = None
    max_leverage: Annotated[
        Decimal | None, Field(description="perpetual futures: size over collateral, 5 is fivefold")
    ] = None
    max_notional: Annotated[
        Decimal | None, Field(description="perpetual futures: size of one trade, USDC")
    ] = None
    daily_collateral: Annotated[
        Decimal | None, Field(description="perpetual futures: collateral opened in 24 hours, USDC")
    ] = None
    daily_notional: Annotated[
        Decimal | None, Field(description="of all orders, or of all sizes opened, of 24 hours, USDC")
    ] = None
    trades_per_day: Annotated[int | None, Field(description="trades in 24 hours")] = None
    loss_budget: Annotated[Decimal | None, Field(description="losses of 24 hours, USDC")] = None
    total_loss_budget: Annotated[Decimal | None, Field(description="losses in all, USDC")] = None
    loosen_delay: Annotated[
        chains.LoosenDelay | None,
        Field(description="seconds until a later, looser policy takes effect; left out: as configured"),
    ] = None


class ToSignOut(Schema):
    """The Safe transaction for the owners to sign, with its EIP-712 hash; a plan includes the permission card."""

    safe: str
    card: dict[str, Any] | None = None
    text: str = ""
    notes: list[str] = []
    transaction: dict[str, Any]


class NewIn(Schema):
    """The owner of a Safe that is created with its policy."""

    owner: Address
    loosen_delay: Annotated[
        chains.LoosenDelay | None,
        Field(description="seconds until a later, looser policy takes effect; left out: as configured"),
    ] = None


class NewOut(Schema):
    """The address of the new Safe, its permission card, and the one transaction that the owner sends."""

    safe: str
    chain_id: int
    card: dict[str, Any]
    text: str
    transaction: CallOut


class LimitOut(Schema):
    """A limit that the owners signed, and what of it is used. Decimal text; `unit` is USDC, or empty for a count.

    In the loss budgets of perpetual futures the collateral of open trades counts as used until it returns.
    """

    name: str
    used: str
    left: str
    limit: str
    unit: str


class SafeOut(Schema):
    """A Safe of a deployment: balances, limits used and left, fees, module, stops. Amounts are decimal text in USDC.

    `kind` is `spot` or `perps`. `signed_limits` are those that the owner may change, by the names of `LimitsIn`;
    `max_trade` is the largest order, or the largest collateral of a trade. `collateral` lies in positions at GMX.
    `read_at` is the age of what the chain says; `problem` names why it is not of now.
    """

    deployment_id: int
    agent: str
    kind: str
    status: str
    safe: str
    chain_id: int
    verified_at: str | None
    read_at: str | None
    problem: str
    owners: list[str]
    threshold: int | None
    usdc: str | None
    collateral: str
    tokens: dict[str, str]
    capital: str | None
    missing_usdc: str | None
    module: str
    stop: str
    entries_stopped: dict[str, str]
    limits: list[LimitOut]
    max_trade: str | None
    signed_limits: dict[str, str]
    differences: list[str]
    pending_at: str | None
    unsigned_plan: str | None
    fees_paid: str
    profit_share_paid: str
    open_positions: int


class SafesOut(Schema):
    """A page of Safes, newest deployment first."""

    items: list[SafeOut]
    count: int


class VerifiedOut(Schema):
    """Whether the Safe on chain agrees with the plan, and each difference."""

    deployment_id: int
    verified: bool
    differences: list[str]
    problems: list[str] = []
    """Why the deployment still does not trade although the Safe agrees."""
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


@router.get("", response={200: SafesOut, **REFUSALS}, auth=READERS)
@needs("agents.view_deployment")
def safes_list(request: HttpRequest, limit: Limit = 50, offset: Offset = 0) -> Any:
    """List the Safes of your deployments, newest first. The chain is asked for two seconds at most."""
    rows = visible(Deployment.objects.exclude(safe_wallet=""), caller(request).person)
    page = rows.select_related("agent").order_by("-pk")[offset : offset + limit]
    return {"items": [row.as_json() for row in wallets(list(page))], "count": bounded_count(rows)}


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
    return plans.create(at, payload.owners, payload.threshold, salt) | {"salt": str(salt)}


@router.get("/{deployment_id}", response={200: SafeOut, **ONE}, auth=READERS)
@needs("agents.view_deployment")
def safes_one(request: HttpRequest, deployment_id: int) -> Any:
    """Return the Safe of one of your deployments. 409 `safe_not_planned` where it has none yet."""
    rows = visible(Deployment.objects.select_related("agent"), caller(request).person)
    deployment = rows.filter(pk=deployment_id).first()
    if deployment is None:
        raise Http404(f"no deployment {deployment_id}")
    safes_of = wallets([deployment])
    if not safes_of:
        raise Rejected(f"{deployment} has no Safe: plan one first", code=Reason.SAFE_NOT_PLANNED)
    return safes_of[0].as_json()


@router.post("/{deployment_id}/new", response={200: NewOut, **ONE})
@needs("agents.change_deployment")
def new(request: HttpRequest, deployment_id: int, payload: NewIn) -> Any:
    """Plan a new Safe of one owner, and return the one transaction that creates it with the policy set.

    The limits are proportionate to the deployment's capital. `verify` puts the plan into force once it is mined.
    """
    deployment, who = _own_deployment(request, deployment_id)
    made = plans.plan_new(deployment, payload.owner, payload.loosen_delay)
    record("api.safe_asked", deployment, by=who.name, what="new", safe=made.safe)
    if made.card is None or made.send is None:
        raise Misconfigured("a plan of a new Safe has a card and a transaction")
    return {
        "safe": made.safe,
        "chain_id": deployment.chain_id,
        "card": made.card.as_json(),
        "text": made.card.as_text(),
        "transaction": made.send.as_json(),
    }


@router.post("/{deployment_id}/plan", response={200: ToSignOut, **ONE})
@needs("agents.change_deployment")
def plan(request: HttpRequest, deployment_id: int, payload: PlanIn) -> Any:
    """Plan the trading policy of a Safe, and return the transaction that its owners sign.

    The previous plan stays in force until the owners have signed the new one and `verify` has found it on chain.
    """
    deployment, who = _own_deployment(request, deployment_id)
    safe = payload.safe or deployment.safe_wallet
    plans.require_owner(deployment, safe, payload.signature)
    record("api.safe_asked", deployment, by=who.name, what="plan", safe=safe)
    proposal = plans.plan(deployment, safe, payload.loosen_delay)
    card = {"card": proposal.card.as_json(), "text": proposal.card.as_text()} if proposal.card else {}
    return {"safe": proposal.safe, "transaction": proposal.transaction, "notes": list(proposal.notes), **card}


@router.post("/{deployment_id}/limits", response={200: ToSignOut, **ONE})
@needs("agents.change_deployment")
def limits(request: HttpRequest, deployment_id: int, payload: LimitsIn) -> Any:
    """Plan other limits for a Safe that trades, and return the transaction that its owners sign.

    The limits in force stay until the owners have signed and `verify` has found the new ones on chain.
    """
    deployment, who = _own_deployment(request, deployment_id)
    given = payload.model_dump(exclude_none=True, exclude={"loosen_delay"})
    made = safe_limits.propose(
        deployment,
        {name: Decimal(value) for name, value in given.items()},
        by=who.name,
        loosen_delay=payload.loosen_delay,
    )
    record("api.safe_asked", deployment, by=who.name, what="limits", safe=made.safe)
    card = {"card": made.card.as_json(), "text": made.card.as_text()} if made.card else {}
    notes = [*made.notes, *safe_limits.warnings_of(deployment)]
    return {"safe": made.safe, "transaction": made.transaction, "notes": notes, **card}


@router.post("/{deployment_id}/verify", response={200: VerifiedOut, **ONE})
@needs("agents.change_deployment")
def verify(request: HttpRequest, deployment_id: int) -> Any:
    """Compare the Safe on chain with the plan; the deployment opens positions only when they agree.

    A key with the scope `trade` also activates the deployment, as `/api/deployments/{id}/activate` does.
    """
    deployment, who = _own_deployment(request, deployment_id)
    record("api.safe_asked", deployment, by=who.name, what="verify")
    if {TRADE, ADMIN} & who.scopes:
        found = wallet_setup.verify_and_activate(deployment, by=who.name)
    else:
        differences = safes.check(deployment)
        waits = not differences and deployment.state == DeploymentState.DRAFT
        found = wallet_setup.Verified(differences, (NOT_ACTIVATED,) if waits else ())
    return {
        "deployment_id": deployment.pk,
        "verified": not found.differences,
        "differences": found.differences,
        "problems": list(found.problems),
        "stopped": safes.stopped(deployment),
    }


@router.post("/{deployment_id}/revoke", response={200: ToSignOut, **ONE})
@needs("agents.change_deployment")
def revoke(request: HttpRequest, deployment_id: int) -> Any:
    """Return the transaction that removes the policy and disables the module.

    Tokens of open positions stay in the Safe, perpetual futures at GMX.
    """
    deployment, who = _own_deployment(request, deployment_id)
    if not deployment.safe_wallet:
        raise Rejected(f"{deployment} has no Safe: plan one first", code=Reason.SAFE_NOT_PLANNED)
    proposal = plans.revoke(deployment)
    record("api.safe_asked", deployment, by=who.name, what="revoke")
    return {"safe": proposal.safe, "transaction": proposal.transaction}
