"""Which posts a paid model is asked about: those in which a trained reader expects a call, and a share of the others.

Off unless `classify.screening.reader` in config/signals.yaml names a reader. The share of the others is drawn by the
hash of a post's id, so that a repeated pass and a replay ask about the same posts; what the model says of them is the
audit (`signals_app.screening.audit`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from hashlib import sha256

import structlog

from maxxit.core.errors import MaxxitError
from maxxit.llm.policy import policy as llm_policy
from maxxit.pipeline.interrupts import ends_the_pass
from signals_app.policy import Screening
from signals_app.reading.schema import Post

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Screened:
    """What the screening says about one post."""

    chance: Decimal
    """Probability that the post is a call, as the trained reader gives it; 0 to 1."""
    expected: bool
    """Whether that is enough to ask the model."""
    drawn: bool
    """Whether the post is in the share that is asked about all the same."""

    @property
    def rejected(self) -> bool:
        """Whether no model is asked."""
        return not self.expected and not self.drawn

    @property
    def audited(self) -> bool:
        """Whether the model is asked about a post in which no call is expected."""
        return not self.expected and self.drawn


def screen(
    posts: Sequence[Post], tokens: Mapping[str, Sequence[str]], rules: Screening
) -> dict[str, Screened]:
    """Return post id -> what the screening says; empty where it is off or every model runs in this process.

    A post that the reader fails at is left out, so that the model is asked about it. `tokens`: symbol -> words that
    mean it. Raises `Misconfigured` where the reader's parameters cannot be read.
    """
    if not rules.reader or not _paid():
        return {}
    from signals_app.reading.trained.model import TrainedReader, shipped  # only where it is used

    reader = TrainedReader.of(shipped(rules.reader), tokens)
    screened = {}
    for post in posts:
        try:
            [reading] = reader.read([post])
        except Exception as error:
            if isinstance(error, MaxxitError) or ends_the_pass(error):
                raise
            log.exception("post_not_screened", post=post.post_id)
            continue
        screened[post.post_id] = judged(post.post_id, Decimal(str(reading.confidence)), rules)
    return screened


def judged(post_id: str, chance: Decimal, rules: Screening) -> Screened:
    """Compare a post's probability with the limit, and draw the share that is audited. Pure."""
    number = int.from_bytes(sha256(f"screening:{post_id}".encode()).digest()[:8])
    return Screened(chance, chance >= rules.least_chance, number < rules.audit_share * 2**64)


def _paid() -> bool:
    """Return whether a provider that reads posts runs outside this process."""
    known = llm_policy()
    return any(not known.provider(name).local for name in known.purpose("classify").chain)
