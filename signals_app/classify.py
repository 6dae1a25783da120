"""The classify stage: reads new posts with a model and stores whether each is a call, on which tokens and sides."""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from itertools import takewhile
from typing import NamedTuple

import structlog
from django.db import DEFAULT_DB_ALIAS, connection, transaction
from django.db.models import F, QuerySet

from agents.models import CtAccount
from maxxit.core.errors import MaxxitError, Misconfigured, Rejected, Retryable
from maxxit.core.untrusted import storable
from maxxit.events import wake
from maxxit.events.record import Transition, advance, advance_all, advance_each, record_all
from maxxit.llm.ask import ask
from maxxit.llm.budget import AccountSpent
from maxxit.llm.call import ProviderRefused
from maxxit.llm.errors import NotCalled, SlotsTaken
from maxxit.market.instruments import stablecoins, words_by_token
from signals_app.followers import followers
from signals_app.lanes import Lanes, PassTime
from signals_app.models import CtPost
from signals_app.outcome import candidate
from signals_app.policy import Classify, Screening
from signals_app.prices_at import prices_at
from signals_app.reading.schema import Post, Reading, Readings, question
from signals_app.reasons import CandidateReason, PrefilterReason
from signals_app.screening.audit import AUDITED
from signals_app.screening.screen import Screened, screen
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
    screened: int = 0
    """Posts that no model was asked about, because no call is expected in them."""
    changed: int = 0
    """Posts edited, deleted or classified by another pass during the model call: their readings are dropped."""
    failed: dict[str, int] = field(default_factory=dict)
    """Error -> number of posts it left unread; they stay due."""
    left: bool = False
    """Whether posts were left to the next pass, which is woken at once: the time or an author's calls were used up."""


@dataclass(frozen=True, slots=True)
class Read:
    """What one model call did."""

    stored: int
    candidates: int
    changed: int
    left_out: int
    """Posts that the answer does not mention."""
    screened: int = 0
    """Posts that no model was asked about."""


@dataclass
class AuthorQueue:
    """The posts of one author that this pass still has to read."""

    account: int
    newest: int = 0
    """Id of the author's newest new post when the pass looked."""
    newest_first: bool = False
    calls: int = 0
    """Model calls for this author in this pass."""
    offered: set[int] = field(default_factory=set)
    """Ids of the posts that were fetched."""
    halves: deque[list[CtPost]] = field(default_factory=deque)
    """Halves of refused batches, and batches that found no slot."""
    failed: bool = False
    """Whether this pass leaves the author's other posts to the next."""
    read_up: bool = False
    """Whether the last batch had all new posts that there were; later ones are found with the authors."""

    def next_batch(self, size: int, done: Classified) -> list[CtPost]:
        """Return the author's next posts in order of arrival; a post that failed before comes alone.

        When a budget binds, the newest posts come first.
        """
        self.calls += 1
        if self.halves:
            return self.halves.popleft()
        due = _due(self.account, self.offered, size, newest_first=self.newest_first)
        batch = list(takewhile(lambda post: not post.attempts, due)) or due[:1]
        self.read_up = len(batch) == len(due) < size
        self.offered.update(post.pk for post in batch)
        done.due += len(batch)
        return sorted(batch, key=lambda post: post.pk)

    def not_offered(self) -> QuerySet[CtPost]:
        """Select the new posts of the author that this pass has not fetched yet."""
        return CtPost.objects.filter(account=self.account, state=PostState.NEW).exclude(pk__in=self.offered)

    def split(self, batch: list[CtPost]) -> None:
        """Queue the halves of a refused batch in front."""
        middle = len(batch) // 2
        self.halves.extendleft([batch[middle:], batch[:middle]])

    def put_back(self, batch: list[CtPost]) -> None:
        """Queue a batch that no provider was asked about in front."""
        self.calls -= 1
        self.halves.appendleft(batch)


DUE = """
SELECT p.id, p.post_id, p.account_id, p.text, p.posted_at, p.correlation_id, p.state, p.attempts, a.x_username, a.source
FROM ct_posts p JOIN ct_accounts a ON a.id = p.account_id
WHERE p.state = 'new' AND p.account_id = %s AND p.id <> ALL(%s)
ORDER BY {order} LIMIT %s
"""
POST = ("id", "post_id", "account_id", "text", "posted_at", "correlation_id", "state", "attempts")
AUTHOR = ("id", "x_username", "source")
"""What is read of posts and of their author, in the order of the models' fields."""


def _due(account: int, offered: Collection[int], size: int, *, newest_first: bool) -> list[CtPost]:
    """Return the author's first or newest new posts that were not offered yet, with the author."""
    order = "p.id DESC" if newest_first else "p.id"
    with (
        connection.cursor() as cursor
    ):  # once for each author of a pass: the ORM takes longer than the database
        cursor.execute(DUE.format(order=order), [account, list(offered), size])
        rows = cursor.fetchall()
    posts = []
    for *columns, name, source in rows:
        post = CtPost.from_db(DEFAULT_DB_ALIAS, POST, columns)
        post.account = CtAccount.from_db(DEFAULT_DB_ALIAS, AUTHOR, (account, name, source))
        posts.append(post)
    return posts


@dataclass
class Unserved:
    """The batches without an available provider in this pass."""

    at_fault: list[tuple[list[CtPost], MaxxitError]] = field(default_factory=list)
    """Batches that failed while a provider answered later calls: the posts cause the failure."""
    latest: list[tuple[list[CtPost], MaxxitError, int]] = field(default_factory=list)
    """Failures that no call answered that was started later: batch, error, and the last call started by then."""
    in_a_row: int = 0
    """Number of failures since the last answer."""
    answered: bool = False

    def add(self, batch: list[CtPost], error: MaxxitError, calls: int) -> None:
        """Record a failure at the time when `calls` calls had been started."""
        self.in_a_row += 1
        if not isinstance(
            error, NotCalled
        ):  # no provider was asked, so no answer can show that the posts are at fault
            self.latest.append((batch, error, calls))

    def provider_answers(self, number: int) -> None:
        """Record the answer of call `number`: failures before its start are the fault of their posts."""
        self.at_fault += [(batch, error) for batch, error, calls in self.latest if calls < number]
        self.latest = [failure for failure in self.latest if failure[2] >= number]
        self.in_a_row, self.answered = 0, True

    def raise_if_none_answered(self) -> None:
        """Raise the first refusal of a key or setting, unless some provider answered."""
        refused = [error for _, error, _ in self.latest if isinstance(error, ProviderRefused)]
        if refused and not self.answered:
            raise refused[0]


LANES: Lanes[int, Read] = Lanes("classify")
LOOK_SECONDS = 1.0
"""How often a pass that waits for answers looks for new posts and at the clock."""


def classify(
    policy: Classify,
    concurrency: Callable[[], int] = lambda: 1,
    calls_left: Callable[[], int | None] = lambda: None,
) -> Classified:
    """Classify every new post, one author per model call, so that a prompt injection reaches no other author's posts.

    `concurrency` calls are in flight at once, each in a thread; 1 runs in the caller's thread. Authors take turns, one
    call of an author at a time. Where `calls_left` today are fewer than the posts need, the most followed authors and
    their newest posts come first. The pass goes on while posts are due, those that arrive meanwhile too, and wakes the
    next pass if its time is used up before.

    A batch whose answer is unusable is split until the faulty post is found. A batch without an available provider
    stays new, with its error, for the next pass; after `PROVIDER_FAILURES` of them in a row no call is started. Raises
    `Misconfigured` where an operator must act.
    """
    return ClassifyPass(policy, concurrency, calls_left).run()


@dataclass
class ClassifyPass:
    """One pass: it starts calls, and takes their results one after the other."""

    policy: Classify
    concurrency: Callable[[], int]
    calls_left: Callable[[], int | None]
    done: Classified = field(default_factory=Classified)
    unserved: Unserved = field(default_factory=Unserved)
    authors: dict[int, AuthorQueue] = field(default_factory=dict)
    """Every author with posts that this pass has seen."""
    waiting: deque[AuthorQueue] = field(default_factory=deque)
    in_flight: dict[int, tuple[AuthorQueue, list[CtPost], int]] = field(default_factory=dict)
    """Account -> the author, the posts in its call and the call's number."""
    calls: int = 0
    crowded: set[int] = field(default_factory=set)
    """Accounts whose call in flight had others beside it."""
    hold: bool = False
    """Whether the slots are taken: no call is started until one in flight has ended."""
    stop: Misconfigured | None = None
    """The error that ends the pass."""

    def run(self) -> Classified:
        """Run the pass."""
        time = PassTime(self.policy.pass_seconds)
        LANES.finished()  # answers that an earlier pass did not wait for; what they say is stored
        while True:
            width = self.concurrency()
            while self._may_start(time, width):
                self._start(width)
            if not self.in_flight or time.over():
                break
            for account, call in LANES.finished(LOOK_SECONDS):
                if account in self.in_flight:
                    self._finish(*self.in_flight.pop(account), call)
        if self.stop:
            raise self.stop
        for batch, error in self.unserved.at_fault:
            _count_attempt(batch, error, self.policy.max_attempts, self.done)
        self.unserved.raise_if_none_answered()
        self.done.left = self.done.left or (not time.left() and bool(self.waiting or self.in_flight))
        if self.done.left and self.done.read:
            wake.after_commit("posts.waiting")
        return self.done

    def _may_start(self, time: PassTime, width: int) -> bool:
        """Return whether another call may be started now, and there are posts for it."""
        if self.stop or not time.left() or self.unserved.in_a_row >= PROVIDER_FAILURES:
            return False
        if self.policy.max_batches is not None and self.calls >= self.policy.max_batches:
            return False
        if self.in_flight and (self.hold or len(self.in_flight) >= width):
            return False
        return bool(self.waiting) or self._find_authors()

    def _find_authors(self) -> bool:
        """Queue the authors with new posts that this pass has not read; return whether there are any."""
        busy = LANES.under_way()
        for author in _authors(self.policy.batch_size, self.calls_left()):
            known = self.authors.setdefault(author.account, author)
            is_new = author.newest > max(known.offered, default=0)
            may_go_on = not known.failed and known.calls < self.policy.max_batches_per_author
            if is_new and may_go_on and author.account not in busy:
                self.waiting.append(known)
        return bool(self.waiting)

    def _start(self, width: int) -> None:
        """Start the call about the next batch, if an author in the queue still has one."""
        author, batch = _next(self.waiting, self.policy.batch_size, self.done)
        if author is None:
            return
        self.calls += 1
        self.in_flight[author.account] = author, batch, self.calls
        if len(self.in_flight) > 1:
            self.crowded |= self.in_flight.keys()
        in_thread = width > 1 or len(self.in_flight) > 1
        LANES.start(author.account, partial(_read, batch, self.policy.screening), in_thread=in_thread)

    def _finish(self, author: AuthorQueue, batch: list[CtPost], number: int, call: Future[Read]) -> None:
        """Count what a call read, or handle its failure; the author goes to the end of the queue if it may go on."""
        self.hold, crowded = False, author.account in self.crowded
        self.crowded.discard(author.account)
        try:
            self._count(batch, call.result())
            self.unserved.provider_answers(number)
        except AccountSpent as error:  # this author's daily budget; the others go on
            author.failed = True
            _note_failure(batch, error, self.done)
            return
        except SlotsTaken as error:
            if crowded:  # by calls of this pass
                author.put_back(batch)
                self.waiting.append(author)
                self.hold = True
                return
            self._not_served(author, batch, error)
            return
        except (Retryable, ProviderRefused) as error:
            self._not_served(author, batch, error)
            return
        except Misconfigured as error:  # an operator must act: a missing key or recording
            _note_failure(batch, error, self.done)
            self.stop = error
            return
        except MaxxitError as error:
            self.unserved.provider_answers(number)
            if len(batch) > 1 and getattr(error, "code", "") != INCOMPLETE:
                log.warning("batch_refused", posts=len(batch), error=str(error))
                author.split(batch)
            else:
                _note_failure(batch, error, self.done)
                _count_attempt(batch, error, self.policy.max_attempts, self.done)
        self._go_on_with(author)

    def _go_on_with(self, author: AuthorQueue) -> None:
        """Queue the author again if there may be more posts; note that posts are left where its calls are used up."""
        if author.read_up and not author.halves:
            return
        if author.calls < self.policy.max_batches_per_author:
            self.waiting.append(author)
        elif author.halves or author.not_offered().exists():
            self.done.left = True

    def _count(self, batch: list[CtPost], read: Read) -> None:
        """Count the posts of a call. Raises `Rejected` (INCOMPLETE) when the answer left some out."""
        self.done.read += read.stored
        self.done.candidates += read.candidates
        self.done.changed += read.changed
        self.done.screened += read.screened
        if read.changed:
            log.info("posts_changed_while_read", posts=read.changed)
        if read.left_out:
            raise Rejected(f"the model left out {read.left_out} of {len(batch)} posts", code=INCOMPLETE)

    def _not_served(self, author: AuthorQueue, batch: list[CtPost], error: MaxxitError) -> None:
        """Leave the author to the next pass: no provider answered."""
        author.failed = True
        _note_failure(batch, error, self.done)
        self.unserved.add(batch, error, self.calls)


AUTHORS = """
SELECT account_id, max(CASE WHEN starts_with(outcome, 'unread:') THEN 1 ELSE 0 END) AS failed,
       min(id) AS first, max(id), count(*)
FROM ct_posts WHERE state = 'new' GROUP BY account_id ORDER BY failed, first
"""


class _NewPosts(NamedTuple):
    """The new posts of an account: whether one failed (1), the first and last id, and how many they are."""

    account: int
    failed: int
    first: int
    newest: int
    posts: int


def _authors(batch_size: int, calls_left: int | None) -> list[AuthorQueue]:
    """List the accounts with new posts: those without a failed post first, then in order of arrival.

    When `calls_left` are fewer than these posts need: by the number of active deployments, then of active agents
    that follow the account, then by the newest post.
    """
    with connection.cursor() as cursor:
        cursor.execute(AUTHORS)
        rows = [_NewPosts(*row) for row in cursor.fetchall()]
    needed = sum(-(-row.posts // batch_size) for row in rows)
    if calls_left is None or needed <= calls_left:
        return [AuthorQueue(row.account, row.newest) for row in rows]
    followed = followers()

    def place(row: _NewPosts) -> tuple[int, ...]:
        deployments, agents = followed.get(row.account, (0, 0))
        return row.failed, -deployments, -agents, -row.newest

    return [AuthorQueue(row.account, row.newest, newest_first=True) for row in sorted(rows, key=place)]


def _next(
    waiting: deque[AuthorQueue], size: int, done: Classified
) -> tuple[AuthorQueue | None, list[CtPost]]:
    """Return the next author with posts and the batch; (None, []) when no author has any."""
    while waiting:
        author = waiting.popleft()
        if batch := author.next_batch(size, done):
            return author, batch
    return None, []


def _read(batch: Sequence[CtPost], screening: Screening) -> Read:
    """Ask the model about the posts of one author and store what it says; candidates wake the next stage at once.

    What the screening rejects is stored first, and the model is not asked about it.
    """
    tokens = words_by_token()
    prices = prices_at([(post.text, post.posted_at) for post in batch], tokens)
    posts = [
        Post(post.post_id, post.account.x_username, post.text, post.posted_at.isoformat(), known)
        for post, known in zip(batch, prices, strict=True)
    ]
    screened = screen(posts, tokens, screening)
    no_call = [post for post in batch if post.post_id in screened and screened[post.post_id].rejected]
    rejected = _reject(no_call)
    left = [post for post in batch if post not in no_call]
    changed = len(no_call) - rejected
    if not left:
        return Read(0, 0, changed, 0, rejected)
    names = {post.post_id for post in left}
    asked = ask(
        purpose="classify",
        data=question((post for post in posts if post.post_id in names), tokens),
        schema=Readings,
        correlation_ids=[post.correlation_id for post in left],
        account=f"{left[0].account.source}:{left[0].account.x_username}",
    )
    readings = {reading.post_id: reading for reading in asked.answer.readings}
    with transaction.atomic():
        unchanged = _unchanged(left)
        missing = [post for post in unchanged if post.post_id not in readings]
        read = [(post, readings[post.post_id]) for post in unchanged if post.post_id in readings]
        candidates = _store(read)
        _record_audit([post for post, _ in read], screened, candidates)
        if candidates:
            wake.after_commit("stage.classify")
    return Read(len(read), len(candidates), changed + len(left) - len(unchanged), len(missing), rejected)


@transaction.atomic
def _reject(posts: Sequence[CtPost]) -> int:
    """Move posts without an expected call to `prefiltered`; return how many, since some may have changed meanwhile."""
    why = PrefilterReason.NO_CALL_EXPECTED
    fields = {"outcome": f"prefiltered:{why}", "is_signal_candidate": False}
    unchanged = _unchanged(posts) if posts else []
    moved = [Transition(post, PostState.PREFILTERED, why, fields=fields) for post in unchanged]
    return len(advance_each(moved, locked=True))


def _record_audit(
    read: Sequence[CtPost], screened: Mapping[str, Screened], candidates: Collection[int]
) -> None:
    """Write what the model found in the posts that it was asked about although no call was expected."""
    audited = [post for post in read if post.post_id in screened and screened[post.post_id].audited]
    record_all(
        AUDITED,
        CtPost,
        (
            (
                post.pk,
                post.correlation_id,
                {"chance": f"{screened[post.post_id].chance:f}", "call": post.pk in candidates},
            )
            for post in audited
        ),
    )


LOCK_NEW = "SELECT id, text FROM ct_posts WHERE id = ANY(%s) AND state = 'new' ORDER BY id FOR UPDATE"


def _unchanged(batch: Sequence[CtPost]) -> list[CtPost]:
    """Lock and return the posts that are still new with the text that the model saw.

    The model call runs outside any transaction; posts changed meanwhile are read again at the next pass.
    """
    with connection.cursor() as cursor:
        cursor.execute(LOCK_NEW, [[post.pk for post in batch]])
        texts = dict(cursor.fetchall())
    return [post for post in batch if texts.get(post.pk) == post.text]


def _store(read: Iterable[tuple[CtPost, Reading]]) -> set[int]:
    """Advance each post with its reading, posts without a call in bulk; returns the ids of the candidates.

    The caller holds the posts' locks.
    """
    rest: dict[str, list[Transition]] = {}
    candidates = set()
    for post, reading in read:
        verified = verify(reading, post.text, words_by_token(), stablecoins())
        if not verified.candidate:
            fields = {
                "is_signal_candidate": False,
                "sentiment": reading.sentiment,
                "confidence": reading.confidence,
                "reasoning": storable(reading.reasoning),
                "outcome": verified.outcome,
            }
            moved = Transition(post, PostState.CLASSIFIED, verified.outcome, fields=fields)
            rest.setdefault(verified.outcome, []).append(moved)
            continue
        candidates.add(post.pk)
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
    advance_each([moved for alike in rest.values() for moved in alike], locked=True)
    return candidates


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
