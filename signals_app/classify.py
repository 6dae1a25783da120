"""The classify stage: reads new posts with a model and stores whether each is a call, on which tokens and sides."""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

import structlog
from django.db import connection, transaction
from django.db.models import Case, F, Max, Min, When

from maxxit.core.errors import MaxxitError, Misconfigured, Rejected, Retryable
from maxxit.core.untrusted import storable
from maxxit.events.record import advance, advance_all
from maxxit.llm.ask import ask
from maxxit.llm.budget import AccountSpent
from maxxit.llm.call import ProviderRefused
from maxxit.market.instruments import stablecoins, words_by_token
from signals_app.models import CtPost
from signals_app.outcome import candidate
from signals_app.policy import Classify
from signals_app.prices_at import prices_at
from signals_app.reading.schema import Post, Reading, Readings, question
from signals_app.reasons import CandidateReason
from signals_app.states import PostState
from signals_app.verify import verify

log = structlog.get_logger(__name__)
PROVIDER_FAILURES = 3
"""After this many failures in a row, of different authors, all providers are taken to be down."""
INCOMPLETE = "answer_incomplete"
"""Error code of an answer that left posts out; the other posts of the batch were read."""


@dataclass
class Classified:
    """Counts of one pass."""

    due: int = 0
    read: int = 0
    candidates: int = 0
    quarantined: int = 0
    changed: int = 0
    """Posts edited, deleted or classified by another pass during the model call: their readings are dropped."""
    failed: dict[str, int] = field(default_factory=dict)
    """Error -> number of posts it left unread; they stay due."""


@dataclass
class AuthorQueue:
    """The posts of one author that this pass still has to read."""

    account: int
    last: int = 0
    """Id of the last post that was fetched."""
    calls: int = 0
    """Model calls for this author in this pass."""
    halves: deque[list[CtPost]] = field(default_factory=deque)
    """Halves of refused batches."""

    def next_batch(self, size: int, done: Classified) -> list[CtPost]:
        """Return the author's next posts in order of arrival; a post that failed before comes alone."""
        self.calls += 1
        if self.halves:
            return self.halves.popleft()
        new = CtPost.objects.filter(account=self.account, pk__gt=self.last, state=PostState.NEW)
        due = list(new.select_related("account").order_by("pk")[:size])
        batch = list(takewhile(lambda post: not post.attempts, due)) or due[:1]
        if batch:
            self.last = batch[-1].pk
            done.due += len(batch)
        return batch

    def split(self, batch: list[CtPost]) -> None:
        """Queue the halves of a refused batch in front."""
        middle = len(batch) // 2
        self.halves.extendleft([batch[middle:], batch[:middle]])


def classify(policy: Classify) -> Classified:
    """Classify every new post, one author per model call, so that a prompt injection reaches no other author's posts.

    Authors take turns. A batch whose answer is unusable is split until the faulty post is found. A batch without an
    available provider stays new, with its error, for the next pass; `PROVIDER_FAILURES` of them in a row end the pass.
    Raises `Misconfigured` where an operator must act.
    """
    done, unserved = Classified(), Unserved()
    waiting = deque(AuthorQueue(account) for account in _authors())
    for _ in range(policy.max_batches):
        author, batch = _next(waiting, policy.batch_size, done)
        if author is None or unserved.in_a_row == PROVIDER_FAILURES:
            break
        try:
            _read(batch, done)
            unserved.provider_answers()
        except AccountSpent as error:  # this author's daily budget; the others go on
            _note_failure(batch, error, done)
            continue
        except (Retryable, ProviderRefused) as error:
            _note_failure(batch, error, done)
            unserved.add(batch, error)
            continue
        except Misconfigured as error:  # an operator must act: a missing key or recording
            _note_failure(batch, error, done)
            raise
        except MaxxitError as error:
            unserved.provider_answers()
            if len(batch) > 1 and getattr(error, "code", "") != INCOMPLETE:
                log.warning("batch_refused", posts=len(batch), error=str(error))
                author.split(batch)
            else:
                _note_failure(batch, error, done)
                _count_attempt(batch, error, policy.max_attempts, done)
        if author.calls < policy.max_batches_per_author:
            waiting.append(author)
    for left, trouble in unserved.at_fault:
        _count_attempt(left, trouble, policy.max_attempts, done)
    unserved.raise_if_none_answered()
    return done


@dataclass
class Unserved:
    """The batches without an available provider in this pass."""

    at_fault: list[tuple[list[CtPost], MaxxitError]] = field(default_factory=list)
    """Batches that failed while a provider answered later ones: the posts cause the failure."""
    latest: list[tuple[list[CtPost], MaxxitError]] = field(default_factory=list)
    """Failures since the last answer of a provider."""
    answered: bool = False

    @property
    def in_a_row(self) -> int:
        """Number of failures since the last answer."""
        return len(self.latest)

    def add(self, batch: list[CtPost], error: MaxxitError) -> None:
        """Record a failure."""
        self.latest.append((batch, error))

    def provider_answers(self) -> None:
        """Record an answer: the failures before it are the fault of their posts."""
        self.at_fault += self.latest
        self.latest, self.answered = [], True

    def raise_if_none_answered(self) -> None:
        """Raise the first refusal of a key or setting, unless some provider answered."""
        refused = [error for _, error in self.latest if isinstance(error, ProviderRefused)]
        if refused and not self.answered:
            raise refused[0]


def _authors() -> list[int]:
    """List the accounts with new posts: those without a failed post first, then in order of arrival."""
    failed = Max(Case(When(outcome__startswith="unread:", then=1), default=0))
    new = CtPost.objects.filter(state=PostState.NEW).order_by()
    by_author = new.values("account_id").annotate(failed=failed, first=Min("pk"))
    return list(by_author.order_by("failed", "first").values_list("account_id", flat=True))


def _next(
    waiting: deque[AuthorQueue], size: int, done: Classified
) -> tuple[AuthorQueue | None, list[CtPost]]:
    """Return the next author with posts and the batch; (None, []) when no author has any."""
    while waiting:
        author = waiting.popleft()
        if batch := author.next_batch(size, done):
            return author, batch
    return None, []


def _read(batch: Sequence[CtPost], done: Classified) -> None:
    tokens = words_by_token()
    prices = prices_at([(post.text, post.posted_at) for post in batch], tokens)
    posts = (
        Post(post.post_id, post.account.x_username, post.text, post.posted_at.isoformat(), known)
        for post, known in zip(batch, prices, strict=True)
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
        unchanged = _unchanged(batch)
        missing = [post for post in unchanged if post.post_id not in readings]
        read = [(post, readings[post.post_id]) for post in unchanged if post.post_id in readings]
        candidates = _store(read)
    done.read += len(read)
    done.candidates += candidates
    if len(unchanged) < len(batch):
        done.changed += len(batch) - len(unchanged)
        log.info("posts_changed_while_read", posts=len(batch) - len(unchanged))
    if missing:
        raise Rejected(f"the model left out {len(missing)} of {len(batch)} posts", code=INCOMPLETE)


def _unchanged(batch: Sequence[CtPost]) -> list[CtPost]:
    """Lock and return the posts that are still new with the text that the model saw.

    The model call runs outside any transaction; posts changed meanwhile are read again at the next pass.
    """
    rows = CtPost.objects.select_for_update().filter(pk__in=[post.pk for post in batch], state=PostState.NEW)
    texts = dict(rows.order_by("pk").values_list("pk", "text"))
    return [post for post in batch if texts.get(post.pk) == post.text]


def _store(read: Iterable[tuple[CtPost, Reading]]) -> int:
    """Advance each post with its reading, posts without a call in bulk; returns the number of candidates."""
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
            outcome=candidate(CandidateReason.WAITING),
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
        _store_readings({pk: readings[pk] for pk in moved})
    return candidates


STORE_READINGS = """
UPDATE ct_posts p SET sentiment = r.sentiment, confidence = r.confidence, reasoning = r.reasoning
FROM unnest(%s::bigint[], %s::text[], %s::numeric[], %s::text[]) AS r(id, sentiment, confidence, reasoning)
WHERE p.id = r.id
"""


def _store_readings(readings: Mapping[int, Reading]) -> None:
    """Store the readings of posts without a call in one statement."""
    rows = readings.values()
    with connection.cursor() as cursor:
        cursor.execute(
            STORE_READINGS,
            [
                list(readings),
                [reading.sentiment for reading in rows],
                [reading.confidence for reading in rows],
                [storable(reading.reasoning) for reading in rows],
            ],
        )


def _still_new(batch: Sequence[CtPost]) -> list[int]:
    return list(
        CtPost.objects.filter(pk__in=[post.pk for post in batch], state=PostState.NEW).values_list(
            "pk", flat=True
        )
    )


def _note_failure(batch: Sequence[CtPost], error: MaxxitError, done: Classified) -> None:
    unread = _still_new(batch)
    code = getattr(error, "code", type(error).__name__.lower())
    log.error("posts_not_read", posts=len(unread), code=code, error=str(error))
    CtPost.objects.filter(pk__in=unread).update(
        outcome=f"unread:{code}"[:60], is_signal_candidate=False, last_error=str(error)[:2000]
    )
    done.failed[f"{code}: {error}"[:200]] = len(unread)


def _count_attempt(batch: Sequence[CtPost], error: MaxxitError, allowed: int, done: Classified) -> None:
    """Count an unusable answer; posts with `allowed` attempts are quarantined."""
    unread = _still_new(batch)
    CtPost.objects.filter(pk__in=unread).update(attempts=F("attempts") + 1)
    spent = list(CtPost.objects.filter(pk__in=unread, attempts__gte=allowed).values_list("pk", flat=True))
    if spent:
        moved = advance_all(CtPost, spent, PostState.NEW, PostState.QUARANTINED, why=str(error)[:300])
        done.quarantined += len(moved)
