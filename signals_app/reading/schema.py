"""Prompt and response schema of the `classify` stage: posts in, one classification per post out."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from decimal import ROUND_DOWN, Decimal
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
)

from maxxit.core.money import plain
from maxxit.llm.fields import AS_FRACTION, AS_IDENTIFIER, AS_TEXT, AS_WORDS, folded

Sentiment = Literal["bullish", "bearish", "neutral"]
SIDES = {"long": "bullish", "short": "bearish"}
"""Synonyms accepted as a sentiment. "Buy" and "sell" are not: a sale may close a long."""
CONFIDENCE_STEP = Decimal("0.0001")


@dataclass(frozen=True, slots=True)
class Post:
    """A post as a reader gets it."""

    post_id: str
    author: str
    text: str
    posted_at: str = ""
    """ISO 8601; empty where unknown."""
    prices: Mapping[str, Decimal] = field(default_factory=dict)
    """Known USD prices of its tokens at the time of writing."""


def question(posts: Iterable[Post], tokens: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Build the data of the prompt `classify`, the same for the pipeline, backtests and evaluations.

    `tokens`: symbol -> words that mean it.
    """
    return {
        "posts": [
            asdict(post) | {"prices": {symbol: plain(price) for symbol, price in sorted(post.prices.items())}}
            for post in posts
        ],
        "tokens": tokens,
    }


def _rounded_down(confidence: Decimal) -> Decimal:
    """Round down to four decimals, the precision of a reading."""
    return confidence.quantize(CONFIDENCE_STEP, rounding=ROUND_DOWN)


def _sentiment(value: Any) -> Any:
    """Normalise a sentiment: any case, or the name of its side."""
    word = folded(value)
    return SIDES.get(word, word) if isinstance(word, str) else word


def _no_sides(value: Any) -> Any:
    return {} if value is None else value


AnySentiment = Annotated[Sentiment, BeforeValidator(_sentiment)]


class Reading(BaseModel):
    """A model's reading of one post. `signals_app.verify` checks every field again before it counts."""

    # Unknown keys are refused, and so is null where it has no clear meaning.
    model_config = ConfigDict(extra="forbid", frozen=True)

    post_id: Annotated[str, AS_IDENTIFIER]
    candidate: bool
    """True when the author makes a tradable call of their own."""
    tokens: Annotated[tuple[str, ...], AS_WORDS] = Field(max_length=20)
    """Symbols such as `BTC`, without `$`."""
    sentiment: AnySentiment
    confidence: Annotated[Decimal, Field(ge=0, le=1), AS_FRACTION, AfterValidator(_rounded_down)]
    """Fraction: the reader's confidence that this is a call with this side."""
    reasoning: Annotated[str, AS_TEXT] = Field(max_length=1000)
    sides: Annotated[dict[str, AnySentiment], BeforeValidator(_no_sides)] = Field(default_factory=dict)
    """Only for tokens whose side differs from `sentiment`."""


class Readings(BaseModel):
    """The answer of one classification call: a reading for each post."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    readings: tuple[Reading, ...]

    @field_validator("readings")
    @classmethod
    def _one_each(cls, readings: tuple[Reading, ...]) -> tuple[Reading, ...]:
        """Refuse a second reading of a post: one post's text must not overwrite another post's reading."""
        if twice := sorted(_twice(readings)):
            raise ValueError(f"more than one reading of {', '.join(post[:30] for post in twice[:5])}")
        return readings

    @classmethod
    def lenient(cls, value: Any) -> Self | None:
        """Return the valid readings of an invalid answer, without posts that were read twice."""
        items = value.get("readings") if isinstance(value, dict) else None
        readings = list(_valid(items)) if isinstance(items, list) else []
        twice = _twice(readings)
        kept = tuple(reading for reading in readings if reading.post_id not in twice)
        return cls(readings=kept) if kept else None


def _valid(items: list[Any]) -> Iterator[Reading]:
    for item in items:
        try:
            yield Reading.model_validate(item)
        except ValidationError:
            continue


def _twice(readings: Any) -> set[str]:
    counted = Counter(reading.post_id for reading in readings)
    return {post for post, number in counted.items() if number > 1}
