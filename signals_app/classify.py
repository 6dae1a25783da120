"""new posts -> classified posts: candidate or not, which tokens, which side"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter

import structlog
from django.db import connection, transaction
from django.db.models import F, Q

from maxxit.core.errors import MaxxitError, Misconfigured, Rejected, Retryable
from maxxit.core.untrusted import storable
from maxxit.events.record import advance, advance_all
from maxxit.llm.ask import ask
from maxxit.llm.budget import AccountSpent
from maxxit.llm.reading import Post, Reading, Readings, question
from maxxit.market.instruments import stablecoins, words_by_token
from signals_app.models import CtPost
from signals_app.policy import Classify
from signals_app.prices_at import prices_at
from signals_app.states import PostState
from signals_app.verify import verify

log = structlog.get_logger(__name__)
LAST = 2**63 - 1
"""Beyond every post of an account."""


@dataclass
class Classified:
    """What one pass did."""

    due: int = 0
    read: int = 0
    candidates: int = 0
    quarantined: int = 0
    changed: int = 0
    """Posts that were edited, deleted or read by someone else while the model read them: that reading is void."""
    failed: dict[str, int] = field(default_factory=dict)
    """Error -> how many posts it left unread; they stay due."""


def classify(policy: Classify) -> Classified:
    """Read every new post, a batch of one author per call: whoever talks a model into something spoils no one else.

    A batch that fails stays new, with its reason, for the next pass. Raises `Misconfigured` where a person must act.
    """
    done = Classified()
    last, waiting = (0, 0), deque[list[CtPost]]()
    for _ in range(policy.max_batches):
        waiting = waiting or deque(_batches(last, policy.batch_size))
        if not waiting:
            break
        batch = waiting.popleft()
        last = (batch[-1].account_id, batch[-1].pk)
        done.due += len(batch)
        try:
            _read(batch, done)
        except AccountSpent as error:  # one who writes without end: the others have their turn
            _note_failure(batch, error, done)
            last = (batch[-1].account_id, LAST)
            waiting = deque(one for one in waiting if one[0].account_id != last[0])
        except Retryable as error:  # the provider is away: that is no fault of these posts
            _note_failure(batch, error, done)
            break
        except Misconfigured as error:  # a person must act: a missing key, a recording that nobody made
            _note_failure(batch, error, done)
            raise
        except MaxxitError as error:
            _note_failure(batch, error, done)
            _count_attempt(batch, error, policy.max_attempts, done)
    return done


def _batches(after: tuple[int, int], size: int) -> Iterator[list[CtPost]]:
    """The next posts after `after` (account, post), each batch of one author in order of arrival.

    One that has failed is read alone, so that it cannot spoil the others.
    """
    due = list(
        CtPost.objects.filter(
            Q(account=after[0], pk__gt=after[1]) | Q(account__gt=after[0]), state=PostState.NEW
        )
        .select_related("account")
        .order_by("account_id", "pk")[:size]
    )
    by_author = [list(posts) for _, posts in groupby(due, key=attrgetter("account_id"))]
    if len(due) == size and len(by_author) > 1:
        by_author.pop()  # there may be more of the last author: they are read together
    for own in by_author:
        for failed, posts in groupby(own, key=lambda post: post.attempts > 0):
            if failed:
                yield from ([post] for post in posts)
            else:
                yield list(posts)


def _read(batch: Sequence[CtPost], done: Classified) -> None:
    tokens = words_by_token()
    prices = prices_at([(one.text, one.posted_at) for one in batch], tokens)
    posts = (
        Post(one.post_id, one.account.x_username, one.text, one.posted_at.isoformat(), known)
        for one, known in zip(batch, prices, strict=True)
    )
    asked = ask(
        purpose="classify",
        data=question(posts, tokens),
        schema=Readings,
        correlation_ids=[post.correlation_id for post in batch],
        account=f"{batch[0].account.source}:{batch[0].account.x_username}",
    )
    readings = {reading.post_id: reading for reading in asked.answer.readings}
    with transaction.atomic():
        standing = _as_read(batch)
        missing = [post for post in standing if post.post_id not in readings]
        read = [(post, readings[post.post_id]) for post in standing if post.post_id in readings]
        candidates = _store(read)
    done.read += len(read)
    done.candidates += candidates
    if len(standing) < len(batch):
        done.changed += len(batch) - len(standing)
        log.info("posts_changed_while_read", posts=len(batch) - len(standing))
    if missing:
        raise Rejected(f"the model left out {len(missing)} of {len(batch)} posts", code="answer_incomplete")


def _as_read(batch: Sequence[CtPost]) -> list[CtPost]:
    """The posts that are still new with the text that the model saw, locked until the transaction ends.

    The model took its time outside any transaction. What its author changed meanwhile is read again at the next pass.
    """
    rows = CtPost.objects.select_for_update().filter(pk__in=[post.pk for post in batch], state=PostState.NEW)
    texts = dict(rows.order_by("pk").values_list("pk", "text"))
    return [post for post in batch if texts.get(post.pk) == post.text]


def _store(read: Iterable[tuple[CtPost, Reading]]) -> int:
    """Advance each post with what was read in it; posts that are no call go together. Returns candidates."""
    rest: dict[str, dict[int, Reading]] = {}
    candidates = 0
    for post, reading in read:
        verified = verify(reading, post.text, words_by_token(), stablecoins())
        if not verified.candidate:
            rest.setdefault(verified.outcome, {})[post.pk] = reading
            continue
        candidates += 1
        advance(
            post,
            PostState.CLASSIFIED,
            is_signal_candidate=True,
            tokens=list(verified.tokens),
            sides=verified.sides,
            sentiment=reading.sentiment,
            confidence=reading.confidence,
            reasoning=storable(reading.reasoning),
            outcome="candidate:waiting",
            data={"sides": verified.sides, "confidence": f"{reading.confidence:f}"},
        )
    for outcome, readings in rest.items():
        moved = advance_all(
            CtPost,
            list(readings),
            PostState.NEW,
            PostState.CLASSIFIED,
            why=outcome,
            is_signal_candidate=False,
            outcome=outcome,
        )
        _keep({pk: readings[pk] for pk in moved})
    return candidates


KEEP = """
UPDATE ct_posts p SET sentiment = r.sentiment, confidence = r.confidence, reasoning = r.reasoning
FROM unnest(%s::bigint[], %s::text[], %s::numeric[], %s::text[]) AS r(id, sentiment, confidence, reasoning)
WHERE p.id = r.id
"""


def _keep(readings: Mapping[int, Reading]) -> None:
    """What the model said of posts that are no call, in one statement."""
    said = readings.values()
    with connection.cursor() as cursor:
        cursor.execute(
            KEEP,
            [
                list(readings),
                [one.sentiment for one in said],
                [one.confidence for one in said],
                [storable(one.reasoning) for one in said],
            ],
        )


def _still_new(batch: Sequence[CtPost]) -> list[int]:
    return list(
        CtPost.objects.filter(pk__in=[post.pk for post in batch], state=PostState.NEW).values_list(
            "pk", flat=True
        )
    )


def _note_failure(batch: Sequence[CtPost], error: MaxxitError, done: Classified) -> None:
    left = _still_new(batch)
    code = getattr(error, "code", type(error).__name__.lower())
    log.error("posts_not_read", posts=len(left), code=code, error=str(error))
    CtPost.objects.filter(pk__in=left).update(
        outcome=f"unread:{code}"[:60], is_signal_candidate=False, last_error=str(error)[:2000]
    )
    done.failed[f"{code}: {error}"[:200]] = len(left)


def _count_attempt(batch: Sequence[CtPost], error: MaxxitError, allowed: int, done: Classified) -> None:
    """The answer could not be used: after `allowed` times a post is set aside for a person."""
    left = _still_new(batch)
    CtPost.objects.filter(pk__in=left).update(attempts=F("attempts") + 1)
    spent = list(CtPost.objects.filter(pk__in=left, attempts__gte=allowed).values_list("pk", flat=True))
    if spent:
        moved = advance_all(CtPost, spent, PostState.NEW, PostState.QUARANTINED, why=str(error)[:300])
        done.quarantined += len(moved)
