"""What a model may say about posts: the typed answer of the classification step."""

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Sentiment = Literal["bullish", "bearish", "neutral"]


class Reading(BaseModel):
    """One post as a model reads it. Every field is checked again by `signals_app.verify` before it counts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    post_id: str
    candidate: bool
    """True when the author makes a call of their own that one could trade on."""
    tokens: tuple[str, ...] = Field(max_length=20)
    """Symbols such as `BTC`, without `$`."""
    sentiment: Sentiment
    confidence: Annotated[Decimal, Field(ge=0, le=1)]
    """Fraction: how sure the reader is that this is a call with this side."""
    reasoning: str = Field(max_length=1000)
    sides: dict[str, Sentiment] = Field(default_factory=dict)
    """Only for tokens whose side differs from `sentiment`."""


class Readings(BaseModel):
    """The answer to one classification call: a reading for each post that was asked about."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    readings: tuple[Reading, ...]
