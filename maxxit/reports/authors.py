"""The leaderboard of accounts, and the record of one: figures by horizon, and each call with its outcome.

All figures come from `signals_app.authors`; nothing here measures. They are of an account's public calls, so that every
user may see them, and of nobody's trades.
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, F, Q
from django.db.models.functions import Lower

from agents.models import CtAccount, Subscription
from maxxit.access.rows import Person
from maxxit.core import clock
from maxxit.core.clock import iso_utc
from maxxit.core.errors import Rejected
from maxxit.paging import bounded_count
from signals_app.models import AuthorRecord, CtPost
from signals_app.policy import policy

ACCOUNTS = 50
"""Accounts of a page of the leaderboard."""
CALLS = 15
"""Calls of a page: the bars of seven days are read for each."""
SHOWN = (timedelta(minutes=15), timedelta(hours=1), timedelta(days=1), timedelta(days=7))
"""Horizons of a single call's outcome."""
SORTS: dict[str, str] = {
    "calls": "record__calls",
    "hit": "record__hit_rate",
    "mean": "record__mean_pct",
    "excess": "record__excess_pct",
    "impact": "impact_factor",
    "name": "x_username",
}
"""Sort key -> column; figures highest first, names alphabetically."""
NEEDED = 8
"""Independent periods that an interval needs: `signals_app.authors.statistics.MIN_CLUSTERS`, which imports numpy."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with its 95 % interval."""

    value: float
    low: float | None
    """None: too few independent periods."""
    high: float | None
    periods: int
    """Independent periods (days, or longer where the horizon is longer) behind it."""


@dataclass(frozen=True, slots=True)
class Horizon:
    """The figures of an account at one horizon."""

    minutes: int
    text: str
    """15 m, 1 h, 1 d …"""
    calls: int
    hit_rate: Interval
    """Fraction of calls with a profit after costs."""
    mean: Interval
    """Return after costs, percent."""
    excess: Interval
    """Return less the benchmark's, percent."""


@dataclass(frozen=True, slots=True)
class Standing:
    """An account on the leaderboard; `headline` is None where no call has a known outcome after one day."""

    name: str
    display_name: str
    followers: int
    impact_factor: float
    """Fraction; 0.5 is neutral."""
    calls: int
    headline: Horizon | None
    q_value: float | None
    pump_flag: bool
    followed: bool
    """By one of this person's agents."""
    at: datetime | None
    """When it was measured, UTC."""

    def as_json(self) -> dict[str, Any]:
        """For `--json` and the API."""
        return asdict(self) | {"at": iso_utc(self.at) if self.at else None}


@dataclass(frozen=True, slots=True)
class CallOutcome:
    """What became of one call, held for at most one horizon."""

    horizon: str
    known: bool
    """The horizon has ended, and a bar opened within an hour of the call."""
    net_pct: float | None
    """Percent of the entry, after costs; positive where the author was right."""
    exit_by: str
    """stop, target or time; empty where it is not known."""


@dataclass(frozen=True, slots=True)
class AuthorCall:
    """One call: a post on a token, and its outcome at each horizon."""

    post_id: int
    text: str
    at: datetime
    """When the post was stored, UTC; a trade could not be earlier."""
    token: str
    side: str
    deleted: bool
    outcomes: list[CallOutcome]


@dataclass(frozen=True, slots=True)
class AuthorPage:
    """The record of one account."""

    standing: Standing
    horizons: list[Horizon]
    """Shortest first: the decay of a call."""
    window_days: int
    repeats: int
    untraded: int
    pumps: int
    calls: list[AuthorCall]
    next_before: int | None
    """The `before` of the next page of calls."""
    deleted: int
    """Deleted calls of the window; they stay in the record."""
    terms: dict[str, float]
    """Percent: stop, target, and costs of entry and exit together, the same for every account."""
    problem: str
    """Why there is no record, or why it says little; empty where it has an interval."""

    def as_json(self) -> dict[str, Any]:
        """For `--json` and the API."""
        calls = [asdict(call) | {"at": iso_utc(call.at)} for call in self.calls]
        return {
            "account": self.standing.as_json(),
            "window_days": self.window_days,
            "horizons": [asdict(one) for one in self.horizons],
            "repeats": self.repeats,
            "untraded": self.untraded,
            "pumps": self.pumps,
            "deleted": self.deleted,
            "terms": self.terms,
            "problem": self.problem,
            "calls": calls,
            "next_before": self.next_before,
        }


def horizon_text(minutes: int) -> str:
    """Format a horizon: 15 m, 4 h, 7 d."""
    if minutes % 1440 == 0:
        return f"{minutes // 1440} d"
    return f"{minutes // 60} h" if minutes % 60 == 0 else f"{minutes} m"


def _interval(values: dict[str, Any]) -> Interval:
    return Interval(values["mean"], values["low"], values["high"], values["clusters"])


def _horizons(record: AuthorRecord | None) -> list[Horizon]:
    """Return the stored figures, shortest horizon first."""
    if record is None:
        return []
    stored: dict[str, Any] = record.figures.get("horizons", {})
    return [
        Horizon(
            int(minutes),
            horizon_text(int(minutes)),
            values["calls"],
            _interval(values["hit_rate"]),
            _interval(values["mean"]),
            _interval(values["excess"]),
        )
        for minutes, values in sorted(stored.items(), key=lambda item: int(item[0]))
    ]


def _followed(person: Person) -> set[int]:
    """Return the accounts that this person's agents follow; those of all agents for the command line."""
    rows = Subscription.objects.all()
    if person is not None:
        rows = rows.filter(Q(agent__owner=person.pk) | Q(agent__deployments__owner=person.pk))
    return set(rows.values_list("account_id", flat=True))


def _standing(account: CtAccount, followed: set[int]) -> Standing:
    record: AuthorRecord | None = getattr(account, "record", None)
    headline = next((one for one in _horizons(record) if one.minutes == 1440), None)
    return Standing(
        name=account.x_username,
        display_name=account.display_name,
        followers=account.followers_count,
        impact_factor=float(account.impact_factor),
        calls=record.calls if record else 0,
        headline=headline,
        q_value=record.q_value if record else None,
        pump_flag=bool(record and record.figures.get("pump_flag")),
        followed=account.pk in followed,
        at=record.at if record else None,
    )


def standings(accounts: Iterable[CtAccount]) -> list[Standing]:
    """Return the record of each account, without whether it is followed. Select `record` with the accounts."""
    return [_standing(account, set()) for account in accounts]


@dataclass(frozen=True, slots=True)
class Leaderboard:
    """One page of the accounts."""

    items: list[Standing]
    count: int
    """Of all accounts, at most 1000."""
    page: int
    pages: int


def leaderboard(person: Person, sort: str = "excess", page: int = 1, limit: int = ACCOUNTS) -> Leaderboard:
    """Return a page of the accounts with their record, by the sort key. Raises Rejected for an unknown one."""
    if sort not in SORTS:
        raise Rejected(f"no sort {sort!r}; known: {', '.join(SORTS)}", code="invalid")
    rows = CtAccount.objects.select_related("record")
    count = bounded_count(rows)
    pages = max(1, -(-count // limit))
    if not 1 <= page <= pages:
        raise Rejected(f"no page {page}: there are {pages}", code="invalid")
    order = Lower("x_username") if sort == "name" else F(SORTS[sort]).desc(nulls_last=True)
    shown = rows.order_by(order, "x_username")[(page - 1) * limit : page * limit]
    followed = _followed(person)
    return Leaderboard([_standing(row, followed) for row in shown], count, page, pages)


def author(name: str, person: Person, before: int | None = None) -> AuthorPage:
    """Return the record of an account with a page of its calls, newest first. Raises Rejected for an unknown one."""
    account = CtAccount.objects.select_related("record").filter(x_username__iexact=name.lstrip("@")).first()
    if account is None:
        raise Rejected(
            f"no account {name!r}: `manage.py records list` and the page Accounts list all", code="not_found"
        )
    record: AuthorRecord | None = getattr(account, "record", None)
    settings = policy().authors
    since = clock.now() - timedelta(days=settings.window_days)
    calls = CtPost.objects.filter(account=account, is_signal_candidate=True)
    in_window = calls.filter(posted_at__gte=since).order_by()
    deleted: int = in_window.aggregate(count=Count("pk", filter=Q(deleted_at__isnull=False)))["count"]
    posts = calls.order_by("-posted_at", "-pk")
    if before is not None:
        last = calls.filter(pk=before).first()
        if last is None:
            raise Rejected(
                f"@{account.x_username} has no call {before}: send the `next_before` of a page",
                code="invalid",
            )
        posts = posts.filter(Q(posted_at__lt=last.posted_at) | Q(posted_at=last.posted_at, pk__lt=last.pk))
        posts = posts.filter(posted_at__lte=last.posted_at)
    page = list(posts[: CALLS + 1])
    figures: dict[str, Any] = record.figures if record else {}
    standing = _standing(account, _followed(person))
    return AuthorPage(
        standing=standing,
        horizons=_horizons(record),
        window_days=settings.window_days,
        repeats=figures.get("repeats", 0),
        untraded=figures.get("untraded", 0),
        pumps=figures.get("pumps", 0),
        calls=list(_calls(account, page[:CALLS])),
        next_before=page[CALLS - 1].pk if len(page) > CALLS else None,
        deleted=deleted,
        terms={
            "stop_loss_pct": float(settings.stop_loss_pct),
            "take_profit_pct": float(settings.take_profit_pct),
            "cost_pct": float(settings.cost_bps) / 100,
        },
        problem=_problem(standing, has_calls=bool(page)),
    )


def _calls(account: CtAccount, posts: list[CtPost]) -> Iterator[AuthorCall]:
    """Yield each call of the posts with its outcomes, by the functions of the record."""
    from signals_app.authors import record  # imports numpy (10 MB), which other pages do not need
    from signals_app.authors.measure import Call

    pairs = [(post, token, side) for post in posts for token, side in sorted(post.sides.items())]
    calls = [
        Call(account.x_username, post.post_id, token, "long" if side == "long" else "short", post.ingested_at)
        for post, token, side in pairs
    ]
    if not calls:
        return
    just_now = clock.now() - timedelta(hours=1)
    for (post, token, side), outcomes in zip(
        pairs, record.outcomes_of(calls, SHOWN, policy().authors), strict=True
    ):
        shown = []
        for horizon in SHOWN:
            text = horizon_text(int(horizon.total_seconds()) // 60)
            outcome = outcomes.get(horizon) if outcomes is not None else None
            if outcome is None:
                missed = outcomes is None and post.ingested_at < just_now
                shown.append(CallOutcome(text, False, None, "no price" if missed else ""))
            else:
                shown.append(CallOutcome(text, True, round(outcome.net_pct, 6), outcome.exit_by))
        yield AuthorCall(
            post.pk, post.text, post.ingested_at, token, side, post.deleted_at is not None, shown
        )


def _problem(standing: Standing, *, has_calls: bool) -> str:
    """Say plainly where the data are not enough."""
    if standing.headline is None:
        if not has_calls:
            return "No data: no post of this account was read as a call on a listed token yet."
        return "Not enough data: no call of this account is a day old and measured yet. Records are made at 00:40 UTC."
    periods = standing.headline.excess.periods
    if standing.headline.excess.low is None and periods < NEEDED:
        return (
            f"Not enough data: there are calls on {periods} {'day' if periods == 1 else 'days'}, and an interval "
            f"needs {NEEDED}. The figures below may be chance."
        )
    return ""
