"""The API of what a customer sets up: agents, followed accounts, deployments, API keys, and an export of all of it.

The functions are those of the commands `agents`, `accounts`, `follow`, `deployments` and `apikey`.
"""

from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any

from django.http import Http404, HttpRequest
from ninja import Query, Schema, Status
from ninja.errors import HttpError
from pydantic import ConfigDict, Field

from agents import following, lifecycle
from agents.changes import AgentChanges, create_agent, edit_agent
from agents.deploying import create_deployment, set_capital
from agents.describe import account_data, agent_data
from agents.models import Agent, CtAccount, Deployment
from agents.states import AgentState, DeploymentState
from maxxit.access import auth, idempotency
from maxxit.access.auth import READERS, Caller, caller
from maxxit.access.inputs import state_named
from maxxit.access.models import KEYS, READ, TRADE, ApiKey
from maxxit.access.permissions import needs
from maxxit.access.rows import visible
from maxxit.api.routing import Router
from maxxit.core import clock
from maxxit.core.terms import ExitPreset, KillLevel, Preset
from maxxit.paging import SKIPPED, bounded_count
from maxxit.reports.owners import venue_keys
from maxxit.reports.owners.waiting_entries import waiting_entries
from maxxit.reports.schemas import Moment, OrderOut, Problem, WaitingChangeOut
from trading.credentials import requests
from trading.deployments import activation, confirmation, owner_limits, stops
from trading.deployments.describe import deployment_data, deployments_data
from trading.models import Order
from trading.operations import change_requests, changes
from trading.operations.change_requests import Asker
from trading.second_person import Kind

router = Router(tags=["customer"])
REFUSALS = {401: Problem, 403: Problem, 422: Problem, 429: Problem}
ONE = {**REFUSALS, 404: Problem}
CHANGE = {**ONE, 409: Problem}
Limit = Annotated[int, Field(ge=1, le=500, description="maximum number of rows")]
Offset = Annotated[int, Field(ge=0, le=SKIPPED, description="rows to skip")]
Name = Annotated[str, Field(max_length=60)]
Usdc = Annotated[Decimal, Field(gt=0, max_digits=20, decimal_places=6, description="USDC, above 0")]
Level = Annotated[int, Field(ge=0, le=100)]
Reason = Annotated[str, Field(min_length=1, max_length=300, description="why; kept with the switch")]


class Strict(Schema):
    """A body in which an unknown field is refused."""

    model_config = ConfigDict(extra="forbid")


class PreferencesIn(Strict):
    """Five preferences, 0 to 100 each. They set weights, sizing preset and least confidence (docs/agents.md)."""

    risk_tolerance: Level = 50
    trade_frequency: Level = 50
    social_sentiment_weight: Level = 50
    price_momentum_focus: Level = 50
    market_rank_priority: Level = 50


class AgentPatch(Strict):
    """Fields of an agent; one that is left out stays as it is. Give preferences, or what they set."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"tokens": ["BTC", "ETH"], "preferences": {"risk_tolerance": 30}}},
    )

    name: Name | None = None
    venue: Annotated[str, Field(max_length=20)] | None = None
    tokens: Annotated[list[Annotated[str, Field(max_length=20)]], Field(max_length=500)] | None = None
    sizing_preset: Annotated[str, Field(max_length=12, description=", ".join(Preset))] | None = None
    exit_preset: Annotated[str, Field(max_length=12, description=", ".join(ExitPreset))] | None = None
    min_confidence: Annotated[Decimal, Field(ge=0, le=1, max_digits=7, decimal_places=6)] | None = None
    volatility_target_pct: (
        Annotated[
            Decimal,
            Field(
                ge=0,
                le=100,
                max_digits=5,
                decimal_places=2,
                description="percent: a token of higher forecast volatility is traded smaller; 0 for no target",
            ),
        ]
        | None
    ) = None
    weights: dict[str, Level] | None = None
    preferences: PreferencesIn | None = None

    def changes(self) -> AgentChanges:
        """Return the fields that were given."""
        values = {name: getattr(self, name) for name in self.model_fields_set}
        if self.preferences is not None:
            values["preferences"] = self.preferences.model_dump(exclude_unset=True)
        return AgentChanges(**values)


class AgentIn(AgentPatch):
    """A new agent; what is left out has its default."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"name": "Majors", "tokens": ["BTC", "ETH"]}}
    )

    name: Name


class AgentOut(Schema):
    """An agent: what it trades, how it weighs evidence and sizes orders, and whom it follows."""

    id: int
    name: str
    owner: str | None
    status: str
    venue: str
    tokens: list[str]
    sizing_preset: str
    exit_preset: str
    min_confidence: str
    volatility_target_pct: str | None
    weights: dict[str, int]
    preferences: dict[str, int] | None
    follows: list[str]
    created_at: str


class Agents(Schema):
    """A page of agents, newest first."""

    items: list[AgentOut]
    count: int


class FollowIn(Strict):
    """Accounts to follow, with or without @. Those that are not known are added."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"names": ["@elonmusk", "VitalikButerin"]}}
    )

    names: Annotated[list[Annotated[str, Field(max_length=50)]], Field(min_length=1, max_length=100)]
    source: Annotated[str, Field(max_length=20, description="the post source that reads new accounts")] = ""


class NameOut(Schema):
    """What became of one name; `message` says what is wrong with a refused one."""

    name: str
    account: str | None
    account_id: int | None
    ok: bool
    outcome: str
    message: str


class Names(Schema):
    """An answer for each name, in the order given."""

    items: list[NameOut]


class AccountOut(Schema):
    """An account that agents may follow. The impact factor is a fraction; 0.5 means that nothing is known."""

    id: int
    name: str
    display_name: str
    source: str
    active: bool
    followers: int
    impact_factor: str
    last_seen_at: str | None


class Accounts(Schema):
    """A page of accounts by name."""

    items: list[AccountOut]
    count: int


class PlanOut(Schema):
    """What a capital would trade: orders and fees by confidence tier, in USDC. `problems` is empty where it works."""

    ok: bool
    capital: str
    preset: str
    orders: dict[str, str]
    fees: dict[str, str]
    minimum: str
    capital_needed: str | None
    alternatives: list[str]
    problems: list[str]
    notes: list[str]


class DeploymentIn(Strict):
    """A new deployment of one of your agents."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"agent_id": 7, "capital": "5000"}}
    )

    agent_id: int
    capital: Annotated[
        Usdc | None,
        Field(description="USDC that a paper account starts with, or that you mean to keep in your Safe"),
    ] = None


class DeploymentPatch(Strict):
    """Fields of a deployment that may be changed."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"capital": "1000"}})

    capital: Annotated[
        Usdc | None, Field(description="of a draft: play money, or what you mean to keep in your Safe")
    ] = None
    confirm_entries: Annotated[
        bool | None,
        Field(description="whether each entry waits for your confirmation until its signal expires"),
    ] = None


class LimitsIn(Strict):
    """Your own limits. One that is left out stays, null lifts it. The platform's limits stand beside them."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {"max_daily_usd": "25", "max_position_usd": "75", "max_open_positions": 3}
        },
    )

    max_daily_usd: Annotated[Usdc | None, Field(description="USD of the entries of a UTC day")] = None
    max_position_usd: Annotated[Usdc | None, Field(description="USD of one token that the account holds")] = (
        None
    )
    max_open_positions: Annotated[int | None, Field(ge=1, le=1000, description="tokens held at once")] = None


class LimitsOut(Schema):
    """A deployment's own limits, and who set them when. `notes` says what they leave of its plan."""

    max_daily_usd: str | None
    max_position_usd: str | None
    max_open_positions: int | None
    changed_at: str | None
    changed_by: str
    notes: list[str] = []


class StopOut(Schema):
    """A kill switch that stops an account."""

    level: str
    by_owner: bool
    whole_platform: bool
    reason: str
    pulled_at: str


class DeploymentOut(Schema):
    """An agent that trades for one account. Amounts are USDC."""

    id: int
    agent_id: int
    agent: str
    owner: str | None
    status: str
    venue: str
    account: str
    starting_balance: str
    limits: LimitsOut
    confirm_entries: bool
    safe_capital: str | None
    safe_wallet: str
    module_enabled: bool
    verified_at: str | None
    stops: list[StopOut]
    created_at: str


class Deployments(Schema):
    """A page of deployments, newest first."""

    items: list[DeploymentOut]
    count: int


class StopIn(Strict):
    """Stop the account of a deployment."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"level": "flatten", "reason": "closing all"}}
    )

    level: Annotated[
        KillLevel, Field(description="no_entries, reduce_only, or flatten, which closes every position")
    ] = KillLevel.NO_ENTRIES
    reason: Reason


class ReleaseIn(Strict):
    """Release what you pulled."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"reason": "going on"}})

    reason: Reason


class ExitLevelOut(Schema):
    """A price in USD and its distance from the entry in percent, negative below it."""

    price: str
    pct: str


class PlannedExitsOut(Schema):
    """The exits of a position entered at `entry_price` now; a trailing stop follows from `trailing_activation` on."""

    entry_price: str
    stop_loss: ExitLevelOut
    take_profit: ExitLevelOut
    trailing_activation: ExitLevelOut | None
    trailing_pct: str | None
    time_exit_at: str
    max_holding_minutes: int


class WaitingOut(Schema):
    """An entry that waits for your confirmation until `expires_at`, with size and exits as if it were placed now.

    Confidence and `capital_share` are fractions, prices and notional USD. Limits and other entries may make it smaller.
    Without a usable price there is no size.
    """

    order_id: int
    deployment_id: int
    agent: str
    account: str
    symbol: str
    side: str
    signal_id: int | None
    confidence: str | None
    signal_price: str | None
    price: str | None
    quantity: str | None
    notional_usd: str | None
    capital_usd: str | None
    capital_share: str | None
    review: Annotated[
        dict[str, str] | None, Field(description="risk score and the limit from which on the owner decides")
    ]
    exits: PlannedExitsOut | None
    created_at: str
    expires_at: str | None


class Waiting(Schema):
    """A page of waiting entries, the first to expire first."""

    items: list[WaitingOut]
    count: int


class KeyIn(Strict):
    """A new key of yours. It may not exceed the key that asks for it, in scopes and in time."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"name": "my bot", "scopes": ["read"], "days": 90}}
    )

    name: Name
    scopes: Annotated[list[str], Field(max_length=10, description=", ".join(auth.SCOPES))] = [READ]
    days: (
        Annotated[int, Field(ge=1, le=3650, description="days until it expires; left out: never")] | None
    ) = None


class KeyOut(Schema):
    """One of your keys, by its first characters."""

    id: int
    prefix: str
    name: str
    scopes: list[str]
    standing: str
    created_at: Moment
    last_used: Moment | None
    expires_at: Moment | None


class Keys(Schema):
    """A page of keys, newest first."""

    items: list[KeyOut]
    count: int


class KeyMade(KeyOut):
    """The new key, shown once; a repetition of the request shows it empty."""

    key: str


class ExportOut(Schema):
    """Everything that you set up. Trades, lots and statements have exports of their own."""

    user: str
    exported_at: Moment
    agents: list[AgentOut]
    deployments: list[DeploymentOut]
    keys: list[KeyOut]


# -- agents


def _agent(request: HttpRequest, agent_id: int) -> Agent:
    """Return a visible agent. Raises Http404."""
    rows = Agent.objects.select_related("owner").prefetch_related("subscriptions__account")
    agent = visible(rows, caller(request).person).filter(pk=agent_id).first()
    if agent is None:
        raise Http404(f"no agent {agent_id}")
    return agent


def _own_agent(request: HttpRequest, agent_id: int) -> tuple[Agent, Caller]:
    """Return an agent that the caller may change. Raises Http404, and 403 for one that another user owns."""
    who, agent = caller(request), _agent(request, agent_id)
    if not who.is_staff and agent.owner_id != who.person.pk:
        raise HttpError(403, f"agent {agent_id} belongs to another user: only its owner changes it")
    return agent, who


@router.get("/agents", response={200: Agents, **REFUSALS}, auth=READERS)
@needs("agents.view_agent")
def agents_list(
    request: HttpRequest, limit: Limit = 50, offset: Offset = 0, status: str | None = None
) -> Any:
    """List your agents, newest first."""
    rows = Agent.objects.select_related("owner").prefetch_related("subscriptions__account").order_by("-pk")
    rows = visible(rows, caller(request).person)
    if status is not None:
        rows = rows.filter(state=state_named(status, AgentState))
    return {
        "items": [agent_data(agent) for agent in rows[offset : offset + limit]],
        "count": bounded_count(rows),
    }


@router.post("/agents", response={201: AgentOut, **REFUSALS, 409: Problem})
@needs("agents.add_agent", scope=TRADE)
def agents_create(request: HttpRequest, payload: AgentIn) -> Any:
    """Create an agent of yours as a draft."""
    who = caller(request)
    return Status(201, agent_data(create_agent(who.person, payload.changes(), by=who.name)))


@router.get("/agents/{agent_id}", response={200: AgentOut, **ONE}, auth=READERS)
@needs("agents.view_agent")
def agents_one(request: HttpRequest, agent_id: int) -> Any:
    """Return one of your agents."""
    return agent_data(_agent(request, agent_id))


@router.patch("/agents/{agent_id}", response={200: AgentOut, **CHANGE})
@needs("agents.change_agent", scope=TRADE)
def agents_edit(request: HttpRequest, agent_id: int, payload: AgentPatch) -> Any:
    """Change an agent of yours. Signals that exist already stay; the venue is fixed once a deployment has started."""
    agent, who = _own_agent(request, agent_id)
    edit_agent(agent, payload.changes(), by=who.name)
    return agent_data(agent)


@router.post("/agents/{agent_id}/activate", response={200: AgentOut, **CHANGE})
@needs("agents.change_agent", scope=TRADE)
def agents_activate(request: HttpRequest, agent_id: int) -> Any:
    """Let an agent make signals. An active one stays active."""
    agent, who = _own_agent(request, agent_id)
    lifecycle.change_state(agent, AgentState.ACTIVE, by=who.name, why="api")
    return agent_data(agent)


@router.post("/agents/{agent_id}/pause", response={200: AgentOut, **CHANGE})
@needs("agents.change_agent", scope=TRADE)
def agents_pause(request: HttpRequest, agent_id: int) -> Any:
    """Let an agent make no more signals. Open positions keep their exits."""
    agent, who = _own_agent(request, agent_id)
    lifecycle.change_state(agent, AgentState.PAUSED, by=who.name, why="api")
    return agent_data(agent)


# -- followed accounts


@router.get("/agents/{agent_id}/follows", response={200: Accounts, **ONE}, auth=READERS)
@needs("agents.view_subscription")
def follows_list(request: HttpRequest, agent_id: int) -> Any:
    """List the accounts that an agent follows."""
    agent = _agent(request, agent_id)
    rows = sorted((row.account for row in agent.subscriptions.all()), key=lambda one: one.x_username.lower())
    return {"items": [account_data(account) for account in rows], "count": len(rows)}


@router.post("/agents/{agent_id}/follows", response={200: Names, **CHANGE})
@needs("agents.add_subscription", scope=TRADE)
def follows_add(request: HttpRequest, agent_id: int, payload: FollowIn) -> Any:
    """Let an agent follow accounts. Each name gets its answer: a bad one stops no other."""
    agent, who = _own_agent(request, agent_id)
    answers = following.follow(agent, payload.names, payload.source, by=who.name)
    return {"items": [answer.as_json() for answer in answers]}


@router.delete("/agents/{agent_id}/follows/{name}", response={200: Names, **CHANGE})
@needs("agents.change_subscription", scope=TRADE)
def follows_remove(request: HttpRequest, agent_id: int, name: str) -> Any:
    """Let an agent no longer follow an account."""
    agent, who = _own_agent(request, agent_id)
    return {"items": [answer.as_json() for answer in following.unfollow(agent, [name], by=who.name)]}


@router.get("/accounts", response={200: Accounts, **REFUSALS}, auth=READERS)
@needs("agents.view_ctaccount")
def accounts_list(
    request: HttpRequest,
    limit: Limit = 50,
    offset: Offset = 0,
    search: Annotated[str, Field(max_length=50)] = "",
) -> Any:
    """List the accounts that are read and may be followed, by name; `search` is a part of the name."""
    rows = CtAccount.objects.filter(is_active=True, x_username__icontains=search.removeprefix("@"))
    page = rows.order_by("x_username")[offset : offset + limit]
    return {"items": [account_data(account) for account in page], "count": bounded_count(rows)}


@router.get("/accounts/check", response={200: Names, **REFUSALS}, auth=READERS)
@needs("agents.view_ctaccount")
def accounts_check(
    request: HttpRequest,
    names: Annotated[list[Annotated[str, Field(max_length=50)]], Query(min_length=1, max_length=100)],
    source: Annotated[str, Field(max_length=20)] = "",
) -> Any:
    """Say of each name whether it is known, could be added, or what is wrong with it. Changes nothing."""
    return {"items": [answer.as_json() for answer in following.check_names(names, source)]}


# -- deployments


def _deployment(request: HttpRequest, deployment_id: int) -> tuple[Deployment, Caller]:
    """Return a visible deployment and the caller. Raises Http404."""
    who = caller(request)
    rows = visible(Deployment.objects.select_related("agent", "owner"), who.person)
    deployment = rows.filter(pk=deployment_id).first()
    if deployment is None:
        raise Http404(f"no deployment {deployment_id}")
    return deployment, who


@router.get("/plan", response={200: PlanOut, **REFUSALS}, auth=READERS)
@needs("agents.view_deployment")
def plan(
    request: HttpRequest,
    capital: Usdc,
    preset: Annotated[str, Field(max_length=12)] = Preset.MODERATE.value,
    venue: Annotated[str, Field(max_length=20)] = "paper",
    exit_preset: Annotated[str, Field(max_length=12)] = ExitPreset.SIGNAL.value,
) -> Any:
    """Compute what a capital (USDC) would trade with a preset, and name with numbers what cannot work."""
    return activation.check(capital, preset, venue, exit_preset).as_json()


@router.get("/deployments", response={200: Deployments, **REFUSALS}, auth=READERS)
@needs("agents.view_deployment")
def deployments_list(
    request: HttpRequest, limit: Limit = 50, offset: Offset = 0, status: str | None = None
) -> Any:
    """List your deployments, newest first, each with what stops it."""
    rows = visible(
        Deployment.objects.select_related("agent", "owner").order_by("-pk"), caller(request).person
    )
    if status is not None:
        rows = rows.filter(state=state_named(status, DeploymentState))
    return {"items": deployments_data(rows[offset : offset + limit]), "count": bounded_count(rows)}


@router.post("/deployments", response={201: DeploymentOut, **CHANGE})
@needs("agents.add_deployment", scope=TRADE)
def deployments_create(request: HttpRequest, payload: DeploymentIn) -> Any:
    """Create a deployment of one of your agents as a draft, at an account of its own."""
    agent, who = _own_agent(request, payload.agent_id)
    owner = agent.owner if who.is_staff and agent.owner else who.person
    return Status(201, deployment_data(create_deployment(agent, owner, by=who.name, capital=payload.capital)))


@router.get("/deployments/{deployment_id}", response={200: DeploymentOut, **ONE}, auth=READERS)
@needs("agents.view_deployment")
def deployments_one(request: HttpRequest, deployment_id: int) -> Any:
    """Return one of your deployments with what stops it."""
    return deployment_data(_deployment(request, deployment_id)[0])


@router.patch("/deployments/{deployment_id}", response={200: DeploymentOut, **CHANGE})
@needs("agents.change_deployment", scope=TRADE)
def deployments_edit(request: HttpRequest, deployment_id: int, payload: DeploymentPatch) -> Any:
    """Change whether entries wait for your confirmation, and the starting balance of a paper draft."""
    deployment, who = _deployment(request, deployment_id)
    if payload.capital is not None:
        set_capital(deployment, payload.capital, by=who.name)
    if payload.confirm_entries is not None:
        confirmation.ask(deployment, payload.confirm_entries, by=who.name)
    return deployment_data(deployment)


@router.patch(
    "/deployments/{deployment_id}/limits", response={200: LimitsOut, 202: WaitingChangeOut, **CHANGE}
)
@needs("agents.change_deployment", scope=TRADE)
def deployments_limits(request: HttpRequest, deployment_id: int, payload: LimitsIn) -> Any:
    """Set your own limits of a deployment, from the next order on. They only ever tighten the platform's.

    Staff who raise a limit of a deployment of real money need a second person (202).
    """
    deployment, who = _deployment(request, deployment_id)
    given = {name: getattr(payload, name) for name in payload.model_fields_set}
    if deployment.owner_id == who.person.pk and not who.is_staff:
        notes = owner_limits.set_limits(deployment, given, by=who.name)
    else:
        asked = change_requests.ask(
            Kind.RAISE_OWNER_LIMIT,
            changes.owner_limits_of(deployment, given),
            by=Asker(who.name, who.session_user),
            reason="asked for by the API",
        )
        if asked.request:
            return Status(202, change_requests.described(asked.request))
        notes = asked.result
        deployment.refresh_from_db()
    return deployment_data(deployment)["limits"] | {"notes": notes}


@router.post("/deployments/{deployment_id}/activate", response={200: DeploymentOut, **CHANGE})
@needs("agents.change_deployment", scope=TRADE)
def deployments_activate(request: HttpRequest, deployment_id: int) -> Any:
    """Let a deployment trade, with its draft agent. 409 `cannot_work` names every reason why it could not."""
    deployment, who = _deployment(request, deployment_id)
    activation.activate(deployment, by=who.name, why="api")
    return deployment_data(deployment)


@router.post("/deployments/{deployment_id}/pause", response={200: DeploymentOut, **CHANGE})
@needs("agents.change_deployment", scope=TRADE)
def deployments_pause(request: HttpRequest, deployment_id: int) -> Any:
    """Open no more positions. Open ones keep their exits."""
    deployment, who = _deployment(request, deployment_id)
    activation.pause(deployment, by=who.name, why="api")
    return deployment_data(deployment)


@router.post("/deployments/{deployment_id}/revoke", response={200: DeploymentOut, **CHANGE})
@needs("agents.change_deployment", scope=TRADE)
def deployments_revoke(request: HttpRequest, deployment_id: int) -> Any:
    """End a deployment for good. Open positions keep their exits; a Safe's policy is removed by its owners."""
    deployment, who = _deployment(request, deployment_id)
    activation.revoke(deployment, by=who.name, why="api")
    return deployment_data(deployment)


@router.post("/deployments/{deployment_id}/stop", response={200: DeploymentOut, **CHANGE})
@needs("trading.change_killswitch", scope=TRADE)
def deployments_stop(request: HttpRequest, deployment_id: int, payload: StopIn) -> Any:
    """Pull the kill switch of the deployment's account. It stays latched until you release it."""
    deployment, who = _deployment(request, deployment_id)
    stops.stop(deployment, payload.level, by=who.name, reason=payload.reason)
    return deployment_data(deployment)


@router.post("/deployments/{deployment_id}/release", response={200: DeploymentOut, **CHANGE})
@needs("trading.change_killswitch", scope=TRADE)
def deployments_release(request: HttpRequest, deployment_id: int, payload: ReleaseIn) -> Any:
    """Release what you pulled. What a trigger or an operator pulled stays, and is in `stops`."""
    deployment, who = _deployment(request, deployment_id)
    stops.release(deployment, by=who.name, reason=payload.reason)
    return deployment_data(deployment)


# -- the keys of a deployment's account at its venue


class KeyFieldsIn(Strict):
    """Keys of the deployment's account: each field that the venue wants. They are not shown again."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"keys": {"key_id": "PK…", "secret": "…"}}}
    )

    keys: Annotated[dict[str, str], Field(max_length=10, description="name -> key, see `wants` of GET")]


class StoredKeysOut(Schema):
    """The keys in use, by their last characters, and what the venue said that they may do."""

    hint: str
    permissions: list[str]
    venue_account: str
    stored_by: str
    stored_at: str
    tested_at: str | None


class KeyRequestOut(Schema):
    """The newest request to store or test keys: WAITING, ACCEPTED, REFUSED with the reason in `message`, REPLACED."""

    id: int
    status: str
    test: bool
    hint: str
    message: str
    permissions: list[str]
    asked_by: str
    asked_at: str
    finished_at: str | None


class VenueKeysOut(Schema):
    """What a venue wants, what is stored, and what became of the newest request. Never a key."""

    venue: str
    wants: list[str]
    stored: StoredKeysOut | None
    request: KeyRequestOut | None


@router.get("/deployments/{deployment_id}/credentials", response={200: VenueKeysOut, **ONE}, auth=READERS)
@needs("agents.view_deployment")
def credentials_get(request: HttpRequest, deployment_id: int) -> Any:
    """Return the state of the keys of a deployment's account at its venue."""
    deployment, _ = _deployment(request, deployment_id)
    return venue_keys.keys_of(deployment).as_json()


@router.post("/deployments/{deployment_id}/credentials", response={202: VenueKeysOut, **CHANGE})
@needs("agents.change_deployment", scope=TRADE)
def credentials_set(request: HttpRequest, deployment_id: int, payload: KeyFieldsIn) -> Any:
    """Send keys. They are sealed at once; a worker tests them and stores them in place of those in use, or refuses."""
    deployment, who = _deployment(request, deployment_id)
    requests.ask_to_store(deployment, payload.keys, by=who.name)
    return Status(202, venue_keys.keys_of(deployment).as_json())


@router.post("/deployments/{deployment_id}/credentials/test", response={202: VenueKeysOut, **CHANGE})
@needs("agents.change_deployment", scope=TRADE)
def credentials_test(request: HttpRequest, deployment_id: int) -> Any:
    """Let a worker ask the venue what the stored keys may do; `request` of GET shows the answer."""
    deployment, who = _deployment(request, deployment_id)
    requests.ask_to_test(deployment, by=who.name)
    return Status(202, venue_keys.keys_of(deployment).as_json())


@router.delete("/deployments/{deployment_id}/credentials", response={200: VenueKeysOut, **CHANGE})
@needs("agents.change_deployment", scope=TRADE)
def credentials_remove(request: HttpRequest, deployment_id: int) -> Any:
    """Remove the keys. 409 `credentials_in_use` while positions or orders are open."""
    deployment, who = _deployment(request, deployment_id)
    requests.remove(deployment, by=who.name)
    return venue_keys.keys_of(deployment).as_json()


# -- entries that wait for confirmation


@router.get("/confirmations", response={200: Waiting, **REFUSALS}, auth=READERS)
@needs("trading.view_order")
def confirmations_list(request: HttpRequest, limit: Limit = 50, offset: Offset = 0) -> Any:
    """List the entries that wait for your confirmation, the first to expire first."""
    rows = confirmation.waiting(visible(Order.objects.all(), caller(request).person))
    page = rows[offset : offset + limit]
    return {"items": [entry.as_json() for entry in waiting_entries(list(page))], "count": bounded_count(rows)}


def _order(request: HttpRequest, order_id: int) -> tuple[Order, Caller]:
    """Return a visible order and the caller. Raises Http404."""
    who = caller(request)
    order = visible(Order.objects.all(), who.person).filter(pk=order_id).first()
    if order is None:
        raise Http404(f"no order {order_id}")
    return order, who


@router.post("/orders/{order_id}/confirm", response={200: OrderOut, **CHANGE})
@needs("trading.change_order", scope=TRADE)
def orders_confirm(request: HttpRequest, order_id: int) -> Any:
    """Say yes to an entry that waits for it. It is placed as soon as every check allows."""
    order, who = _order(request, order_id)
    confirmation.confirm(order, by=who.name)
    return order


@router.post("/orders/{order_id}/decline", response={200: OrderOut, **CHANGE})
@needs("trading.change_order", scope=TRADE)
def orders_decline(request: HttpRequest, order_id: int) -> Any:
    """Say no to an entry that waits for your confirmation: it is blocked for good."""
    order, who = _order(request, order_id)
    confirmation.decline(order, by=who.name)
    return order


# -- keys and export


@router.get("/keys", response={200: Keys, **REFUSALS}, auth=READERS)
@needs("console.view_apikey")
def keys_list(request: HttpRequest, limit: Limit = 50, offset: Offset = 0) -> Any:
    """List your own API keys by their first characters, newest first."""
    rows = ApiKey.objects.filter(owner_id=caller(request).person.pk).order_by("-pk")
    return {"items": list(rows[offset : offset + limit]), "count": bounded_count(rows)}


@router.post("/keys", response={201: KeyMade, **REFUSALS, 409: Problem})
@needs("console.change_apikey", scope=KEYS)
def keys_create(request: HttpRequest, payload: KeyIn) -> Any:
    """Create a key of yours and show it once. It has at most the scopes and the time of the key that asks for it."""
    who = caller(request)
    if beyond := sorted(set(payload.scopes) & set(auth.SCOPES) - who.scopes):
        raise HttpError(403, f"this key has not the scope {', '.join(beyond)} itself: it cannot give it")
    expires = clock.now() + timedelta(days=payload.days) if payload.days else None
    if who.expires_at is not None and (expires is None or expires > who.expires_at):
        expires = who.expires_at
    key = auth.create_key(who.person, payload.name, payload.scopes, by=who.name, expires_at=expires)
    idempotency.hide(request, "key")
    row = ApiKey.objects.get(sha256=auth.hashed(key))
    values = {name: getattr(row, name) for name in KeyOut.model_fields}
    return Status(201, values | {"key": key})


@router.delete("/keys/{key_id}", response={200: KeyOut, **ONE})
@needs("console.change_apikey", scope=KEYS)
def keys_revoke(request: HttpRequest, key_id: int) -> Any:
    """Revoke one of your keys at once; a revoked one stays revoked."""
    who = caller(request)
    row = ApiKey.objects.filter(owner_id=who.person.pk, pk=key_id).first()
    if row is None:
        raise Http404(f"no key {key_id}")
    if row.revoked_at is None:
        auth.revoke_key(row.prefix, by=who.name, owner=who.person)
        row.refresh_from_db()
    return row


@router.get("/export", response={200: ExportOut, **REFUSALS}, auth=READERS)
@needs("agents.view_deployment")
def export(request: HttpRequest) -> Any:
    """Return everything that you set up: agents with the accounts that they follow, deployments and keys."""
    who = caller(request)
    owned: dict[str, Any] = {"owner_id": who.person.pk}
    agents = Agent.objects.select_related("owner").prefetch_related("subscriptions__account").filter(**owned)
    deployments = Deployment.objects.select_related("agent", "owner").filter(**owned)
    return {
        "user": who.person.get_username(),
        "exported_at": clock.now(),
        "agents": [agent_data(agent) for agent in agents.order_by("pk")],
        "deployments": deployments_data(deployments.order_by("pk")),
        "keys": list(ApiKey.objects.filter(**owned).order_by("pk")),
    }
