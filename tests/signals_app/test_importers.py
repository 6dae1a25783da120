"""Importers of post files: every format round-trips, and damaged files are refused with file, line and reason."""

import csv
import gzip
import io
import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from signals_app.importers import IMPORTERS
from signals_app.importers.base import read
from signals_app.sources.base import RawPost, Refused
from signals_app.sources.jsonl import JsonlSource, parse

Posts = list[dict[str, str]]
TWITTER = {"2017-12-06T12:00:00+00:00": "Wed Dec 06 12:00:00 +0000 2017"}
AT = "2017-12-06T12:00:00+00:00"
POSTS: Posts = [
    {"id": "938392894800000001", "username": "alice", "created_at": AT, "text": "Buying $BTC, target 20k"},
    {"id": "938392894800000002", "username": "alice", "created_at": AT, "text": 'two\nlines, "quoted" ü 🚀'},
    {"id": "938392894800000003", "username": "alice", "created_at": AT, "text": "third"},
]
EPOCH = 1_512_561_600


def x_archive(posts: Posts) -> str:
    items = [
        {"tweet": {"id_str": p["id"], "id": p["id"], "full_text": p["text"], "created_at": TWITTER[AT]}}
        for p in posts
    ]
    return "window.YTD.tweets.part0 = " + json.dumps(items)


def twscrape(posts: Posts) -> str:
    return "\n".join(
        json.dumps(
            {
                "id": int(p["id"]), "id_str": p["id"], "url": "https://x.com", "date": "2017-12-06 12:00:00+00:00",
                "user": {"id": 1, "username": p["username"]}, "rawContent": p["text"], "retweetedTweet": None,
            }
        )
        for p in posts
    )  # fmt: skip


def snscrape(posts: Posts) -> str:
    return "\n".join(
        json.dumps(
            {
                "_type": "snscrape.modules.twitter.Tweet", "id": int(p["id"]), "date": "2017-12-06T12:00:00+00:00",
                "user": {"_type": "snscrape.modules.twitter.User", "username": p["username"]}, "content": p["text"],
            }
        )
        for p in posts
    )  # fmt: skip


def apify(posts: Posts) -> str:
    return json.dumps(
        [
            {
                "type": "tweet", "id": p["id"], "text": p["text"][:5], "fullText": p["text"],
                "createdAt": TWITTER[AT], "author": {"userName": p["username"]},
            }
            for p in posts
        ]
    )  # fmt: skip


def plain_csv(posts: Posts) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["tweet_id", "screen_name", "timestamp", "content"])
    writer.writerows([p["id"], p["username"], EPOCH, p["text"]] for p in posts)
    return out.getvalue()


def json_array(posts: Posts) -> str:
    return json.dumps([{**p, "created_at": EPOCH * 1000} for p in posts])


def json_lines(posts: Posts) -> str:
    return "\n".join(json.dumps(p) for p in posts)


SAMPLES: dict[str, tuple[str, Callable[[Posts], str]]] = {
    "x-archive": ("x-archive", x_archive),
    "twscrape": ("twscrape", twscrape),
    "snscrape": ("snscrape", snscrape),
    "apify": ("apify", apify),
    "csv": ("csv", plain_csv),
    "json array": ("json", json_array),
    "json lines": ("json", json_lines),
}


def written(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "posts.any"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def imported(path: Path, *more: str) -> dict[str, Any]:
    out = StringIO()
    target = str(path.parent / "out.jsonl")
    call_command(
        "import-posts", str(path), "--out", target, "--json", "--username", "@alice", *more, stdout=out
    )
    told: dict[str, Any] = json.loads(out.getvalue())
    return told


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("packed", ["plain", "gzip", "mark and CRLF"])
def test_each_format_round_trips(tmp_path: Path, name: str, packed: str) -> None:
    data = SAMPLES[name][1](POSTS).encode()
    if packed == "gzip":
        data = gzip.compress(data)
    elif packed == "mark and CRLF" and name != "csv":  # a line break within a CSV field is part of the text
        data = b"\xef\xbb\xbf" + data.replace(b"\n", b"\r\n")
    told = imported(written(tmp_path, data))
    assert (told["posts"], told["refused"], told["authors"]) == (3, 0, ["alice"])
    lines = (tmp_path / "out.jsonl").read_bytes().splitlines()
    assert [parse(line) for line in lines] == [
        RawPost(p["id"], p["username"], p["text"], parse(json.dumps(p).encode()).posted_at)  # type: ignore[union-attr]
        for p in POSTS
    ]
    assert JsonlSource([told["out"]]).usernames() == {"alice"}


@pytest.mark.parametrize("name", SAMPLES)
def test_read_plus_refused_is_present(tmp_path: Path, name: str) -> None:
    """One bad entry never stops the others, and it is named with its place."""
    form, sample = SAMPLES[name]
    spoiled = [POSTS[0], {**POSTS[1], "text": ""}, POSTS[2]]
    path = written(tmp_path, sample(spoiled))
    found = list(read(IMPORTERS.open(form), path, "alice"))
    (bad,) = [one for one in found if isinstance(one, Refused)]
    assert len(found) == 3
    assert bad.reason == "the text is empty"
    assert bad.place in (f"{path}:2", f"{path}:3")  # a CSV row after a header


BAD = {
    "an id that lost digits": ({"id": "9.38e17"}, "the id is not a whole number"),
    "an id of letters": ({"id": "abc"}, "the id is not a whole number"),
    "an empty text": ({"text": "  "}, "the text is empty"),
    "a NUL": ({"text": "a\0b"}, "a field contains a NUL character"),
    "a text that is too long": ({"text": "x" * 25_001}, "a field is too long"),
    "an author that is too long": ({"username": "a" * 51}, "a field is too long"),
}


@pytest.mark.parametrize("name", ["csv", "json array", "json lines"])
@pytest.mark.parametrize("how", BAD)
def test_a_bad_value_is_refused_with_its_place(tmp_path: Path, name: str, how: str) -> None:
    form, sample = SAMPLES[name]
    change, why = BAD[how]
    path = written(tmp_path, sample([POSTS[0], {**POSTS[2], **change}]))
    found = list(read(IMPORTERS.open(form), path, "alice"))
    (bad,) = [one for one in found if isinstance(one, Refused)]
    assert bad.reason.startswith(why)
    assert bad.place in (f"{path}:2", f"{path}:3")
    told = imported(path)
    assert (told["posts"], told["refused"], told["reasons"]) == (1, 1, {bad.reason: 1})


@pytest.mark.parametrize(
    ("at", "good"),
    [
        ("Wed Dec 06 12:00:00 +0000 2017", True),
        ("2017-12-06T13:00:00+01:00", True),
        ("2017-12-06 12:00:00", True),
        (EPOCH, True),
        (EPOCH * 1000, True),
        (EPOCH * 1_000_000, True),
        (str(EPOCH), True),
        ("yesterday", False),
        (17, False),
        (None, False),
        (True, False),
        ("0001-01-01T00:00:00+23:00", False),
    ],
)
def test_times_in_every_form(tmp_path: Path, at: Any, good: bool) -> None:
    path = written(tmp_path, json.dumps([{**POSTS[0], "created_at": at}]))
    (found,) = read(IMPORTERS.open("json"), path, "")
    if good:
        assert isinstance(found, RawPost)
        assert found.posted_at.isoformat() == AT
    else:
        assert isinstance(found, Refused)
        assert "time" in found.reason


def test_reposts_are_passed_over(tmp_path: Path) -> None:
    again = json.loads(twscrape(POSTS[:1])) | {"retweetedTweet": {"id": 1}}
    assert list(read(IMPORTERS.open("twscrape"), written(tmp_path, json.dumps(again)), "")) == []


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", r"posts\.any is empty"),
        ("a,b\n1,2\n", "unknown format"),
        ('[{"id": "1", "text": ', r"posts\.any:1: not JSON"),
        ("id,text,created_at\n", "no usable post .* it has no entries"),
        ("id,text,created_at\n1,hello\n", r"no usable post .*:2: 2 fields instead of 3"),
        ('id,text,created_at\n1,"never ends\n', r"posts\.any:2: the row is not valid CSV"),
        ("id,text,created_at," + "x" * 140_000, r"posts\.any:1: the header is not valid CSV"),
        ("id,text\n1,hello\n", r"posts\.any:1: the header needs a column for text and time"),
        ("[1, 2]", r"no usable post .*:1: the entry is not an object"),
        ('{"id": "1"}\n{]', "no usable post .*:1: the text is empty"),
        (b'{"id": "1", "text": "\xff"}', r"posts\.any:1: not UTF-8"),
        (gzip.compress(json_lines(POSTS).encode())[:-9], "the compressed data is damaged"),
        ("[" * 100_000, "not JSON: nested too deep"),
    ],
)
def test_a_file_without_a_usable_post_is_an_error_and_writes_nothing(
    tmp_path: Path, text: str | bytes, why: str
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(CommandError, match=why):
        imported(path)
    assert not (tmp_path / "out.jsonl").exists()
