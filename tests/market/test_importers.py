"""Importers of candle files: every format round-trips, and damaged files are refused with file, line and reason."""

import gzip
import io
import json
import re
import zipfile
from collections.abc import Callable
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from maxxit.market.feeds.bars import Bar
from maxxit.market.feeds.file import read_bars

START = 1_735_689_600  # 2025-01-01 00:00 UTC, seconds
PRICES = [("100.5", "102", "99.25", str(101 + place), "1.5") for place in range(8)]
"""open, high, low, close, volume; the high is lifted where the close is higher."""


def candles() -> list[tuple[int, str, str, str, str, str]]:
    return [
        (START + 300 * place, open_, str(max(Decimal(high), Decimal(close))), low, close, volume)
        for place, (open_, high, low, close, volume) in enumerate(PRICES)
    ]


def binance(unit: int = 1_000_000, header: bool = False) -> str:
    rows = [
        f"{at * unit},{o},{h},{low},{c},{v},{(at + 300) * unit - 1},150,7,1,100,0"
        for at, o, h, low, c, v in candles()
    ]
    names = "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_a,taker_b,ignore"
    return "\n".join([names, *rows] if header else rows) + "\n"


def kraken() -> str:
    return "\n".join(f"{at},{o},{h},{low},{c},{v},9" for at, o, h, low, c, v in candles())


def bitstamp_json() -> str:
    items = [
        {"timestamp": str(at), "open": o, "high": h, "low": low, "close": c, "volume": v}
        for at, o, h, low, c, v in candles()
    ]
    return json.dumps({"data": {"pair": "BTC/USD", "ohlc": items}})


def bitstamp_csv() -> str:
    """One-minute rows: the first minute of each five trades, the second did not."""
    rows = ["Timestamp,Open,High,Low,Close,Volume_(BTC),Volume_(Currency),Weighted_Price"]
    for at, o, h, low, c, v in candles():
        rows += [f"{at},{o},{h},{low},{c},{v},150,100", f"{at + 60},NaN,NaN,NaN,NaN,NaN,NaN,NaN"]
        rows += [f"{at + 120},{c},{c},{c},{c},0,0,100", f"{at + 180},{c},{c},{c},{c},0,0,100"]
    return "\n".join(rows)


def coinbase_arrays() -> str:
    numbers = [[at, *map(float, (low, h, o, c, v))] for at, o, h, low, c, v in reversed(candles())]
    return json.dumps(numbers)


def coinbase_objects() -> str:
    items = [
        {"start": str(at), "low": low, "high": h, "open": o, "close": c, "volume": v}
        for at, o, h, low, c, v in reversed(candles())
    ]
    return json.dumps({"candles": items})


def cryptodatadownload(unit: int = 1000, address: bool = True) -> str:
    rows = ["unix,date,symbol,open,high,low,close,Volume BTC,Volume USD"]
    rows += [
        f"{at * unit},2025-01-01 00:00:00,BTC/USD,{o},{h},{low},{c},{v},150"
        for at, o, h, low, c, v in reversed(candles())
    ]
    return "\n".join((["https://www.CryptoDataDownload.com"] if address else []) + rows)


SAMPLES: dict[str, tuple[str, Callable[[], str]]] = {
    "binance microseconds": ("binance", binance),
    "binance milliseconds": ("binance", lambda: binance(1000)),
    "binance with a header": ("binance", lambda: binance(header=True)),
    "kraken": ("kraken", kraken),
    "bitstamp json": ("bitstamp", bitstamp_json),
    "bitstamp csv": ("bitstamp", bitstamp_csv),
    "coinbase arrays": ("coinbase", coinbase_arrays),
    "coinbase objects": ("coinbase", coinbase_objects),
    "cryptodatadownload": ("cryptodatadownload", cryptodatadownload),
    "cryptodatadownload seconds": ("cryptodatadownload", lambda: cryptodatadownload(1, address=False)),
}


def imported(path: Path, *more: str) -> dict[str, Any]:
    out = StringIO()
    call_command("import-candles", str(path), "--json", *more, stdout=out)
    told: dict[str, Any] = json.loads(out.getvalue())
    return told


def expected() -> list[Bar]:
    from datetime import UTC, datetime

    return [Bar(datetime.fromtimestamp(at, UTC), *map(Decimal, numbers)) for at, *numbers in candles()]


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("packed", ["plain", "gzip", "zip", "mark and CRLF"])
def test_each_format_round_trips(tmp_path: Path, name: str, packed: str) -> None:
    _, sample = SAMPLES[name]
    path = tmp_path / "BTCUSD_5.csv"
    data = sample().encode()
    if packed == "gzip":
        data = gzip.compress(data)
    elif packed == "zip":
        held = io.BytesIO()
        with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("BTCUSDT-5m-2025-01.csv", data)
        data = held.getvalue()
    elif packed == "mark and CRLF":
        data = b"\xef\xbb\xbf" + data.replace(b"\n", b"\r\n")
    path.write_bytes(data)
    told = imported(path, "--out", str(tmp_path / "out"))
    assert (told["symbol"], told["bars"]) == ("BTC", 8)
    assert list(read_bars(Path(told["where"]))) == expected()


@pytest.mark.django_db
def test_candles_are_stored(tmp_path: Path) -> None:
    from maxxit.market.models import Candle

    path = tmp_path / "XBTUSD_5.csv"  # Kraken's name of Bitcoin, an alias in config/markets.yaml
    path.write_text(kraken())
    assert imported(path, "--store")["symbol"] == "BTC"
    assert Candle.objects.filter(symbol="BTC").count() == 8


def damaged(text: str, how: str) -> str:
    """The third row of a sample, spoiled."""
    _, h, low, c, v = (candles()[2][place] for place in range(1, 6))
    swaps = {
        "a price that is no number": (f"{c}", "abc"),
        "a price that is not finite": (f"{c}", "NaN" if "NaN" not in text else "Infinity"),
        "a negative price": (f"{low}", f"-{low}"),
        "a negative volume": (f"{v}", f"-{v}"),
        "a high below the low": (f"{h}", "1"),
    }
    old, new = swaps[how]
    rows = text.split("\n")
    place = next(number for number, row in enumerate(rows) if row.startswith(tuple(_times(text))))
    cells = rows[place].split(",")
    at = next(number for number, cell in enumerate(cells) if number and cell == old)
    cells[at] = new
    rows[place] = ",".join(cells)
    return "\n".join(rows)


def _times(text: str) -> list[str]:
    at = START + 600
    return [str(at), str(at * 1000), str(at * 1_000_000)]


CSV_SAMPLES = [name for name in SAMPLES if "coinbase" not in name and "json" not in name]
BAD_VALUES = [
    "a price that is no number",
    "a price that is not finite",
    "a negative price",
    "a negative volume",
    "a high below the low",
]


@pytest.mark.parametrize("name", CSV_SAMPLES)
@pytest.mark.parametrize("how", BAD_VALUES)
def test_a_bad_value_is_refused_with_file_and_line(tmp_path: Path, name: str, how: str) -> None:
    refused(tmp_path, damaged(SAMPLES[name][1](), how), SAMPLES[name][0], r":\d+: ")


@pytest.mark.parametrize("name", ["bitstamp json", "coinbase objects"])
@pytest.mark.parametrize("how", BAD_VALUES)
def test_a_bad_value_in_json_is_refused_with_its_place(tmp_path: Path, name: str, how: str) -> None:
    found = json.loads(SAMPLES[name][1]())
    item = (found["candles"] if "candles" in found else found["data"]["ohlc"])[2]
    key, value = {
        "a price that is no number": ("close", "abc"),
        "a price that is not finite": ("close", "NaN"),
        "a negative price": ("low", "-1"),
        "a negative volume": ("volume", "-1"),
        "a high below the low": ("high", "1"),
    }[how]
    item[key] = value
    refused(tmp_path, json.dumps(found), SAMPLES[name][0], ":3: ")


def refused(tmp_path: Path, text: str | bytes, name: str, why: str) -> None:
    path = tmp_path / "BTCUSD_5.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(CommandError, match=str(path) + why):
        imported(path, "--format", name, "--out", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", SAMPLES)
def test_damage_of_the_whole_file_is_refused(tmp_path: Path, name: str) -> None:
    form, sample = SAMPLES[name]
    text = sample()
    refused(tmp_path, gzip.compress(text.encode())[:-9], form, r":\d+: the compressed data is damaged")
    refused(tmp_path, text.encode().replace(b"0", b"\xff", 1), form, r":\d+: not UTF-8")
    refused(tmp_path, "", form, "")
    unit = next(one for one in (1_000_000, 1000, 1) if str(START * one) in text)
    refused(tmp_path, text.replace(str((START + 600) * unit), "12345"), form, r":\d+: the open time '12345'")
    wide = text
    for place in reversed(range(8)):
        wide = wide.replace(str((START + 300 * place) * unit), str((START + 3600 * place) * unit))
    if "bitstamp csv" not in name:
        refused(tmp_path, wide, form, r":\d+: its candles are 1:00:00 apart")


@pytest.mark.parametrize("name", CSV_SAMPLES)
def test_a_row_that_is_cut_off_is_refused(tmp_path: Path, name: str) -> None:
    form, sample = SAMPLES[name]
    rows = sample().strip().split("\n")
    refused(tmp_path, "\n".join([*rows[:-1], rows[-1][:20]]), form, rf":{len(rows)}: ")


def test_a_row_that_ends_before_the_columns_of_the_header_is_refused(tmp_path: Path) -> None:
    form, sample = SAMPLES["bitstamp csv"]
    refused(
        tmp_path,
        sample().replace("Volume_(BTC),", "A,B,C,Volume_(BTC),", 1),
        form,
        r":2: 8 fields, at least 9 expected",
    )


@pytest.mark.parametrize("name", CSV_SAMPLES)
def test_a_row_that_contradicts_another_is_refused(tmp_path: Path, name: str) -> None:
    form, sample = SAMPLES[name]
    rows = sample().strip().split("\n")
    again = rows[-1].replace(",1.5,", ",7,").replace(",0,0,", ",8,8,")
    assert again != rows[-1]
    refused(
        tmp_path,
        "\n".join([*rows, again]),
        form,
        rf":{len(rows) + 1}: candle .* contradicts line {len(rows)}",
    )


@pytest.mark.parametrize("name", CSV_SAMPLES)
def test_input_that_python_cannot_parse_is_refused_with_file_and_line(tmp_path: Path, name: str) -> None:
    form, sample = SAMPLES[name]
    text = sample()
    digits = re.search(r"\d{10,}", text)
    assert digits
    refused(tmp_path, text.replace(digits[0], "9" * 5000, 1), form, r":\d+: the open time '9+'")
    rows = text.strip().split("\n")
    refused(
        tmp_path,
        "\n".join([*rows, "9" * 140_000]),
        form,
        rf":{len(rows) + 1}: 1 fields, at least \d expected",
    )


def test_an_unknown_format_and_an_unknown_token_are_named(tmp_path: Path) -> None:
    path = tmp_path / "prices.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(CommandError, match=r"names no single token of .*: give --symbol, one of BTC"):
        imported(path, "--out", str(tmp_path / "out"))
    with pytest.raises(CommandError, match="its format is not recognised: give --format, one of binance"):
        imported(path, "--symbol", "BTC", "--out", str(tmp_path / "out"))
    with pytest.raises(CommandError, match="no such file"):
        imported(tmp_path / "none.csv", "--out", str(tmp_path / "out"))
