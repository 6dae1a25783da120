"""RSS and Atom: formats of public feeds, conditional requests, and documents that are hostile or no feed."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from maxxit.core import egress
from maxxit.core.errors import Misconfigured, Rejected, Retryable
from signals_app.ingest import ingest
from signals_app.models import CtPost, RejectedPost
from signals_app.sources.base import Cursor, RawPost
from signals_app.sources.rss import MAX_ENTRIES, RssSource, parse
from tests import builders as make
from tests.builders import T0, RecordedClock
from tests.signals_app.feeds import ATOM, RSS, FeedServer, feed_server, written

FEEDS = Path(__file__).resolve().parents[1] / "fixtures" / "feeds"
DAY = datetime(2017, 12, 6, tzinfo=UTC)


@pytest.fixture
def server() -> Iterator[FeedServer]:
    with feed_server() as running:
        yield running


def source(server: FeedServer, **options: int) -> RssSource:
    return RssSource(feeds={"news": server.url()}, rules=server.rules, **options)


def of_file(name: str, encoding: str = "utf-8") -> list[RawPost]:
    """The posts of a feed, whose document is sent in `encoding`, as it declares."""
    body = (FEEDS / name).read_text().encode(encoding)
    page = egress.Page("https://feeds.example.org/f", "text/xml", "", body)
    return list(parse("news", "https://feeds.example.org/f", page).posts)


def test_rss_2_with_media_and_two_bodies() -> None:
    first, second = of_file("arc-rss2.xml")

    assert first.text == "Bitcoin Holds Above $12K as Futures Near\nTraders are long $BTC & short the dollar."
    assert first.posted_at == DAY + timedelta(hours=12, minutes=30)
    assert first.link.startswith(
        "https://news.example.org/markets/2017/12/06/bitcoin-holds/?utm_medium=referral&"
    )
    assert (second.text, second.link) == ("In the zone of New York", "")
    assert second.posted_at == DAY + timedelta(hours=12, minutes=45)


def test_atom_with_xhtml_and_several_links() -> None:
    second, first = of_file("blog-atom.xml")

    assert first.text == "Mainnet upgrade & what it means\nThe upgrade is live.\n$ETH fees fall."
    assert (first.posted_at, first.link) == (DAY + timedelta(hours=10), "https://blog.example.org/upgrade")
    assert second.text == "Only updated\nA summary."
    assert second.posted_at == datetime(2017, 12, 5, 8, 0, 0, 250_000, tzinfo=UTC)


def test_rss_1_in_latin_letters() -> None:
    [post] = of_file("rdf-rss1.xml", "latin-1")

    assert post.text == "Rates unchanged\nThe council keeps the rate, says Grün."
    assert post.posted_at == DAY + timedelta(hours=12, minutes=15)


def test_an_id_is_of_its_feed_and_can_be_stored() -> None:
    body = written(RSS, ("7", T0, "one"), ("7", T0, "one"), ("8", T0, "two"))
    here, there = (
        parse("news", url, egress.Page(url, "text/xml", "", body)).posts
        for url in ("https://a.example.org/f", "https://b.example.org/f")
    )

    assert len({post.post_id for post in (*here, *there)}) == 4
    assert all(len(post.post_id) == 40 for post in here)


def test_an_unchanged_feed_is_not_sent_again_and_loses_nothing(
    server: FeedServer, time: RecordedClock
) -> None:
    server.feeds["/feed"] = written(RSS, ("1", T0, "buying $BTC"))
    feed = source(server)
    first, again = (list(feed.fetch("news", Cursor())) for _ in range(2))
    server.feeds["/feed"] = written(RSS, ("2", T0, "selling $BTC"), ("1", T0, "buying $BTC"))
    changed = list(feed.fetch("News", Cursor("x", T0)))

    assert first == again
    assert {post.text for post in changed} == {"buying $BTC", "selling $BTC"}
    assert ["if-none-match" in asked for asked in server.asked] == [False, True, True]


def test_the_first_reading_takes_the_newest_and_an_entry_of_tomorrow_waits(
    server: FeedServer, time: RecordedClock
) -> None:
    entries = [(str(number), T0 - timedelta(minutes=number), f"post {number}") for number in range(40)]
    server.feeds["/feed"] = written(ATOM, ("soon", T0 + timedelta(hours=2), "embargoed"), *entries)
    feed = source(server, posts_per_feed=3)

    assert [post.text for post in feed.fetch("news", Cursor())] == ["post 2", "post 1", "post 0"]
    assert len(list(feed.fetch("news", Cursor("1", T0)))) == 40
    time.move(hours=3)
    assert list(feed.fetch("news", Cursor("1", T0)))[-1].text == "embargoed"


BOMB = b'<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><rss><channel/></rss>'
FILE = b'<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]><rss><channel><item>&x;</item></channel></rss>'


@pytest.mark.parametrize(
    "body",
    [
        b"<html><body>Not found</body></html>",
        b"<rss><channel>",
        b"/etc/passwd",
        b"{}",
        BOMB,
        FILE,
        b"\xff\xfe\x00",
    ],
    ids=["html", "cut off", "a path", "json", "entities", "external entity", "binary"],
)
def test_a_document_that_is_no_feed_is_refused(server: FeedServer, body: bytes) -> None:
    server.feeds["/feed"] = body
    with pytest.raises(Rejected) as refused:
        list(source(server).fetch("news", Cursor()))

    assert refused.value.code == "no_feed"


DEEP = b"<b>" * 20_000 + b"deep" + b"</b>" * 20_000
DATED = b"<title>buy $BTC</title><pubDate>Mon, 02 Mar 2026 10:00:00 GMT</pubDate>"


def parsed(body: bytes) -> tuple[list[RawPost], list[str]]:
    read = parse("news", "https://a.example.org/", egress.Page("", "", "", body))
    return list(read.posts), [one.reason for one in read.refused]


def test_entries_that_are_nested_a_thousand_deep_hide_no_other() -> None:
    good, undated = b"<item>" + DATED + b"</item>", b"<item><title>no time</title>" + DEEP + b"</item>"
    posts, refused = parsed(b"<rss><channel>" + undated + good + b"</channel></rss>")
    assert [post.text for post in posts] == ["buy $BTC"]
    assert "no time" in refused[0]

    xhtml = b'<entry><content type="xhtml"><div>' + DEEP + b"</div></content>"
    xhtml += b"<updated>2026-03-02T10:00:00Z</updated></entry>"
    [post], _ = parsed(b"<feed>" + xhtml + b"</feed>")
    assert post.text == "deep"


def test_an_entry_of_the_first_year_is_refused(server: FeedServer, time: RecordedClock) -> None:
    old = b"<item><title>old</title><pubDate>0001-01-01T00:00:00Z</pubDate></item>"
    server.feeds["/feed"] = b"<rss><channel>" + old + b"<item>" + DATED + b"</item></channel></rss>"
    feed = source(server)
    assert [post.text for post in feed.fetch("news", Cursor())] == ["buy $BTC"]
    assert "is before 1990: 0001-01-01" in next(iter(feed.refused())).reason

    first = datetime(1, 1, 1, tzinfo=UTC)  # stored before such entries were refused
    assert [post.text for post in feed.fetch("news", Cursor("1", first))] == ["buy $BTC"]


def test_a_huge_feed_is_read_as_far_as_the_limit(time: RecordedClock) -> None:
    body = written(RSS, *((str(number), T0, f"post {number}") for number in range(MAX_ENTRIES + 50)))

    assert len(parse("news", "https://a.example.org/", egress.Page("", "", "", body)).posts) == MAX_ENTRIES


def test_a_server_that_fails_is_asked_again_and_a_page_that_is_gone_is_named(server: FeedServer) -> None:
    server.feeds["/feed"], server.status = b"busy", 503
    with pytest.raises(Retryable):
        list(source(server).fetch("news", Cursor()))
    with pytest.raises(Rejected, match="404"):
        list(RssSource(feeds={"a": server.url("/gone")}, rules=egress_ok(server)).fetch("a", Cursor()))


def egress_ok(server: FeedServer) -> egress.Rules:
    server.status = 200
    return server.rules


@pytest.mark.parametrize(
    ("feeds", "named"),
    [
        ({"news": "http://feeds.example.org/f"}, "feed news"),
        ({"news": "https://127.0.0.1:8000/f"}, "feed news"),
        ({"news": "https://localhost/f"}, "feed news"),
        ({"a name": "https://feeds.example.org/f"}, "'a name'"),
    ],
)
def test_a_feed_that_may_never_be_fetched_is_refused_at_the_start(feeds: dict[str, str], named: str) -> None:
    with pytest.raises(Misconfigured, match=named):
        RssSource(feeds=feeds)


def test_a_feed_that_nobody_configured_is_named_with_the_known_ones(server: FeedServer) -> None:
    with pytest.raises(Rejected, match=r"no feed 'other'.*known: news"):
        list(source(server).fetch("other", Cursor()))


@pytest.mark.django_db
def test_entries_become_posts_once_with_their_link(server: FeedServer, time: RecordedClock) -> None:
    make.account(username="news", source="news")
    server.feeds["/feed"] = (FEEDS / "arc-rss2.xml").read_bytes()
    feed = source(server)
    first, second = ingest({"news": feed}), ingest({"news": feed})

    assert (first.new, second.new) == (2, 0)
    assert CtPost.objects.get(text__contains="$12K").link.startswith("https://news.example.org/markets/")
    assert "no time" in RejectedPost.objects.get(source="news").reason
