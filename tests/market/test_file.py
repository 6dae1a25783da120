"""Reading candle files: accepted variants, and errors with file, line and reason."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from maxxit.core.errors import Misconfigured
from maxxit.market.feeds.file import HEADER, read_bars, unused_files

START = 1_735_689_600_000  # 2025-01-01
STEP = 300_000


def line(place: int, *, at: int | None = None, close: str = "101", **cells: str) -> str:
    """One bar; `at` its time as it stands in the file."""
    bar = {"open": "100", "high": "102", "low": "99", "close": close, "volume": "1"} | cells
    return ",".join([str(START + place * STEP if at is None else at), *bar.values()])


def written(tmp_path: Path, *rows: str, header: str = ",".join(HEADER)) -> Path:
    path = tmp_path / "candles-BTC-USD-5m.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_bars_are_read_in_order(tmp_path: Path) -> None:
    bars = list(read_bars(written(tmp_path, *(line(place) for place in range(80)))))
    assert bars[0].open_time == datetime(2025, 1, 1, tzinfo=UTC)
    assert len(bars) == 80


def test_newest_first_is_turned_round_and_repeated_lines_count_once(tmp_path: Path) -> None:
    rows = [line(place) for place in range(80)]
    rows.insert(40, rows[40])
    expected = list(read_bars(written(tmp_path, *(line(place) for place in range(80)))))
    assert list(read_bars(written(tmp_path, *reversed(rows)))) == expected
    assert list(read_bars(written(tmp_path, *rows))) == expected


def test_holes_are_no_fault(tmp_path: Path) -> None:
    """Nobody traded: exchanges leave such bars out."""
    assert len(list(read_bars(written(tmp_path, *(line(place) for place in (0, 1, 7, 8, 30)))))) == 5


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([line(0, at=START // 1000)], r":2: open_time_ms \d+ .* looks like seconds"),
        ([line(0, at=START * 1000)], r":2: .* looks like microseconds"),
        ([line(0, at=START * 1_000_000)], r":2: .* looks like nanoseconds"),
        ([line(0, at=5)], r":2: open_time_ms 5 is no time in milliseconds"),
        ([line(0), line(0, at=START + STEP + 1000)], r":3: it does not open on a full five minutes"),
        ([line(0, high="Infinity")], r":2: a number is not finite"),
        ([line(0, volume="NaN")], r":2: a number is not finite"),
        ([line(0, low="-1")], r":2: a price is not positive"),
        ([line(0, volume="-1")], r":2: the volume is negative"),
        ([line(0, high="50")], r":2: low, open, close and high do not fit"),
        ([line(0), line(1, close="abc")], r":3: not a bar"),
        ([line(0), line(1) + ",7"], r":3: 7 fields instead of 6"),
        ([line(0), "1735689900000,1,2"], r":3: not a bar"),
        (
            [line(0), line(1), line(1, close="100")],
            r":4: bar 2025-01-01 00:05 contradicts another of its time",
        ),
        ([line(0), line(2), line(1)], r":4: bar 2025-01-01 00:05 is out of order"),
        ([line(place * 3) for place in range(10)], r":3: the bars are 15 minutes apart"),
        ([line(0, open="1_000", high="1_002")], r":2: not a bar"),
    ],
)
def test_an_invalid_five_minute_bar_is_refused_with_its_line(
    tmp_path: Path, rows: list[str], why: str
) -> None:
    path = written(tmp_path, *rows)
    with pytest.raises(Misconfigured, match=str(path) + why):
        list(read_bars(path))


def test_another_header_is_refused_and_quoted(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r":1: the header must be open_time_ms,.*, not 'time,o,h,l,c,v'"):
        list(read_bars(written(tmp_path, line(0), header="time,o,h,l,c,v")))


def test_files_of_unknown_symbols_are_named(tmp_path: Path) -> None:
    written(tmp_path, line(0))
    (tmp_path / "candles-DOGE2-USD-5m.csv").write_text("")
    assert unused_files(tmp_path) == ["candles-DOGE2-USD-5m.csv"]


def test_no_bar_is_known_before_its_time(tmp_path: Path) -> None:
    for bar in read_bars(written(tmp_path, *(line(place) for place in range(10)))):
        assert bar.known_at - bar.open_time == timedelta(minutes=5)
