"""`manage.py candles`: files of public formats become a data folder; a bad row or file costs only itself."""

import gzip
import json
import random
import re
import zipfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from hypothesis import given
from hypothesis import strategies as st

from maxxit.core import data_folder
from maxxit.market import candles
from maxxit.market.candle_import import import_token
from maxxit.market.feeds.bars import Bar
from maxxit.market.feeds.file import candle_file, read_bars
from maxxit.market.importers import IMPORTERS
from maxxit.market.importers.base import BadRow, Row, checked, combined, opened_at
from maxxit.market.importers.detect import format_of
from maxxit.market.instruments import instrument
from maxxit.market.models import Candle
from tests.market.test_importers import SAMPLES

START = 1_609_459_200
"""2021-01-01 00:00 UTC."""
Minute = tuple[int, str, str, str, str, str]


def minutes(count: int, start: int = START, seed: int = 1) -> list[Minute]:
    """One-minute candles: open time in seconds, open, high, low, close, volume."""
    chance, price, found = random.Random(seed), 29_000.0, []
    for place in range(count):
        opened, price = price, price * (1 + chance.gauss(0, 0.001))
        numbers = (opened, max(opened, price) * 1.0001, min(opened, price) * 0.9999, price, chance.random())
        found.append((start + 60 * place, *(f"{number:.8f}" for number in numbers)))
    return found  # type: ignore[return-value]


def expected(rows: Sequence[Minute]) -> list[Bar]:
    """Five-minute bars by a loop that shares nothing with the importer."""
    made: dict[int, list[Any]] = {}
    for at, *texts in sorted(rows):
        open_, high, low, close, volume = map(Decimal, texts)
        bar = made.setdefault(at // 300 * 300, [open_, high, low, close, Decimal(0)])
        bar[1], bar[2], bar[3], bar[4] = max(bar[1], high), min(bar[2], low), close, bar[4] + volume
    return [Bar(datetime.fromtimestamp(at, UTC), *numbers) for at, numbers in made.items()]


def binance(rows: Sequence[Minute], unit: int = 1000) -> str:
    """https://github.com/binance/binance-public-data: twelve columns without a header."""
    return "".join(
        f"{at * unit},{o},{h},{low},{c},{v},{(at + 60) * unit - 1},2240.39860900,13,401.82000000,1669.98121300,0\n"
        for at, o, h, low, c, v in rows
    )


def kraken(rows: Sequence[Minute]) -> str:
    return "".join(f"{at},{o},{h},{low},{c},{v},9\n" for at, o, h, low, c, v in rows)


def kaggle(rows: Sequence[Minute]) -> str:
    """https://www.kaggle.com/datasets/mczielinski/bitcoin-historical-data."""
    return "Timestamp,Open,High,Low,Close,Volume\n" + "".join(
        f"{at}.0,{o},{h},{low},{c},{v}\n" for at, o, h, low, c, v in rows
    )


def bitfinex(rows: Sequence[Minute]) -> str:
    """https://docs.bitfinex.com/reference/rest-public-candles: the close stands before high and low."""
    return json.dumps([[at * 1000, *map(float, (o, c, h, low, v))] for at, o, h, low, c, v in reversed(rows)])


def bitfinex_csv(rows: Sequence[Minute]) -> str:
    lines = [f"{at * 1000},{o},{c},{h},{low},{v}" for at, o, h, low, c, v in rows]
    return "\n".join(["mts,open,close,high,low,volume", *lines])


def cdd(rows: Sequence[Minute], first: str = "unix,date,symbol", pair: str = "BTC/USD") -> str:
    lines = [
        f"{at * 1000},{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S},{pair},{o},{h},{low},{c},1.5e3,{v}"
        for at, o, h, low, c, v in reversed(rows)
    ]
    header = f"{first},open,high,low,close,Volume USD,Volume BTC"
    return "\n".join(["https://www.CryptoDataDownload.com", header, *lines])


def cdd_dates(rows: Sequence[Minute]) -> str:
    """The older form without times in seconds."""
    lines = [line.partition(",")[2] for line in cdd(rows).split("\n")[2:]]
    return "\n".join(["Date,Symbol,Open,High,Low,Close,Volume USD,Volume BTC", *lines])


def ours(rows: Sequence[Minute]) -> str:
    lines = [f"{at * 1000},{o},{h},{low},{c},{v}" for at, o, h, low, c, v in rows]
    return "\n".join(["open_time_ms,open,high,low,close,volume", *lines])


def columns(rows: Sequence[Minute]) -> str:
    lines = [
        f"{v},{c},{low},{h},{o},{datetime.fromtimestamp(at, UTC).isoformat()}" for at, o, h, low, c, v in rows
    ]
    return "\n".join(["Volume,Close,Low,High,Open,Datetime", *lines])


FORMS: dict[str, tuple[str, Callable[[Sequence[Minute]], str]]] = {
    "binance": ("binance", binance),
    "binance microseconds": ("binance", lambda rows: binance(rows, 1_000_000)),
    "kraken": ("kraken", kraken),
    "kaggle": ("bitstamp", kaggle),
    "bitfinex csv": ("bitfinex", bitfinex_csv),
    "cryptodatadownload": ("cryptodatadownload", cdd),
    "cryptodatadownload, other header": (
        "cryptodatadownload",
        lambda rows: cdd(rows, "Unix Timestamp,Date,Symbol"),
    ),
    "cryptodatadownload, dates": ("cryptodatadownload", cdd_dates),
    "ours": ("maxxit", ours),
    "columns": ("columns", columns),
}


def run(*words: str) -> Any:
    out = StringIO()
    code = 0
    try:
        call_command("candles", *words, "--json", stdout=out)
    except SystemExit as error:
        code = int(str(error.code))
    found = json.loads(out.getvalue())
    return found if code == 0 else {**found, "code": code}


def imported(folder: Path, *paths: Path, words: Sequence[str] = ()) -> dict[str, Any]:
    """Import the files of one token and return its report."""
    found = run("import", *map(str, paths), "--into", str(folder), *words)
    return {**found["tokens"][0], "refused": found["refused"], "code": found.get("code", 0)}


def bars_in(folder: Path, symbol: str = "BTC") -> list[Bar]:
    path = candle_file(folder, symbol)
    assert path
    return list(read_bars(path))


@pytest.mark.parametrize("name", FORMS)
def test_one_minute_candles_of_each_format_become_five_minute_bars(tmp_path: Path, name: str) -> None:
    form, write = FORMS[name]
    rows = minutes(60)
    path = tmp_path / "BTCUSD.csv"
    path.write_text(write(rows))
    told = imported(tmp_path / "data", path)
    assert (told["files"][0]["format"], told["files"][0]["width_seconds"]) == (form, 60)
    assert (told["files"][0]["rows"], told["files"][0]["rejected"], told["bars"]) == (60, 0, 12)
    assert bars_in(tmp_path / "data") == expected(rows)


def test_bitfinex_arrays_have_the_close_before_high_and_low(tmp_path: Path) -> None:
    rows = [
        (at, *(f"{float(text):.2f}" for text in texts))  # a JSON number keeps no trailing zeros
        for at, *texts in minutes(10)
    ]
    path = tmp_path / "BTCUSD.json"
    path.write_text(bitfinex(rows))  # type: ignore[arg-type]
    told = imported(tmp_path / "data", path, words=["--symbol", "BTC"])
    assert told["files"][0]["format"] == "bitfinex"
    assert bars_in(tmp_path / "data") == expected(rows)  # type: ignore[arg-type]


def test_each_format_is_recognised_as_itself_alone(tmp_path: Path) -> None:
    samples = {name: (form, make()) for name, (form, make) in SAMPLES.items()}
    samples |= {name: (form, write(minutes(8))) for name, (form, write) in FORMS.items()}
    samples["bitfinex arrays"] = ("bitfinex", bitfinex(minutes(8)))
    for name, (form, text) in samples.items():
        path = tmp_path / "file"
        path.write_text(text)
        assert format_of(path) == form, name


def test_monthly_zip_files_of_a_folder_are_joined_and_stated_in_the_manifest(tmp_path: Path) -> None:
    rows, downloads = minutes(120), tmp_path / "data/spot/monthly/klines/BTCUSDT/1m"
    downloads.mkdir(parents=True)
    for month, part in (("2021-01", rows[:60]), ("2021-02", rows[60:])):
        with zipfile.ZipFile(downloads / f"BTCUSDT-1m-{month}.zip", "w") as packed:
            packed.writestr(f"BTCUSDT-1m-{month}.csv", binance(part))
    folder = tmp_path / "DATA"
    told = imported(folder, tmp_path / "data")
    assert (told["symbol"], told["bars"]) == ("BTC", 24)
    assert bars_in(folder) == expected(rows)
    entry = data_folder.read(folder)["candles-BTC-USD-5m.csv.gz"]
    assert (entry.rows, entry.begins, entry.ends) == (
        24, "2021-01-01T00:00:00+00:00", "2021-01-01T02:00:00+00:00",
    )  # fmt: skip
    assert [(one.name, one.format, one.rows) for one in entry.sources] == [
        ("BTCUSDT-1m-2021-01.zip", "binance", 60), ("BTCUSDT-1m-2021-02.zip", "binance", 60),
    ]  # fmt: skip
    assert [one["symbol"] for one in run("list", str(folder))] == ["BTC"]
    assert run("verify", str(folder))["problems"] == []


def test_a_later_import_adds_months_and_the_same_again_changes_nothing(tmp_path: Path) -> None:
    rows, folder = minutes(90), tmp_path / "DATA"
    first, second = tmp_path / "XBTUSD_1.csv", tmp_path / "XBTUSD_1_later.csv"
    first.write_text(kraken(rows[:60]))
    second.write_text(kraken(rows[45:]))
    assert imported(folder, second)["added"] == 9
    assert imported(folder, first)["added"] == 9
    assert bars_in(folder) == expected(rows)
    before = (folder / "candles-BTC-USD-5m.csv.gz").read_bytes(), (folder / "manifest.json").read_bytes()
    again = imported(folder, first, second)
    assert (again["added"], again["conflicts"], again["files"][1]["duplicates"]) == (0, 0, 15)
    assert before[0] == (folder / "candles-BTC-USD-5m.csv.gz").read_bytes()


def test_bars_that_differ_from_those_of_the_folder_are_counted_and_replaced_on_request(
    tmp_path: Path,
) -> None:
    folder, path = tmp_path / "DATA", tmp_path / "BTCUSD_1.csv"
    path.write_text(kraken(minutes(10)))
    imported(folder, path)
    other = minutes(10, seed=2)
    path.write_text(kraken(other))
    assert imported(folder, path)["conflicts"] == 2
    assert bars_in(folder) == expected(minutes(10))
    assert imported(folder, path, words=["--replace"])["conflicts"] == 2
    assert bars_in(folder) == expected(other)


BAD_LINES = {
    "open is not a number": "{at},abc,2,1,1,1,1",
    "high is not finite": "{at},1,Infinity,1,1,1,1",
    "a price is not positive": "{at},1,2,-1,1,1,1",
    "low, open, close and high do not fit": "{at},1,0.5,1,1,1,1",
    "the volume is negative": "{at},1,1,1,1,-1,1",
    "3 fields, at least 6 expected": "{at},1,2",
    "the open time": "yesterday,1,1,1,1,1,1",
    "it opens at 2021-01-02 00:00:30": "1609545630,1,1,1,1,1,1",
    "close is not a number": "{at},1,1,1,1_0,1,1",
    "a number has a comma": '{at},"1,000",1,1,1,1,1',
    "high is beyond": "{at},1,1e300,1,1,1,1",
    "its numbers have more than": "{at},1,1,1,1," + "1" * 300 + ",1",
}


@pytest.mark.parametrize("why", BAD_LINES)
def test_a_bad_row_is_rejected_with_its_line_and_stops_no_other(tmp_path: Path, why: str) -> None:
    rows, path = minutes(30), tmp_path / "BTCUSD_1.csv"
    lines = kraken(rows).splitlines()
    lines.insert(10, BAD_LINES[why].format(at=START + 86_400))
    path.write_text("\n".join(lines))
    told = imported(tmp_path / "DATA", path)
    (line,) = told["files"][0]["rejected_lines"]
    assert line.startswith(f"{path}:11: ")
    assert why in line
    assert (told["files"][0]["rejected"], told["files"][0]["rows"], told["code"]) == (1, 30, 0)
    assert bars_in(tmp_path / "DATA") == expected(rows)


def test_lines_that_are_no_utf_8_are_rejected_alone(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSD_1.csv"
    path.write_bytes(b"\n".join([*kraken(minutes(10)).encode().splitlines(), b"16\xff09459200,1,1,1,1,1,1"]))
    told = imported(tmp_path / "DATA", path)
    assert told["files"][0]["rejected_lines"] == [f"{path}:11: not UTF-8: invalid start byte"]
    assert told["bars"] == 2


def test_equal_rows_count_once_and_different_ones_are_rejected_by_line(tmp_path: Path) -> None:
    rows, path, other = minutes(10), tmp_path / "BTCUSD_1.csv", tmp_path / "BTCUSD_1_b.csv"
    same = (rows[3][0], *(f"{text}00" for text in rows[3][1:]))
    changed = (*rows[4][:5], "77")
    path.write_text(kraken([*rows, same, changed]))  # type: ignore[list-item]
    other.write_text(kraken([changed]))
    told = imported(tmp_path / "DATA", path, other)
    at = "candle 2021-01-01 00:04"
    assert told["files"][0]["duplicates"] == 1
    assert told["files"][0]["rejected_lines"] == [f"{path}:12: {at} contradicts line 5"]
    assert told["files"][1]["rejected_lines"] == [f"{other}:1: {at} contradicts {path.name}:5"]
    assert bars_in(tmp_path / "DATA") == expected(rows)


def test_minutes_without_a_trade_are_no_errors(tmp_path: Path) -> None:
    rows, path = minutes(10), tmp_path / "BTCUSD.csv"
    lines = kaggle(rows).splitlines()
    lines[3] = f"{rows[2][0]}.0,NaN,NaN,NaN,NaN,NaN"
    lines[4] = ",".join([f"{rows[3][0]}", *rows[3][1:5], "0.0"])
    path.write_text("\n".join(lines))
    told = imported(tmp_path / "DATA", path)["files"][0]
    assert (told["empty"], told["zero_volume"], told["rejected"], told["rows"]) == (1, 1, 0, 9)
    kept = [*rows[:2], (*rows[3][:5], "0"), *rows[4:]]
    assert bars_in(tmp_path / "DATA") == expected(kept)


def test_an_unfinished_first_or_last_bar_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSD_1.csv"
    path.write_text(kraken(minutes(13)[2:]))
    told = imported(tmp_path / "OTHER", path)
    assert (told["bars"], told["files"][0]["incomplete"]) == (1, 2)
    path.write_text(kraken(minutes(13)))
    told = imported(tmp_path / "DATA", path)
    assert (told["bars"], told["files"][0]["incomplete"]) == (2, 1)
    path.write_text(kraken(minutes(15)))
    assert (imported(tmp_path / "DATA", path)["bars"], told["conflicts"]) == (3, 0)


def test_rows_of_another_pair_are_rejected(tmp_path: Path) -> None:
    path = tmp_path / "BTC.csv"
    path.write_text(
        "\n".join([cdd(minutes(10)), *cdd(minutes(5, START + 600), pair="ETH/USD").split("\n")[2:]])
    )
    told = imported(tmp_path / "DATA", path)
    assert (told["bars"], told["files"][0]["rejected"]) == (2, 5)
    assert "it is of ETH/USD, not of BTC in dollars" in told["files"][0]["rejected_lines"][0]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (kraken([(START + 3600 * place, *row[1:]) for place, row in enumerate(minutes(12))]).encode(),
         r"\.csv:2: its candles are 1:00:00 apart: download the one- or five-minute file"),
        (kraken([(START + 180 * place, *row[1:]) for place, row in enumerate(minutes(12))]).encode(),
         r"\.csv:2: its candles are 0:03:00 apart: they make no five-minute bars"),
        (gzip.compress(kraken(minutes(60)).encode())[:-20], "the compressed data is damaged"),
        (b"", r"\.csv is empty"),
        (b"a,b\n1,2\n", "its format is not recognised: give --format, one of binance"),
        (b"\xff\xfeT\x00", "not UTF-8"),
        (b"mts,open,close\n1,2,3\n", "the header has no column for high, low, volume"),
        (b"1609459200,x,2,1,1,1,1\n" * 3, "is not recognised"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_read_is_refused_alone(tmp_path: Path, data: bytes, why: str) -> None:
    good, bad = tmp_path / "BTCUSD_1.csv", tmp_path / "BTCUSD_2.csv"
    good.write_text(kraken(minutes(10)))
    bad.write_bytes(data)
    told = imported(tmp_path / "DATA", bad, good)
    assert told["code"] == 1
    (refused,) = told["refused"]
    assert str(bad) in refused
    assert re.search(why, refused)
    assert bars_in(tmp_path / "DATA") == expected(minutes(10))


def test_nothing_is_written_where_no_file_is_of_use(tmp_path: Path) -> None:
    bad = tmp_path / "BTCUSD_2.csv"
    bad.write_text("1609459200,1,0.5,1,1,1,1\n")
    told = imported(tmp_path / "DATA", bad)
    assert told["files"][0]["rejected"] == 1
    assert not (tmp_path / "DATA/manifest.json").exists()


@pytest.mark.parametrize("stated", [True, False])
def test_a_token_whose_held_file_is_damaged_stops_no_other(tmp_path: Path, stated: bool) -> None:
    folder, paths = tmp_path / "DATA", [tmp_path / f"{token}USD_1.csv" for token in ("ETH", "XBT", "SOL")]
    for path in paths:
        path.write_text(kraken(minutes(10)))
    if stated:
        imported(folder, paths[1])
    folder.mkdir(exist_ok=True)
    held = folder / "candles-BTC-USD-5m.csv.gz"
    held.write_bytes(gzip.compress(b"open_time_ms,open,high,low,close,volume\n")[:-9])
    found = run("import", *map(str, paths), "--into", str(folder))
    assert (found["code"], [one["symbol"] for one in found["tokens"]]) == (1, ["ETH", "SOL"])
    (refused,) = found["refused"]
    assert refused.startswith(f"BTC: {held}")
    assert [bars_in(folder, token) for token in ("ETH", "SOL")] == [expected(minutes(10))] * 2


@pytest.mark.parametrize("spoiled", ["\ud800", "\uff11"])
def test_text_that_is_no_ascii_is_rejected_by_item(tmp_path: Path, spoiled: str) -> None:
    items = json.loads(bitfinex(minutes(10)))
    items.insert(3, [START * 1000, spoiled, *items[3][2:]])
    path = tmp_path / "BTCUSD.json"
    path.write_text(json.dumps(items))
    told = imported(tmp_path / "DATA", path)
    assert (told["bars"], told["files"][0]["rows"], told["code"]) == (2, 10, 0)
    (line,) = told["files"][0]["rejected_lines"]
    assert line.startswith(f"{path}:4: 1 is not a number")


def test_a_checksum_of_binance_has_to_fit(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT-1m-2021-01.csv"
    path.write_text(binance(minutes(10)))
    stated = tmp_path / f"{path.name}.CHECKSUM"
    stated.write_text(f"{data_folder.sha256(path)}  {path.name}\n")
    assert imported(tmp_path / "DATA", path)["bars"] == 2
    stated.write_text(f"{'0' * 64}  {path.name}\n")
    assert "its SHA-256 is not the one in" in imported(tmp_path / "DATA", path)["refused"][0]


def test_unknown_tokens_and_paths_are_named(tmp_path: Path) -> None:
    path = tmp_path / "prices.csv"
    path.write_text(kraken(minutes(10)))
    found = run("import", str(path), "--into", str(tmp_path / "DATA"))
    assert "prices.csv names no single token of config/markets.yaml: give --symbol" in found["refused"][0]
    with pytest.raises(CommandError, match="no such file or folder"):
        run("import", str(tmp_path / "none.csv"), "--into", str(tmp_path / "DATA"))
    with pytest.raises(CommandError, match=r"has no manifest\.json: make a data folder"):
        run("gaps", str(tmp_path))


def test_gaps_are_listed(tmp_path: Path) -> None:
    rows, path = minutes(60), tmp_path / "BTCUSD_1.csv"
    path.write_text(kraken([*rows[:10], *rows[15:20], *rows[40:]]))
    imported(tmp_path / "DATA", path)
    (found,) = run("gaps", str(tmp_path / "DATA"))
    assert (found["bars"], found["missing"]) == (7, 5)
    assert [(one["from"][11:16], one["to"][11:16], one["bars"]) for one in found["gaps"]] == [
        ("00:10", "00:15", 1), ("00:20", "00:40", 4),
    ]  # fmt: skip
    (found,) = run("gaps", str(tmp_path / "DATA"), "--symbol", "btc", "--at-least", "2")
    assert found["missing"] == 4


def test_verify_finds_changed_missing_and_damaged_files(tmp_path: Path) -> None:
    folder, path = tmp_path / "DATA", tmp_path / "BTCUSD_1.csv"
    path.write_text(kraken(minutes(10)))
    imported(folder, path)
    held = folder / "candles-BTC-USD-5m.csv.gz"
    held.write_bytes(gzip.compress(gzip.decompress(held.read_bytes()).replace(b"29", b"28", 1)))
    assert run("verify", str(folder))["problems"] == [
        f"{held.name} was changed after its import: delete it and import its sources again"
    ]
    found = run("import", str(path), "--into", str(folder))
    assert (found["code"], found["tokens"]) == (1, [])
    assert found["refused"] == [
        f"BTC: {held} was changed after its import: delete it and import its sources again"
    ]
    held.unlink()
    assert "is missing" in run("verify", str(folder))["problems"][0]


def test_a_held_file_that_cannot_be_read_costs_its_token_alone(tmp_path: Path) -> None:
    folder, btc, eth = tmp_path / "DATA", tmp_path / "BTCUSD_1.csv", tmp_path / "ETHUSD_1.csv"
    for path in (btc, eth):
        path.write_text(kraken(minutes(10)))
    imported(folder, btc)
    held = folder / "candles-BTC-USD-5m.csv.gz"
    held.unlink()
    held.mkdir()

    found = run("import", str(btc), str(eth), "--into", str(folder))
    assert (found["code"], [one["symbol"] for one in found["tokens"]]) == (1, ["ETH"])
    assert found["refused"] == [f"BTC: [Errno 21] Is a directory: '{held}'"]
    assert run("verify", str(folder))["problems"] == [
        f"{held.name} cannot be read (Is a directory): delete it and import its sources again"
    ]


NUMBER = st.integers(1, 10**9).map(lambda number: Decimal(number) / 10**4)


@st.composite
def candles_of_minutes(draw: st.DrawFn) -> list[Minute]:
    """Valid one-minute candles at some minutes of two hours, ordered by time."""
    found = []
    for place in sorted(draw(st.sets(st.integers(0, 119), min_size=2, max_size=30))):
        low, *between, high = sorted(draw(st.lists(NUMBER, min_size=4, max_size=4)))
        open_, close = draw(st.permutations(between))
        found.append(
            (START + 60 * place, *map(str, (open_, high, low, close, draw(NUMBER) - Decimal("0.0001"))))
        )
    return found  # type: ignore[return-value]


@given(rows=candles_of_minutes(), chance=st.randoms(use_true_random=False))
def test_bars_do_not_depend_on_the_order_of_rows_or_files(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Minute], chance: random.Random
) -> None:
    where, begins = tmp_path_factory.mktemp("import"), minutes(12, START - 3600)  # which show the width
    mixed = [*rows, chance.choice(rows)]
    chance.shuffle(mixed)
    cut = chance.randrange(len(mixed))
    paths = [where / "a.csv", where / "b.csv"]
    paths[0].write_text(kraken([*begins, *mixed[:cut]]))
    paths[1].write_text(kraken([*begins, *mixed[cut:]]))
    (where / "DATA").mkdir()
    import_token(where / "DATA", instrument("BTC"), paths)
    whole = expected([*begins, *rows])
    finished = whole if rows[-1][0] % 300 == 240 else whole[:-1]
    held = candle_file(where / "DATA", "BTC")
    assert (list(read_bars(held)) if held else []) == finished


@pytest.mark.django_db
@given(rows=candles_of_minutes())
def test_bars_are_formed_by_the_rule_of_the_live_system(rows: list[Minute]) -> None:
    """The SQL that forms the live bars, given each minute as a span, makes the same bars."""
    Candle.objects.all().delete()
    spans = [
        candles.Span("BTC", datetime.fromtimestamp(at, UTC), *map(Decimal, numbers)) for at, *numbers in
        ((at, o, h, low, c) for at, o, h, low, c, _ in rows)
    ]  # fmt: skip
    candles.form(spans)
    stored = Candle.objects.order_by("open_time").values_list("open_time", "open", "high", "low", "close")
    parts: dict[int, list[Any]] = {}
    for line, (at, *texts) in enumerate(rows, start=1):
        parts.setdefault(at // 300 * 300, []).append(checked(Row(line, at, *texts)))
    made = [combined(at, part) for at, part in parts.items()]
    assert [(bar.open_time, bar.open, bar.high, bar.low, bar.close) for bar in made] == list(stored)


@given(seconds=st.integers(1_230_768_000, 4_102_444_799), unit=st.sampled_from([1, 10**3, 10**6, 10**9]))
def test_seconds_to_nanoseconds_are_told_apart_by_their_size(seconds: int, unit: int) -> None:
    moment = datetime.fromtimestamp(seconds, UTC)
    for text in (
        str(seconds * unit), f" {seconds * unit}.0", f"{moment:%Y-%m-%d %H:%M:%S}", moment.isoformat(),
        f"{Decimal(seconds * unit):E}", (moment + timedelta(hours=1)).isoformat()[:19] + "+01:00",
    ):  # fmt: skip
        assert opened_at(text) == seconds


@pytest.mark.parametrize(
    ("text", "hour"), [
        ("2019-10-17 09-AM", 9), ("2019-10-17 12-AM", 0), ("2019-10-17 12-PM", 12), ("2019-10-17 11-PM", 23),
    ]
)  # fmt: skip
def test_an_older_date_of_cryptodatadownload(text: str, hour: int) -> None:
    assert datetime.fromtimestamp(opened_at(text), UTC) == datetime(2019, 10, 17, hour, tzinfo=UTC)


@given(text=st.text(max_size=30) | st.floats().map(str) | st.integers().map(str))
def test_a_text_is_a_time_or_is_refused(text: str) -> None:
    try:
        found = opened_at(text)
    except ValueError as error:
        why = str(error)
        found = 1_230_768_000 if "open time" in why else 0
    assert 1_230_768_000 <= found < 4_102_444_800


@given(cells=st.lists(st.text("0123456789.eE-+_ NaInf\u0663", max_size=12), min_size=5, max_size=5))
def test_numbers_are_a_whole_candle_or_are_refused_with_a_reason(cells: list[str]) -> None:
    found = checked(Row(1, START, *cells))
    if isinstance(found, str):
        assert found
    else:
        assert Bar(datetime.fromtimestamp(START, UTC), *found).whole


def test_every_row_of_a_file_is_a_candle_or_a_bad_row(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSD_1.csv"
    path.write_text(kraken(minutes(5)) + "x\n" + kraken(minutes(5, START + 300)))
    found = list(IMPORTERS.open("kraken").rows(path))
    assert [type(one) for one in found] == [Row] * 5 + [BadRow] + [Row] * 5
