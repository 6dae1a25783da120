"""The API of previews: what accounts, a capital and presets would have traded on what the platform recorded."""

from decimal import Decimal
from typing import Annotated, Any

from django.http import Http404, HttpRequest
from ninja import Schema, Status
from pydantic import ConfigDict, Field

from maxxit.access.auth import READERS, Caller, caller
from maxxit.access.models import TRADE
from maxxit.access.permissions import needs
from maxxit.access.rows import visible
from maxxit.api.routing import Router
from maxxit.core.terms import ExitPreset, Preset
from maxxit.paging import SKIPPED, bounded_count
from maxxit.replay import previews
from maxxit.replay.models import Preview
from maxxit.reports.schemas import Problem

router = Router(tags=["previews"])
REFUSALS = {401: Problem, 403: Problem, 422: Problem, 429: Problem}
ONE = {**REFUSALS, 404: Problem}


class PreviewIn(Schema):
    """What to preview. One preview of yours is under way at a time: another one cancels it."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {"accounts": ["satsumi"], "capital": "500", "sizing_preset": "moderate"}
        },
    )

    accounts: Annotated[list[Annotated[str, Field(max_length=50)]], Field(min_length=1, max_length=100)]
    capital: Annotated[Decimal, Field(gt=0, max_digits=20, decimal_places=6, description="USDC, above 0")]
    sizing_preset: Annotated[str, Field(max_length=12, description=", ".join(Preset))] = Preset.MODERATE.value
    exit_preset: Annotated[str, Field(max_length=12, description=", ".join(ExitPreset))] = (
        ExitPreset.SIGNAL.value
    )
    days: Annotated[int | None, Field(ge=1, description="recorded days; left out: config/previews.yaml")] = (
        None
    )


class ReasonOut(Schema):
    """Why something was not traded."""

    reason: str
    count: int
    meaning: str


class PartOut(Schema):
    """A part of the closed trades; those of accounts are shares and may be fractions. PnL in USDC."""

    name: str
    trades: str
    pnl: str
    win_rate: str | None
    posts: int | None = None
    calls: int | None = None


class PreviewTradeOut(Schema):
    """A trade of a preview with the posts behind it."""

    token: str
    side: str
    opened_at: str
    closed_at: str | None
    entry_price: str
    exit_price: str | None
    exit_reason: str
    pnl: str
    posts: list[dict[str, str]]


class PreviewResultOut(Schema):
    """What would have been traded. Amounts are USDC, rates fractions; `notes` says what limits the result."""

    start: str
    end: str
    reader: str
    posts: int
    calls: int
    signals: int
    orders: int
    trades: int
    open: int
    winners: int
    capital: str
    equity: str
    pnl: str
    pnl_open: str
    costs: dict[str, str]
    twr: str | None
    max_drawdown: str | None
    win_rate: dict[str, str] | None
    declined: list[ReasonOut]
    blocked: list[ReasonOut]
    best: PreviewTradeOut | None
    worst: PreviewTradeOut | None
    by_account: list[PartOut]
    by_token: list[PartOut]
    by_exit: list[PartOut]
    unpriced: list[str]
    notes: list[str]
    curve: list[dict[str, str]]


class PreviewOut(Schema):
    """A preview: QUEUED, RUNNING, DONE, FAILED or CANCELED, with its progress (fraction) and its result.

    `seconds_left` is an estimate, of one preview alone; null in lists, and where there is nothing to go by.
    """

    id: int
    status: str
    accounts: list[str]
    capital: str
    sizing_preset: str
    exit_preset: str
    start: str
    end: str
    progress: float
    played_until: str | None
    ahead: int
    seconds_left: int | None
    created_at: str
    finished_at: str | None
    error: str
    result: PreviewResultOut | None


class PreviewsOut(Schema):
    """A page of previews, newest first."""

    items: list[PreviewOut]
    count: int


def _preview(request: HttpRequest, preview_id: int) -> tuple[Preview, Caller]:
    """Return a visible preview and the caller. Raises Http404."""
    who = caller(request)
    preview = visible(Preview.objects.all(), who.person).filter(pk=preview_id).first()
    if preview is None:
        raise Http404(f"no preview {preview_id}")
    return preview, who


@router.get("/previews", response={200: PreviewsOut, **REFUSALS}, auth=READERS)
@needs("replay.view_preview")
def previews_list(
    request: HttpRequest,
    limit: Annotated[int, Field(ge=1, le=50)] = 10,
    offset: Annotated[int, Field(ge=0, le=SKIPPED)] = 0,
) -> Any:
    """List your previews, newest first."""
    rows = visible(Preview.objects.all(), caller(request).person)
    return {
        "items": previews.previews_data(list(rows[offset : offset + limit])),
        "count": bounded_count(rows),
    }


@router.post("/previews", response={201: PreviewOut, **REFUSALS, 409: Problem})
@needs("replay.add_preview", scope=TRADE)
def previews_create(request: HttpRequest, payload: PreviewIn) -> Any:
    """Queue a preview; the same inputs within an hour are answered from the stored result."""
    who = caller(request)
    plan = previews.plan_of(
        payload.accounts, payload.capital, payload.sizing_preset, payload.exit_preset, payload.days
    )
    return Status(201, previews.preview_data(previews.request(who.person, plan, by=who.name)))


@router.get("/previews/{preview_id}", response={200: PreviewOut, **ONE}, auth=READERS)
@needs("replay.view_preview")
def previews_one(request: HttpRequest, preview_id: int) -> Any:
    """Return one of your previews with its progress and result."""
    return previews.preview_data(_preview(request, preview_id)[0])


@router.post("/previews/{preview_id}/cancel", response={200: PreviewOut, **ONE})
@needs("replay.change_preview", scope=TRADE)
def previews_cancel(request: HttpRequest, preview_id: int) -> Any:
    """Cancel a preview that is under way; one that has ended stays as it is."""
    preview, who = _preview(request, preview_id)
    previews.cancel(preview, by=who.name)
    return previews.preview_data(preview)
