"""A second reader reads a sampled share of the posts that the reader in use has read, and acts on nothing.

A comparison names a provider and a prompt. Its answers are rows of `shadow_readings`, which no decision reads. Calls
count against the budget of the purpose `shadow` in config/llm.yaml, never against that of `classify`.
"""

from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from hashlib import sha256

import structlog
from django.db import IntegrityError, transaction

from maxxit.core import clock
from maxxit.core.errors import Misconfigured, Rejected, Retryable
from maxxit.events.record import record
from maxxit.llm import prompts, versions
from maxxit.llm.ask import Asked, ask
from maxxit.llm.call import ProviderRefused
from maxxit.llm.fallback import open_provider
from maxxit.llm.policy import policy as llm_policy
from maxxit.market.instruments import stablecoins, words_by_token
from signals_app.models import Comparison, CtPost, ShadowReading
from signals_app.policy import policy
from signals_app.reading.schema import Post, Readings, question
from signals_app.states import PostState
from signals_app.verify import verify

log = structlog.get_logger(__name__)
PURPOSE = "shadow"
MOST_POSTS = 500
"""Posts that a pass looks at for each comparison."""
KEPT = timedelta(days=180)
"""How long readings are kept after the end of their comparison."""
WAITED_FOR = timedelta(hours=1)
"""Posts are compared in the order of arrival: one that the reader in use has not read holds later ones for so long."""
LATEST = timedelta(days=1)
"""Posts read longer ago are skipped: a reader that could not keep up does not read the backlog of weeks."""


def start(name: str, *, provider: str, prompt: str = "", share: Decimal, by: str) -> Comparison:
    """Begin a comparison with the posts that are read from now on.

    Args:
        provider: of config/llm.yaml.
        prompt: a version of the prompt `classify`, or `file`; empty: the active one, also after it changes.
        share: fraction of the posts, above 0 and at most 1.

    Raises Rejected for a taken name, an unknown provider or version, a provider without its key, and a wrong share.
    """
    _check(name, provider, prompt, share)
    newest = CtPost.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
    try:
        with transaction.atomic():
            row = Comparison.objects.create(
                name=name.strip(), provider=provider, prompt=prompt, share=share, started_by=by[:150],
                started_at=clock.now(), last_post=newest,
            )  # fmt: skip
            record(
                "comparison.started",
                row,
                provider=provider,
                prompt=prompt or "active",
                share=f"{share:f}",
                by=by,
            )
    except IntegrityError:
        raise Rejected(
            f"there is a comparison {name!r} already: `manage.py comparisons list`", code="taken"
        ) from None
    return row


def _check(name: str, provider: str, prompt: str, share: Decimal) -> None:
    if not 0 < len(name.strip()) <= 60:
        raise Rejected(f"the name has {len(name.strip())} characters: give 1 to 60", code="bad_name")
    if not 0 < share <= 1:
        raise Rejected(f"the share is {share}: give a fraction above 0 and at most 1", code="bad_share")
    known = llm_policy().providers
    if provider not in known:
        raise Rejected(
            f"no provider {provider!r} in config/llm.yaml; known: {', '.join(known)}", code="no_provider"
        )
    if missing := known[provider].missing:
        raise Rejected(f"the provider {provider} needs {missing}", code="no_key")
    if prompt:
        versions.find("classify", prompt)


def named(name: str) -> Comparison:
    """Return the comparison. Raises Rejected where there is none."""
    row = Comparison.objects.filter(name=name).first()
    if row is None:
        raise Rejected(
            f"no comparison {name!r}: `manage.py comparisons list` shows them", code="no_comparison"
        )
    return row


def stop(row: Comparison, *, by: str) -> None:
    """End a comparison; what it read stays. Raises Rejected where it has ended."""
    with transaction.atomic():
        ended = Comparison.objects.filter(pk=row.pk, ended_at=None).update(
            ended_at=clock.now(), ended_by=by[:150]
        )
        if not ended:
            raise Rejected(f"the comparison {row.name} has ended", code="ended")
        record("comparison.ended", row, by=by)


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
    from signals_app.prices_at import prices_at  # the lexical reader: pages that start a comparison load none

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


def prune(kept: timedelta) -> int:
    """Delete readings of comparisons that ended longer than `kept` ago; return how many."""
    return ShadowReading.objects.filter(comparison__ended_at__lt=clock.now() - kept).delete()[0]
