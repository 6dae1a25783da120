"""Post source for RSS and Atom feeds: an account is a feed that the stanza names.

    news: {adapter: rss, feeds: {coindesk: "https://www.coindesk.com/arc/outboundfeeds/rss/"}}

Feeds are fetched by the SSRF-safe client with a conditional request. A server that answers 304 says that nothing is
new: the entries of the last answer are offered again, so that a pass that could not store them loses nothing. The
text of a post is the entry's title and its body without markup. A post's id is derived from the feed's URL and the
entry's own id, which is unique only within its feed.

Refused: an entry without text, or without a time of its own; a document that is not well-formed XML (docs/adr/0038).
"""

import html
import re
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from xml.etree.ElementTree import Element, ParseError, tostring

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from maxxit.core import clock, egress, redact
from maxxit.core.errors import Misconfigured, Rejected
from signals_app.sources.base import (
    EARLIEST,
    Cursor,
    RawPost,
    Refused,
    check_names,
    derived_id,
    unfit,
    web_link,
)

CONTENT_TYPES = (
    "application/rss+xml",
    "application/atom+xml",
    "application/rdf+xml",
    "application/xml",
    "text/xml",
)
MAX_ENTRIES = 500
"""Entries of one answer that are read, the first ones."""
OVERLAP = timedelta(days=1)
"""How much older than the newest post an entry may be that is added or edited late."""
SHOWN = 2_000
"""Characters that are kept of a refused entry."""


@dataclass(frozen=True)
class _Read:
    """The last answer of a feed."""

    validators: egress.Validators
    posts: tuple[RawPost, ...]
    """Oldest first."""
    refused: tuple[Refused, ...]


class RssSource:
    """Reads RSS 0.9x to 2.0, RDF and Atom feeds; `fetch` may be called by several threads at once."""

    unmetered = True

    def __init__(
        self,
        *,
        feeds: Mapping[str, str],
        posts_per_feed: int = 15,
        max_bytes: int = 2_000_000,
        max_seconds: int = 30,
        concurrency: int = 4,
        rules: egress.Rules | None = None,
    ) -> None:
        check_names("feed", feeds)
        self.rules = rules or egress.Rules(
            content_types=CONTENT_TYPES, max_bytes=max_bytes, max_seconds=max_seconds
        )
        for name, url in feeds.items():
            try:
                egress.parse(str(url), self.rules)
            except Rejected as error:
                raise Misconfigured(f"feed {name} in config/signals.yaml: {error}") from None
        self.feeds = {name.lower(): str(url) for name, url in feeds.items()}
        self.posts_per_feed = posts_per_feed
        self.concurrency = concurrency
        self._last: dict[str, _Read] = {}
        self._refused: deque[Refused] = deque(maxlen=MAX_ENTRIES)
        self._lock = threading.Lock()

    def fetch(self, username: str, cursor: Cursor) -> Iterable[RawPost]:
        """Fetch the entries of the feed, oldest first: the newest at first, later those near or after the cursor."""
        name = username.lower()
        if name not in self.feeds:
            known = ", ".join(self.feeds) or "none"
            raise Rejected(
                f"no feed {username!r} in config/signals.yaml; known: {known}", code="unknown_account"
            )
        read = self._read(name)
        due = [post for post in read.posts if post.posted_at <= clock.now()]
        if cursor.since is None:
            return due[-self.posts_per_feed :]
        since = max(cursor.since, EARLIEST) - OVERLAP
        return [post for post in due if post.posted_at > since]

    def refused(self) -> Iterable[Refused]:
        """Return the entries that were no post since the last call."""
        while self._refused:
            yield self._refused.popleft()

    def _read(self, name: str) -> _Read:
        last = self._last.get(name)
        page = egress.fetch(self.feeds[name], self.rules, last.validators if last else None)
        if last and not page.modified:
            return last
        read = parse(name, self.feeds[name], page)
        with self._lock:
            self._last[name] = read
            self._refused.extend(read.refused)
        return read


def parse(name: str, url: str, page: egress.Page) -> _Read:
    """Parse an answer. Raises Rejected for a document that is no feed, or that declares entities of its own."""
    try:
        root: Element = fromstring(page.body)
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise Rejected(
            f"{url} is not well-formed XML: {redact.text(str(error))[:200]}", code="no_feed"
        ) from None
    if _name(root) not in ("rss", "RDF", "feed"):
        raise Rejected(f"{url} is neither RSS nor Atom: its root is {_name(root)[:40]!r}", code="no_feed")
    posts: dict[str, RawPost] = {}
    refused = []
    for number, entry in enumerate(_entries(root), start=1):
        fields = _fields(entry)
        post = _post(name, url, fields)
        if isinstance(post, RawPost):
            posts.setdefault(post.post_id, post)
        else:
            place = f"{name}:{derived_id('', url, fields.get('own') or str(number))}"
            refused.append(Refused(place, post, redact.text(_markup(entry)[: 10 * SHOWN])[:SHOWN]))
    ordered = sorted(posts.values(), key=lambda post: (post.posted_at, post.post_id))
    return _Read(page.validators, tuple(ordered), tuple(refused))


def _name(element: Element) -> str:
    """Return the name of an element without its namespace."""
    return str(element.tag).rpartition("}")[2]


def _entries(root: Element) -> Iterator[Element]:
    """Yield the first entries: items of a channel, items beside it (RSS 1.0), or entries of a feed."""
    parents = [root, *(child for child in root if _name(child) == "channel")]
    found = (child for parent in parents for child in parent if _name(child) in ("item", "entry"))
    return (entry for _, entry in zip(range(MAX_ENTRIES), found, strict=False))


FIELDS = {
    "own": ("guid", "id"),
    "title": ("title",),
    "body": ("summary", "description", "encoded", "content"),
    "time": ("pubDate", "published", "date", "updated", "modified"),
}
"""Field -> elements that hold it, the first that has a text counts: RSS, Atom, Dublin Core, content:encoded."""
FOREIGN = ("http://search.yahoo.com/mrss/", "http://www.itunes.com/dtds/podcast-1.0.dtd")
"""Namespaces whose titles and descriptions are of pictures and episodes."""


def _fields(entry: Element) -> dict[str, str]:
    """Return the fields of an entry as text; `link` is the page that it stands for."""
    own = [child for child in entry if not str(child.tag)[1:].startswith(FOREIGN)]
    texts: dict[str, str] = {}
    for child in own:
        inner = _inner(child)
        if inner:
            texts.setdefault(_name(child), inner)
    fields = {
        field: next((texts[name] for name in names if name in texts), "") for field, names in FIELDS.items()
    }
    links = [child for child in own if _name(child) == "link"]
    pages = [link.get("href", "") for link in links if link.get("rel", "alternate") == "alternate"]
    fields["link"] = next(filter(None, pages), texts.get("link", ""))
    fields["own"] = fields["own"] or fields["link"]
    return fields


def _inner(element: Element) -> str:
    """Return the text of an element; of an Atom text construct of type xhtml its markup."""
    if element.get("type") == "xhtml":
        return "".join(_markup(child) for child in element)
    return (element.text or "").strip()


def _markup(element: Element) -> str:
    """Return an element as XML; only its texts where it is nested too deeply to be written."""
    try:
        return tostring(element, "unicode")
    except RecursionError:
        return " ".join(element.itertext())


def _post(name: str, url: str, fields: Mapping[str, str]) -> RawPost | str:
    """Return the post of an entry, or why it is none."""
    title, body = _plain(fields["title"]), _plain(fields["body"])
    repeats = title and body.startswith(title.rstrip("…."))
    text = body if repeats else "\n".join(part for part in (title, body) if part)
    if not text:
        return "the entry has neither title nor summary nor content"
    posted_at = _moment(fields["time"])
    if posted_at is None:
        return f"published or updated is no time: {fields['time'][:60]!r}"
    own = fields["own"] or f"{posted_at.isoformat()} {text}"
    post = RawPost(derived_id("rss", url, own), name, text, posted_at, link=web_link(fields["link"]))
    return unfit(post) or post


_BREAK = re.compile(r"<(?:br|/(?:\w{1,20}:)?(?:p|div|li|h[1-6]|tr|blockquote))\b[^<>]*>", re.IGNORECASE)
_TAG = re.compile(r"<[!/?a-zA-Z][^<>]*>")


def _plain(markup: str) -> str:
    """Return the text of HTML, each block on a line of its own.

    By expressions and not by a parser: what comes out is shown escaped, and a parser takes seconds for tags that a
    hostile feed nests a thousand deep.
    """
    text = html.unescape(_TAG.sub(" ", _BREAK.sub("\n", markup)))
    lines = (" ".join(line.split()) for line in text.splitlines())
    return "\n".join(line for line in lines if line)


def _moment(text: str) -> datetime | None:
    """Return a time of RFC 822 or ISO 8601, UTC where it names no zone; None for anything else."""
    for read in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            return clock.utc(read(text))
        except (ValueError, TypeError, OverflowError):
            continue
    return None
