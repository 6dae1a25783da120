"""Read authors' trade calls and price bars from files or the database, backtest the calls, store each impact factor."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import structlog
from django.db import connection, transaction

from agents.models import CtAccount
from maxxit.core import clock, correlation
from maxxit.core.errors import Misconfigured
from maxxit.events.record import record
from maxxit.llm.ask import ask
from maxxit.llm.fallback import open_provider
from maxxit.llm.policy import policy as llm_policy
from maxxit.market.feeds.bars import Bar
from maxxit.market.feeds.file import candle_file, read_bars
from maxxit.market.instruments import all_instruments, stablecoins, words_by_token
from signals_app import prefilter
from signals_app.authors.backtest import BAR_SECONDS, Outcome, Series, Side, Terms, outcomes
from signals_app.authors.measure import HEADLINE, Call, Figures, Measure, Record, measure
from signals_app.models import AuthorRecord, CtPost, ImpactFactorHistory
from signals_app.policy import Authors
from signals_app.reading.rules.read import CHECKED_VERSION, VERSION, Reader
from signals_app.reading.schema import Post, Reading, Readings, question
from signals_app.sources.base import RawPost
from signals_app.verify import verify

log = structlog.get_logger(__name__)

BATCH = 25
"""Posts per model call."""
SIX = Decimal("0.000001")
HOUR = timedelta(hours=1)


def measure_settings(policy: Authors) -> Measure:
    """Convert the policy to the settings of the measurement."""
    cost_pct = float(policy.cost_bps) / 100
    terms = Terms(float(policy.take_profit_pct), float(policy.stop_loss_pct), cost_pct)
    return Measure(terms, policy.prior_calls, policy.seed)


def first_versions(posts: Iterable[RawPost]) -> list[RawPost]:
    """Return each post as it was first written, oldest first, without edits and repetitions."""
    by_id: dict[str, RawPost] = {}
    for post in posts:
        by_id.setdefault(post.post_id, post)
    return sorted(by_id.values(), key=lambda post: (post.posted_at, post.post_id))


def read_calls(
    posts: Sequence[RawPost], provider: str, delay: timedelta, series: Mapping[str, Series]
) -> list[Call]:
    """Find the calls in posts as the pipeline does. `delay`: from the time of writing until the post is stored."""
    words = words_by_token()
    any_word = [word for own in words.values() for word in own]
    due = [post for post in posts if not prefilter.reason(post.text, any_word)]
    by_id = {post.post_id: post for post in due}
    questions = with_prices(due, series)
    lexical = provider == "rules"
    calls = []
    for reading in (
        read_lexically(questions, CHECKED_VERSION) if lexical else _read_by_model(questions, provider)
    ):
        post = by_id.get(reading.post_id)
        if post is None:
            continue
        verified = verify(reading, post.text, words, stablecoins())
        calls += [
            Call(post.username, post.post_id, token, _side(side), post.posted_at + delay)
            for token, side in verified.sides.items()
        ]
    return calls


def with_prices(posts: Iterable[RawPost], series: Mapping[str, Series]) -> list[Post]:
    """Return the posts with the prices at the time of writing, as the classifier gets them."""
    reader = Reader.of(words_by_token(), CHECKED_VERSION)
    return [
        Post(
            post.post_id,
            post.username,
            post.text,
            post.posted_at.isoformat(),
            {
                symbol: price_of(close)
                for symbol in sorted(reader.priced(post.text) & series.keys())
                if (close := series[symbol].close_at(post.posted_at.timestamp())) is not None
            },
        )
        for post in posts
    ]


def price_of(close: float) -> Decimal:
    """Return a price of a series, as the classifier gets it."""
    return Decimal(repr(close))


def read_lexically(posts: Iterable[Post], version: str = VERSION) -> Iterator[Reading]:
    """Read posts with the lexical reader in this process; no model call is stored, so no database is needed."""
    reader = Reader.of(words_by_token(), version)
    return (
        Reading.model_validate(reader.read(post.text, post.prices).as_json(post.post_id)) for post in posts
    )


def _read_by_model(posts: Sequence[Post], name: str) -> Iterator[Reading]:
    provider = open_provider(name, llm_policy().provider(name))
    for place in range(0, len(posts), BATCH):
        batch = posts[place : place + BATCH]
        data = question(batch, words_by_token())
        corrs = [correlation.derive_id("post", post.post_id) for post in batch]
        answered = ask(
            purpose="classify",
            data=data,
            schema=Readings,
            correlation_ids=corrs,
            provider=provider,
            keep=False,
        )
        yield from answered.answer.readings


def _side(side: str) -> Side:
    return "long" if side == "long" else "short"


def series_of(folder: Path) -> dict[str, Series]:
    """Read the series of every instrument with a candle file in `folder`. Raises `Misconfigured` without any."""
    by_symbol = {
        symbol: series(read_bars(path))
        for symbol in all_instruments()
        if (path := candle_file(folder, symbol))
    }
    if not by_symbol:
        raise Misconfigured(f"no candle file in {folder}: expected names like candles-BTC-USD-5m.csv.gz")
    return by_symbol


def series(bars: Iterable[Bar]) -> Series:
    """Convert bars to arrays."""
    rows = [(bar.open_time.timestamp(), bar.open, bar.high, bar.low, bar.close) for bar in bars]
    return _arrays(rows)


def _arrays(rows: Sequence[Sequence[Any]]) -> Series:
    table = np.array(rows, dtype=float).reshape(-1, 5)
    return Series(table[:, 0].astype(np.int64), *(table[:, column] for column in range(1, 5)))


STORED = """
SELECT symbol, array_agg(extract(epoch FROM open_time)::bigint ORDER BY open_time),
       array_agg(open::float8 ORDER BY open_time), array_agg(high::float8 ORDER BY open_time),
       array_agg(low::float8 ORDER BY open_time), array_agg(close::float8 ORDER BY open_time)
FROM candles
WHERE symbol = ANY(%s) AND open_time >= %s AND open_time < %s
GROUP BY symbol
"""


def stored_series(symbols: Iterable[str], since: datetime, until: datetime) -> dict[str, Series]:
    """Read the five-minute bars of the database that had closed by `until`."""
    with connection.cursor() as cursor:
        cursor.execute(STORED, [sorted(set(symbols)), since, until])
        stored = {
            symbol: Series(np.array(opened), *(np.array(prices) for prices in columns))
            for symbol, opened, *columns in cursor
        }
    known = {symbol: series.known_by(int(until.timestamp())) for symbol, series in stored.items()}
    return {symbol: known[symbol] for symbol in sorted(known) if len(known[symbol].opened)}


SPANS = """
SELECT w.symbol, (SELECT extract(epoch FROM max(open_time))::bigint FROM candles WHERE symbol = w.symbol),
       array_agg(extract(epoch FROM c.open_time)::bigint ORDER BY c.open_time),
       array_agg(c.open::float8 ORDER BY c.open_time), array_agg(c.high::float8 ORDER BY c.open_time),
       array_agg(c.low::float8 ORDER BY c.open_time), array_agg(c.close::float8 ORDER BY c.open_time)
FROM unnest(%s::text[], %s::timestamptz[], %s::timestamptz[]) AS w(symbol, since, until)
CROSS JOIN LATERAL (
    SELECT * FROM candles WHERE symbol = w.symbol AND open_time >= w.since AND open_time < w.until OFFSET 0
) AS c
GROUP BY w.symbol
"""
"""OFFSET 0 has each span read from the index: joined, the planner prefers to read every candle."""


def outcomes_of(
    calls: Sequence[Call], horizons: Sequence[timedelta], policy: Authors
) -> list[dict[timedelta, Outcome] | None]:
    """Backtest each call by itself from the stored bars, as its author's record does.

    Returns horizon -> outcome for the horizons that have ended; None for a call for which no bar opened within an hour.
    """
    spans = _spans(calls, max(horizons))
    now = int(clock.now().timestamp())
    bars: dict[str, Series] = {}
    ends: dict[str, int] = {}
    with connection.cursor() as cursor:
        cursor.execute(SPANS, [[span[column] for span in spans] for column in range(3)])
        for symbol, newest, opened, *columns in cursor:
            whole = Series(np.array(opened), *(np.array(prices) for prices in columns))
            bars[symbol] = whole.known_by(now)
            ends[symbol] = min(newest + BAR_SECONDS, now)
    terms = measure_settings(policy).terms
    results: list[dict[timedelta, Outcome] | None] = []
    for call in calls:
        series = bars.get(call.token)
        place = series.entry(call.known_at.timestamp()) if series else None
        if series is None or place is None:
            results.append(None)
            continue
        begun = int(series.opened[place])
        ended = [one for one in horizons if begun + one.total_seconds() <= ends[call.token]]
        results.append(outcomes(series, place, call.side, ended, terms))
    return results


def _spans(calls: Sequence[Call], longest: timedelta) -> list[tuple[str, datetime, datetime]]:
    """Return (token, since, until) of the bars that the calls need, overlapping spans as one."""
    spans: list[tuple[str, datetime, datetime]] = []
    for call in sorted(calls, key=lambda call: (call.token, call.known_at)):
        until = call.known_at + longest + 2 * HOUR
        if spans and spans[-1][0] == call.token and spans[-1][2] >= call.known_at:
            spans[-1] = (call.token, spans[-1][1], until)
        else:
            spans.append((call.token, call.known_at, until))
    return spans


def stored_calls(since: datetime, until: datetime) -> list[Call]:
    """Read the calls of the posts ingested in [since, until), including posts deleted since."""
    posts = CtPost.objects.filter(
        is_signal_candidate=True, ingested_at__gte=since, ingested_at__lt=until
    ).select_related("account")
    return [
        Call(post.account.x_username, post.post_id, token, _side(side), post.ingested_at)
        for post in posts.order_by("pk")
        for token, side in sorted(post.sides.items())
    ]


def stored_records(policy: Authors) -> list[Record]:
    """Backtest every author over the policy's window from the stored posts and bars."""
    now = clock.now()
    since = now - timedelta(days=policy.window_days)
    calls = stored_calls(since, now)
    series = stored_series({call.token for call in calls}, since, now)
    return measure(calls, series, measure_settings(policy))


def update(policy: Authors) -> int:
    """Store today's impact factor and history row of every account; returns how many accounts changed.

    An account whose calls have all left the window returns to 0.5; one that never had any keeps its factor.
    """
    by_author = {result.author: result for result in stored_records(policy)}
    changed = 0
    for account in CtAccount.objects.order_by("pk"):
        changed += _store_factor(account, by_author.get(account.x_username))
    _store_records(by_author)
    log.info("impact_factors_written", authors=len(by_author), changed=changed)
    return changed


@transaction.atomic
def _store_records(by_author: Mapping[str, Record]) -> None:
    """Replace the stored records of all accounts; an account without a call in the window has none."""
    accounts = dict(CtAccount.objects.filter(x_username__in=list(by_author)).values_list("x_username", "pk"))
    rows = [_record_row(accounts[name], result) for name, result in by_author.items() if name in accounts]
    AuthorRecord.objects.exclude(pk__in=[row.pk for row in rows]).delete()
    AuthorRecord.objects.bulk_create(
        rows,
        update_conflicts=True,
        unique_fields=["account"],
        update_fields=["at", "figures", "calls", "hit_rate", "mean_pct", "excess_pct", "q_value"],
    )


def _record_row(account_id: int, result: Record) -> AuthorRecord:
    headline = result.horizons.get(HEADLINE)
    return AuthorRecord(
        account_id=account_id,
        at=clock.now(),
        figures=as_json(result),
        calls=result.calls,
        hit_rate=headline.hit_rate.mean if headline else None,
        mean_pct=headline.mean.mean if headline else None,
        excess_pct=headline.excess.mean if headline else None,
        q_value=result.q_value,
    )


@transaction.atomic
def _store_factor(account: CtAccount, result: Record | None) -> bool:
    factor = Decimal(repr(result.impact_factor if result else 0.5)).quantize(SIX)
    known = result is not None and result.impact_calls > 0
    if not known and (account.impact_factor == factor or not account.impact_factors.exists()):
        return False
    ImpactFactorHistory.objects.update_or_create(
        account=account,
        day=clock.now().date(),
        defaults={
            "at": clock.now(),
            "impact_factor": factor,
            "calls": result.impact_calls if result else 0,
            "mean_score": Decimal(repr(result.mean_score if result else 0.0)).quantize(SIX),
            "pump_flag": result.pump_flag if result else False,
        },
    )
    if account.impact_factor == factor:
        return False
    CtAccount.objects.filter(pk=account.pk).update(impact_factor=factor)
    record("ctaccount.impact_factor", account, old=f"{account.impact_factor:f}", new=f"{factor:f}")
    return True


def as_json(result: Record) -> dict[str, Any]:
    """Convert a record to JSON; horizons by their length in minutes, figures to six digits."""
    flat = asdict(result)
    flat["horizons"] = {
        str(int(horizon.total_seconds() // 60)): values for horizon, values in flat["horizons"].items()
    }
    return _rounded(flat)


def figures_json(figures: Figures) -> dict[str, Any]:
    """Convert the figures of one horizon to JSON, to six digits."""
    return _rounded(asdict(figures))


def _rounded(values: dict[str, Any]) -> dict[str, Any]:
    text = json.dumps(values)
    rounded: dict[str, Any] = json.loads(text, parse_float=lambda digits: round(float(digits), 6))
    return rounded
