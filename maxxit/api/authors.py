"""The API of accounts' records: the leaderboard, and the record of one account."""

from typing import Annotated, Any

from django.http import HttpRequest
from ninja import Path, Query, Schema
from pydantic import Field

from maxxit.access.auth import READERS, caller
from maxxit.access.permissions import needs
from maxxit.api.routing import Router
from maxxit.reports import authors
from maxxit.reports.schemas import Problem

router = Router(tags=["records of accounts"])
REFUSALS = {401: Problem, 403: Problem, 422: Problem, 429: Problem}


class IntervalOut(Schema):
    """A figure with its 95 % interval; `low` and `high` are null where `periods` are too few."""

    value: float
    low: float | None
    high: float | None
    periods: int


class HorizonOut(Schema):
    """Figures at one horizon: `hit_rate` is a fraction, `mean` and `excess` are percent of the entry after costs."""

    minutes: int
    text: str
    calls: int
    hit_rate: IntervalOut
    mean: IntervalOut
    excess: IntervalOut


class StandingOut(Schema):
    """An account on the leaderboard; `headline` are its figures after one day, null without data."""

    name: str
    display_name: str
    followers: int
    impact_factor: float
    calls: int
    headline: HorizonOut | None
    q_value: float | None
    pump_flag: bool
    followed: bool
    at: str | None


class StandingsOut(Schema):
    """A page of the leaderboard; `count` is the number of accounts, at most 1000."""

    items: list[StandingOut]
    count: int
    page: int
    pages: int


class OutcomeOut(Schema):
    """The outcome of a call held for at most one horizon; `net_pct` is null while it is not known."""

    horizon: str
    known: bool
    net_pct: float | None
    exit_by: str


class CallOut(Schema):
    """One call with its outcomes after 15 m, 1 h, 1 d and 7 d."""

    post_id: int
    text: str
    at: str
    token: str
    side: str
    deleted: bool
    outcomes: list[OutcomeOut]


class RecordOut(Schema):
    """The record of an account over the last `window_days`; `problem` says where the data are not enough."""

    account: StandingOut
    window_days: int
    horizons: list[HorizonOut]
    repeats: int
    untraded: int
    pumps: int
    deleted: int
    terms: dict[str, float]
    problem: str
    calls: list[CallOut]
    next_before: int | None


@router.get("/records", response={200: StandingsOut, **REFUSALS}, auth=READERS)
@needs("agents.view_ctaccount")
def records(
    request: HttpRequest,
    sort: Annotated[str, Query(max_length=20, description=", ".join(authors.SORTS))] = "excess",
    page: Annotated[int, Query(ge=1, le=1000)] = 1,
) -> Any:
    """List the accounts with the record of their calls, highest first; the same to every user."""
    board = authors.leaderboard(caller(request).person, sort, page)
    items = [standing.as_json() for standing in board.items]
    return {"items": items, "count": board.count, "page": board.page, "pages": board.pages}


@router.get("/records/{name}", response={200: RecordOut, 404: Problem, **REFUSALS}, auth=READERS)
@needs("agents.view_ctaccount")
def record(
    request: HttpRequest,
    name: Annotated[str, Path(max_length=60)],
    before: Annotated[
        int | None, Field(ge=1, lt=2**63, description="the `next_before` of the previous page")
    ] = None,
) -> Any:
    """Return the record of one account: figures by horizon with intervals, and its calls with their outcomes."""
    return authors.author(name, caller(request).person, before).as_json()
