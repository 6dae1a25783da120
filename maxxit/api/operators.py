"""The API of operators under /api/admin: health, checklist, limits, transactions, reconciliation, model calls."""

from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any

from django.http import HttpRequest
from ninja import Query, Schema, Status
from ninja.errors import HttpError
from pydantic import Field

from maxxit.access.auth import caller
from maxxit.access.permissions import needs
from maxxit.api.routing import Router
from maxxit.core import clock
from maxxit.core.errors import Rejected
from maxxit.core.money import plain
from maxxit.llm import statistics
from maxxit.reports import model_calls
from maxxit.reports.operators import checklist, health, limits, transactions
from maxxit.reports.schemas import BecameFigures, Moment, Number, Problem, WaitingChangeOut
from positions import discovered
from trading.operations import change_requests, changes, differences, limit_overrides
from trading.operations.change_requests import Asker
from trading.risk.limits_in_force import value_text
from trading.second_person import Kind

router = Router(tags=["operators"])
REFUSALS = {401: Problem, 403: Problem, 422: Problem, 429: Problem}
CHANGE = {**REFUSALS, 409: Problem}
Reason = Annotated[str, Field(min_length=3, max_length=300, description="it is kept in the event log")]


class CheckOut(Schema):
    """One check; `fix` says what to do where it failed."""

    name: str
    ok: bool
    detail: str
    fix: str


class SectionOut(Schema):
    """The checks of one part of the machine."""

    name: str
    ok: bool
    checks: list[CheckOut]


class HealthOut(Schema):
    """The verdict, and the checks behind it."""

    ok: bool
    headline: str
    sections: list[SectionOut]


class TickOut(Schema):
    """An item of the operator's checklist with its live state, and the command that shows more."""

    item: str
    ok: bool
    detail: str
    command: str


class ChecklistOut(Schema):
    """Part of the day -> items."""

    parts: dict[str, list[TickOut]]


class LimitOut(Schema):
    """A risk limit: the value in force, that of config/risk.yaml, the override, what waits, the highest use now."""

    limit: str
    in_force: str
    default: str
    override: str | None
    reason: str
    by: str
    since: Moment | None
    waiting: str | None
    waiting_until: Moment | None
    used: str | None
    used_pct: int | None
    used_by: str


class LimitsListOut(Schema):
    """Every limit; `problem` says why they cannot be read, which stops entries."""

    items: list[LimitOut]
    problem: str


class OverrideIn(Schema):
    """A value over that of config/risk.yaml: a number, a word, `on`, `off` or `none`."""

    value: Annotated[str, Field(min_length=1, max_length=60)]
    reason: Reason


class ReasonIn(Schema):
    """Why."""

    reason: Reason


class EffectOut(Schema):
    """What the change does; a looser value is in force after the delay."""

    limit: str
    old: str
    new: str
    looser: bool
    in_force_at: Moment


class TransactionOut(Schema):
    """A chain transaction of the outbox, with its newest attempt. Fees are gwei, `paid` is in whole coins."""

    id: int
    created_at: Moment
    age_seconds: float
    intent: str
    purpose: str
    chain: str
    signer: str
    nonce: int | None
    state: str
    reason: str
    attempts: int
    max_fee_gwei: str | None
    tip_gwei: str | None
    paid: str | None
    coin: str
    deadline: Moment
    hash: str
    url: str
    correlation_id: str


class TransactionsOut(Schema):
    """A page, newest first; `under_way`: state -> number of those that have not ended."""

    items: list[TransactionOut]
    next_before: int | None
    under_way: dict[str, int]


class DifferenceOut(Schema):
    """An asset of an account that differs: `amount` is venue minus ledger in whole units."""

    venue: str
    account: str
    asset: str
    amount: str
    cause: str
    likely: str
    fix: str


class AccountOut(Schema):
    """An account at a venue."""

    venue: str
    account: str


class DifferencesOut(Schema):
    """The result of comparing now."""

    ok: bool
    compared: int
    under_way: int
    differences: list[DifferenceOut]
    unread: list[AccountOut]


class BookIn(Schema):
    """The difference as it was shown, and why it is booked as a transfer by the account's owner."""

    account: Annotated[str, Field(max_length=80)]
    asset: Annotated[str, Field(max_length=20)]
    amount: Annotated[Decimal, Field(max_digits=38, decimal_places=18)]
    reason: Reason


class AdoptedOut(Schema):
    """The position that a holding which was opened elsewhere became."""

    position: int
    account: str
    symbol: str
    quantity: str
    entry_price_usd: str
    stop_loss_usd: str
    take_profit_usd: str


class PromptOut(Schema):
    """The figures of one version of a prompt with one model."""

    purpose: str
    version: str
    provider: str
    model: str
    calls: int
    errors: int
    error_pct: float
    repaired: int
    avg_ms: float
    p95_ms: float
    usd_per_1000: Number
    first: Moment
    last: Moment


class BecameByVersionOut(BecameFigures):
    """What became of the calls with one version of a prompt and one model."""

    purpose: str
    provider: str
    model: str
    version: str


class ModelCallsOut(Schema):
    """Calls of language models in the last `days`, versions of prompts side by side, and what became of the calls."""

    days: int
    calls: int
    errors: int
    error_pct: float
    p50_ms: float | None
    p95_ms: float | None
    cost_usd: Number | None
    prompts: list[PromptOut]
    became: list[BecameByVersionOut]


@router.get("/health", response={200: HealthOut, **REFUSALS})
@needs("pipeline.view_stagerun", operators_only=True)
def health_get(request: HttpRequest) -> Any:
    """Run every check and return the verdict, as the page Health and `manage.py health` do."""
    return health.read_health().as_json()


@router.get("/checklist", response={200: ChecklistOut, **REFUSALS})
@needs("pipeline.view_stagerun", operators_only=True)
def checklist_get(request: HttpRequest) -> Any:
    """Return the operator's checklist with live ticks."""
    return {"parts": checklist.checklist()}


@router.get("/limits", response={200: LimitsListOut, **REFUSALS})
@needs("trading.view_limitsinforce", operators_only=True)
def limits_get(request: HttpRequest) -> Any:
    """List the risk limits with their use now."""
    read = limits.read_limits()
    return {"items": [row.as_json() for row in read.rows], "problem": read.problem}


@router.put("/limits/{key}", response={200: EffectOut, 202: WaitingChangeOut, **CHANGE})
@needs("trading.change_limitsinforce", operators_only=True)
def limits_put(request: HttpRequest, key: str, payload: OverrideIn) -> Any:
    """Override a limit: a stricter value at once; a looser one needs a second person (202) and then waits its delay."""
    try:
        return _ask_limit(request, changes.set_limit(key, payload.value), payload.reason)
    except Rejected as error:
        raise _refused(error) from error


@router.delete("/limits/{key}", response={200: EffectOut, 202: WaitingChangeOut, **CHANGE})
@needs("trading.change_limitsinforce", operators_only=True)
def limits_delete(request: HttpRequest, key: str, query: Query[ReasonIn]) -> Any:
    """Remove an override: the value of config/risk.yaml applies again. A looser one needs a second person (202)."""
    try:
        return _ask_limit(request, changes.unset_limit(key), query.reason)
    except Rejected as error:
        raise _refused(error) from error


def _ask_limit(request: HttpRequest, content: dict[str, Any], reason: str) -> Any:
    who = caller(request)
    asked = change_requests.ask(
        Kind.RAISE_LIMIT, content, by=Asker(who.name, who.session_user), reason=reason
    )
    return Status(202, change_requests.described(asked.request)) if asked.request else _effect(asked.result)


def _refused(error: Rejected) -> HttpError:
    return HttpError(
        409 if error.code in ("no_change", "no_override", "changed", "already_asked") else 422, str(error)
    )


def _effect(effect: limit_overrides.Effect) -> dict[str, Any]:
    return {
        "limit": effect.key,
        "old": value_text(effect.old),
        "new": value_text(effect.new),
        "looser": effect.looser,
        "in_force_at": effect.in_force_at,
    }


@router.get("/transactions", response={200: TransactionsOut, **REFUSALS})
@needs("trading.view_chaintransaction", operators_only=True)
def transactions_get(
    request: HttpRequest,
    state: Annotated[str, Field(max_length=20, description="a state, or under_way")] = "",
    before: Annotated[int | None, Field(ge=1, lt=2**63)] = None,
    limit: Annotated[int, Field(ge=1, le=transactions.MOST)] = transactions.PAGE,
) -> Any:
    """List the chain transactions of the outbox."""
    try:
        page = transactions.transactions(state=state, before=before, limit=limit)
    except Rejected as error:
        raise HttpError(422, str(error)) from error
    return {
        "items": [row.as_json() for row in page.rows],
        "next_before": page.next_before,
        "under_way": page.counts,
    }


@router.get("/reconciliation", response={200: DifferencesOut, **REFUSALS})
@needs("trading.view_ledgerentry", operators_only=True)
def reconciliation_get(request: HttpRequest) -> Any:
    """Compare the ledger with every venue now; each difference has its likely cause and a proposed fix."""
    return differences.compare().as_json()


@router.post("/reconciliation", response={200: DifferenceOut, **CHANGE})
@needs("trading.change_ledgerentry", operators_only=True)
def reconciliation_post(request: HttpRequest, payload: BookIn) -> Any:
    """Book a difference as a transfer by the owner; 409 where the account differs by another amount by now."""
    by = caller(request).person.get_username()
    try:
        row = differences.apply(payload.account, payload.asset, payload.amount, by=by, reason=payload.reason)
    except Rejected as error:
        raise _refused(error) from error
    return row.as_json()


@router.post("/reconciliation/adopt", response={200: AdoptedOut, **CHANGE})
@needs("trading.change_ledgerentry", operators_only=True)
def reconciliation_adopt(request: HttpRequest, payload: BookIn) -> Any:
    """Make a position with stop and target of what was opened elsewhere; 409 where it is another amount by now."""
    by = caller(request).person.get_username()
    try:
        position = discovered.adopt(
            payload.account, payload.asset, payload.amount, by=by, reason=payload.reason
        )
    except Rejected as error:
        raise _refused(error) from error
    return {
        "position": position.pk,
        "account": payload.account,
        "symbol": position.symbol,
        "quantity": plain(position.quantity),
        "entry_price_usd": plain(position.entry_price),
        "stop_loss_usd": plain(position.stop_loss),
        "take_profit_usd": plain(position.take_profit),
    }


@router.get("/model-calls", response={200: ModelCallsOut, **REFUSALS})
@needs("llm.view_llmtrace", operators_only=True)
def model_calls_get(request: HttpRequest, days: Annotated[int, Field(ge=1, le=30)] = 1) -> Any:
    """Return calls, cost, p95 and the versions of prompts of the last days."""
    rows = statistics.traces(since=clock.now() - timedelta(days=days))
    return statistics.summary(rows) | {
        "days": days,
        "prompts": statistics.prompts(rows),
        "became": model_calls.by_version(rows),
    }
