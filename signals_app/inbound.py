"""Posts that providers send: stored when they arrive, offered to the ingest stage until it has stored them."""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import connection

from maxxit.core import clock, redact
from maxxit.core.untrusted import storable
from maxxit.events import wake
from signals_app.models import InboundPost
from signals_app.sources.base import Cursor, RawPost, Refused, StatedCall, engagement_of, web_link

OFFERED = timedelta(days=1)
"""How long an item is offered again, for a correction of an earlier one; one that is not stored is always offered."""
KEPT = timedelta(days=90)
MAX_OFFERED = 1_000
"""Items of one account that one pass stores: those without a post first, the oldest of them first."""
RECENT = timedelta(minutes=15)
"""How long an account is read at once for what arrived, even if all of it is stored: it may correct an earlier item."""
ARRIVED = "posts.arrived"
"""The event that wakes the task which stores them."""

MARK = """
UPDATE inbound_posts i SET stored = true
WHERE i.source = %(source)s AND i.username = %(username)s AND NOT i.stored
  AND EXISTS (SELECT FROM ct_posts p WHERE p.post_id = i.post_id)
"""
WAITING = """
SELECT id, post_id, item FROM inbound_posts
WHERE source = %(source)s AND username = %(username)s
  AND (NOT stored AND received_at > %(kept)s OR received_at > %(again)s)
ORDER BY stored, CASE WHEN stored THEN -id ELSE id END LIMIT %(most)s
"""
"""Of those that have a post the newest count: a correction comes after what it corrects."""
ACCOUNTS = """
SELECT a.source, lower(a.x_username) FROM ct_accounts a
WHERE a.is_active AND a.source = ANY(%(sources)s) AND coalesce(
    (SELECT true FROM inbound_posts i WHERE i.source = a.source AND i.username = lower(a.x_username)
        AND i.received_at > %(recent)s LIMIT 1),
    (SELECT true FROM inbound_posts i WHERE i.source = a.source AND i.username = lower(a.x_username)
        AND NOT i.stored AND i.received_at > %(kept)s LIMIT 1))
"""
"""Two index probes for each account, however much was sent."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """An item as it came."""

    ident: str
    """The sender's id of it: a repeat is ignored."""
    post: RawPost


def keep(source: str, items: Sequence[Arrived]) -> list[str]:
    """Store the items that are new; return their idents. The caller answers its sender after the commit."""
    now = clock.now()
    rows = [
        InboundPost(
            source=source,
            ident=item.ident,
            post_id=item.post.post_id,
            username=item.post.username.lower(),
            item=as_json(arrived(item.post, now)),
            received_at=now,
        )
        for item in items
    ]
    known = set(
        InboundPost.objects.filter(source=source, ident__in=[row.ident for row in rows]).values_list(
            "ident", flat=True
        )
    )
    InboundPost.objects.bulk_create(rows, ignore_conflicts=True)
    new = [row.ident for row in rows if row.ident not in known]
    if new:
        wake.after_commit(ARRIVED)
    return new


def arrived(post: RawPost, at: datetime) -> RawPost:
    """Return a post that arrived `at` this time as it is stored: its own time is that at the latest."""
    return replace(post, posted_at=min(post.posted_at, at))


def waiting(source: str, username: str) -> list[RawPost]:
    """Return the items of an account that the ingest stage may not have stored yet, oldest first."""
    now = clock.now()
    values: dict[str, Any] = {
        "source": source,
        "username": username.lower(),
        "kept": now - KEPT,
        "again": now - OFFERED,
        "most": MAX_OFFERED,
    }
    with connection.cursor() as cursor:
        cursor.execute(MARK, values)
        cursor.execute(WAITING, values)
        rows = cursor.fetchall()
    posts = [_as_post(post_id, username, json.loads(item)) for _, post_id, item in sorted(rows)]
    return sorted(posts, key=lambda post: post.posted_at)


def accounts(sources: Iterable[str]) -> dict[str, set[str]]:
    """Return source -> names, in lower case, of its accounts of which something arrived that may not be stored yet."""
    now = clock.now()
    found: dict[str, set[str]] = defaultdict(set)
    values: dict[str, Any] = {"sources": list(sources), "kept": now - KEPT, "recent": now - RECENT}
    with connection.cursor() as cursor:
        cursor.execute(ACCOUNTS, values)
        for source, username in cursor:
            found[source].add(username)
    return dict(found)


class Arrivals:
    """A post source of what has arrived already: it asks no other system."""

    def __init__(self, name: str) -> None:
        self.name = name

    def fetch(self, username: str, cursor: Cursor) -> Iterable[RawPost]:
        """Return what arrived for the account and may not be stored yet, oldest first."""
        return waiting(self.name, username)

    def refused(self) -> Iterable[Refused]:
        """Return nothing: what is no post is not stored as an arrival."""
        return ()


def prune(before: datetime) -> int:
    """Delete items that arrived before `before`; return how many."""
    return InboundPost.objects.filter(received_at__lt=before).delete()[0]


def as_json(post: RawPost) -> dict[str, Any]:
    """Return the stored form of a post, by which a repeat is told from another post under the same id."""
    item: dict[str, Any] = {
        "text": redact.text(storable(post.text)),
        "posted_at": post.posted_at.isoformat(),
        "link": redact.text(post.link),
        **asdict(post.engagement),
    }
    if post.call:
        item["call"] = {**asdict(post.call), "confidence": f"{post.call.confidence:f}"}
    return item


def _as_post(post_id: str, username: str, item: dict[str, Any]) -> RawPost:
    call = item.get("call")
    return RawPost(
        post_id,
        username,
        item["text"],
        datetime.fromisoformat(item["posted_at"]),
        engagement=engagement_of(item),
        link=web_link(item["link"]),
        call=StatedCall(call["token"], call["side"], Decimal(call["confidence"])) if call else None,
    )
