"""`manage.py posts`: files of public formats become the posts of a data folder; a bad entry costs only itself."""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maxxit.core import data_folder
from maxxit.core.errors import Misconfigured
from signals_app.importers import IMPORTERS
from signals_app.importers.base import Record, read
from signals_app.post_import import format_of, import_posts
from signals_app.sources.base import RawPost
from signals_app.sources.jsonl import JsonlSource
from tests.signals_app.test_importers import POSTS, SAMPLES

AT = datetime(2017, 12, 6, 12, tzinfo=UTC)
EPOCH = int(AT.timestamp())


def snowflake(at: datetime, number: int = 0) -> str:
    """An id that X would give at a time."""
    return str(((int(at.timestamp() * 1000) - 1_288_834_974_657) << 22) + number)


FIRST, LATER = snowflake(AT), snowflake(AT + timedelta(minutes=20))


def page(*posts: dict[str, Any], users: Sequence[tuple[str, str]] = (("7", "alice"),)) -> dict[str, Any]:
    """A page as X's API v2 gives it (https://docs.x.com/x-api/posts/user-posts-timeline-by-user-id)."""
    made = [
        {"author_id": "7", "created_at": f"{AT:%Y-%m-%dT%H:%M:%S}.000Z", "lang": "en",
         "edit_history_tweet_ids": [one["id"]], **one}
        for one in posts
    ]  # fmt: skip
    return {
        "data": made,
        "includes": {"users": [{"id": number, "username": name, "name": name} for number, name in users]},
        "meta": {"result_count": len(made), "newest_id": FIRST, "oldest_id": FIRST},
    }


def chat(*messages: dict[str, Any], kind: str = "public_channel") -> dict[str, Any]:
    """An export of one chat (https://core.telegram.org/import-export)."""
    made = [
        {"id": number, "type": "message", "date": "2017-12-06T13:00:00", "date_unixtime": str(EPOCH),
         "from": "Crypto Calls!", "from_id": "channel1234567890", "text_entities": [], **one}
        for number, one in enumerate(messages, start=1)
    ]  # fmt: skip
    return {"name": "Crypto Calls!", "type": kind, "id": 1234567890, "messages": made}


def run(*words: str) -> Any:
    out, code = StringIO(), 0
    try:
        call_command("posts", *words, "--json", stdout=out)
    except SystemExit as error:
        code = int(str(error.code))
    found = json.loads(out.getvalue())
    return {**found, "code": code}


def written(folder: Path, name: str, value: Any) -> Path:
    path = folder / name
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def imported(folder: Path, *paths: Path, words: Sequence[str] = ()) -> Any:
    return run("import", *map(str, paths), "--into", str(folder), *words)


def posts_in(folder: Path) -> list[RawPost]:
    posts, refused = JsonlSource([str(folder / "posts.jsonl")]).everything()
    assert refused == []
    return sorted(posts, key=lambda one: (one.posted_at, one.post_id))


@pytest.mark.parametrize("name", SAMPLES)
def test_each_format_comes_into_the_data_folder(tmp_path: Path, name: str) -> None:
    form, sample = SAMPLES[name]
    told = imported(
        tmp_path / "DATA", written(tmp_path, "posts.any", sample(POSTS)), words=["--username", "@alice"]
    )
    assert (told["posts"], told["accounts"], told["files"][0]["format"]) == (3, 1, form)
    assert [(one.post_id, one.username, one.text) for one in posts_in(tmp_path / "DATA")] == [
        (one["id"], "alice", one["text"]) for one in POSTS
    ]
    entry = data_folder.read(tmp_path / "DATA")["posts.jsonl"]
    assert (entry.rows, entry.accounts, entry.begins) == (3, 1, AT.isoformat())
    assert [(one.format, one.rows) for one in entry.sources] == [(form, 3)]
    assert run("verify", str(tmp_path / "DATA"))["problems"] == []


def pages(form: str) -> str:
    found = [page({"id": FIRST, "text": "Buying $BTC"}), page({"id": LATER, "text": "Longing $ETH", "author_id": "8"},
             users=[("8", "bob")]), {"meta": {"result_count": 0}}]  # fmt: skip
    if form == "lines":
        return "\n".join(map(json.dumps, found))
    return json.dumps(found if form == "list" else found[0], indent=1 if form == "indented" else None)


@pytest.mark.parametrize("form", ["one", "indented", "list", "lines"])
def test_pages_of_the_api_of_x(tmp_path: Path, form: str) -> None:
    path = written(tmp_path, "pages.json", pages(form))
    assert format_of(path) == "x-api"
    told = imported(tmp_path / "DATA", path)
    several = form in ("list", "lines")
    assert (told["posts"], told["accounts"]) == ((2, 2) if several else (1, 1))
    assert told["files"][0]["languages"] == {"en": told["posts"]}
    assert posts_in(tmp_path / "DATA")[0] == RawPost(FIRST, "alice", "Buying $BTC", AT)


def test_reposts_long_posts_and_posts_without_a_time_of_the_api_of_x(tmp_path: Path) -> None:
    path = written(
        tmp_path, "page.json",
        page(
            {"id": FIRST, "text": "short …", "note_tweet": {"text": "the whole text"}, "created_at": None},
            {"id": LATER, "text": "RT @bob: x", "referenced_tweets": [{"type": "retweeted", "id": "1"}]},
        ),
    )  # fmt: skip
    told = imported(tmp_path / "DATA", path)
    assert (told["posts"], told["files"][0]["skipped"]) == (1, 1)
    assert posts_in(tmp_path / "DATA") == [RawPost(FIRST, "alice", "the whole text", AT)]


def test_an_edit_counts_from_the_moment_when_it_was_written(tmp_path: Path) -> None:
    history = {"edit_history_tweet_ids": [FIRST, LATER]}
    both = page({"id": FIRST, "text": "Buying", **history}, {"id": LATER, "text": "Selling", **history})
    told = imported(tmp_path / "DATA", written(tmp_path, "page.json", both))
    assert (told["posts"], told["edits"], told["files"][0]["edits"]) == (2, 1, 1)
    assert posts_in(tmp_path / "DATA") == [
        RawPost(FIRST, "alice", "Buying", AT), RawPost(FIRST, "alice", "Selling", AT + timedelta(minutes=20)),
    ]  # fmt: skip
    alone = imported(
        tmp_path / "OTHER", written(tmp_path, "page.json", page({"id": LATER, "text": "Selling", **history}))
    )
    assert (alone["posts"], alone["edits"]) == (1, 0)
    assert posts_in(tmp_path / "OTHER")[0].posted_at == AT + timedelta(minutes=20)


def test_an_export_of_telegram(tmp_path: Path) -> None:
    path = written(
        tmp_path, "result.json",
        chat(
            {"text": "Buying $BTC"},
            {"text": ["Longing ", {"type": "cashtag", "text": "$ETH"}, " now"]},
            {"type": "service", "action": "pin_message", "text": ""},
            {"text": "of another channel", "forwarded_from": "Others"},
            {"text": "after the edit", "edited": "2017-12-06T14:00:00", "edited_unixtime": str(EPOCH + 3600)},
            {"text": "no time", "date_unixtime": None},
        ),
    )  # fmt: skip
    told = imported(tmp_path / "DATA", path)
    assert told["files"][0]["format"] == "telegram"
    assert (told["posts"], told["files"][0]["skipped"], told["files"][0]["rejected"]) == (3, 2, 1)
    assert "has no date_unixtime" in told["files"][0]["rejected_lines"][0]
    assert posts_in(tmp_path / "DATA") == [
        RawPost("tg-1001234567890/1", "Crypto_Calls", "Buying $BTC", AT),
        RawPost("tg-1001234567890/2", "Crypto_Calls", "Longing $ETH now", AT),
        RawPost("tg-1001234567890/5", "Crypto_Calls", "after the edit", AT + timedelta(hours=1)),
    ]


def test_an_export_of_all_chats_of_telegram(tmp_path: Path) -> None:
    whole = {"about": "Here is the data you requested.", "chats": {"about": "", "list": [
        chat({"text": "a"}), {**chat({"text": "b", "from": "Bob"}, kind="private_group"), "id": 5},
    ]}}  # fmt: skip
    told = imported(tmp_path / "DATA", written(tmp_path, "result.json", whole))
    assert told["files"][0]["format"] == "telegram"
    assert {one.username for one in posts_in(tmp_path / "DATA")} == {"Crypto_Calls", "Bob"}


def table(rows: Sequence[Sequence[str]]) -> str:
    out = io.StringIO()
    csv.writer(out).writerows(rows)
    return out.getvalue()


def test_a_table_with_other_names_is_read_by_column(tmp_path: Path) -> None:
    path = written(
        tmp_path, "t.csv", table([["no", "who", "body", "when"], ["1", "@bob", "Buying $BTC", str(EPOCH)]])
    )
    words = [f"--column={one}" for one in ("id=no", "username=who", "text=body", "created_at=When")]
    assert imported(tmp_path / "DATA", path, words=words)["posts"] == 1
    assert posts_in(tmp_path / "DATA") == [RawPost("1", "bob", "Buying $BTC", AT)]
    refused = imported(tmp_path / "OTHER", path, words=["--column=text=none"])["refused"]
    assert "t.csv:1: no column 'none'" in refused[0]
    with pytest.raises(CommandError, match="no field body: a column has one of id, username"):
        imported(tmp_path / "OTHER", path, words=["--column=body=text"])


def test_a_table_without_ids_gives_the_same_ones_again(tmp_path: Path) -> None:
    """The form of https://www.kaggle.com/datasets/kaushiksuresh147/bitcoin-tweets."""
    head = ["user_name", "user_location", "date", "text", "hashtags", "source", "is_retweet"]
    row = ["bob", "", "2017-12-06 12:00:00", "Buying #BTC", "['BTC']", "Twitter Web App", "False"]
    path = written(
        tmp_path, "tweets.csv", table([head, row, [*row[:3], "other", *row[4:]], [*row[:6], "True"], row])
    )
    told = imported(tmp_path / "DATA", path)
    assert (told["posts"], told["files"][0]["duplicates"], told["files"][0]["skipped"]) == (2, 1, 1)
    assert imported(tmp_path / "DATA", path)["posts"] == 2


def test_a_bad_entry_is_rejected_with_its_line_and_stops_no_other(tmp_path: Path) -> None:
    lines = [json.dumps(one) for one in POSTS]
    path = tmp_path / "posts.jsonl"
    path.write_bytes("\n".join([lines[0], "{", lines[1], "[1]", lines[2]]).encode() + b'\n{"id": "\xff"}')
    told = imported(tmp_path / "DATA", path)
    assert (told["posts"], told["code"]) == (3, 0)
    assert [one.split(": ")[0].rpartition(":")[2] for one in told["files"][0]["rejected_lines"]] == [
        "2",
        "4",
        "6",
    ]


def test_a_bad_row_of_csv_stops_no_other(tmp_path: Path) -> None:
    rows = [
        "id,username,created_at,text",
        f'1,a,{EPOCH},"good"',
        f'2,a,{EPOCH},"bad"x,',
        f"3,a,{EPOCH},good too",
    ]
    path = tmp_path / "posts.csv"
    path.write_bytes(
        "\n".join(rows).encode() + f"\n4,a,{EPOCH},".encode() + b"\xff\n" + f"5,a,{EPOCH},last".encode()
    )
    told = imported(tmp_path / "DATA", path)
    assert [one.post_id for one in posts_in(tmp_path / "DATA")] == ["1", "3", "5"]
    assert [one.partition("posts.csv:")[2][:12] for one in told["files"][0]["rejected_lines"]] == [
        "3: the row i", "5: not UTF-8",
    ]  # fmt: skip


def test_a_file_that_cannot_be_read_is_refused_alone_and_leaves_nothing(tmp_path: Path) -> None:
    good = written(tmp_path, "a.jsonl", SAMPLES["json lines"][1](POSTS[:1]))
    bad = written(tmp_path, "b.json", SAMPLES["json array"][1](POSTS[1:])[:-1])
    none = written(tmp_path, "c.csv", "x,y\n1,2\n")
    told = imported(tmp_path / "DATA", bad, good, none)
    assert (told["code"], told["posts"], len(told["refused"])) == (1, 1, 2)
    assert "b.json:1: not JSON" in told["refused"][0]
    assert "c.csv: unknown format" in told["refused"][1]
    assert [one.name for one in data_folder.read(tmp_path / "DATA")["posts.jsonl"].sources] == ["a.jsonl"]


def test_another_text_under_the_same_id_is_rejected(tmp_path: Path) -> None:
    path = written(tmp_path, "a.json", [*POSTS, POSTS[0], {**POSTS[0], "text": "another"}])
    told = imported(tmp_path / "DATA", path)["files"][0]
    assert (told["posts"], told["duplicates"], told["rejected"]) == (3, 1, 1)
    assert told["rejected_lines"][0].startswith(f"{path}:5: post {POSTS[0]['id']} has another text before")


def test_reposts_of_an_archive_of_x_are_skipped(tmp_path: Path) -> None:
    text = SAMPLES["x-archive"][1]([{**POSTS[0], "text": "RT @bob: buy"}, POSTS[2]])
    told = imported(tmp_path / "DATA", written(tmp_path, "tweets.js", text), words=["--username", "alice"])
    assert (told["posts"], told["files"][0]["skipped"]) == (1, 1)


def test_accounts_are_listed_page_by_page(tmp_path: Path) -> None:
    items = [
        {**POSTS[0], "id": str(n), "username": f"user{n % 3}", "lang": "en" if n % 2 else "de"}
        for n in range(7)
    ]
    imported(tmp_path / "DATA", written(tmp_path, "a.json", items))
    found = run("list", str(tmp_path / "DATA"), "--limit", "2")
    assert (found["accounts"], [(one["account"], one["posts"]) for one in found["page"]]) == (
        3, [("user0", 3), ("user1", 2)],
    )  # fmt: skip
    assert found["page"][0]["languages"] == {"de": 2, "en": 1}
    assert [one["account"] for one in run("list", str(tmp_path / "DATA"), "--offset", "2")["page"]] == [
        "user2"
    ]


def test_a_changed_post_file_is_found(tmp_path: Path) -> None:
    path = written(tmp_path, "a.json", POSTS)
    imported(tmp_path / "DATA", path)
    held = tmp_path / "DATA/posts.jsonl"
    held.write_text(held.read_text().replace("third", "fourth"))
    assert "posts.jsonl was changed after its import" in run("verify", str(tmp_path / "DATA"))["problems"][0]
    with pytest.raises(CommandError, match="was changed after its import"):
        imported(tmp_path / "DATA", path)
    written(tmp_path, "manifest.json", {"version": 1, "files": {}})
    with pytest.raises(CommandError, match="has no posts: import some"):
        run("list", str(tmp_path))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(data=st.data())
def test_posts_do_not_depend_on_the_order_of_files(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    texts = st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=30
    )
    made = {
        number: {
            "id": str(number), "username": data.draw(st.sampled_from(["alice", "Bob"])), "text": f"a{text}",
            "created_at": data.draw(st.integers(EPOCH, EPOCH + 5)),
        }
        for number, text in data.draw(st.dictionaries(st.integers(1, 10**19), texts, min_size=1, max_size=12)).items()
    }  # fmt: skip
    items = list(made.values())
    again = data.draw(st.permutations([*items, items[0]]))
    cut, where = data.draw(st.integers(0, len(again))), tmp_path_factory.mktemp("posts")
    paths = [written(where, "a.json", again[:cut]), written(where, "b.json", again[cut:])]
    import_posts(where, paths)
    wanted = sorted(items, key=lambda one: (one["created_at"], len(str(one["id"])), str(one["id"])))
    lines = [json.loads(line) for line in (where / "posts.jsonl").read_text().split("\n")[:-1]]
    assert [(one["id"], one["username"], one["text"]) for one in lines] == [
        (one["id"], one["username"], one["text"]) for one in wanted
    ]


def test_every_entry_of_a_page_or_chat_is_a_post_a_refusal_or_skipped(tmp_path: Path) -> None:
    spoiled = [
        {"data": "x"},
        {"data": [1, {"id": "x", "text": "a"}]},
        5,
        {"data": {"id": FIRST, "text": "one"}},
    ]
    path = written(tmp_path, "p.json", spoiled)
    found = list(read(IMPORTERS.open("x-api"), path, "alice"))
    assert [type(one).__name__ for one in found] == ["Refused", "Refused", "Refused", "Refused", "RawPost"]
    chats = written(
        tmp_path, "r.json", {"messages": [1, {"id": "x", "type": "message", "text": "a", "date_unixtime": 1}]}
    )
    assert [type(one).__name__ for one in read(IMPORTERS.open("telegram"), chats, "a")] == [
        "Refused",
        "Refused",
    ]


def paths_in(value: Any, before: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the path of every value within a JSON value, its own first."""
    yield before
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in inside:
        yield from paths_in(item, (*before, name))


def replaced(value: Any, path: Sequence[str | int], by: Any) -> Any:
    if not path:
        return by
    copy = value.copy()
    copy[path[0]] = replaced(value[path[0]], path[1:], by)
    return copy


WHOLE: dict[str, Any] = {
    "x-api": page(
        {"id": FIRST, "text": "a", "referenced_tweets": [{"type": "quoted", "id": "1"}], "note_tweet": {"text": "b"}},
        {"id": LATER, "text": "c", "edit_history_tweet_ids": [FIRST, LATER], "edited_unixtime": "1"},
    ),
    "telegram": {"chats": {"list": [chat({"text": ["a", {"type": "bold", "text": "b"}]}, {"text": "c"})]}},
}  # fmt: skip
OTHER = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(
    ["\ud800", [], {}, ["1"], [["1"]], [None], {"list": 5}, {"a": []}, 1.5, str(EPOCH)]
)  # fmt: skip


@pytest.mark.parametrize("form", WHOLE)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(data=st.data())
def test_a_value_of_any_other_type_is_refused_by_the_importer_itself(
    tmp_path: Path, form: str, data: st.DataObject
) -> None:
    path = data.draw(st.sampled_from(list(paths_in(WHOLE[form]))))
    file = written(tmp_path, "spoiled.json", json.dumps(replaced(WHOLE[form], path, data.draw(OTHER))))
    importer = IMPORTERS.open(form)
    for record in importer.records(file):
        with suppress(ValueError):
            importer.post(record.value, "alice")


@pytest.mark.parametrize(
    ("name", "spoiled", "why"),
    [
        ("reference", {"referenced_tweets": 5}, "referenced_tweets is not a list"),
        ("author", {"author_id": ["1"]}, "the author is missing"),
    ],
)
def test_a_field_of_another_type_costs_only_its_post(
    tmp_path: Path, name: str, spoiled: dict[str, Any], why: str
) -> None:
    path = written(
        tmp_path,
        "page.json",
        page({"id": FIRST, "text": "spoiled", **spoiled}, {"id": LATER, "text": "good"}),
    )
    told = imported(tmp_path / "DATA", path)
    assert (told["posts"], told["code"], told["files"][0]["rejected"]) == (1, 0, 1)
    assert why in told["files"][0]["rejected_lines"][0]
    assert [one.text for one in posts_in(tmp_path / "DATA")] == ["good"]


def test_chats_that_are_no_list_cost_only_their_file(tmp_path: Path) -> None:
    bad = written(tmp_path, "result.json", {"about": "", "chats": {"list": 5}})
    told = imported(tmp_path / "DATA", bad, written(tmp_path, "good.json", POSTS))
    assert (told["posts"], told["code"]) == (3, 1)
    assert "result.json:1: the export has no list `chats.list`" in told["refused"][0]


@pytest.mark.parametrize("language", ["\ud800", "дe", 5])
def test_a_language_that_is_none_is_left_out(tmp_path: Path, language: Any) -> None:
    path = written(tmp_path, "a.json", [{**POSTS[0], "lang": language}, {**POSTS[1], "lang": "en"}])
    told = imported(tmp_path / "DATA", path)
    assert (told["posts"], told["files"][0]["languages"]) == (2, {"unknown": 1, "en": 1})


def test_a_language_that_is_none_in_the_folder_stops_no_import_and_no_list(tmp_path: Path) -> None:
    (tmp_path / "DATA").mkdir()
    written(
        tmp_path / "DATA",
        "posts.jsonl",
        json.dumps({**POSTS[0], "username": "alice", "lang": "\ud800"}) + "\n",
    )
    assert imported(tmp_path / "DATA", written(tmp_path, "a.json", POSTS[1:]))["posts"] == 3
    (account,) = run("list", str(tmp_path / "DATA"))["page"]
    assert account["languages"] == {"unknown": 3}


class Careless:
    """An importer that looks at no types."""

    def sniff(self, head: str) -> bool:
        return True

    def records(self, path: Path) -> Iterator[Record]:
        for place, item in enumerate(json.loads(path.read_text())["posts"], start=1):
            yield Record(f"{path}:{place}", item)

    def post(self, value: Any, username: str) -> RawPost | None:
        return RawPost(value["id"].strip(), username, value["text"], AT)


def test_what_an_importer_does_not_look_at_costs_only_its_entry_or_its_file(tmp_path: Path) -> None:
    path = written(tmp_path, "a.json", {"posts": [{"id": 5, "text": "a"}, 5, {"id": "1", "text": "b"}]})
    found = list(read(Careless(), path, "alice"))
    assert [type(one).__name__ for one in found] == ["Refused", "Refused", "RawPost"]
    written(tmp_path, "a.json", {"posts": 5})
    with pytest.raises(Misconfigured, match=r"a\.json: its entries are not of the expected types"):
        list(read(Careless(), path, "alice"))
