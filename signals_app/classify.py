"""new posts -> classified posts: candidate or not, which tokens, which side"""

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
from signals_app.policy import Classify
from signals_app.prices_at import prices_at
from signals_app.reading.schema import Post, Reading, Readings, question
from signals_app.states import PostState
from signals_app.verify import verify

log = structlog.get_logger(__name__)
PROVIDER_FAILURES = 3
"""In a row, of different authors: then no provider is there for anybody."""
INCOMPLETE = "answer_incomplete"
"""The code of an answer that left posts out; the others of the batch were read."""


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


@dataclass
class Turns:
    """What one author still has to come in this pass."""

    account: int
    last: int = 0
    """The last post that was fetched."""
    calls: int = 0
    halves: deque[list[CtPost]] = field(default_factory=deque)
    """Of batches that were refused."""

    def next_batch(self, size: int, done: Classified) -> list[CtPost]:
        """The author's next posts in order of arrival; one that has failed comes alone, so it cannot spoil others."""
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
        """Read the halves of a refused batch next."""
        middle = len(batch) // 2
        self.halves.extendleft([batch[middle:], batch[:middle]])


def classify(policy: Classify) -> Classified:
    """Read every new post, a batch of one author per call: whoever talks a model into something spoils no one else.

    Authors take turns. A batch that the model refuses is split until only the post at fault is left. A batch that
    finds no provider stays new, with its reason, for the next pass; `PROVIDER_FAILURES` of them in a row end the pass.
    Raises `Misconfigured` where a person must act.
    """
    done, unserved = Classified(), Unserved()
    waiting = deque(Turns(account) for account in _authors())
    for _ in range(policy.max_batches):
        author, batch = _next(waiting, policy.batch_size, done)
        if author is None or unserved.in_a_row == PROVIDER_FAILURES:
            break
        try:
            _read(batch, done)
            unserved.provider_answers()
        except AccountSpent as error:  # the author's budget of the day: the others have their turn
            _note_failure(batch, error, done)
            continue
        except (Retryable, ProviderRefused) as error:
            _note_failure(batch, error, done)
            unserved.add(batch, error)
            continue
        except Misconfigured as error:  # a person must act: a missing key, a recording that nobody made
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
    unserved.raise_where_nobody_was_served()
    return done


@dataclass
class Unserved:
    """The batches that found no provider in this pass."""

    at_fault: list[tuple[list[CtPost], MaxxitError]] = field(default_factory=list)
    """A provider answered others after it had failed on these: the trouble is theirs."""
    latest: list[tuple[list[CtPost], MaxxitError]] = field(default_factory=list)
    """Since the last answer of a provider."""
    answered: bool = False

    @property
    def in_a_row(self) -> int:
        """How many, since the last answer."""
        return len(self.latest)

    def add(self, batch: list[CtPost], error: MaxxitError) -> None:
        """One more."""
        self.latest.append((batch, error))

    def provider_answers(self) -> None:
        """A provider has answered, so it was not away."""
        self.at_fault += self.latest
        self.latest, self.answered = [], True

    def raise_where_nobody_was_served(self) -> None:
        """Raise the first refusal of our key or a setting, unless a provider answered somebody."""
        refused = [error for _, error in self.latest if isinstance(error, ProviderRefused)]
        if refused and not self.answered:
            raise refused[0]


def _authors() -> list[int]:
    """Who has new posts: those without a failed one first, then in order of arrival."""
    failed = Max(Case(When(outcome__startswith="unread:", then=1), default=0))
    new = CtPost.objects.filter(state=PostState.NEW).order_by()
    by_author = new.values("account_id").annotate(failed=failed, first=Min("pk"))
    return list(by_author.order_by("failed", "first").values_list("account_id", flat=True))


def _next(waiting: deque[Turns], size: int, done: Classified) -> tuple[Turns | None, list[CtPost]]:
    """The next author with posts, and the batch; (None, []) when nobody has any."""
    while waiting:
        author = waiting.popleft()
        if batch := author.next_batch(size, done):
            return author, batch
    return None, []


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
        raise Rejected(f"the model left out {len(missing)} of {len(batch)} posts", code=INCOMPLETE)


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
