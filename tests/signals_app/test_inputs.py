"""Validation of replay inputs: errors before the start, and warnings."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from maxxit.core import config
from maxxit.core.errors import Misconfigured
from maxxit.market.feeds.file import HEADER
from signals_app import inputs

START = datetime(2025, 1, 1, tzinfo=UTC)
END = START + timedelta(hours=12)


def candle_file(folder: Path, symbol: str, *, hours: float = 12, price: int = 100, jump_at: int = -1) -> None:
    rows = [",".join(HEADER)]
    for place in range(int(hours * 12)):
        value = price + place * (jump_at < 0) + (price * 10 if 0 <= jump_at <= place else 0)
        opened = int((START + place * timedelta(minutes=5)).timestamp() * 1000)
        rows.append(f"{opened},{value},{value},{value},{value},1")
    (folder / f"candles-{symbol}-USD-5m.csv").write_text("\n".join(rows))


def post_file(folder: Path, *posts: dict[str, str]) -> Path:
    path = folder / "posts.jsonl"
    path.write_text("\n".join(json.dumps(post) for post in posts))
    return path


def post(at: datetime = START, username: str = "alice", **fields: str) -> dict[str, str]:
    return {"id": "1", "username": username, "created_at": at.isoformat(), "text": "long $BTC"} | fields


def replayed(posts: Path, candles: Path, *more: str) -> None:
    span = ["--from", "2025-01-01", "--to", "2025-01-01T12:00"]
    call_command("replay", "--posts", str(posts), "--candles", str(candles), *span, *more)


@pytest.fixture
def replay_profile(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The profile of a replay, whatever other tests have read before."""
    monkeypatch.setenv("MAXXIT_PROFILE", "replay")
    config._read.cache_clear()
    yield
    config._read.cache_clear()


@pytest.mark.usefixtures("replay_profile")
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("posts", "why"),
    [
        ((), "has no usable post"),
        ((post(text=""),), r"1 lines refused, the first .*:1: 'text' must be a non-empty string"),
        ((post(START - timedelta(days=1)),), r"no post between .*: its 1 posts are from 2024-12-31"),
        ((post(END),), "no post between"),
    ],
)
def test_a_replay_without_a_usable_post_is_an_error(
    tmp_path: Path, posts: tuple[dict[str, str], ...], why: str
) -> None:
    candle_file(tmp_path, "BTC")
    with pytest.raises(CommandError, match=why) as error:
        replayed(post_file(tmp_path, *posts), tmp_path)
    assert error.value.returncode == 2


@pytest.mark.usefixtures("replay_profile")
@pytest.mark.django_db(transaction=True)
def test_a_replay_wakes_no_worker(tmp_path: Path, woken: set[str]) -> None:
    candle_file(tmp_path, "BTC")
    replayed(post_file(tmp_path, post()), tmp_path)
    assert woken == set()


def test_followed_accounts_must_have_posts(tmp_path: Path) -> None:
    inputs.check_followed({"Alice", "bob"}, {"alice"}, tmp_path)
    inputs.check_followed({"bob"}, set(), tmp_path)
    with pytest.raises(Misconfigured, match="no post of a followed account"):
        inputs.check_followed({"bob"}, {"alice"}, tmp_path)


@pytest.mark.parametrize(("hours", "good"), [(12, True), (11.5, True), (6, False)])
def test_candles_must_cover_the_span(tmp_path: Path, hours: float, good: bool) -> None:
    candle_file(tmp_path, "BTC", hours=hours)
    if good:
        assert inputs.read_candles(tmp_path, START, END)[1] == []
        return
    with pytest.raises(
        Misconfigured, match=r"no candles .* cover .*: BTC 2025-01-01 00:00 to 2025-01-01 06:00"
    ):
        inputs.read_candles(tmp_path, START, END)


def test_faults_of_candles_are_reported(tmp_path: Path) -> None:
    candle_file(tmp_path, "BTC")
    candle_file(tmp_path, "ETH")
    candle_file(tmp_path, "LTC", hours=3, price=7)
    candle_file(tmp_path, "XRP", price=5, jump_at=30)
    candle_file(tmp_path, "FOO")
    bars, warnings = inputs.read_candles(tmp_path, START, END)
    assert sorted(bars) == ["BTC", "ETH", "LTC", "XRP"]
    assert warnings == [
        "candles-FOO-USD-5m.csv belongs to no token of config/markets.yaml and is not used",
        "the candles of LTC cover only 2025-01-01 00:00 to 2025-01-01 03:00 UTC",
        "the price of XRP goes from 5 to 55 USD at 2025-01-01 02:30: is this one token in one unit?",
        "the candles of BTC and ETH are the same: one of the files has a wrong name",
    ]


@pytest.mark.usefixtures("replay_profile")
def test_an_output_that_cannot_be_written_is_refused_before_the_run(tmp_path: Path) -> None:
    candle_file(tmp_path, "BTC")
    posts = post_file(tmp_path, post())
    for out, why in ((tmp_path / "none" / "out", "cannot be written"), (tmp_path, "is a folder")):
        with pytest.raises(CommandError, match=why) as error:
            replayed(posts, tmp_path, "--events-out", str(out))
        assert error.value.returncode == 2
