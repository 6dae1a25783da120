"""Let the second readers of the comparisons read what is due.

Calls count against the budget of the purpose `shadow` in config/llm.yaml, never against that of `classify`.
"""

from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta
from hashlib import sha256

import structlog

from maxxit.core import clock
from maxxit.core.errors import Misconfigured, Rejected, Retryable
from maxxit.llm import prompts, versions
from maxxit.llm.ask import Asked, ask
from maxxit.llm.call import ProviderRefused
from maxxit.llm.fallback import open_provider
from maxxit.llm.policy import policy as llm_policy
from maxxit.market.instruments import stablecoins, words_by_token
from signals_app.models import Comparison, CtPost, ShadowReading
from signals_app.policy import policy
from signals_app.prices_at import prices_at
from signals_app.reading.schema import Post, Readings, question
from signals_app.states import PostState
from signals_app.verify import verify

log = structlog.get_logger(__name__)
PURPOSE = "shadow"
MOST_POSTS = 500
"""Posts that a pass looks at for each comparison."""
WAITED_FOR = timedelta(hours=1)
"""Posts are compared in the order of arrival: one that the reader in use has not read holds later ones for so long."""
LATEST = timedelta(days=1)
"""Posts read longer ago are skipped: a reader that could not keep up does not read the backlog of weeks."""


def read_shadows() -> int:
    """Let each comparison read what is due; return how many readings were stored. No failure reaches another one."""
    return sum(_read(row) for row in Comparison.objects.filter(ended_at=None))


def sampled(row: Comparison, post_id: str) -> bool:
    """Return whether a comparison reads a post: by hash, so that a repeated pass chooses the same posts."""
    drawn = int.from_bytes(sha256(f"{row.pk}:{post_id}".encode()).digest()[:8])
    return drawn < row.share * 2**64


def _read(row: Comparison) -> int:
    """Read the posts of one comparison by author; stop, without moving on, where no provider can be asked."""
    posts = _due(row)
    if not posts:
        return 0
    known = set(row.readings.filter(post__in=posts).values_list("post__pk", flat=True))
    by_author: dict[int, list[CtPost]] = defaultdict(list)
    for post in posts:
        if post.pk not in known and sampled(row, post.post_id):
            by_author[post.account_id].append(post)
    stored, size = 0, policy().classify.batch_size
    for own in by_author.values():
        for place in range(0, len(own), size):
            try:
                stored += _ask(row, own[place : place + size])
            except (Retryable, ProviderRefused, Misconfigured) as error:
                log.warning("shadow_not_read", comparison=row.name, error=str(error))
                return stored
    Comparison.objects.filter(pk=row.pk).update(last_post=posts[-1].pk)
    return stored


def _due(row: Comparison) -> list[CtPost]:
    """Return the posts that have been read since, up to the first that still waits to be read."""
    now = clock.now()
    waiting = CtPost.objects.filter(
        state=PostState.NEW, pk__gt=row.last_post, ingested_at__gt=now - WAITED_FOR
    )
    read = CtPost.objects.filter(pk__gt=row.last_post, ingested_at__gt=now - LATEST).exclude(confidence=None)
    if (first := waiting.order_by("pk").values_list("pk", flat=True).first()) is not None:
        read = read.filter(pk__lt=first)
    return list(read.select_related("account").order_by("pk")[:MOST_POSTS])


def _ask(row: Comparison, batch: Sequence[CtPost]) -> int:
    """Ask about posts of one author and store the readings; an unusable answer is stored as such."""
    tokens = words_by_token()
    prices = prices_at([(post.text, post.posted_at) for post in batch], tokens)
    posts = (
        Post(post.post_id, post.account.x_username, post.text, post.posted_at.isoformat(), known)
        for post, known in zip(batch, prices, strict=True)
    )
    prompt = _prompt(row)
    stanza = llm_policy().provider(row.provider)
    asked: Asked[Readings] | None = None
    error = ""
    try:
        with prompts.using({PURPOSE: prompt}):
            asked = ask(
                purpose=PURPOSE,
                data=question(posts, tokens),
                schema=Readings,
                correlation_ids=[post.correlation_id for post in batch],
                account=f"comparison {row.name}",
                provider=open_provider(row.provider, stanza),
            )
    except Rejected as refused:
        error = str(refused)
    return _store(row, batch, asked, "" if stanza.local else prompt.version, error)


def _prompt(row: Comparison) -> prompts.Prompt:
    return versions.named(row.prompt, "classify") if row.prompt else versions.in_use(PURPOSE)


def _store(
    row: Comparison, batch: Sequence[CtPost], asked: Asked[Readings] | None, version: str, error: str
) -> int:
    readings = {reading.post_id: reading for reading in asked.answer.readings} if asked else {}
    rows = []
    for post in batch:
        reading = readings.get(post.post_id)
        found = verify(reading, post.text, words_by_token(), stablecoins()) if reading else None
        rows.append(
            ShadowReading(
                comparison=row,
                post=post,
                model=asked.model[:120] if asked else "",
                prompt_version=version,
                sides=found.sides if found else {},
                confidence=reading.confidence if reading else None,
                error=(error or "the answer left the post out")[:300] if reading is None else "",
                latency_ms=asked.latency_ms if asked else 0,
                cost_usd=asked.cost_usd / len(batch) if asked else 0,
                batch=len(batch),
                at=clock.now(),
            )
        )
    ShadowReading.objects.bulk_create(rows, ignore_conflicts=True)
    return len(rows)
