"""Validation of replay inputs: errors before the start, and warnings."""

import codecs
import gzip
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from maxxit.core import config, data_folder
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
        ((), r"posts\.jsonl is empty: each line must be a JSON object with the strings id, username"),
        (
            (post(text=""),),
            r"has no usable post: line 1: 'text' must be a non-empty string\. Each line must be",
        ),
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


GOOD = json.dumps(post()).encode()
HEAD = ",".join(HEADER).encode()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is empty: each line must be"),
        (b"\n \n\n", "is empty: each line must be"),
        (b"\x00" * 500, "line 1: not JSON"),
        (bytes(range(128, 256)), "line 1: not UTF-8 from byte 1 on"),
        (GOOD.decode().encode("utf-16"), "line 1: UTF-16, not UTF-8: save the file as UTF-8"),
        (
            b'{"a": 1}\n[]\n"x"\n1\n',
            r"line 1: 'id' must be .*; line 2: not a JSON object; line 3: .*; and 1 more lines",
        ),
        (b"[" * 100_000, "line 1: not JSON: nested too deep"),
        (b"[" + GOOD + b"]", "line 1: not a JSON object"),
        (
            b"id,username,created_at,text\n1,a,2025-01-01,x",
            r"line 1: not JSON.*`manage\.py posts import` makes",
        ),
        (gzip.compress(GOOD)[:20], r"posts\.jsonl:1: the compressed data is damaged"),
    ],
    ids=["empty", "blank", "nul", "binary", "utf-16", "fieldless", "deep", "array", "csv", "cut gzip"],
)
def test_a_file_without_a_post_is_exit_code_2_with_the_lines(
    tmp_path: Path, content: bytes, why: str
) -> None:
    candle_file(tmp_path, "BTC")
    path = tmp_path / "posts.jsonl"
    path.write_bytes(content)
    with pytest.raises(CommandError, match=why) as error, inputs.wrong_input():
        inputs.read_inputs(path, tmp_path, START, END)
    assert error.value.returncode == 2


@pytest.mark.parametrize(
    "content",
    [
        codecs.BOM_UTF8 + GOOD, GOOD + b"\r\n", gzip.compress(GOOD), b"{bad\n" + GOOD, b"\x00\n" + GOOD,
        b'{"id": "9", "text": "' + b"x" * 5_000_000 + b'"}\n' + GOOD, "caf\u00e9\n".encode("latin-1") + GOOD,
    ],
    ids=["bom", "crlf", "gzip", "bad line", "nul line", "huge line", "latin-1 line"],
)  # fmt: skip
def test_a_post_among_bad_lines_is_read_and_they_are_counted(tmp_path: Path, content: bytes) -> None:
    candle_file(tmp_path, "BTC")
    path = tmp_path / "posts.jsonl"
    path.write_bytes(content)
    read = inputs.read_inputs(path, tmp_path, START, END)
    bad = b"\n" in content.rstrip() and not content.startswith(b"\x1f")
    assert (len(read.posts), read.refused.total()) == (1, int(bad))
    assert all(place.startswith(f"{path}:1: ") for place in read.refused_at)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (
            b"",
            r"BTC-USD-5m\.csv:1: the file is empty or begins with an empty line: its header must be open_time_ms",
        ),
        (HEAD + b"\n", r"no candle after the header of candles-BTC-USD-5m\.csv"),
        (b"a,b,c\n1,2,3\n", r"csv:1: the header must be open_time_ms,.*, not 'a,b,c'"),
        (bytes(range(128, 256)), r"csv:1: not UTF-8: .*\. Save the file as UTF-8"),
        (HEAD.decode().encode("utf-16"), r"csv:1: UTF-16, not UTF-8\. Save the file as UTF-8"),
        (HEAD + b"\n1735689600000,1,1,1,abc,1\n", r"csv:2: not a bar: '1735689600000,1,1,1,abc,1'"),
        (HEAD + b"\n1735689600000,1,1\n", "csv:2: not a bar"),
        (HEAD + b"\n" + b"\x00" * 20 + b"\n", "csv:2: not a bar"),
        (HEAD + b"\n1735689600000,1,1,1,-1,1\n", "csv:2: a price is not positive"),
        (HEAD + b"\n1735689600000,1,1,1,nan,1\n", "csv:2: a number is not finite"),
        (gzip.compress(HEAD + b"\n" * 5000)[:25], "the compressed data is damaged"),
    ],
    ids=[
        "empty",
        "header",
        "fieldless",
        "binary",
        "utf-16",
        "text",
        "short",
        "nul",
        "negative",
        "nan",
        "cut gzip",
    ],
)
def test_candles_that_cannot_be_read_are_exit_code_2_with_file_and_line(
    tmp_path: Path, content: bytes, why: str
) -> None:
    (tmp_path / "candles-BTC-USD-5m.csv").write_bytes(content)
    with pytest.raises(CommandError, match=why) as error, inputs.wrong_input():
        inputs.read_inputs(post_file(tmp_path, post()), tmp_path, START, END)
    assert error.value.returncode == 2


def test_a_folder_or_a_file_without_permission_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "candles-BTC-USD-5m.csv"
    folder.mkdir()
    with (
        pytest.raises(CommandError, match=rf"{folder} cannot be read: Is a directory") as error,
        inputs.wrong_input(),
    ):
        inputs.read_inputs(post_file(tmp_path, post()), tmp_path, START, END)
    assert error.value.returncode == 2

    def forbidden(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", "posts.jsonl")

    monkeypatch.setattr(Path, "open", forbidden)
    with (
        pytest.raises(CommandError, match=r"posts\.jsonl cannot be read: Permission denied"),
        inputs.wrong_input(),
    ):
        inputs.read_inputs(tmp_path / "posts.jsonl", tmp_path, START, END)


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


def test_a_data_folder_stands_for_posts_and_candles(tmp_path: Path) -> None:
    options = {"data": tmp_path, "posts": None, "candles": None}
    assert inputs.of_data_folder(options | {"data": None}) == options | {"data": None}
    with pytest.raises(Misconfigured, match=r"has no manifest\.json"):
        inputs.of_data_folder(options)
    (tmp_path / "posts.jsonl").write_text("x")
    entry = data_folder.Entry("posts", data_folder.sha256(tmp_path / "posts.jsonl"), 1, "", "")
    data_folder.write(tmp_path, {"posts.jsonl": entry})
    found = inputs.of_data_folder(options)
    assert (found["posts"], found["candles"]) == (tmp_path / "posts.jsonl", tmp_path)
    assert inputs.of_data_folder(options | {"posts": Path("p"), "candles": Path("c")})["posts"] == Path("p")
    (tmp_path / "posts.jsonl").write_text("y")
    with pytest.raises(Misconfigured, match="was changed after its import"):
        inputs.of_data_folder(options)
    data_folder.write(tmp_path, {})
    with pytest.raises(Misconfigured, match="has no posts: import some"):
        inputs.of_data_folder(options)
