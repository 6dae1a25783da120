"""The ingest stage: stores new posts of followed accounts, and filters out those that no model needs to see."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

import structlog
from django.db import connection, transaction

from agents.models import CtAccount
from maxxit.core import clock, correlation, redact
from maxxit.core.errors import Rejected, Retryable
from maxxit.core.untrusted import storable
from maxxit.events.record import advance_all, record_all
from maxxit.market.instruments import words_by_token
from signals_app import prefilter, revise
from signals_app.models import CtPost, RejectedPost
from signals_app.reasons import PostReason
from signals_app.sources.base import Cursor, Paged, PostSource, RawPost
from signals_app.states import PostState

log = structlog.get_logger(__name__)


@dataclass
class Ingested:
    """Counts of one pass."""

    offered: int = 0
    new: int = 0
    prefiltered: int = 0
    edited: int = 0
    """Posts whose text was replaced before it was classified."""
    deleted: int = 0
    refused: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    """Account -> the error that kept it from being read."""


def ingest(sources: dict[str, PostSource]) -> Ingested:
    """Read every active account from its source. An account that fails keeps its cursor and is read at the next pass.

    Posts may contain secrets: what looks like a key is masked before anything is stored.
    """
    redact.know_environment()
    done = Ingested()
    for account in CtAccount.objects.filter(is_active=True, source__in=sources).order_by("pk"):
        try:
            source = sources[account.source]
            offered = source.fetch(account.x_username, _cursor(account))
            posts = [replace(post, text=redact.text(post.text)) for post in offered]
        except (Retryable, Rejected) as error:
            log.warning("account_not_read", account=account.x_username, error=str(error))
            done.failed[account.x_username] = redact.text(str(error))
            continue
        done.offered += len(posts)
        if posts or account.until_id:
            below = source.unread_below(account.x_username) if isinstance(source, Paged) else ""
            _land(account, posts, below, done)
    for name, source in sources.items():
        done.refused += _keep_refused(name, source)
    return done


def _cursor(account: CtAccount) -> Cursor:
    return Cursor(account.since_id, account.last_seen_at, account.until_id)


INSERT = """
INSERT INTO ct_posts (post_id, account_id, source, text, posted_at, ingested_at, correlation_id)
SELECT post_id, %(account)s, %(source)s, text, posted_at, %(now)s, correlation_id
FROM unnest(%(ids)s::text[], %(texts)s::text[], %(times)s::timestamptz[], %(corrs)s::uuid[])
     AS offered(post_id, text, posted_at, correlation_id)
ON CONFLICT DO NOTHING
RETURNING id, correlation_id, text
"""


@transaction.atomic
def _land(account: CtAccount, posts: Sequence[RawPost], unread_below: str, done: Ingested) -> None:
    """Store posts, events, prefilter results and the account's cursor in one transaction.

    The cursor moves to the newest post once all older ones are read; until then `until_id` says where to continue.
    """
    written = [post for post in posts if not post.deleted]
    with connection.cursor() as cursor:
        cursor.execute(
            INSERT,
            {
                "account": account.pk,
                "source": account.source,
                "now": clock.now(),
                "ids": [post.post_id for post in written],
                "texts": [post.text for post in written],
                "times": [post.posted_at for post in written],
                "corrs": [correlation.derive_id("post", post.post_id) for post in written],
            },
        )
        landed = cursor.fetchall()
    record_all("ctpost.new", CtPost, ((pk, corr, {}) for pk, corr, _ in landed))
    done.new += len(landed)
    replaced = {post.pk: post for post in revise.edits(account, posts)}
    done.edited += len(replaced)
    texts = {pk: text for pk, _, text in landed} | {pk: post.text for pk, post in replaced.items()}
    done.prefiltered += _prefilter(texts.items())
    done.deleted += revise.deletions(account, posts)
    newest = max(posts, key=lambda post: (post.posted_at, len(post.post_id), post.post_id), default=None)
    reached = (newest.post_id, newest.posted_at) if newest else (account.since_id, account.last_seen_at)
    if account.until_id:  # the first pass of this catch-up read the newest posts
        reached = account.reached_id, account.reached_at
    moved = {
        "since_id": reached[0],
        "last_seen_at": reached[1],
        "until_id": "",
        "reached_id": "",
        "reached_at": None,
    }
    unfinished = {"until_id": unread_below, "reached_id": reached[0], "reached_at": reached[1]}
    CtAccount.objects.filter(pk=account.pk).update(**(unfinished if unread_below else moved))


def _prefilter(landed: Iterable[tuple[int, str]]) -> int:
    """Move posts that no model needs to see to `prefiltered`; returns how many."""
    words = list(chain.from_iterable(words_by_token().values()))
    by_reason: dict[str, list[int]] = {}
    for pk, text in landed:
        if why := prefilter.reason(text, words):
            by_reason.setdefault(why, []).append(pk)
    for why, ids in by_reason.items():
        advance_all(
            CtPost,
            ids,
            PostState.NEW,
            PostState.PREFILTERED,
            why=why,
            outcome=f"prefiltered:{why}",
            is_signal_candidate=False,
        )
    return sum(map(len, by_reason.values()))


def _keep_refused(name: str, source: PostSource) -> int:
    rows = [
        RejectedPost(
            source=name,
            place=storable(bad.place)[-300:],
            reason=redact.text(storable(bad.reason))[:300],
            raw=redact.text(storable(bad.raw)),
            seen_at=clock.now(),
        )
        for bad in source.refused()
    ]
    before = RejectedPost.objects.filter(source=name).count() if rows else 0
    RejectedPost.objects.bulk_create(rows, ignore_conflicts=True)
    return RejectedPost.objects.filter(source=name).count() - before if rows else 0


def requeue(ids: Sequence[int]) -> int:
    """Reset the attempts of quarantined posts, so that they are classified again; returns how many."""
    return len(
        advance_all(CtPost, ids, PostState.QUARANTINED, PostState.NEW, attempts=0, outcome=PostReason.PENDING)
    )
