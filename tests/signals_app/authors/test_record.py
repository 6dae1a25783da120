"""Backtests from files and from the database, and the stored impact factors."""

import json
from datetime import timedelta
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.core.management import CommandError, call_command

from agents.models import CtAccount
from maxxit.core.config import ROOT
from maxxit.events.models import Event
from maxxit.market import candles
from maxxit.market.feeds.bars import BAR, Bar
from signals_app import revise
from signals_app.authors.backtest import BAR_SECONDS, Series
from signals_app.authors.record import stored_calls, stored_records, update, with_prices
from signals_app.management.commands import authors
from signals_app.models import CtPost, ImpactFactorHistory
from signals_app.policy import policy
from signals_app.prices_at import prices_at
from signals_app.reading.rules.read import CHECKED_VERSION, VERSION, Reader
from signals_app.sources.base import RawPost
from tests import builders as make
from tests.builders import T0, RecordedClock

DATA = ROOT.parent / "shared" / "data"
DAY = timedelta(days=1)


def bars(rise: str, *, days: int = 12) -> None:
    """Five-minute bars of ETH that gain `rise` in all over the days before T0."""
    count, first = days * 288, T0 - timedelta(days=days)
    closes = [Decimal(100) * (1 + Decimal(rise) * n / count) for n in range(count + 1)]
    candles.store(
        "ETH",
        (
            Bar(first + BAR * n, closes[n], closes[n + 1], closes[n], closes[n + 1], Decimal(1))
            for n in range(count)
        ),
    )


def called(username: str, *, ago: timedelta) -> CtAccount:
    """An account with one long call on ETH that we received so long before T0."""
    one = CtAccount.objects.filter(x_username=username).first() or make.account(username=username)
    make.candidate(one, posted_at=T0 - ago, ingested_at=T0 - ago)
    return one


@pytest.mark.django_db
def test_a_question_has_the_prices_of_the_tokens_that_the_checked_version_sees(time: RecordedClock) -> None:
    """Recorded requests are looked up by their bytes: a newer version of the grammar adds no price to them."""
    bars("0.5", days=1)
    words, ones = {"ETH": ["eth"]}, np.ones(1)
    series = {"ETH": Series(np.array([int(T0.timestamp()) - BAR_SECONDS]), ones, ones, ones, ones)}
    assert Reader.of(words, VERSION).priced("Alts...#ETH will go far") == {"ETH"}
    for text, priced in (("$ETH will go far", {"ETH"}), ("Alts...#ETH will go far", set())):
        assert Reader.of(words, CHECKED_VERSION).priced(text) == priced
        [prices] = prices_at([(text, T0)], words)
        [post] = with_prices([RawPost("1", "one", text, T0)], series)
        assert prices.keys() == post.prices.keys() == priced


@pytest.mark.django_db
def test_an_update_writes_the_factor_its_history_and_an_event_and_a_second_one_nothing(
    time: RecordedClock,
) -> None:
    bars("0.5")
    good = called("good", ago=10 * DAY)
    silent = make.account(username="silent", impact_factor=Decimal("0.8"))

    assert update(policy().authors) == 1
    assert update(policy().authors) == 0

    good.refresh_from_db()
    silent.refresh_from_db()
    # the target after a rise of 10 %, with the bonus of 8 %: 1.3 points of one call against twenty neutral ones
    assert good.impact_factor == Decimal("0.520635")
    assert silent.impact_factor == Decimal("0.8"), "nobody measured it, so nobody takes it away"
    row = ImpactFactorHistory.objects.get()
    assert (row.account, row.day, row.calls, row.mean_score) == (good, T0.date(), 1, Decimal("1.300000"))
    event = Event.objects.get(name="ctaccount.impact_factor")
    assert (event.subject, event.data) == (
        f"agents.ctaccount/{good.pk}",
        {"old": "0.500000", "new": "0.520635"},
    )


@pytest.mark.django_db
def test_a_call_counts_when_its_seven_days_are_over_and_from_when_we_received_it(
    time: RecordedClock,
) -> None:
    bars("0.5")
    young = called("young", ago=7 * DAY - timedelta(minutes=1))
    late = make.account(username="late")
    make.candidate(late, posted_at=T0 - 10 * DAY, ingested_at=T0 - DAY)

    assert update(policy().authors) == 0
    assert {one.author: one.impact_calls for one in stored_records(policy().authors)} == {
        "young": 0,
        "late": 0,
    }
    time.move(minutes=5)
    last = Decimal(150)
    candles.store("ETH", [Bar(T0, last, last, last, last, Decimal(1))])
    assert update(policy().authors) == 1
    assert ImpactFactorHistory.objects.get().account == young


@pytest.mark.django_db
def test_a_call_that_left_the_window_no_longer_weighs(time: RecordedClock) -> None:
    bars("0.5")
    good = called("good", ago=10 * DAY)
    update(policy().authors)
    time.move(days=policy().authors.window_days)

    assert update(policy().authors) == 1
    good.refresh_from_db()
    assert good.impact_factor == Decimal("0.5")
    assert list(ImpactFactorHistory.objects.values_list("calls", flat=True)) == [0, 1]


@pytest.mark.django_db
def test_stored_calls_are_candidates_with_each_token_and_side(time: RecordedClock) -> None:
    one = make.account(username="one")
    make.candidate(one, {"ETH": "long", "BTC": "short"})
    make.post(one)
    time.move(minutes=1)

    assert [(call.token, call.side, call.known_at) for call in stored_calls(T0, T0 + DAY)] == [
        ("BTC", "short", T0),
        ("ETH", "long", T0),
    ]
    assert stored_calls(T0 + BAR, T0 + DAY) == []
    assert CtPost.objects.count() == 2


@pytest.mark.django_db
def test_a_post_that_its_author_deletes_stays_a_call(time: RecordedClock) -> None:
    one = make.account(username="one")
    post = make.candidate(one)
    before = stored_calls(T0, T0 + DAY)
    assert revise.deletions(one, [RawPost(post.post_id, "one", "", T0, deleted=True)]) == 1
    assert stored_calls(T0, T0 + DAY) == before
    assert len(before) == 1


def backtest(*options: str) -> dict[str, Any]:
    out = StringIO()
    call_command("authors", "backtest", "--json", *options, stdout=out)
    told: dict[str, Any] = json.loads(out.getvalue())
    return told


def files(folder: Path) -> list[str]:
    """Two calls by one author and a broken line; ETH rises 3 % on the first day."""
    lines = [
        {
            "id": "1",
            "username": "one",
            "created_at": "2017-12-01T00:03:00Z",
            "text": "buying $ETH here, long",
        },
        {
            "id": "1",
            "username": "one",
            "created_at": "2017-12-01T00:03:00Z",
            "text": "buying $ETH here, long",
        },
        {
            "id": "2",
            "username": "one",
            "created_at": "2017-12-02T12:00:00Z",
            "text": "buying $ETH here, long",
        },
        {
            "id": "3",
            "username": "two",
            "created_at": "2017-12-01T12:00:00Z",
            "text": "What a lovely day it is",
        },
    ]
    posts = folder / "posts.jsonl"
    posts.write_text("\n".join([*map(json.dumps, lines), "{broken"]))
    rows = [
        f"{1512086400000 + 300_000 * n},{100 + n / 96},{100 + n / 96},{100 + n / 96},{100 + n / 96},1"
        for n in range(500)
    ]
    header = "open_time_ms,open,high,low,close,volume"
    (folder / "candles-ETH-USD-5m.csv").write_text("\n".join([header, *rows]) + "\n")
    return ["--posts", str(posts), "--candles", str(folder)]


def test_a_backtest_needs_no_database_and_enters_after_the_delay(tmp_path: Path) -> None:
    told = backtest(*files(tmp_path))
    hours = told["authors"][0]["horizons"]["240"]

    assert (told["posts"], told["accounts"], told["calls"], told["without_calls"]) == (3, 2, 2, ["two"])
    assert hours["calls"] == 2
    # known at 00:08, so entered at the bar of 00:10; four hours later the last close is 47 bars on
    entry = 100 + 2 / 96
    entry2 = 100 + (433) / 96
    expected = [
        ((100 + (2 + 47) / 96) / entry - 1) * 100 - 0.3,
        ((100 + (433 + 47) / 96) / entry2 - 1) * 100 - 0.3,
    ]
    assert hours["mean"]["mean"] == pytest.approx(sum(expected) / 2, abs=1e-5)
    assert told == backtest(*files(tmp_path))


def test_a_backtest_ends_at_to(tmp_path: Path) -> None:
    told = backtest(*files(tmp_path), "--from", "2017-12-01", "--to", "2017-12-01")

    assert (told["posts"], told["calls"]) == (2, 1)
    assert "1440" not in told["authors"][0]["horizons"], "bars after --to do not exist"


def test_missing_files_are_named(tmp_path: Path) -> None:
    posts, candles_folder = files(tmp_path)[1::2]
    with pytest.raises(CommandError, match="must be a file"):
        backtest("--posts", str(tmp_path / "none"), "--candles", candles_folder)
    with pytest.raises(CommandError, match="take a date"):
        backtest("--posts", posts, "--candles", candles_folder, "--from", "yesterday")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CommandError, match="no candle file"):
        backtest("--posts", posts, "--candles", str(tmp_path / "empty"))


def test_refused_lines_stand_in_the_result_with_their_reasons(tmp_path: Path) -> None:
    words = files(tmp_path)
    found = backtest(*words)["inputs"]
    (reason,) = found["refused"]
    out = StringIO()
    call_command("authors", "backtest", *words, stdout=out, no_color=True)

    assert reason.startswith("not JSON")
    assert (found["posts_usable"], found["refused"][reason]) == (4, 1)
    assert found["refused_at"] == [f"{words[1]}:5: {reason}"]
    assert f"refused: 1 × {reason}" in out.getvalue()
    assert f"posts.jsonl:5: {reason}" in out.getvalue()


@pytest.mark.parametrize(
    ("lines", "more", "why"),
    [
        ("", (), r"posts\.jsonl is empty: each line must be a JSON object"),
        ("{broken", (), r"has no usable post: line 1: not JSON"),
        (None, ("--from", "2018-03-01", "--to", "2018-03-02"), "has no post between 2018-03-01 00:00"),
        (None, ("--from", "2017-12-01", "--to", "2017-12-10"), "no candles in .* cover"),
        (None, ("--from", "2017-12-02", "--to", "2017-12-01"), "is not before"),
        (None, ("--plot", "/dev/null/plots"), "--plot /dev/null/plots is not a folder"),
    ],
)
def test_nothing_usable_is_exit_code_2_with_the_reason(
    tmp_path: Path, lines: str | None, more: tuple[str, ...], why: str
) -> None:
    words = files(tmp_path)
    if lines is not None:
        Path(words[1]).write_text(lines)
    with pytest.raises(CommandError, match=why) as refused:
        backtest(*words, *more)
    assert refused.value.returncode == 2


def test_a_bad_folder_for_the_plots_is_told_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reading(*_: object) -> None:
        raise AssertionError("read before the folder was checked")

    monkeypatch.setattr("signals_app.management.commands.authors.read_inputs", reading)
    with pytest.raises(CommandError, match="--plot"):
        backtest(*files(tmp_path), "--plot", str(tmp_path / "posts.jsonl"))


@pytest.mark.realdata
def test_december_2017(tmp_path: Path) -> None:
    """As docs/authors.md says: its table and its sentences, no author apart from the benchmark; the plots are drawn."""
    out = StringIO()
    command = authors.Command(stdout=out, no_color=True)
    command.quiet = False
    words = [
        "--posts",
        str(DATA / "posts-2017-12.jsonl"),
        "--candles",
        str(DATA),
        "--plot",
        str(tmp_path / "plots"),
    ]
    told = command.run(**vars(command.create_parser("manage.py", "authors").parse_args(["backtest", *words])))
    page = " ".join((ROOT / "docs/authors.md").read_text().replace("−", "-").split())

    names = {"author", *(one["author"] for one in told["authors"])}
    table = [line for line in out.getvalue().splitlines() if line.split(" ")[0] in names]
    assert len(table) == len(told["authors"]) + 1
    assert [line for line in table if " ".join(line.split()) not in page] == []
    factors = [one["impact_factor"] for one in told["authors"]]
    known = [one["horizons"]["1440"]["excess"] for one in told["authors"] if "1440" in one["horizons"]]
    with_interval = [one for one in known if one["low"] is not None]
    hour, later = told["all"]["1h"], told["all"]["4h"]
    assert all(one["low"] < 0 < one["high"] for one in with_interval)
    assert later["mean"]["low"] < 0 < later["mean"]["high"]
    for said in (
        f"In {told['posts']:,} posts the lexical reader (`{CHECKED_VERSION}`) finds {told['calls']} calls",
        f"{ {9: 'nine'}[len(told['without_calls'])] } of the {told['accounts']} accounts made none",
        f"{ {3: 'Three'}[len(with_interval)] } authors have calls on enough days for an interval",
        f"from {min(one['mean'] for one in with_interval):.1f} % to "
        f"+{max(one['mean'] for one in with_interval):.1f} % a call",
        f"lost {-hour['mean']['mean']:.1f} % within an hour (interval {hour['mean']['low']:.1f} to "
        f"{hour['mean']['high']:.1f}), {-hour['excess']['mean']:.1f} % more than the benchmark "
        f"({hour['excess']['low']:.1f} to {hour['excess']['high']:.1f})",
        f"between {min(factors):.3f} and {max(factors):.3f}",
        f"1 to {max(one['calls'] for one in told['authors'])} calls a head",
    ):
        assert said in page
    assert not any(one["pump_flag"] for one in told["authors"])
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == [
        "authors-decay.png",
        "authors-excess.png",
        "authors-impact.png",
    ]
