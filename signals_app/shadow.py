"""Comparisons: a second reader reads a sampled share of the posts that the reader in use has read, and acts on nothing.

A comparison names a provider and a prompt. Its answers are rows of `shadow_readings` (`signals_app.shadow_reading`),
which no decision reads.
"""

from datetime import timedelta
from decimal import Decimal

from django.db import IntegrityError, transaction

from maxxit.core import clock
from maxxit.core.errors import Rejected
from maxxit.events.record import record
from maxxit.llm import versions
from maxxit.llm.policy import policy as llm_policy
from signals_app.models import Comparison, CtPost, ShadowReading

KEPT = timedelta(days=180)
"""How long readings are kept after the end of their comparison."""


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


def prune(kept: timedelta) -> int:
    """Delete readings of comparisons that ended longer than `kept` ago; return how many."""
    return ShadowReading.objects.filter(comparison__ended_at__lt=clock.now() - kept).delete()[0]
