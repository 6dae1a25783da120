"""Candles: formed from ticks, backfilled from feeds, their gaps, and the indicators computed from them."""

import gzip
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import talib
from django.core.management import CommandError, call_command
from django.db import connection

from maxxit.core.errors import Misconfigured, Rejected, Retryable
from maxxit.market import backfill as filling
from maxxit.market import candles, partitions
from maxxit.market.backfill import backfill
from maxxit.market.bars import Bars
from maxxit.market.candles import Gap, Span
from maxxit.market.feeds import FEEDS
from maxxit.market.feeds.base import CandleFeed, Tick
from maxxit.market.feeds.file import BAR, HEADER, Bar, FileFeed
from maxxit.market.indicators import snapshot
from maxxit.market.models import BackfillMark, Candle, MinuteCandle
from maxxit.market.tasks import tidy
from tests.builders import T0, RecordedClock
from tests.market.provider import OPTIONS, Provider, provider

HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)


def bar(opened: datetime, close: float = 100, volume: float = 1) -> Bar:
    price = Decimal(close)
    return Bar(opened, price, price + 1, price - 1, price, Decimal(volume))


def tick(price: str, at: datetime, symbol: str = "BTC") -> Tick:
    return Tick(symbol, Decimal(price), at, "coinbase")


# -- forming


@pytest.mark.django_db
def test_ticks_form_minutes_and_five_minutes() -> None:
    seconds_and_prices = [(0, "100"), (30, "103"), (59, "99"), (60, "101"), (299, "104"), (300, "98")]
    candles.form([Span.of(tick(price, T0 + second * SECOND)) for second, price in seconds_and_prices])

    five = list(Candle.objects.order_by("open_time").values_list("open", "high", "low", "close"))
    assert five == [(100, 104, 99, 104), (98, 98, 98, 98)]
    minutes = MinuteCandle.objects.order_by("open_time").values_list(
        "open_time", "open", "high", "low", "close"
    )
    assert list(minutes)[:2] == [(T0, 100, 103, 99, 99), (T0 + 60 * SECOND, 101, 101, 101, 101)]


@pytest.mark.django_db
def test_a_forming_bar_is_updated() -> None:
    candles.form([Span.of(tick("100", T0))])
    candles.form([Span("BTC", T0 + SECOND, Decimal(101), Decimal(105), Decimal(97), Decimal(102))])

    assert Candle.objects.values_list("open", "high", "low", "close").get() == (100, 105, 97, 102)


@pytest.mark.django_db
def test_minutes_live_in_monthly_parts_that_are_dropped_when_old(time: RecordedClock) -> None:
    for month in (1, 2, 3):
        candles.form([Span.of(tick("100", T0.replace(month=month)))])
    assert MinuteCandle.objects.count() == 3

    assert partitions.drop_before(T0.replace(month=2)) == ["candles_1m_2026_01"]
    assert MinuteCandle.objects.count() == 2
    assert tidy()["months"] == 2  # by the machine's clock all of them are old
    candles.form([Span.of(tick("100", T0))])  # and a month can come back
    assert MinuteCandle.objects.count() == 1


@pytest.mark.django_db
def test_no_look_ahead_a_bar_counts_when_it_has_closed() -> None:
    candles.store("BTC", [bar(T0 + number * BAR, 100 + number) for number in range(24)])

    before = candles.last_bars(["BTC"], width=HOUR, count=10, at=T0 + 2 * HOUR - SECOND)["BTC"]
    after = candles.last_bars(["BTC"], width=HOUR, count=10, at=T0 + 2 * HOUR)["BTC"]

    assert (list(before.close), list(after.close)) == ([111], [111, 123])
    assert (after.high[1], after.low[1], after.volume[1]) == (124, 111, 12)


# -- holes


@pytest.mark.django_db
def test_gaps_are_named() -> None:
    held = [0, 1, 4, 5, 9]
    candles.store("BTC", [bar(T0 + place * BAR) for place in held])
    candles.store("ETH", [bar(T0 + place * BAR) for place in range(12)])

    found = candles.gaps(["BTC", "ETH", "SOL"], T0 - HOUR, T0 + HOUR)

    assert found == [
        Gap("BTC", T0 + 2 * BAR, T0 + 4 * BAR),
        Gap("BTC", T0 + 6 * BAR, T0 + 9 * BAR),
        Gap("BTC", T0 + 10 * BAR, T0 + 12 * BAR),
    ]
    assert [gap.bars for gap in found] == [2, 3, 2]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("without", "usable"),
    [(set(), True), ({3, 7, 11, 20}, True), ({3, 7, 11, 20, 25, 30}, False), ({49}, False), ({48}, True)],
)
def test_indicators_refuse_holes(without: set[int], usable: bool) -> None:
    for hour in set(range(50)) - without:
        candles.store("BTC", [bar(T0 + hour * HOUR + place * BAR, 100 + hour % 7) for place in range(12)])

    bars = candles.last_bars(["BTC"], width=HOUR, count=50, at=T0 + 50 * HOUR)["BTC"]

    assert bars.missing == len(without)
    assert (snapshot(bars, warm_up=40) is not None) is usable


# -- indicators against published figures

WILDER = [
    44.34, 44.09, 44.15, 43.61, 44.33, 44.83, 45.10, 45.42, 45.84, 46.08, 45.89, 46.03, 45.61, 46.28, 46.28,
    46.00, 46.03, 46.41, 46.22, 45.64, 46.21, 46.25, 45.71, 46.45, 45.78, 45.35, 44.03, 44.18, 44.22, 44.57,
    43.42, 42.66, 43.13,
]  # fmt: skip
"""The closes of the widely published worked example of Wilder's 14-bar RSI; it ends at 37.77."""


def bars(close: list[float], **columns: list[float]) -> Bars:
    base = np.array(close, dtype=float)
    given = {"high": base, "low": base, "volume": np.ones(len(base))}
    given |= {name: np.array(values, dtype=float) for name, values in columns.items()}
    return Bars("BTC", given["high"], given["low"], base, given["volume"])


def test_rsi_as_published() -> None:
    assert snapshot(bars(WILDER), warm_up=30) is None  # 33 bars and MACD needs 34: the warm-up is explicit

    rsi = talib.RSI(np.array(WILDER), 14)
    assert np.isnan(rsi[:14]).all()
    assert rsi[14] == pytest.approx(70.53, abs=0.1)
    assert rsi[-1] == pytest.approx(37.77, abs=0.1)


def test_averages_bands_and_range_by_hand() -> None:
    close = [float(100 + place) for place in range(60)]
    found = snapshot(bars(close, high=[c + 2 for c in close], low=[c - 2 for c in close]), warm_up=40)

    assert found is not None
    assert found.fast_average == np.mean(close[-20:]) == 149.5
    assert found.slow_average == np.mean(close[-50:])
    assert found.atr_pct == pytest.approx(4 / 159 * 100)  # every bar's range is 4
    assert found.momentum_pct == pytest.approx(10 / 149 * 100)
    assert found.rsi == 100
    deviation = np.std(close[-20:])
    assert found.bollinger_b == pytest.approx((159 - (149.5 - 2 * deviation)) / (4 * deviation))


@pytest.mark.parametrize("column", ["high", "low", "close", "volume"])
@pytest.mark.parametrize("place", [5, 30, 59])
def test_a_nan_anywhere_is_refused(column: str, place: int) -> None:
    close = [float(100 + place % 9) for place in range(60)]
    assert snapshot(bars(close), warm_up=40) is not None
    wrong = list(close)
    wrong[place] = float("nan")

    assert snapshot(bars(wrong) if column == "close" else bars(close, **{column: wrong}), warm_up=40) is None


# -- backfill


@pytest.fixture
def source() -> Iterator[Provider]:
    with provider() as one:
        for place in range(700):
            at = int((T0 + place * BAR).timestamp())
            one.candles[at] = ["99", "101", "100", "100.5", "3"]
        yield one


def coinbase(source: Provider) -> CandleFeed:
    feed = FEEDS.open("coinbase", name="coinbase", **OPTIONS["coinbase"](source, ["BTC"]))
    assert isinstance(feed, CandleFeed)
    return feed


@pytest.mark.django_db
def test_a_backfill_pages_and_stops_at_the_last_closed_bar(source: Provider, time: RecordedClock) -> None:
    time.to(T0 + 650 * BAR + SECOND)
    seen: list[datetime] = []

    stored = backfill(coinbase(source), ["BTC"], T0, T0 + 700 * BAR, progress=lambda _, at: seen.append(at))

    assert (stored, Candle.objects.count(), len(source.requests)) == (650, 650, 3)
    assert seen == [T0 + 300 * BAR, T0 + 600 * BAR, T0 + 650 * BAR, T0 + 650 * BAR]
    row = Candle.objects.order_by("open_time").values_list("open", "high", "low", "close", "volume")[0]
    assert row == (100, 101, 99, Decimal("100.5"), 3)


@pytest.mark.django_db
def test_a_backfill_that_failed_goes_on_where_it_was(
    source: Provider, time: RecordedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    time.to(T0 + 700 * BAR)
    monkeypatch.setattr(filling.time, "sleep", lambda seconds: None)
    feed = coinbase(source)
    pages = feed.candles("BTC", T0, T0 + 700 * BAR)
    first = next(pages)
    monkeypatch.setattr(feed, "candles", _breaks_after(first))
    with pytest.raises(Retryable):
        backfill(feed, ["BTC"], T0, T0 + 700 * BAR)
    assert BackfillMark.objects.get().done_until == T0 + 300 * BAR
    source.requests.clear()

    assert backfill(coinbase(source), ["BTC"], T0, T0 + 700 * BAR) == 400
    assert len(source.requests) == 2
    assert backfill(coinbase(source), ["BTC"], T0, T0 + 700 * BAR) == 0
    assert Candle.objects.count() == BackfillMark.objects.get().bars == 700


def _breaks_after(page: tuple[datetime, list[Bar]]) -> object:
    def candles_of(symbol: str, start: datetime, end: datetime) -> Iterator[tuple[datetime, list[Bar]]]:
        if start == T0:
            yield page
        raise Retryable("down")

    return candles_of


@pytest.mark.django_db
def test_a_retry_waits_as_long_as_the_provider_asks(
    source: Provider, time: RecordedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    time.to(T0 + 700 * BAR)
    slept: list[float] = []
    monkeypatch.setattr(filling.time, "sleep", slept.append)
    source.misbehaves("too_many", times=1)

    assert backfill(coinbase(source), ["BTC"], T0, T0 + 10 * BAR) == 10
    assert slept == [7.0]


@pytest.mark.django_db
@pytest.mark.parametrize(("replace", "volume"), [(False, 0), (True, 3)])
def test_stored_bars_are_kept_unless_replace_is_set(
    source: Provider, time: RecordedClock, replace: bool, volume: int
) -> None:
    time.to(T0 + HOUR)
    candles.form([Span.of(tick("100", T0))])
    backfill(coinbase(source), ["BTC"], T0, T0 + HOUR, replace=replace)

    assert Candle.objects.get(open_time=T0).volume == volume
    assert Candle.objects.count() == 12


@pytest.mark.django_db
def test_coingecko_gives_the_last_day_and_refuses_hourly_points(
    source: Provider, time: RecordedClock
) -> None:
    time.to(T0 + HOUR)
    feed = FEEDS.open("coingecko", name="coingecko", **OPTIONS["coingecko"](source, ["BTC"]))
    assert isinstance(feed, CandleFeed)
    start = int(T0.timestamp())
    source.points = [(start + second, f"100.{second}") for second in range(0, 1200, 150)]
    assert backfill(feed, ["BTC"], T0, T0 + HOUR) == 4
    assert Candle.objects.earliest("open_time").close == Decimal("100.150")

    source.points = [(start + hour * 3600, "100") for hour in range(20)]
    with pytest.raises(Rejected, match="hourly"):
        list(feed.candles("BTC", T0, T0 + 20 * HOUR))


def test_a_symbol_that_the_feed_does_not_know_is_rejected(source: Provider, tmp_path: Path) -> None:
    for feed in (coinbase(source), FileFeed(str(tmp_path))):
        with pytest.raises(Rejected):
            next(feed.candles("ETH", T0, T0 + HOUR))


# -- files


def write(folder: Path, symbol: str, closes: list[float]) -> None:
    rows = [",".join(HEADER)]
    for place, close in enumerate(closes):
        at = int((T0 + place * BAR).timestamp() * 1000)
        rows.append(f"{at},{close},{close},{close},{close},1")
    with gzip.open(folder / f"candles-{symbol}-USD-5m.csv.gz", "wt") as file:
        file.write("\n".join(rows))


def test_a_file_gives_the_last_close_that_was_known(tmp_path: Path, time: RecordedClock) -> None:
    write(tmp_path, "BTC", [100, 101, 102])
    feed = FileFeed(str(tmp_path))
    time.to(T0 + 2 * BAR)

    assert feed.quotes(["BTC", "ETH"]) == {"BTC": Tick("BTC", Decimal("101.0"), T0 + 2 * BAR, "file")}
    time.to(T0 + BAR - SECOND)
    assert feed.quotes(["BTC"]) == {}


@pytest.mark.parametrize(
    "options", [{"loop": True}, {"speed": 60}, {"starts_at": T0.isoformat()}, {"plays_from": T0.isoformat()}]
)
@pytest.mark.parametrize("profile", ["", "production"])
def test_no_old_price_can_be_played_as_a_new_one_outside_the_demo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, object], profile: str
) -> None:
    monkeypatch.setenv("MAXXIT_PROFILE", profile)
    with pytest.raises(Misconfigured, match="MAXXIT_PROFILE=demo"):
        FEEDS.open("file", name="demo", folder=str(tmp_path), **options)

    monkeypatch.setenv("MAXXIT_PROFILE", "demo")
    assert FEEDS.open("file", name="demo", folder=str(tmp_path), **options).name == "demo"


# -- the command


@pytest.mark.django_db
def test_the_command_fills_and_names_what_is_missing(
    tmp_path: Path, time: RecordedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    time.to(T0 + HOUR)
    write(tmp_path, "BTC", [100] * 10)
    monkeypatch.setattr("maxxit.market.quotes.open_feeds", lambda: (FileFeed(str(tmp_path)),))
    out = StringIO()

    call_command("backfill", "--symbols", "BTC", "--from", "2026-03-02T12:00", stdout=out)

    assert "10 candles from file; 2 missing in 1 gaps" in out.getvalue()
    assert Candle.objects.count() == 10
    for words in (["--feed", "pyth"], ["--symbols", "DOGE"], ["--to", "2026-01-01"], ["--to", "soon"]):
        with pytest.raises(CommandError):
            call_command("backfill", "--from", "2026-03-01", *words, stdout=StringIO())


@pytest.mark.django_db
def test_the_minute_table_is_partitioned() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT relkind FROM pg_class WHERE relname = 'candles_1m'")
        assert cursor.fetchone() == ("p",)
