"""The ingest stage: stores new posts of followed accounts, and filters out those that no model needs to see."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from functools import partial
from itertools import chain
from typing import Any

import structlog
from django.core.cache import cache
from django.db import DEFAULT_DB_ALIAS, connection, transaction
from django.db.models.functions import Lower

from agents.models import CtAccount
from maxxit.core import clock, correlation, redact
from maxxit.core.errors import Misconfigured, Rejected, Retryable
from maxxit.core.untrusted import storable
from maxxit.events import wake
from maxxit.events.record import Transition, advance_all, advance_each, record_all
from maxxit.market.instruments import words_by_token
from maxxit.pipeline.interrupts import ends_the_pass
from maxxit.postgres import bulk
from signals_app import prefilter, revise, stated
from signals_app.followers import followers
from signals_app.lanes import Lanes, PassTime
from signals_app.models import CtPost, RejectedPost
from signals_app.reasons import PostReason
from signals_app.sources.base import (
    Cursor,
    Paged,
    PostSource,
    RawPost,
    Refused,
    RemoteSource,
    SourcePaused,
    SourceSpent,
    web_link,
)
from signals_app.states import PostState

log = structlog.get_logger(__name__)
REFUSED_KEPT = timedelta(days=90)
"""How long an item of a source that was no post is kept."""


@dataclass
class Ingested:
    """Counts of one pass."""

    accounts: int = 0
    """Accounts that were read."""
    offered: int = 0
    new: int = 0
    prefiltered: int = 0
    edited: int = 0
    """Posts whose text was replaced before it was classified."""
    deleted: int = 0
    refused: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    """Account -> the error that kept it from being read."""
    left: int = 0
    """Accounts that were not started when the time was used up."""

    def add(self, one: "Ingested") -> None:
        """Add the counts of one account."""
        for name in (column.name for column in fields(self) if column.name != "failed"):
            setattr(self, name, getattr(self, name) + getattr(one, name))


@dataclass(frozen=True, slots=True)
class Fetched:
    """The posts of one account, secrets masked."""

    posts: list[RawPost]
    unread_below: str
    """Where a source with pages stopped above the cursor; empty when it reached it."""


Key = tuple[str, int]
"""Name of the source and id of the account."""
LANES: Lanes[Key, Fetched] = Lanes("ingest")
LOOK_SECONDS = 1.0
"""How often a pass that waits for answers looks at the clock."""
MAX_ERROR = 500
"""Characters that are kept of an error that nobody foresaw."""
REST_SECONDS, PLACE_SECONDS = 600, 86_400
"""How long a pass that ran out of time, or whose source paused, can be continued where it stopped."""


@dataclass
class SourceQueue:
    """The accounts of one source that a pass reads, in order of service."""

    name: str
    source: PostSource
    accounts: list[CtAccount]
    started: int = 0
    """How many of them were started."""
    unserved: set[int] = field(default_factory=set)
    """Accounts that were started but not served: the source paused, or the pass was over before the answer."""
    misconfigured: Misconfigured | None = None
    """Why an operator must mend the source."""

    @property
    def concurrency(self) -> int:
        """How many accounts may be fetched at once."""
        return self.source.concurrency if isinstance(self.source, RemoteSource) else 1

    def start(self) -> None:
        """Start to fetch accounts, in threads if several may be fetched at once."""
        busy = sum(name == self.name for name, _ in LANES.under_way())
        free = max(self.concurrency - busy, 0)
        for account in self.accounts[self.started : self.started + free]:
            self.started += 1
            step = partial(_fetch, self.source, account)
            LANES.start((self.name, account.pk), step, in_thread=self.concurrency > 1)

    @property
    def left(self) -> int:
        """The number of accounts that were not started."""
        return len(self.accounts) - self.started

    def check(self) -> None:
        """Raise the error of a source that an operator must mend."""
        if self.misconfigured:
            raise self.misconfigured

    def first_unserved(self) -> int | None:
        """Return the first account that was not served, None when all were."""
        left = {account.pk for account in self.accounts[self.started :]} | self.unserved
        return next((account.pk for account in self.accounts if account.pk in left), None)


def ingest(
    sources: Mapping[str, PostSource],
    seconds: float | None = None,
    *,
    only: Mapping[str, Collection[str]] | None = None,
    rest: str = "accounts.waiting",
) -> Ingested:
    """Read every active account from its source, several at once where the source allows it.

    An account that fails, whatever the error, keeps its cursor and is read at the next pass. One that hangs occupies
    one place of its source; the others are fetched and stored meanwhile. After `seconds` no further account is
    started, and the next pass, woken at once, reads those that are left. Posts may contain secrets: what looks like a
    key is masked before it is stored.

    Args:
        only: source -> the only user names that are read, in lower case; where the last pass stopped does not matter.
        rest: the event for accounts that are left when the time is used up.

    Raises Misconfigured, once all other accounts are read, for a source that an operator must mend.
    """
    redact.know_environment()
    done, time = Ingested(), PassTime(seconds)
    LANES.finished()  # answers that an earlier pass did not wait for
    queues = _queues(sources, only)
    waiting = {(queue.name, account.pk): (queue, account) for queue in queues for account in queue.accounts}
    while True:
        for queue in queues if time.left() else ():
            queue.start()
        if time.over() or not waiting.keys() & LANES.under_way():
            break
        for key, step in LANES.finished(LOOK_SECONDS):
            if key in waiting:
                _take(*waiting.pop(key), step, done)
    for name, pk in waiting.keys() & LANES.under_way():
        waiting[name, pk][0].unserved.add(pk)
    _end(queues, done, whole=only is None)
    if done.left and done.accounts:
        wake.after_commit(rest)
    for queue in queues:
        queue.check()
    return done


def _end(queues: Sequence[SourceQueue], done: Ingested, *, whole: bool) -> None:
    """Keep what the sources refused, and of a pass over all accounts where it stopped."""
    for queue in queues:
        done.left += queue.left
        if whole:
            _continue_with(queue.name, queue.first_unserved(), rest_only=bool(queue.left))
        _keep_refused(queue, done)


def _queues(
    sources: Mapping[str, PostSource], only: Mapping[str, Collection[str]] | None
) -> list[SourceQueue]:
    chosen = {name: None if only is None else only.get(name, ()) for name in sources}
    return [
        SourceQueue(name, source, _in_order(name, source, chosen[name])) for name, source in sources.items()
    ]


def _fetch(source: PostSource, account: CtAccount) -> Fetched:
    """Fetch the new posts of one account. It uses no database: sources are read in threads without a connection."""
    cursor = Cursor(account.since_id, account.last_seen_at, account.until_id)
    offered = source.fetch(account.x_username, cursor)
    posts = [
        replace(post, text=redact.text(post.text), link=web_link(redact.text(post.link))) for post in offered
    ]
    return Fetched(posts, source.unread_below(account.x_username) if isinstance(source, Paged) else "")


def _take(queue: SourceQueue, account: CtAccount, step: Future[Fetched], done: Ingested) -> None:
    """Store what was fetched of one account, or note why it was not read or stored."""
    landed = Ingested(accounts=1)
    try:
        fetched = step.result()
        landed.offered = len(fetched.posts)
        if fetched.posts or account.until_id:
            _land(account, fetched.posts, fetched.unread_below, landed)
    except Misconfigured as error:
        done.failed[account.x_username] = redact.text(str(error))
        queue.misconfigured = error
    except (Retryable, Rejected) as error:
        log.warning("account_not_read", account=account.x_username, error=str(error))
        done.failed[account.x_username] = redact.text(str(error))
        limited = isinstance(error, Retryable) and error.limited
        if limited or (isinstance(error, SourcePaused) and not isinstance(error, SourceSpent)):
            queue.unserved.add(account.pk)
    except Exception as error:  # ours, or of a feed that sends what nobody foresaw
        if ends_the_pass(error):
            raise
        log.exception("account_failed", account=account.x_username, source=queue.name)
        done.failed[account.x_username] = redact.text(f"{type(error).__name__}: {error}")[:MAX_ERROR]
    else:
        done.add(landed)


def _in_order(name: str, source: PostSource, only: Collection[str] | None = None) -> list[CtAccount]:
    """List the accounts to read, of all or of those that `only` names, in order of service.

    Of a remote source, whose rate limit or budget may end before all are read, the most followed come first; a pass
    that could not serve all is continued where it stopped. Files have no limit and are read in order of id.
    """
    under_way = LANES.under_way()
    active = CtAccount.objects.filter(is_active=True, source=name).order_by("pk")
    accounts = [
        account
        for account in active
        if (name, account.pk) not in under_way and (only is None or account.x_username.lower() in only)
    ]
    if isinstance(source, RemoteSource):
        followed = followers()
        accounts.sort(key=lambda account: followed.get(account.pk, (0, 0)), reverse=True)
    place = _place(name) if only is None else {}
    first = next((i for i, account in enumerate(accounts) if account.pk == place.get("account")), 0)
    return accounts[first:] + ([] if place.get("rest_only") and first else accounts[:first])


def _place(name: str) -> dict[str, Any]:
    """Return where the last pass over source `name` stopped; empty when it served all accounts."""
    try:
        return cache.get(_place_key(name)) or {}
    except Exception as error:  # Redis is down: begin with the first account
        log.warning("place_not_read", source=name, error=str(error))
        return {}


def _continue_with(name: str, account: int | None, *, rest_only: bool) -> None:
    """Let the next pass over source `name` begin with `account`; with `rest_only` it reads none of those before it.

    Kept in the cache: if it is lost, the next pass begins with the first account.
    """
    try:
        if account is None:
            cache.delete(_place_key(name))
        else:
            seconds = REST_SECONDS if rest_only else PLACE_SECONDS
            cache.set(_place_key(name), {"account": account, "rest_only": rest_only}, timeout=seconds)
    except Exception as error:
        log.warning("place_not_kept", source=name, error=str(error))


def _place_key(name: str) -> str:
    return f"ingest:continue:{name}"


INSERT = """
INSERT INTO ct_posts (post_id, account_id, source, text, posted_at, ingested_at, correlation_id,
                      link, likes, reposts, replies, quotes)
SELECT post_id, account, %(source)s, text, posted_at, %(now)s, correlation_id,
       link, likes, reposts, replies, quotes
FROM unnest(%(ids)s::text[], %(texts)s::text[], %(times)s::timestamptz[], %(corrs)s::uuid[], %(links)s::text[],
            %(likes)s::int[], %(reposts)s::int[], %(replies)s::int[], %(quotes)s::int[], %(accounts)s::bigint[])
     AS offered(post_id, text, posted_at, correlation_id, link, likes, reposts, replies, quotes, account)
ON CONFLICT DO NOTHING
RETURNING id, post_id, text, correlation_id, state
"""
LANDED = ("id", "post_id", "text", "correlation_id", "state")
"""What is read of a new post, in the order of the model's fields."""
MOVE = """
UPDATE ct_accounts SET since_id = %s, last_seen_at = %s, until_id = %s, reached_id = %s, reached_at = %s
WHERE id = %s AND since_id = %s AND until_id = %s
"""
"""Where another pass read the account meanwhile, its position stays: this one may be behind it."""


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
                "accounts": bulk.array(_owners(account, written)),
                "source": account.source,
                "now": clock.now(),
                "ids": bulk.array(post.post_id for post in written),
                "texts": bulk.array(post.text for post in written),
                "times": bulk.array(post.posted_at for post in written),
                "corrs": bulk.array(correlation.derive_id("post", post.post_id) for post in written),
                "links": bulk.array(post.link for post in written),
                "likes": bulk.array(post.engagement.likes for post in written),
                "reposts": bulk.array(post.engagement.reposts for post in written),
                "replies": bulk.array(post.engagement.replies for post in written),
                "quotes": bulk.array(post.engagement.quotes for post in written),
            },
        )
        landed = [CtPost.from_db(DEFAULT_DB_ALIAS, LANDED, row) for row in cursor.fetchall()]
    _claim(account, written, landed)
    record_all("ctpost.new", CtPost, ((post.pk, post.correlation_id, {}) for post in landed))
    done.new += len(landed)
    stored = {post.post_id: post.text for post in landed}
    last = {post.post_id: post for post in written}
    replaced = revise.edits(account, [post for pk, post in last.items() if stored.get(pk) != post.text])
    done.edited += len(replaced)
    calls = {post.post_id: post.call for post in written if post.call}
    stated.classify([(post, calls[post.post_id]) for post in landed if post.post_id in calls])
    unread = {post.pk: post for post in (*landed, *replaced) if post.post_id not in calls}
    prefiltered = _prefilter(unread.values())
    done.prefiltered += prefiltered
    if len(unread) > prefiltered:
        wake.after_commit("stage.ingest")  # these are classified while others are still being read
    done.deleted += revise.deletions(account, posts)
    newest = max(posts, key=lambda post: (post.posted_at, len(post.post_id), post.post_id), default=None)
    reached = (newest.post_id, newest.posted_at) if newest else (account.since_id, account.last_seen_at)
    if account.until_id:  # the first pass of this catch-up read the newest posts
        reached = account.reached_id, account.reached_at
    moved = (*reached, "", "", None)
    unfinished = (account.since_id, account.last_seen_at, unread_below, *reached)
    place = unfinished if unread_below else moved
    with connection.cursor() as cursor:
        cursor.execute(MOVE, [*place, account.pk, account.since_id, account.until_id])


def _owners(account: CtAccount, posts: Sequence[RawPost]) -> list[int]:
    """Return the account that each post counts for: its author's where that is followed, else the one that was read."""
    names = {post.author.lower() for post in posts} - {"", account.x_username.lower()}
    followed: dict[str, int] = {}
    if names:
        known = CtAccount.objects.filter(is_active=True, source=account.source)
        rows = known.annotate(name=Lower("x_username")).filter(name__in=names)
        followed = dict(rows.values_list("name", "pk"))
    return [followed.get(post.author.lower(), account.pk) for post in posts]


def _claim(account: CtAccount, posts: Sequence[RawPost], landed: Sequence[CtPost]) -> None:
    """Take over unread posts of this author that a search stored first, before it was known who wrote them."""
    name, new = account.x_username.lower(), {post.post_id for post in landed}
    own = [post.post_id for post in posts if post.author.lower() == name and post.post_id not in new]
    if own:
        others = CtPost.objects.filter(post_id__in=own, source=account.source, state__in=revise.UNREAD)
        others.exclude(account=account).update(account=account)


def _prefilter(posts: Iterable[CtPost]) -> int:
    """Move new posts that no model needs to see to `prefiltered`; returns how many. The caller holds their locks."""
    words = list(chain.from_iterable(words_by_token().values()))
    by_reason: dict[str, list[Transition]] = {}
    for post in posts:
        why = prefilter.reason(post.text, words)
        if why and post.state == PostState.NEW:
            fields = {"outcome": f"prefiltered:{why}", "is_signal_candidate": False}
            by_reason.setdefault(why, []).append(Transition(post, PostState.PREFILTERED, why, fields=fields))
    moved = advance_each([one for alike in by_reason.values() for one in alike], locked=True)
    return len(moved)


def _keep_refused(queue: SourceQueue, done: Ingested) -> None:
    """Store the items of a source that were no post; a source that cannot name them stops no other."""
    try:
        done.refused += _stored(queue.name, queue.source.refused())
    except Misconfigured as error:
        queue.misconfigured = error
    except Exception as error:
        if ends_the_pass(error):
            raise
        log.exception("refused_posts_not_stored", source=queue.name)


@transaction.atomic
def _stored(name: str, refused: Iterable[Refused]) -> int:
    """Store each place once; return how many are new, or say something else than before."""
    rows = {
        place: RejectedPost(
            source=name,
            place=place,
            reason=redact.text(storable(bad.reason))[:300],
            raw=redact.text(storable(bad.raw)),
            seen_at=clock.now(),
        )
        for bad in refused
        if (place := storable(bad.place)[-300:])
    }
    if not rows:
        return 0
    fresh, changed = dict(rows), []
    for known in RejectedPost.objects.filter(source=name, place__in=rows).iterator():
        row = fresh.pop(known.place)
        if (row.reason, row.raw) != (known.reason, known.raw):
            row.pk = known.pk
            changed.append(row)
    RejectedPost.objects.bulk_create(fresh.values(), ignore_conflicts=True)
    RejectedPost.objects.bulk_update(changed, ("reason", "raw", "seen_at"), batch_size=500)
    return len(fresh) + len(changed)


def prune_refused(before: datetime) -> int:
    """Delete items that were refused before `before`; return how many. A file that still has one gives it again."""
    return RejectedPost.objects.filter(seen_at__lt=before).delete()[0]


def requeue(ids: Sequence[int]) -> int:
    """Reset the attempts of quarantined posts, so that they are classified again; returns how many."""
    return len(
        advance_all(CtPost, ids, PostState.QUARANTINED, PostState.NEW, attempts=0, outcome=PostReason.PENDING)
    )
